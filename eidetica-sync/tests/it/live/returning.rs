//! A peer that was away and follows nothing is found again as soon as it is back.

use std::sync::Arc;
use std::time::Duration;

use eidetica_dag::EntryId;
use eidetica_proto::coordinator::LaneStatus;
use eidetica_proto::testing::{Fault, MemoryNetwork};
use eidetica_sync::store::{MemoryStore, Store};

use super::{SETTLE, peer, until_has, until_state};
use crate::common::{assert_equal, at, client, client_on, node, tree, write};

/// Longer than the longest backoff by then, many times.
const ABSENCE: Duration = Duration::from_secs(3_600);

/// How soon everything is there after the return.
const BACK_WITHIN: Duration = Duration::from_secs(2);

fn unreachable(state: &LaneStatus) -> bool {
    matches!(state, LaneStatus::Unreachable { .. })
}

/// The writer follows a peer that follows nothing, and which is restarted at another address.
#[tokio::test(start_paused = true)]
async fn a_peer_that_is_restarted_elsewhere_is_found_at_once() {
    let network = MemoryNetwork::new();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let writer = node(&network, "writer").await;
    let away = client_on(&network, "away", store.clone());
    away.accept_connections().await.expect("the name is free");
    let tree = tree(&away, &["one"]).await;
    let followed = writer.follow(tree, peer(&away, "away")).await;
    followed.expect("it serves");
    tokio::time::sleep(SETTLE).await;
    away.shutdown().await.expect("nothing is left running");
    let mut last: Option<EntryId> = None;
    for number in 0..100 {
        last = Some(write(&writer, tree, &format!("entry {number}")).await);
        tokio::time::sleep(ABSENCE / 100).await;
    }
    let key = crate::common::secret("away");
    let transport = network.transport("elsewhere").key(key.public()).build();
    let builder = eidetica_sync::Node::builder_with(store, key);
    let back = builder.transport("net", transport).expect("a name").start();
    back.accept_connections().await.expect("the name is free");
    let took = until_has(&back, tree, last.expect("a hundred")).await;
    assert!(took <= BACK_WITHIN, "{took:?}");
    assert_equal(&writer, &back, tree).await;
}

/// The same, of a peer whose process lives on, and whose network needs a moment after it came back.
#[tokio::test(start_paused = true)]
async fn a_peer_whose_network_was_away_is_found_at_once() {
    let network = MemoryNetwork::new();
    let (writer, away) = (node(&network, "writer").await, node(&network, "away").await);
    let tree = tree(&away, &["one"]).await;
    let followed = writer.follow(tree, peer(&away, "away")).await;
    followed.expect("it serves");
    tokio::time::sleep(SETTLE).await;
    network.inject(|exchange| (exchange.to == at("away")).then_some(Fault::Refuse));
    let entry = write(&writer, tree, "meanwhile").await;
    until_state(&writer, tree, &away, unreachable).await;
    tokio::time::sleep(ABSENCE).await;
    let began = tokio::time::Instant::now();
    network
        .inject(move |_| (began.elapsed() < Duration::from_millis(600)).then_some(Fault::Refuse));
    away.network_changed();
    let took = until_has(&away, tree, entry).await;
    assert!(took <= BACK_WITHIN, "{took:?}");
}

/// A node that does not serve cannot be reached, so it greets no peer.
#[tokio::test(start_paused = true)]
async fn nothing_is_said_needlessly() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, client(&network, "b"));
    let tree = tree(&a, &["one"]).await;
    b.sync(tree, peer(&a, "a")).await.expect("a serves");
    let before = network.exchanges();
    b.network_changed();
    tokio::time::sleep(SETTLE).await;
    assert_eq!(network.exchanges(), before);
    b.accept_connections().await.expect("the name is free");
    tokio::time::sleep(SETTLE).await;
    // A greeting, and which start of each is alive.
    assert_eq!(network.exchanges(), before + 2);
}
