//! What the tests share: transports and bare endpoints on the loopback interface.

use std::time::Duration;

use bytes::Bytes;
use eidetica_proto::testing::{collect_frames, frames_of};
use eidetica_proto::{Address, SyncTransport, TransportError};
use eidetica_transport_iroh::{ALPN, IrohTransport, IrohTransportBuilder, KIND, Relays};
use iroh::endpoint::{Connection, presets};
use iroh::{Endpoint, EndpointAddr, RelayMode};
use iroh_tickets::endpoint::EndpointTicket;

/// A deadline that tests wait for. A live peer on a busy machine must still meet it.
pub(crate) const HASTY: Duration = Duration::from_millis(500);

pub(crate) fn builder() -> IrohTransportBuilder {
    IrohTransport::builder()
        .relays(Relays::Disabled)
        .address_lookup(false)
        .bind_addr(([127, 0, 0, 1], 0).into())
}

pub(crate) fn hasty(builder: IrohTransportBuilder) -> IrohTransportBuilder {
    builder
        .connect_timeout(HASTY)
        .idle_timeout(HASTY)
        .stop_grace(HASTY)
}

pub(crate) async fn transport() -> IrohTransport {
    builder().bind().await.expect("binds")
}

/// Makes an endpoint as a program that knows nothing of us would.
pub(crate) async fn endpoint(alpns: &[&[u8]]) -> Endpoint {
    let builder = Endpoint::builder(presets::Minimal)
        .relay_mode(RelayMode::Disabled)
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")
        .expect("an address");
    let alpns = alpns.iter().map(|alpn| alpn.to_vec()).collect();
    builder.alpns(alpns).bind().await.expect("binds")
}

pub(crate) fn address_of(addr: EndpointAddr) -> Address {
    Address::new(KIND, &EndpointTicket::new(addr).to_string()).expect("an address")
}

pub(crate) fn endpoint_addr(address: &Address) -> EndpointAddr {
    let ticket: EndpointTicket = address.value().parse().expect("a ticket");
    ticket.endpoint_addr().clone()
}

pub(crate) async fn server_address(server: &IrohTransport) -> Address {
    server.server_addresses().await.remove(0)
}

/// Connects past the transport.
pub(crate) async fn connect(from: &Endpoint, to: &Address) -> Connection {
    let connection = from.connect(endpoint_addr(to), ALPN).await;
    connection.expect("connects")
}

pub(crate) async fn ask(
    client: &IrohTransport,
    to: &Address,
    question: &'static str,
) -> Result<Vec<Bytes>, TransportError> {
    let response = client.exchange(to, frames_of([question])).await?;
    collect_frames(response.frames).await
}

/// Returns the error that an exchange fails with.
pub(crate) async fn failure(client: &IrohTransport, to: &Address) -> TransportError {
    ask(client, to, "ask").await.expect_err("fails")
}
