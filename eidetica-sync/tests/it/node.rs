//! Nodes that sync over a network in memory.

use std::sync::Arc;

use bytes::Bytes;

use crate::common::{anyone, assert_equal, at, costs, node, secret, texts, tree, write};
use eidetica_dag::{EntryId, Role, SecretKey, TreeId};
use eidetica_proto::testing::{Fault, MemoryNetwork};
use eidetica_proto::{ErrorCode, SyncFault, SyncOutcome, TransportErrorKind};
use eidetica_sync::store::MemoryStore;
use eidetica_sync::{
    Event, JoinOptions, Joined, Log, Node, Peer, SubscribeFrom, SyncError, TreeError,
};
use futures::StreamExt;

#[tokio::test]
async fn a_ticket_brings_the_whole_tree() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = tree(&a, &["one", "two", "three"]).await;
    let ticket = a.ticket(tree).await;
    let ticket = ticket.to_string().parse().expect("a ticket is read back");
    let joined = b.join(&ticket, JoinOptions::default()).await;
    let Joined::Synced(report) = joined.expect("anyone may read") else {
        panic!("no approval is needed");
    };
    assert_eq!(report.outcome, SyncOutcome::Equal);
    assert_eq!(costs(&report), (4, 0, 1));
    assert_equal(&a, &b, tree).await;
    assert_eq!(texts(&b, tree).await, ["one", "two", "three"]);
}

#[tokio::test]
async fn both_sides_ahead_become_equal_in_one_sync() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = tree(&a, &["shared"]).await;
    b.sync(tree, at("a")).await.expect("a serves");
    write(&a, tree, "by a").await;
    write(&b, tree, "by b, first").await;
    write(&b, tree, "by b, second").await;
    let report = b.sync(tree, at("a")).await.expect("a serves");
    assert_eq!(report.outcome, SyncOutcome::Equal);
    assert_eq!(
        costs(&report),
        (1, 2, 2),
        "one round trip to get, one to give"
    );
    assert_eq!(report.stats.redundant, 0);
    assert_equal(&a, &b, tree).await;
    assert_eq!(a.tips(tree).await.expect("in memory").len(), 2);
    write(&a, tree, "merge").await;
    assert_eq!(a.tips(tree).await.expect("in memory").len(), 1);
}

#[tokio::test]
async fn equal_trees_move_nothing() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = tree(&a, &["one"]).await;
    b.sync(tree, at("a")).await.expect("a serves");
    let report = b.sync(tree, at("a")).await.expect("a serves");
    assert_eq!(
        (report.outcome, costs(&report)),
        (SyncOutcome::Equal, (0, 0, 1))
    );
    assert_eq!((report.stats.received, report.stats.sent), (0, 0));
}

#[tokio::test]
async fn absent_and_forbidden_trees_look_the_same() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let private = a
        .create_tree("private", Vec::new())
        .await
        .expect("well formed");
    let absent = TreeId::from_root(eidetica_dag::EntryId::from_bytes([7; 32]));
    let mut answers = Vec::new();
    for tree in [private, absent] {
        let error = b
            .sync(tree, at("a"))
            .await
            .expect_err("there is nothing for b");
        let SyncError::Peer {
            source: SyncFault::Refused(refused),
            ..
        } = &*error
        else {
            panic!("not a refusal: {error}");
        };
        answers.push(refused.clone());
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].code, ErrorCode::NotFound);
    assert_eq!(b.trees().await.expect("in memory"), []);
}

#[tokio::test]
async fn a_reader_gets_everything_and_writes_nothing() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = a
        .create_tree("public", anyone(Role::Read))
        .await
        .expect("well formed");
    b.sync(tree, at("a")).await.expect("anyone may read");
    let error = b.append(tree, "mine").await.expect_err("b is a reader");
    assert!(matches!(error, TreeError::Refused(_)), "{error}");
    assert_equal(&a, &b, tree).await;
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_a_reason_and_no_fault() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    // b may read at a by being anyone, and c wrote with a grant that only c's copy holds no more.
    let tree = a
        .create_tree("public", anyone(Role::Read))
        .await
        .expect("well formed");
    b.sync(tree, at("a")).await.expect("anyone may read");
    // a is ahead at b: b serves a copy to which a, its author, may write, and c may not.
    write(&a, tree, "news").await;
    let c = node(&network, "c").await;
    c.sync(tree, at("a")).await.expect("anyone may read");
    let report = c.sync(tree, at("b")).await.expect("b answers");
    assert_eq!(report.outcome, SyncOutcome::PeerIsReadOnly);
    assert_eq!(texts(&b, tree).await, Vec::<String>::new());
    let report = a.sync(tree, at("b")).await.expect("b answers");
    assert_eq!(report.outcome, SyncOutcome::Equal);
    assert_equal(&a, &b, tree).await;
}

