//! How news travel.

use std::time::Duration;

use eidetica_dag::{AccessChange, Role, Subject};
use eidetica_proto::coordinator::LaneStatus;
use eidetica_proto::testing::MemoryNetwork;
use tokio::time::Instant;

use super::{Came, SETTLE, came, peer, server_and_client, until_has, until_state};
use crate::common::{assert_equal, client, node, tree, write};

/// A client that cannot accept connections gets news by its watch: at once, and without a request.
#[tokio::test(start_paused = true)]
async fn news_of_a_server_reach_a_client_without_a_request() {
    let network = MemoryNetwork::new();
    let (a, b, tree) = server_and_client(&network).await;
    let mut events = b.events();
    let exchanges = network.exchanges();
    for n in 0..10 {
        let entry = write(&a, tree, &format!("{n}")).await;
        let took = until_has(&b, tree, entry).await;
        assert!(took < Duration::from_millis(10), "{took:?}");
    }
    assert_eq!(network.exchanges(), exchanges);
    let expected = Came {
        watched: 10,
        ..Came::default()
    };
    assert_eq!(came(&mut events), expected);
    assert_equal(&a, &b, tree).await;
}

/// An entry of the client goes out at once, in one exchange that asks nothing first.
#[tokio::test(start_paused = true)]
async fn an_entry_of_a_client_takes_one_exchange() {
    let network = MemoryNetwork::new();
    let (a, b, tree) = server_and_client(&network).await;
    let mut events = a.events();
    let exchanges = network.exchanges();
    for n in 1..=10 {
        let entry = write(&b, tree, &format!("{n}")).await;
        let took = until_has(&a, tree, entry).await;
        assert!(took < Duration::from_millis(10), "{took:?}");
        // The acknowledgement arrives before the next one is written.
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(network.exchanges(), exchanges + n);
    }
    let expected = Came {
        pushed: 10,
        ..Came::default()
    };
    assert_eq!(came(&mut events), expected);
    assert_equal(&a, &b, tree).await;
}

/// What a peer brought is not sent back to it, whichever side watches.
#[tokio::test(start_paused = true)]
async fn two_nodes_that_follow_each_other_do_not_echo() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = tree(&a, &["one"]).await;
    b.follow(tree, peer(&a, "a")).await.expect("b runs");
    tokio::time::sleep(SETTLE).await;
    a.follow(tree, peer(&b, "b")).await.expect("a runs");
    tokio::time::sleep(SETTLE).await;
    let (mut at_a, mut at_b) = (a.events(), b.events());
    let exchanges = network.exchanges();
    for n in 0..20 {
        let (from, to) = if n % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let entry = write(from, tree, &format!("{n}")).await;
        let took = until_has(to, tree, entry).await;
        assert!(took < Duration::from_millis(10), "{took:?}");
    }
    tokio::time::sleep(SETTLE).await;
    // Both watch, so nothing is pushed either.
    assert_eq!(network.exchanges(), exchanges);
    let expected = Came {
        local: 10,
        watched: 10,
        ..Came::default()
    };
    assert_eq!(came(&mut at_a), expected);
    assert_eq!(came(&mut at_b), expected);
    assert_equal(&a, &b, tree).await;
}

/// `a - b - c`, where c follows b and b follows a: news pass in both directions.
#[tokio::test(start_paused = true)]
async fn news_pass_along_a_chain() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let c = client(&network, "c");
    let tree = tree(&a, &["one"]).await;
    b.follow(tree, peer(&a, "a")).await.expect("b runs");
    c.follow(tree, peer(&b, "b")).await.expect("c runs");
    tokio::time::sleep(SETTLE * 2).await;
    assert_equal(&a, &c, tree).await;
    let exchanges = network.exchanges();
    let entry = write(&a, tree, "by a").await;
    let took = until_has(&c, tree, entry).await;
    assert!(took < Duration::from_millis(10), "{took:?}");
    assert_eq!(network.exchanges(), exchanges, "watches bring it");
    let entry = write(&c, tree, "by c").await;
    let took = until_has(&a, tree, entry).await;
    assert!(took < Duration::from_millis(10), "{took:?}");
    tokio::time::sleep(SETTLE).await;
    assert_eq!(network.exchanges(), exchanges + 2, "two pushes bring it");
    assert_equal(&a, &c, tree).await;
}

/// A tree that b lacks passes along the chain as fast as an entry does.
#[tokio::test(start_paused = true)]
async fn a_tree_passes_along_a_chain() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let c = client(&network, "c");
    let tree = tree(&a, &["one"]).await;
    c.follow(tree, peer(&b, "b")).await.expect("c runs");
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    b.follow(tree, peer(&a, "a")).await.expect("b runs");
    let took = until_has(&c, tree, a.tips(tree).await.expect("in memory")[0]).await;
    // The first step is the follow of b; the watch of c tells the second one.
    assert!(took <= Duration::from_millis(10), "{took:?}");
    assert_equal(&a, &c, tree).await;
}

/// `n0 <- n1 <- … <- n6`, set up from the far end before the tree is there.
#[tokio::test(start_paused = true)]
async fn a_tree_passes_along_a_long_chain_that_waits_for_it() {
    let network = MemoryNetwork::new();
    let origin = node(&network, "origin").await;
    let tree = tree(&origin, &["one"]).await;
    let mut chain = Vec::new();
    for n in 0..7 {
        chain.push(node(&network, &format!("n{n}")).await);
    }
    for n in (1..7).rev() {
        let before = peer(&chain[n - 1], &format!("n{}", n - 1));
        chain[n].follow(tree, before).await.expect("it runs");
    }
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let exchanges = network.exchanges();
    let began = Instant::now();
    let follow = chain[0].follow(tree, peer(&origin, "origin"));
    follow.await.expect("it runs");
    let tip = origin.tips(tree).await.expect("in memory")[0];
    for node in &chain {
        until_has(node, tree, tip).await;
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    tokio::time::sleep(SETTLE).await;
    // For each a comparison and a watch, and what the periodic checks and greetings take.
    let took = network.exchanges() - exchanges;
    assert!(took <= 7 * 6, "{took} exchanges");
    // From here on watches bring new entries.
    let entry = write(&origin, tree, "two").await;
    let took = until_has(&chain[6], tree, entry).await;
    assert!(took < Duration::from_millis(10), "{took:?}");
}

/// A tree that is revoked and granted again is there at once.
#[tokio::test(start_paused = true)]
async fn a_grant_after_a_revocation_is_noticed_at_once() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, client(&network, "b"));
    let key = Subject::Key(b.key());
    let reads = AccessChange::grant(key, Role::Read);
    let tree = a.create_tree("private", vec![reads]).await;
    let tree = tree.expect("well formed");
    b.follow(tree, peer(&a, "a")).await.expect("b runs");
    tokio::time::sleep(SETTLE).await;
    a.revoke(tree, key).await.expect("own tree");
    let waits = |state: &LaneStatus| *state == LaneStatus::WaitingForAccess;
    until_state(&b, tree, &a, waits).await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    a.grant(tree, key, Role::Read).await.expect("own tree");
    let tip = a.tips(tree).await.expect("in memory")[0];
    let took = until_has(&b, tree, tip).await;
    assert!(took < Duration::from_millis(10), "{took:?}");
}
