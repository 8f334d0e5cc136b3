//! Peers that vanish without a word, addresses that do not answer, and answers that live for hours.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use eidetica_proto::testing::conformance::long_lived::heartbeats_keep_an_answer_alive;
use eidetica_proto::testing::{collect_frames, echo, frames_of};
use eidetica_proto::{Address, SecretKey, SyncTransport};
use iroh::EndpointAddr;
use tokio::runtime::Runtime;

use crate::conformance::{Arrivals, IrohFixture};
use crate::stage::{address_of, ask, builder, endpoint_addr, server_address, transport};

/// Starts a server with a runtime of its own, which can be killed like a process: nothing of it is
/// closed in good order.
fn start(key: &SecretKey, bind: SocketAddr) -> (Runtime, Address) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let key = key.clone();
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    runtime.spawn(async move {
        let server = builder().secret_key(key).bind_addr(bind).bind().await;
        let server = server.expect("binds");
        server.start_server(echo()).await.expect("starts");
        let address = server_address(&server).await;
        tell.send(address).expect("the test waits");
        std::future::pending::<()>().await;
    });
    (runtime, told.recv().expect("starts"))
}

fn kill(runtime: Runtime) {
    runtime.shutdown_timeout(Duration::from_secs(10));
}

#[test]
fn a_server_that_was_killed_and_restarted_answers_on_another_connection() {
    let key = SecretKey::from_bytes(&[5; 32]);
    let (server, address) = start(&key, ([127, 0, 0, 1], 0).into());
    let bound = *endpoint_addr(&address).ip_addrs().next().expect("direct");
    let own = Runtime::new().expect("a runtime");
    let client = own.block_on(transport());
    let answer = own.block_on(ask(&client, &address, "before"));
    assert_eq!(answer.expect("answers"), ["before"]);
    kill(server);
    let (server, _) = start(&key, bound);
    // The connection from before gets no answer, and QUIC would notice after half a minute, with an
    // error. A request of several frames is sent again as a whole.
    let answer = own.block_on(async {
        let request = frames_of(["one", "two", "three"]);
        let response = client.exchange(&address, request).await.expect("answers");
        collect_frames(response.frames).await.expect("ends well")
    });
    assert_eq!(answer, ["one", "two", "three"]);
    own.block_on(client.close()).expect("closes");
    kill(server);
}

#[tokio::test]
async fn an_address_that_does_not_answer_delays_no_other_address_of_the_peer() {
    let (client, server) = (transport().await, transport().await);
    server.start_server(echo()).await.expect("starts");
    let good = server_address(&server).await;
    let silent = UdpSocket::bind("127.0.0.1:0").expect("binds");
    let silent_addr = silent.local_addr().expect("is bound");
    let id = endpoint_addr(&good).id;
    let stale = address_of(EndpointAddr::from(id).with_ip_addr(silent_addr));
    // The dial of the first has begun when its socket has a packet.
    let first = client.exchange(&stale, frames_of(["ask"]));
    let begun = tokio::task::spawn_blocking(move || {
        silent.recv_from(&mut [0; 2048]).expect("a packet");
        silent
    });
    let mut first = first;
    let _silent = tokio::select! {
        _ = &mut first => panic!("it cannot end before its first packet"),
        silent = begun => silent.expect("no panic"),
    };
    // With the dial still in progress, and not polled, the other address answers.
    let answer = ask(&client, &good, "hello").await.expect("answers");
    assert_eq!(answer, ["hello"]);
    drop(first);
    client.close().await.expect("closes");
    server.close().await.expect("closes");
}

#[tokio::test]
async fn a_dropped_dial_leaves_the_next_one_undisturbed() {
    let (client, server) = (transport().await, transport().await);
    server.start_server(echo()).await.expect("starts");
    let address = server_address(&server).await;
    let mut dropped = client.exchange(&address, frames_of(["ask"]));
    assert!(futures::poll!(&mut dropped).is_pending(), "it dials");
    let second = ask(&client, &address, "second");
    let (second, ()) = tokio::join!(second, async { drop(dropped) });
    assert_eq!(second.expect("answers"), ["second"]);
    client.close().await.expect("closes");
    server.close().await.expect("closes");
}

/// Moves the clock in small steps, so that QUIC's timers fire in order.
async fn advance(duration: Duration) {
    const STEP: Duration = Duration::from_millis(250);
    let mut left = duration;
    while !left.is_zero() {
        let step = left.min(STEP);
        tokio::time::advance(step).await;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        left -= step;
    }
}

#[test]
fn heartbeats_keep_an_answer_alive_on_a_virtual_clock() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    // While work blocks, the runtime does not move the clock by itself.
    let (done, block) = std::sync::mpsc::sync_channel::<()>(1);
    let blocked = runtime.spawn_blocking(move || block.recv());
    let fixture = IrohFixture::new(Arrivals::OwnEndpoint);
    runtime.block_on(heartbeats_keep_an_answer_alive(&fixture, 10, advance));
    drop(done);
    let _ = runtime.block_on(blocked).expect("no panic");
}
