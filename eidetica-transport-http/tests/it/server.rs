//! What the server answers to people, to strangers and to callers that stall. The tests speak HTTP
//! by hand over a socket.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use eidetica_proto::testing::echo;
use eidetica_proto::{Address, Service, SyncTransport, TransportErrorKind};
use eidetica_transport_http::{HttpTransport, HttpTransportBuilder, JsonApi, JsonApiError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::stage::{self, EXCHANGE_HEAD, loopback};

/// Starts a server, and returns where it listens.
async fn serve(
    builder: HttpTransportBuilder,
    service: Arc<dyn Service>,
) -> (HttpTransport, String) {
    let (server, address) = stage::serve(builder, service).await;
    (server, address.value().to_owned())
}

/// Sends these bytes, and returns all that comes back until the server closes the connection.
async fn say(address: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    stream.write_all(bytes).await.expect("is taken");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("is closed");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends a request without a body, and returns the status and the whole answer.
async fn ask(address: &str, method: &str, path: &str) -> (u16, String) {
    let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let answer = say(address, head.as_bytes()).await;
    let status = answer.split(' ').nth(1).expect("a status line");
    (status.parse().expect("a status"), answer)
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").expect("a head").1
}

struct Pages;

#[async_trait]
impl JsonApi for Pages {
    async fn get(&self, _remote: &str, path: &str) -> Result<String, JsonApiError> {
        match path {
            "health" => Ok("{\"status\":\"ok\"}\n".to_owned()),
            "trees/broken" => Err(JsonApiError::Internal),
            _ => Err(JsonApiError::NotFound),
        }
    }
}

#[tokio::test]
async fn the_json_interface_is_served_once_it_is_set() {
    let (server, address) = serve(loopback(), echo()).await;
    let json = |path: &'static str| {
        let address = address.clone();
        async move {
            let (status, answer) = ask(&address, "GET", path).await;
            assert!(
                answer.contains("content-type: application/json"),
                "{answer}"
            );
            assert_eq!(answer.matches("date: ").count(), 1, "{answer}");
            let value: serde_json::Value = serde_json::from_str(body(&answer)).expect("JSON");
            (status, value)
        }
    };

    let (status, refusal) = json("/eidetica/v2/health").await;
    assert_eq!((status, &refusal["error"]), (404, &"not found".into()));
    // A clone is the same transport, and the server runs already.
    server.clone().set_json_api(Arc::new(Pages));
    let (status, health) = json("/eidetica/v2/health").await;
    assert_eq!((status, &health["status"]), (200, &"ok".into()));
    let (status, refusal) = json("/eidetica/v2/trees/broken").await;
    let failed = "the node failed to answer";
    assert_eq!((status, &refusal["error"]), (500, &failed.into()));
    for path in [
        "/",
        "/eidetica",
        "/eidetica/v2/",
        "/eidetica/v2/trees/x/tips",
    ] {
        let (status, refusal) = json(path).await;
        assert_eq!(
            (status, &refusal["error"]),
            (404, &"not found".into()),
            "{path}"
        );
    }
    server.close().await.expect("closes");
}

#[tokio::test]
async fn wrong_methods_and_types_are_refused() {
    let (server, address) = serve(loopback(), echo()).await;
    server.set_json_api(Arc::new(Pages));
    let (status, answer) = ask(&address, "GET", "/eidetica/v2/exchange").await;
    assert_eq!(status, 405);
    assert!(answer.contains("allow: POST"), "{answer}");
    let (status, answer) = ask(&address, "DELETE", "/eidetica/v2/trees").await;
    assert_eq!(status, 405);
    assert!(answer.contains("allow: GET"), "{answer}");
    let (status, _) = ask(&address, "POST", "/eidetica/v2/exchange").await;
    assert_eq!(status, 415);
    server.close().await.expect("closes");
}

#[tokio::test]
async fn another_version_is_refused_by_name() {
    let (server, address) = serve(loopback(), echo()).await;
    let (status, answer) = ask(&address, "POST", "/eidetica/v9/exchange").await;
    assert_eq!(status, 404);
    let refusal: serde_json::Value = serde_json::from_str(body(&answer)).expect("JSON");
    assert_eq!(refusal["protocol_versions"], serde_json::json!([2]));
    let error = refusal["error"].as_str().expect("a text");
    assert!(
        error.contains("version 2") && error.contains('9'),
        "{error}"
    );
    server.close().await.expect("closes");
}

#[tokio::test]
async fn a_caller_that_stalls_is_cut() {
    let deadline = Duration::from_millis(200);
    let builder = loopback().connect_timeout(deadline).idle_timeout(deadline);
    let (server, address) = serve(builder, echo()).await;
    let http2_preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let within_a_frame = format!("{EXCHANGE_HEAD}6\r\n\u{5}\0\0\0ab\r\n");
    for stalled in ["", "P", "GET /eidetica/v2/hea", http2_preface] {
        // The test is that the connection ends at all.
        say(&address, stalled.as_bytes()).await;
    }
    for stalled in [EXCHANGE_HEAD, &within_a_frame] {
        let answer = say(&address, stalled.as_bytes()).await;
        assert!(
            !answer.contains("\r\n0\r\n\r\n"),
            "the answer is no whole one: {answer}"
        );
    }
    server.close().await.expect("closes");
}

#[tokio::test]
async fn a_body_that_trickles_is_cut() {
    let deadline = Duration::from_millis(300);
    let (server, address) = serve(loopback().idle_timeout(deadline), echo()).await;
    let stream = TcpStream::connect(&address).await.expect("connects");
    let (mut reader, mut writer) = stream.into_split();
    // Each byte comes well before the deadline, but together they are far below the minimum.
    let trickle = tokio::spawn(async move {
        writer.write_all(EXCHANGE_HEAD.as_bytes()).await?;
        loop {
            writer.write_all(b"1\r\n\x00\r\n").await?;
            tokio::time::sleep(deadline / 10).await;
        }
        #[allow(unreachable_code)]
        Ok::<(), std::io::Error>(())
    });
    let mut answer = Vec::new();
    // It ends, or is reset because the trickle goes on.
    let _ = reader.read_to_end(&mut answer).await;
    trickle.abort();
    server.close().await.expect("closes");
}

#[tokio::test]
async fn a_caller_that_does_not_read_the_answer_is_cut() {
    use eidetica_proto::testing::service_fn;
    use futures::StreamExt;

    let (gone, dropped) = futures::channel::oneshot::channel::<()>();
    let gone = std::sync::Mutex::new(Some(gone));
    let service = service_fn(move |_, _| {
        let held = gone.lock().expect("not poisoned").take();
        let frames = futures::stream::repeat_with(move || {
            let _held = &held;
            Ok(vec![0; 64 << 10].into())
        });
        async { frames.boxed() }
    });
    let deadline = Duration::from_millis(300);
    let (server, address) = serve(loopback().idle_timeout(deadline), service).await;
    let mut stream = TcpStream::connect(&address).await.expect("connects");
    let request = format!("{EXCHANGE_HEAD}4\r\n\0\0\0\0\r\n0\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("is taken");
    dropped
        .await
        .expect_err("the answer is dropped while the connection is held open");
    drop(stream);
    server.close().await.expect("closes");
}

#[tokio::test]
async fn a_request_without_its_end_mark_was_cut() {
    let (server, address) = serve(loopback(), echo()).await;
    // As HTTP it is complete: one frame, and the last chunk.
    let request = format!("{EXCHANGE_HEAD}5\r\n\u{1}\0\0\0a\r\n0\r\n\r\n");
    let answer = say(&address, request.as_bytes()).await;
    assert!(
        !answer.contains("\r\n0\r\n\r\n"),
        "the answer is no whole one: {answer}"
    );
    server.close().await.expect("closes");
}

#[tokio::test]
async fn what_is_advertised_is_what_was_named() {
    let named: Address = "http:sync.example:80".parse().expect("an address");
    let server = loopback().advertise(named.clone()).build();
    assert_eq!(server.server_addresses().await, []);
    server.start_server(echo()).await.expect("starts");
    assert_eq!(server.server_addresses().await, [named]);
    server.close().await.expect("closes");
}

#[tokio::test]
async fn a_server_on_all_addresses_names_one_that_can_be_reached() {
    let server = HttpTransport::builder()
        .bind(([0, 0, 0, 0], 0).into())
        .build();
    server.start_server(echo()).await.expect("starts");
    let addresses = server.server_addresses().await;
    let [address] = &addresses[..] else {
        panic!("one address: {addresses:?}");
    };
    assert!(!address.value().starts_with("0.0.0.0"), "{address}");
    server.close().await.expect("closes");
}

#[tokio::test]
async fn a_transport_without_an_address_serves_nothing() {
    let client = HttpTransport::builder().build();
    let error = client.start_server(echo()).await.expect_err("only asks");
    assert_eq!(error.kind(), TransportErrorKind::UnusableAddress);
    client.close().await.expect("closes");
}