#[tokio::test]
async fn two_trees_and_ten_clients_at_once() {
    let network = MemoryNetwork::new();
    let server = node(&network, "server").await;
    let (one, two) = (tree(&server, &["one"]).await, tree(&server, &["two"]).await);
    let mut clients = Vec::new();
    for n in 0..10 {
        clients.push(node(&network, &format!("client-{n}")).await);
    }
    let syncs = clients.iter().flat_map(|client| {
        [one, two].map(|tree| async move { client.sync(tree, at("server")).await })
    });
    for result in futures::future::join_all(syncs).await {
        assert_eq!(
            result.expect("the server serves").outcome,
            SyncOutcome::Equal
        );
    }
    for (n, client) in clients.iter().enumerate() {
        write(client, one, &format!("by {n}")).await;
    }
    // Twice: the first ones do not know yet what the last ones bring.
    for _ in 0..2 {
        let syncs = clients.iter().map(|client| client.sync(one, at("server")));
        for result in futures::future::join_all(syncs).await {
            result.expect("the server serves");
        }
    }
    for client in &clients {
        assert_equal(&server, client, one).await;
        assert_equal(&server, client, two).await;
    }
    assert_eq!(texts(&server, one).await.len(), 11);
}

#[tokio::test]
async fn what_arrived_before_a_cut_is_kept() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = tree(&a, &[]).await;
    let payload = vec![7u8; 100_000];
    for _ in 0..10 {
        a.append(tree, payload.clone())
            .await
            .expect("anyone may write");
    }
    // The header, and one of several batches.
    network.inject(|_| Some(Fault::CutResponse { after_frames: 2 }));
    let error = b
        .sync(tree, at("a"))
        .await
        .expect_err("the connection is cut");
    assert!(
        matches!(&*error, SyncError::Transport { .. }) && error.is_transient(),
        "{error}"
    );
    network.heal();
    let kept = crate::common::ids(&b, tree).await.len() as u64;
    assert!(kept > 0, "a whole batch arrived");
    let report = b.sync(tree, at("a")).await.expect("the network is whole");
    assert_eq!(report.stats.received, 11 - kept, "nothing is fetched twice");
    assert_equal(&a, &b, tree).await;
}

#[tokio::test]
async fn the_key_in_a_ticket_must_be_the_peers() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = tree(&a, &["one"]).await;
    let other = SecretKey::from_bytes(&[9; 32]).public();
    let peer = Peer {
        key: Some(other),
        addresses: vec![at("a")],
    };
    let error = b.sync(tree, peer).await.expect_err("a is not that one");
    let SyncError::Transport { source, .. } = &*error else {
        panic!("{error}")
    };
    assert_eq!(source.kind(), TransportErrorKind::WrongPeer);
    assert_eq!(b.trees().await.expect("in memory"), []);
}

#[tokio::test]
async fn all_addresses_are_tried() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = tree(&a, &["one"]).await;
    let nowhere = at("nowhere");
    let unknown = "smoke:signals".parse().expect("an address");
    let peer = Peer {
        key: None,
        addresses: vec![unknown, nowhere, at("a")],
    };
    b.sync(tree, peer)
        .await
        .expect("the last address leads to a");
    assert_equal(&a, &b, tree).await;
    let error = b
        .sync(
            tree,
            Peer {
                key: None,
                addresses: vec![],
            },
        )
        .await;
    assert!(matches!(
        *error.expect_err("there is no address"),
        SyncError::NoAddress
    ));
}

#[tokio::test]
async fn a_listener_that_is_too_slow_learns_how_much_it_missed() {
    let a = node(&MemoryNetwork::new(), "a").await;
    let tree = tree(&a, &[]).await;
    let events = a.events();
    for _ in 0..1_500 {
        write(&a, tree, "x").await;
    }
    let arrived = |event| match event {
        Event::Stored { arrivals, .. } => (0, arrivals.len()),
        Event::Lagged(missed) => (missed as usize, 0),
        other => panic!("{other:?}"),
    };
    let seen = events.map(arrived).take(1_025).collect::<Vec<_>>().await;
    assert_eq!(seen[0], (1_500 - 1_024, 0));
    let stored: usize = seen.iter().map(|(_, stored)| stored).sum();
    assert_eq!(stored, 1_024);
}

#[tokio::test]
async fn a_subscription_leaves_nothing_out() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = tree(&a, &["one", "two"]).await;
    let mut all = b
        .subscribe(tree, SubscribeFrom::Start)
        .await
        .expect("in memory");
    b.sync(tree, at("a")).await.expect("a serves");
    let mut later = b
        .subscribe(tree, SubscribeFrom::Now)
        .await
        .expect("in memory");
    let last = write(&b, tree, "three").await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(
            all.next()
                .await
                .expect("in memory")
                .expect("the node lives")
                .id(),
        );
    }
    assert_eq!(seen.first(), Some(&tree.root()));
    assert_eq!(seen.last(), Some(&last));
    assert_eq!(
        later
            .next()
            .await
            .expect("in memory")
            .expect("the node lives")
            .id(),
        last
    );
}

