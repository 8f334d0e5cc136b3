//! Who is believed over TLS, and what those see who are not, or who speak something else.

use std::time::Duration;

use eidetica_proto::testing::{collect_frames, echo, frames_of};
use eidetica_proto::{Address, SyncTransport, TransportError, TransportErrorKind};
use eidetica_transport_http::{
    ClientTls, HttpTransport, HttpTransportBuilder, HttpVersion, ServerTls,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const VERSIONS: [HttpVersion; 2] = [HttpVersion::Http1, HttpVersion::Http2];

fn own_certificate() -> ServerTls {
    ServerTls::self_signed(["127.0.0.1", "localhost"]).expect("names")
}

fn loopback() -> HttpTransportBuilder {
    HttpTransport::builder().bind(([127, 0, 0, 1], 0).into())
}

async fn serve(builder: HttpTransportBuilder) -> (HttpTransport, Address) {
    let server = builder.build();
    server.start_server(echo()).await.expect("starts");
    let address = server.server_addresses().await.remove(0);
    (server, address)
}

fn trusting(tls: &ServerTls) -> HttpTransportBuilder {
    let trusted = ClientTls::trusting(tls.certificate_pem()).expect("a certificate");
    HttpTransport::builder().client_tls(trusted)
}

/// Asks once, with a client of its own.
async fn ask(client: HttpTransportBuilder, to: &Address) -> Result<(), TransportError> {
    let client = client.build();
    assert!(client.can_handle_address(to));
    let answer = async {
        let response = client.exchange(to, frames_of(["hello"])).await?;
        collect_frames(response.frames).await
    };
    let answer = answer.await;
    client.close().await.expect("closes");
    assert_eq!(answer?, ["hello"]);
    Ok(())
}

async fn refusal(client: HttpTransportBuilder, to: &Address) -> TransportError {
    ask(client, to).await.expect_err("is refused")
}

#[tokio::test]
async fn an_untrusted_certificate_is_refused() {
    let (server, address) = serve(loopback().server_tls(own_certificate())).await;
    assert_eq!(address.kind(), "https");
    for version in VERSIONS {
        let client = trusting(&own_certificate()).version(version);
        let error = refusal(client, &address).await;
        assert_eq!(error.kind(), TransportErrorKind::WrongPeer, "{error:?}");
        assert!(!error.is_transient());
        let text = error.to_string();
        assert!(text.contains("name it as trusted"), "{text}");
        assert!(text.contains(address.as_str()), "{text}");
    }
    // What a platform trusts depends on the machine, and may be nothing: never this server.
    let error = refusal(HttpTransport::builder(), &address).await;
    let kinds = [TransportErrorKind::WrongPeer, TransportErrorKind::Local];
    assert!(kinds.contains(&error.kind()), "{error:?}");
    server.close().await.expect("closes");
}

#[tokio::test]
async fn a_certificate_is_for_its_names_alone() {
    let tls = own_certificate();
    let (server, address) = serve(loopback().server_tls(tls.clone())).await;
    let (_, port) = address.value().rsplit_once(':').expect("a port");
    let named = |host: &str| Address::new("https", &format!("{host}:{port}")).expect("an address");
    for version in VERSIONS {
        for host in ["127.0.0.1", "localhost"] {
            let client = trusting(&tls).version(version);
            ask(client, &named(host)).await.expect("is for this name");
        }
    }
    // On Linux every address that begins like this is this machine's.
    #[cfg(target_os = "linux")]
    {
        let other = ServerTls::self_signed(["localhost"]).expect("a name");
        let (unnamed, address) = serve(loopback().server_tls(other.clone())).await;
        let error = refusal(trusting(&other), &address).await;
        assert_eq!(error.kind(), TransportErrorKind::WrongPeer, "{error:?}");
        assert!(error.to_string().contains("other names"), "{error}");
        unnamed.close().await.expect("closes");
    }
    server.close().await.expect("closes");
}

#[tokio::test]
async fn a_later_certificate_of_the_same_key_is_trusted() {
    let earlier = ServerTls::self_signed(["earlier.example"]).expect("a name");
    let later = ServerTls::self_signed_with_key(["127.0.0.1"], earlier.key_pem());
    let later = later.expect("its own key");
    let (server, address) = serve(loopback().server_tls(later)).await;
    ask(trusting(&earlier), &address)
        .await
        .expect("the same key");
    server.close().await.expect("closes");
}

#[tokio::test]
async fn one_client_speaks_with_and_without_tls() {
    let tls = own_certificate();
    let (secret, at_secret) = serve(loopback().server_tls(tls.clone())).await;
    let (open, at_open) = serve(loopback()).await;
    let client = trusting(&tls).build();
    for to in [&at_secret, &at_open, &at_secret, &at_open] {
        let answer = client.exchange(to, frames_of(["hello"])).await;
        let frames = collect_frames(answer.expect("answers").frames).await;
        assert_eq!(frames.expect("whole"), ["hello"]);
    }
    for transport in [client, secret, open] {
        transport.close().await.expect("closes");
    }
}

#[tokio::test]
async fn plain_http_on_a_port_with_tls_is_told_apart() {
    let (server, address) = serve(loopback().server_tls(own_certificate())).await;
    let plain = Address::new("http", address.value()).expect("an address");
    for version in VERSIONS {
        let error = refusal(HttpTransport::builder().version(version), &plain).await;
        assert_eq!(
            error.kind(),
            TransportErrorKind::ProtocolMismatch,
            "{error:?}"
        );
        assert!(error.to_string().contains("https"), "{error}");
    }
    server.close().await.expect("closes");
}

#[tokio::test]
async fn tls_on_a_port_without_it_is_told_apart() {
    let (server, address) = serve(loopback()).await;
    let secret = Address::new("https", address.value()).expect("an address");
    for version in VERSIONS {
        let client = trusting(&own_certificate()).version(version);
        let error = refusal(client, &secret).await;
        assert_eq!(
            error.kind(),
            TransportErrorKind::ProtocolMismatch,
            "{error:?}"
        );
        assert!(error.to_string().contains("http:host:port"), "{error}");
    }
    server.close().await.expect("closes");
}

#[tokio::test]
async fn a_handshake_that_stalls_or_makes_no_sense_ends_alone() {
    let tls = own_certificate();
    let deadline = Duration::from_millis(300);
    let builder = loopback().connect_timeout(deadline);
    let (server, address) = serve(builder.server_tls(tls.clone())).await;
    // The beginning of a record that says it is a handshake of 512 bytes.
    let half = b"\x16\x03\x01\x02\x00\x01\x00";
    for said in [&b""[..], half, b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = TcpStream::connect(address.value()).await.expect("connects");
        stream.write_all(said).await.expect("is taken");
        // The test is that it ends at all.
        let mut answer = Vec::new();
        let _closed_or_reset = stream.read_to_end(&mut answer).await;
        let refused = answer.starts_with(b"HTTP/1.1 400");
        assert_eq!(refused, said.starts_with(b"GET"), "{answer:?}");
    }
    // It held its place only as long as it lasted, and the door is still open.
    for _ in 0..3 {
        ask(trusting(&tls), &address).await.expect("has room");
    }
    server.close().await.expect("closes");
}

#[tokio::test]
async fn a_handshake_counts_as_a_connection() {
    let tls = own_certificate();
    let builder = loopback().newcomers_max(1).server_tls(tls.clone());
    let (server, address) = serve(builder).await;
    let mut stalled = TcpStream::connect(address.value()).await.expect("connects");
    // Connections are let in one after the other: the first had the only place, and loses it.
    ask(trusting(&tls), &address).await.expect("has room");
    let ended = stalled.read(&mut [0; 1]).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    server.close().await.expect("closes");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_handshakes() {
    let (server, address) = serve(loopback().server_tls(own_certificate())).await;
    let mut stalled = TcpStream::connect(address.value()).await.expect("connects");
    server.stop_server().await.expect("stops");
    let ended = stalled.read(&mut [0; 1]).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    server.close().await.expect("closes");
}

#[tokio::test]
async fn a_server_that_says_nothing_within_the_handshake_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("is bound").to_string();
    let address = Address::new("https", &address).expect("an address");
    let client = trusting(&own_certificate()).connect_timeout(Duration::from_millis(300));
    let error = refusal(client, &address).await;
    assert_eq!(error.kind(), TransportErrorKind::TimedOut, "{error:?}");
}

#[tokio::test]
async fn hosts_are_advertised_with_the_port_that_is_taken() {
    let builder = loopback()
        .advertise_host("sync.example")
        .advertise_host("2001:db8::1");
    let (server, _) = serve(builder.server_tls(own_certificate())).await;
    let addresses = server.server_addresses().await;
    let [named, ip] = &addresses[..] else {
        panic!("two hosts: {addresses:?}");
    };
    let port = named.as_str().strip_prefix("https:sync.example:");
    let port: u16 = port.and_then(|port| port.parse().ok()).expect("a port");
    assert_ne!(port, 0);
    assert_eq!(ip.as_str(), format!("https:[2001:db8::1]:{port}"));
    server.close().await.expect("closes");
}
