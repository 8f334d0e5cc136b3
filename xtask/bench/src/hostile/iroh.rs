//! An attacker that speaks QUIC by its own endpoints.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use eidetica_sync::iroh::ALPN;
use eidetica_sync::proto::Address;
use iroh::endpoint::{Connection, presets};
use iroh::{Endpoint, EndpointAddr, RelayMode, TransportAddr};
use iroh_tickets::endpoint::EndpointTicket;
use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::{Attack, Connections, Stall, Stood};
use crate::nodes::Transport;
use xtask_support::failed;

/// Connections of one endpoint: as many as one peer may have.
pub const CONNECTIONS_PER_ENDPOINT: usize = 8;

/// Largest datagram that is passed on.
const DATAGRAM_BYTES_MAX: usize = 2_048;

/// Opens the connections and lets them stall.
pub(super) async fn begin(attack: Attack, address: &Address) -> Result<Connections, String> {
    let server = endpoint_addr(address)?;
    let one_way = one_way(&server).await?;
    let mut standing = Connections::new();
    let mut endpoints = Vec::new();
    for _ in 0..attack.connections.div_ceil(CONNECTIONS_PER_ENDPOINT) {
        endpoints.push(bind().await?);
    }
    for number in 0..attack.connections {
        let stall = attack.pace(number).await;
        let endpoint = endpoints[number / CONNECTIONS_PER_ENDPOINT].clone();
        let to = match stall {
            Stall::Handshake => one_way.clone(),
            _ => server.clone(),
        };
        standing.spawn(stand(attack.clone(), endpoint, to, stall));
    }
    Ok(standing)
}

/// Returns where datagrams reach the server and nothing comes back, so that no handshake ends.
async fn one_way(server: &EndpointAddr) -> Result<EndpointAddr, String> {
    let to: Vec<SocketAddr> = server.ip_addrs().copied().collect();
    let to = to.first().copied();
    let to = to.ok_or_else(|| failed("the server has no address of its own"))?;
    let socket = UdpSocket::bind("127.0.0.1:0").await.map_err(failed)?;
    let at = socket.local_addr().map_err(failed)?;
    tokio::spawn(async move {
        let mut datagram = [0; DATAGRAM_BYTES_MAX];
        loop {
            if let Ok((bytes, from)) = socket.recv_from(&mut datagram).await
                && from != to
            {
                let _may_be_lost = socket.send_to(&datagram[..bytes], to).await;
            }
        }
    });
    Ok(EndpointAddr::from_parts(server.id, [TransportAddr::Ip(at)]))
}

async fn stand(attack: Attack, endpoint: Endpoint, to: EndpointAddr, stall: Stall) -> Stood {
    let bytes = match stall {
        Stall::Handshake | Stall::Nothing => Bytes::new(),
        Stall::HalfHead => Bytes::from_static(b"\x40\0"),
        Stall::HalfBody | Stall::HalfFrame => attack.bytes(Transport::Iroh, stall),
    };
    // Whatever goes wrong means that there is no connection.
    let Ok(connection) = endpoint.connect(to, ALPN).await else {
        // How the server treats half a handshake is not visible from here.
        return (stall != Stall::Handshake).then_some(Duration::ZERO);
    };
    let began = Instant::now();
    let ended = connection.clone();
    tokio::select! {
        _ = ended.closed() => {}
        () = say(&connection, bytes) => {}
    }
    Some(began.elapsed())
}

/// Says this on a stream and then nothing more.
async fn say(connection: &Connection, bytes: Bytes) {
    let mut stream = None;
    if !bytes.is_empty()
        && let Ok((mut send, receive)) = connection.open_bi().await
    {
        let _may_be_stopped = send.write_all(&bytes).await;
        stream = Some((send, receive));
    }
    std::future::pending::<()>().await;
    drop(stream);
}

async fn bind() -> Result<Endpoint, String> {
    let builder = Endpoint::builder(presets::Minimal)
        .relay_mode(RelayMode::Disabled)
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")
        .map_err(failed)?;
    builder.bind().await.map_err(failed)
}

pub fn endpoint_addr(address: &Address) -> Result<EndpointAddr, String> {
    let ticket: EndpointTicket = address.value().parse().map_err(failed)?;
    Ok(ticket.endpoint_addr().clone())
}
