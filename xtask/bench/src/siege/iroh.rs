//! Attackers that speak QUIC by endpoints of their own.

use bytes::{Bytes, BytesMut};
use eidetica_sync::iroh::ALPN;
use eidetica_sync::proto::message::{ListTrees, Request, RequestHeader};
use futures::future::join_all;
use iroh::endpoint::{Connection, QuicTransportConfig, VarInt, presets};
use iroh::{Endpoint, RelayMode};
use tokio::time::sleep;
use xtask_support::failed;

use super::{RESTING, STREAMS_PER_CONNECTION, Target};
use crate::hostile::iroh::{CONNECTIONS_PER_ENDPOINT, endpoint_addr};
use crate::hostile::put_frame;

/// The window of an attacker that reads.
const WINDOW: u32 = 1 << 20;

async fn bind(window: u32) -> Result<Endpoint, String> {
    let transport = QuicTransportConfig::builder().stream_receive_window(VarInt::from_u32(window));
    Endpoint::builder(presets::Minimal)
        .relay_mode(RelayMode::Disabled)
        .transport_config(transport.build())
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")
        .map_err(failed)?
        .bind()
        .await
        .map_err(failed)
}

/// Returns the frames of a request; the connection proves the caller's key.
fn frames(request: Request, more: &[Bytes]) -> Bytes {
    let mut bytes = BytesMut::new();
    put_frame(&mut bytes, &RequestHeader::new(request).encode());
    for frame in more {
        put_frame(&mut bytes, frame);
    }
    bytes.freeze()
}

/// Keeps so many connections busy, again and again.
async fn on_connections<F>(
    target: Target,
    connections: usize,
    window: impl Fn(usize) -> u32,
    attack: impl Fn(Target, Connection) -> F + Clone + Send + 'static,
) where
    F: Future<Output = Result<(), String>> + Send,
{
    let mut tasks = Vec::new();
    for endpoint in 0..connections.div_ceil(CONNECTIONS_PER_ENDPOINT) {
        let Ok(endpoint) = bind(window(endpoint)).await else {
            continue;
        };
        for _ in 0..CONNECTIONS_PER_ENDPOINT.min(connections) {
            let (target, endpoint, attack) = (target.clone(), endpoint.clone(), attack.clone());
            tasks.push(tokio::spawn(async move {
                loop {
                    if let Ok(to) = endpoint_addr(&target.address)
                        && let Ok(connection) = endpoint.connect(to, ALPN).await
                    {
                        let _closed = attack(target.clone(), connection).await;
                    }
                    sleep(RESTING).await;
                }
            }));
        }
    }
    join_all(tasks).await;
}

/// Asks for a large tree on many streams and reads nothing, again and again.
pub(super) async fn unread(target: Target, streams: usize, windows: Vec<u32>) {
    let window = |number: usize| windows[number % windows.len()];
    let unread = |target: Target, connection: Connection| async move {
        let request = frames(target.whole_tree(), &[]);
        let mut held = Vec::new();
        for _ in 0..STREAMS_PER_CONNECTION {
            let (mut send, receive) = connection.open_bi().await.map_err(failed)?;
            send.write_all(&request).await.map_err(failed)?;
            send.finish().map_err(failed)?;
            held.push((send, receive));
        }
        connection.closed().await;
        Ok(())
    };
    on_connections(target, streams / STREAMS_PER_CONNECTION, window, unread).await;
}

/// Asks for the list of trees and takes it back, as fast as the connections allow.
pub(super) async fn resets(target: Target) {
    let resets = |_, connection: Connection| async move {
        let request = frames(Request::ListTrees(ListTrees { after: None }), &[]);
        loop {
            let (mut send, mut receive) = connection.open_bi().await.map_err(failed)?;
            send.write_all(&request).await.map_err(failed)?;
            // The request must arrive before it is taken back.
            tokio::task::yield_now().await;
            let _may_be_over = (
                send.reset(VarInt::from_u32(1)),
                receive.stop(VarInt::from_u32(1)),
            );
        }
    };
    on_connections(target, 4, |_| WINDOW, resets).await;
}

/// Pushes one known entry again and again, slowly, on many streams.
pub(super) async fn pushes(target: Target) {
    let pushes = |target: Target, connection: Connection| async move {
        let first = frames(target.endless_push(), std::slice::from_ref(&target.known));
        let mut again = BytesMut::new();
        put_frame(&mut again, &target.known);
        let (mut send, _receive) = connection.open_bi().await.map_err(failed)?;
        send.write_all(&first).await.map_err(failed)?;
        loop {
            sleep(RESTING).await;
            send.write_all(&again).await.map_err(failed)?;
        }
    };
    on_connections(target, super::PUSHES, |_| WINDOW, pushes).await;
}