/// Large and many entries: several reads ahead, each with its limit.
#[tokio::test]
async fn a_subscription_goes_on_from_its_cursor() {
    let store = Arc::new(MemoryStore::new());
    let start = || Node::builder_with(store.clone(), secret("a")).start();
    let node = start();
    let tree = tree(&node, &[]).await;
    let texts = (0..3_000).map(|n| Bytes::from(vec![b'x'; n % 1_000]));
    let mut written = vec![tree.root()];
    written.extend(node.append_all(tree, texts.collect()).await.expect("may"));
    let (mut seen, mut cursor) = (Vec::new(), None);
    for take in [0, 1, 1_500, 1_500, 0] {
        let from = cursor.map_or(SubscribeFrom::Start, SubscribeFrom::After);
        let mut entries = start().subscribe(tree, from).await.expect("its own");
        for _ in 0..take {
            let entry = entries
                .next()
                .await
                .expect("it is there")
                .expect("in memory");
            seen.push(entry.id());
        }
        cursor = Some(entries.cursor());
    }
    assert_eq!(seen, written);
    let end = cursor.expect("it was read to the end");
    let log = node.log(tree).await.expect("in memory");
    assert_eq!(log.cursor().expect("in memory"), end);
    let mut later = node
        .subscribe(tree, SubscribeFrom::After(end))
        .await
        .expect("its own");
    let last = write(&node, tree, "last").await;
    let entry = later.next().await.expect("it is there").expect("in memory");
    assert_eq!(entry.id(), last);

    let other = Node::builder(MemoryStore::new(), secret("b")).start();
    let refused = other.subscribe(tree, SubscribeFrom::After(end)).await;
    let refused = refused.map(|_| ()).expect_err("another store");
    assert!(matches!(refused, TreeError::OtherLog(of) if of == tree));
    node.shutdown().await.expect("nothing is left running");
    drop(node);
    assert!(later.next().await.is_none(), "the node is gone");
}

#[tokio::test]
async fn what_came_after_a_frontier_is_listed() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = tree(&a, &["one"]).await;
    b.sync(tree, at("a")).await.expect("a serves");
    let known = a.tips(tree).await.expect("in memory");
    let ours = write(&a, tree, "two").await;
    let theirs = write(&b, tree, "three").await;
    a.sync(tree, at("b")).await.expect("b serves");
    let handle = a.tree(tree).await.expect("it is here");
    let ids = |log: Log| {
        log.map(|it| it.expect("in memory").id())
            .collect::<Vec<_>>()
    };
    let since = |known: Vec<EntryId>| handle.entries_since(known);
    let mut both = vec![ours, theirs];
    both.sort();
    assert_eq!(ids(since(known.clone()).await.expect("known")), both);
    assert_eq!(ids(since(vec![theirs]).await.expect("known")), [ours]);
    assert_eq!(ids(since(both.clone()).await.expect("known")), []);
    let all = ids(since(vec![]).await.expect("nothing is known"));
    assert_eq!(all, ids(handle.log().await.expect("in memory")));
    let merge = handle.append("four").await.expect("may write");
    assert_eq!(ids(since(both).await.expect("known")), [merge]);
    let foreign = self::tree(&b, &["other"]).await.root();
    let refused = since(vec![foreign])
        .await
        .map(|_| ())
        .expect_err("not in this tree");
    assert!(matches!(refused, TreeError::NoSuchEntry(id) if id == foreign));
    let absent = a
        .tree(TreeId::from_root(foreign))
        .await
        .expect_err("it is at b");
    assert!(matches!(absent, TreeError::NoSuchTree(_)));
}

#[tokio::test]
async fn every_sync_that_starts_ends() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = tree(&a, &["one"]).await;
    let mut events = b.events();
    b.sync(tree, at("a")).await.expect("a serves");
    let nowhere = Peer {
        key: Some(b.key()),
        addresses: vec![at("nowhere")],
    };
    b.sync(tree, nowhere).await.expect_err("no peer is there");
    let mut open = Vec::new();
    let mut ended = 0;
    while ended < 2 {
        match events.next().await.expect("the node lives") {
            Event::SyncStarted { sync, .. } => open.push(sync),
            Event::SyncEnded { sync, .. } => {
                assert_eq!(open.pop(), Some(sync));
                ended += 1;
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn after_shutdown_everything_says_closed() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = tree(&a, &["one"]).await;
    a.shutdown().await.expect("nothing is left running");
    let error = b.sync(tree, at("a")).await.expect_err("a is gone");
    let SyncError::Transport { source, .. } = &*error else {
        panic!("{error}")
    };
    assert_eq!(source.kind(), TransportErrorKind::Refused);
    assert!(matches!(
        *a.sync(tree, at("b")).await.expect_err("closed"),
        SyncError::Closed
    ));
    assert_eq!(texts(&a, tree).await, ["one"], "reading stays possible");
}
