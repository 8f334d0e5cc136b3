//! What the client makes of strangers, proxies and HTTP statuses.

use std::time::Duration;

use eidetica_proto::testing::frames_of;
use eidetica_proto::{Address, SyncTransport, TransportError, TransportErrorKind};
use eidetica_transport_http::{HttpTransport, HttpVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Answers every connection with these bytes, and returns what an exchange makes of it.
async fn exchange_with(version: HttpVersion, answer: &'static str) -> TransportError {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("is bound").to_string();
    let stranger = tokio::spawn(async move {
        let mut streams = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.expect("accepts");
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            streams.push(stream);
        }
    });
    let client = HttpTransport::builder().version(version).build();
    let address = Address::new("http", &address).expect("an address");
    let failed = client.exchange(&address, frames_of(["hello"])).await;
    stranger.abort();
    client.close().await.expect("closes");
    failed.map(|_| ()).expect_err("no answer")
}

#[tokio::test]
async fn strangers_are_recognised() {
    let web = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 5\r\n\r\nhello";
    let ssh = "SSH-2.0-OpenSSH_9.6\r\n";
    for (version, answer) in [
        (HttpVersion::Http1, web),
        (HttpVersion::Http1, ssh),
        (
            HttpVersion::Http1,
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        ),
        (HttpVersion::Http2, web),
        (HttpVersion::Http2, ssh),
    ] {
        let error = exchange_with(version, answer).await;
        let kind = error.kind();
        assert_eq!(
            kind,
            TransportErrorKind::ProtocolMismatch,
            "{version:?} {answer:?} {error:?}"
        );
        assert!(
            error.to_string().contains("does not speak version 2"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_busy_server_is_recognised() {
    let busy = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
    let error = exchange_with(HttpVersion::Http1, busy).await;
    assert_eq!(error.kind(), TransportErrorKind::Busy, "{error}");
}

/// Returns what an exchange makes of this status line and these headers.
async fn status(head: &'static str) -> TransportError {
    let answer = format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n");
    exchange_with(HttpVersion::Http1, answer.leak()).await
}

#[tokio::test]
async fn each_status_has_its_kind_and_says_what_to_do() {
    use TransportErrorKind as Kind;
    for (head, kind, hint) in [
        (
            "413 Payload Too Large",
            Kind::RequestTooLarge,
            "raise its limit",
        ),
        ("429 Too Many Requests", Kind::Busy, "retry later"),
        (
            "502 Bad Gateway",
            Kind::Unreachable,
            "is the server running?",
        ),
        ("503 Service Unavailable", Kind::Busy, "retry later"),
        ("504 Gateway Timeout", Kind::TimedOut, "in time (504)"),
        (
            "301 Moved Permanently\r\nlocation: https://new.example/",
            Kind::ProtocolMismatch,
            "redirects to https://new.example/",
        ),
    ] {
        let error = status(head).await;
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(hint), "{error}");
        assert_eq!(error.retry_after(), None);
    }
}

#[tokio::test]
async fn retry_after_is_in_seconds_or_a_date() {
    for head in [
        "503 Service Unavailable\r\nretry-after: 120",
        "429 Too Many Requests\r\ndate: Thu, 26 Nov 2026 01:00:00 GMT\r\n\
         retry-after: Thu, 26 Nov 2026 01:02:00 GMT",
    ] {
        let error = status(head).await;
        assert_eq!(error.retry_after(), Some(Duration::from_secs(120)));
    }
    let error = status("503 Service Unavailable\r\nretry-after: soon").await;
    assert_eq!(error.retry_after(), None);
}
