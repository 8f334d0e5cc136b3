//! Helpers of the tests: transports on the loopback interface, and HTTP by hand.

use std::sync::Arc;

use eidetica_proto::testing::{collect_frames, frames_of};
use eidetica_proto::{Address, Service, SyncTransport};
use eidetica_transport_http::{HttpTransport, HttpTransportBuilder};

/// The head of an exchange whose body comes in chunks.
pub(crate) const EXCHANGE_HEAD: &str = "POST /eidetica/v2/exchange HTTP/1.1\r\nhost: localhost\r\n\
    content-type: application/vnd.eidetica.frames\r\ntransfer-encoding: chunked\r\n\r\n";

pub(crate) fn loopback() -> HttpTransportBuilder {
    HttpTransport::builder().bind(([127, 0, 0, 1], 0).into())
}

pub(crate) async fn serve(
    builder: HttpTransportBuilder,
    service: Arc<dyn Service>,
) -> (HttpTransport, Address) {
    let server = builder.build();
    server.start_server(service).await.expect("starts");
    let address = server.server_addresses().await.remove(0);
    (server, address)
}

/// Asks once with a client of its own, and expects an echo.
pub(crate) async fn ask(to: &Address) {
    let client = HttpTransport::builder().build();
    let response = client.exchange(to, frames_of(["hello"])).await;
    let frames = collect_frames(response.expect("is served").frames).await;
    assert_eq!(frames.expect("whole"), ["hello"]);
    client.close().await.expect("closes");
}
