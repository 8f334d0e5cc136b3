//! What a program sees and says.

use std::sync::Arc;
use std::time::Duration;

use eidetica_proto::coordinator::LaneStatus;
use eidetica_proto::testing::{Fault, MemoryNetwork};
use eidetica_sync::store::{MemoryStore, Store};
use eidetica_sync::{FollowOptions, SyncError};

use super::{peer, server_and_client, state, until_has};
use crate::common::{assert_equal, at, client, client_on, node, tree, write};

#[tokio::test(start_paused = true)]
async fn a_follow_tells_its_status() {
    let network = MemoryNetwork::new();
    let (a, b, tree) = server_and_client(&network).await;
    let follow = b.followed(tree, a.key()).expect("b follows a");
    assert_eq!((follow.peer(), follow.tree()), (a.key(), tree));
    let status = follow.status().expect("it is followed");
    assert!(
        matches!(status.state, LaneStatus::InSync { .. }),
        "{status:?}"
    );
    assert!(status.last_error.is_none());
    assert_eq!(status.peer_has, 2, "the root and one entry");
    a.transports().stop_accepting().await.expect("it stops");
    super::until_state(&b, tree, &a, |state| {
        matches!(state, LaneStatus::Unreachable { .. })
    })
    .await;
    let status = follow.status().expect("it is followed");
    let (error, _) = status.last_error.expect("a is away");
    assert!(matches!(*error, SyncError::Transport { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_entry_is_known_to_have_reached_a_peer() {
    let network = MemoryNetwork::new();
    let (a, b, tree) = server_and_client(&network).await;
    network.inject(|_| Some(Fault::Refuse));
    let entry = write(&b, tree, "two").await;
    assert!(!b.reached(tree, entry, a.key()).await.expect("in memory"));
    let short = Duration::from_secs(1);
    let error = b.synced_with(tree, a.key(), short).await;
    assert!(matches!(
        *error.expect_err("a is away"),
        SyncError::NotConfirmed(_)
    ));
    network.heal();
    let long = Duration::from_secs(10);
    b.synced_with(tree, a.key(), long).await.expect("a is back");
    assert!(b.reached(tree, entry, a.key()).await.expect("in memory"));
    assert_equal(&a, &b, tree).await;
    // A watch brings news to b; that b has them, a learns when it asks.
    b.synced_with(tree, a.key(), long)
        .await
        .expect("a is there");
    assert!(
        a.synced_with(tree, b.key(), long).await.is_err(),
        "a follows no peer"
    );
}

#[tokio::test(start_paused = true)]
async fn a_remembered_follow_survives_a_restart() {
    let network = MemoryNetwork::new();
    let a = node(&network, "a").await;
    let tree = tree(&a, &["one"]).await;
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let b = client_on(&network, "b", store.clone());
    let options = FollowOptions {
        remember: true,
        ..FollowOptions::default()
    };
    let followed = b.follow_with(tree, peer(&a, "a"), options).await;
    followed.expect("b runs");
    b.shutdown().await.expect("nothing is left running");
    let entry = write(&a, tree, "while b was away").await;
    let b = client_on(&network, "b", store.clone());
    until_has(&b, tree, entry).await;
    b.unfollow(tree, a.key()).await.expect("in memory");
    b.shutdown().await.expect("nothing is left running");
    let b = client_on(&network, "b", store);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(b.status().is_empty(), "it was stopped for good");
}

/// A peer whose key is not given is asked for it.
#[tokio::test(start_paused = true)]
async fn an_address_is_enough_to_follow() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, client(&network, "b"));
    let tree = tree(&a, &["one"]).await;
    let follow = b.follow(tree, at("a")).await.expect("a is there");
    assert_eq!(follow.peer(), a.key());
    let error = b.follow(tree, at("nowhere")).await;
    assert!(matches!(
        *error.expect_err("no peer is there"),
        SyncError::Transport { .. }
    ));
    assert_eq!(b.status().len(), 1, "one lane for each peer and tree");
    b.follow(tree, peer(&a, "a")).await.expect("b runs");
    assert_eq!(b.status().len(), 1);
}

/// A reader gets news and is refused its own entries, which costs nothing else.
#[tokio::test(start_paused = true)]
async fn a_reader_gets_news_and_is_refused_its_own() {
    use eidetica_dag::{Role, Subject};
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, client(&network, "b"));
    let access = vec![eidetica_dag::AccessChange::grant(
        Subject::Anyone,
        Role::Read,
    )];
    let tree = a.create_tree("tree", access).await.expect("well formed");
    b.follow(tree, peer(&a, "a")).await.expect("b runs");
    let entry = write(&a, tree, "one").await;
    until_has(&b, tree, entry).await;
    tokio::time::sleep(super::SETTLE).await;
    assert!(matches!(
        state(&b, tree, &a),
        Some(LaneStatus::InSync { .. })
    ));
    let entry = write(&a, tree, "two").await;
    let took = until_has(&b, tree, entry).await;
    assert!(took < Duration::from_millis(10), "{took:?}");
}

/// A peer that cannot be asked says by its own checks what its watch has brought it.
#[tokio::test(start_paused = true)]
async fn a_check_by_a_peer_tells_what_its_watch_brought() {
    let network = MemoryNetwork::new();
    let (a, b, tree) = server_and_client(&network).await;
    a.follow(tree, peer(&b, "b")).await.expect("a runs");
    let entry = write(&a, tree, "two").await;
    until_has(&b, tree, entry).await;
    let reached = async || a.reached(tree, entry, b.key()).await.expect("in memory");
    assert!(!reached().await, "a watch tells no side what is durable");
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert!(reached().await);
    assert!(
        matches!(state(&a, tree, &b), Some(LaneStatus::Unreachable { .. })),
        "a has not asked"
    );
}

/// Where both can ask, the check of one side serves both.
#[tokio::test(start_paused = true)]
async fn a_check_by_either_side_ends_that_a_peer_counts_as_ahead() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = crate::common::tree(&a, &["one"]).await;
    b.follow(tree, peer(&a, "a")).await.expect("b runs");
    tokio::time::sleep(super::SETTLE).await;
    a.follow(tree, peer(&b, "b")).await.expect("a runs");
    tokio::time::sleep(super::SETTLE).await;
    let entry = write(&a, tree, "two").await;
    until_has(&b, tree, entry).await;
    assert!(matches!(
        state(&a, tree, &b),
        Some(LaneStatus::Ahead { entries: 1 })
    ));
    let long = Duration::from_secs(10);
    b.synced_with(tree, a.key(), long).await.expect("a serves");
    assert!(matches!(
        state(&a, tree, &b),
        Some(LaneStatus::InSync { .. })
    ));
}
