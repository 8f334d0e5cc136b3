//! What a watch brings, and when.

use std::time::Duration;

use eidetica_dag::{AccessChange, Role, SecretKey, Subject, TreeId};
use eidetica_proto::Cursor;
use eidetica_proto::batch::Packer;
use eidetica_proto::message::{Part, Request, RequestHeader, SendEntries};
use eidetica_proto::testing::MemoryNetwork;
use eidetica_proto::tips::EndTips;
use eidetica_sync::Node;
use eidetica_sync::store::MemoryStore;
use tokio::time::Instant;

use super::{Seen, end_of, news, watch};
use crate::common::raw::{As, InMemory, Way, ask};
use crate::common::{secret, seed, tree, write};

/// A node that serves by way of this.
pub(super) async fn server(way: &impl Way) -> Node {
    let key = secret("server");
    let transport = way.transport("server", &key).await;
    let builder = Node::builder(MemoryStore::new(), key).with_seed(seed("server"));
    let node = builder
        .transport("net", transport)
        .expect("the first of its name")
        .start();
    node.accept_connections()
        .await
        .expect("the address is free");
    node
}

async fn news_come_at_once(way: impl Way) {
    let server = server(&way).await;
    let tree = tree(&server, &["one"]).await;
    let cursor = end_of(&**server.store(), tree);
    let mut watcher = watch(&way, &server, &secret("watcher"), vec![(tree, cursor)]).await;
    for text in ["two", "three"] {
        write(&server, tree, text).await;
        assert_eq!(watcher.next().await, news(tree, &[text]));
        assert_eq!(watcher.cursor, end_of(&**server.store(), tree));
    }
    // An access change is news as well.
    let friend = Subject::Key(secret("friend").public());
    server
        .grant(tree, friend, Role::Read)
        .await
        .expect("own tree");
    assert_eq!(watcher.next().await, news(tree, &["access"]));
    server.shutdown().await.expect("nothing is left running");
}

#[tokio::test]
async fn news_come_at_once_in_memory() {
    news_come_at_once(InMemory::new(true)).await;
    news_come_at_once(InMemory::new(false)).await;
}

#[cfg(feature = "http")]
#[tokio::test]
async fn news_come_at_once_over_http() {
    news_come_at_once(crate::common::raw::Http).await;
}

#[cfg(feature = "iroh")]
#[tokio::test]
async fn news_come_at_once_over_iroh() {
    news_come_at_once(crate::common::raw::Iroh).await;
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_comes_after_each_15_s_of_silence() {
    let way = InMemory::new(true);
    let server = server(&way).await;
    let tree = tree(&server, &["one"]).await;
    let cursor = end_of(&**server.store(), tree);
    let mut watcher = watch(&way, &server, &secret("watcher"), vec![(tree, cursor)]).await;
    let silence = Duration::from_secs(15);
    let mut began = Instant::now();
    assert_eq!(watcher.next().await, Seen::Heartbeat);
    assert_eq!(began.elapsed(), silence);
    assert!(watcher.is_silent(Duration::from_secs(10)).await);
    write(&server, tree, "two").await;
    assert_eq!(watcher.next().await, news(tree, &["two"]));
    assert_eq!(began.elapsed(), silence + Duration::from_secs(10));
    began = Instant::now();
    assert_eq!(watcher.next().await, Seen::Heartbeat);
    assert_eq!(began.elapsed(), silence, "the news were a sign of life");
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_larger_batches_later() {
    let way = InMemory::new(true);
    let server = server(&way).await;
    let tree = tree(&server, &[]).await;
    let cursor = end_of(&**server.store(), tree);
    let mut watcher = watch(&way, &server, &secret("watcher"), vec![(tree, cursor)]).await;
    let texts: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    for text in &texts {
        write(&server, tree, text).await;
    }
    assert_eq!(watcher.next().await, Seen::News(tree, texts));
    assert_eq!(watcher.next().await, Seen::Heartbeat, "there is no more");
}

#[tokio::test(start_paused = true)]
async fn a_tree_with_much_news_holds_up_no_other() {
    let way = InMemory::new(true);
    let server = server(&way).await;
    let (a, b) = (tree(&server, &[]).await, tree(&server, &[]).await);
    let (long, short) = (a.min(b), a.max(b));
    let cursors = [long, short].map(|tree| (tree, end_of(&**server.store(), tree)));
    let mut watcher = watch(&way, &server, &secret("watcher"), cursors.to_vec()).await;
    // More than two batches.
    for n in 0..6 {
        write(&server, long, &format!("{n}").repeat(100_000)).await;
    }
    write(&server, short, "short").await;
    assert!(matches!(watcher.next().await, Seen::News(tree, _) if tree == long));
    assert_eq!(watcher.next().await, news(short, &["short"]));
    assert!(matches!(watcher.next().await, Seen::News(tree, _) if tree == long));
}

/// A tree that only some may read.
async fn private_tree(server: &Node, reader: &SecretKey) -> TreeId {
    let reads = AccessChange::grant(Subject::Key(reader.public()), Role::Read);
    let tree = server.create_tree("private", vec![reads]).await;
    tree.expect("well formed")
}

async fn a_revoked_reader_learns_it_at_once(way: impl Way) {
    let server = server(&way).await;
    let reader = secret("reader");
    let tree = private_tree(&server, &reader).await;
    let cursor = end_of(&**server.store(), tree);
    let mut watcher = watch(&way, &server, &reader, vec![(tree, cursor)]).await;
    write(&server, tree, "before").await;
    assert_eq!(watcher.next().await, news(tree, &["before"]));
    let (seen, revoked) = tokio::join!(
        watcher.next(),
        server.revoke(tree, Subject::Key(reader.public()))
    );
    revoked.expect("own tree");
    assert_eq!(seen, Seen::Gone(tree));
    write(&server, tree, "after").await;
    assert!(watcher.is_silent(Duration::from_millis(100)).await);
    server.shutdown().await.expect("nothing is left running");
}

#[tokio::test]
async fn a_revoked_reader_learns_it_at_once_in_memory() {
    a_revoked_reader_learns_it_at_once(InMemory::new(true)).await;
}

#[cfg(feature = "http")]
#[tokio::test]
async fn a_revoked_reader_learns_it_at_once_over_http() {
    a_revoked_reader_learns_it_at_once(crate::common::raw::Http).await;
}

#[cfg(feature = "iroh")]
#[tokio::test]
async fn a_revoked_reader_learns_it_at_once_over_iroh() {
    a_revoked_reader_learns_it_at_once(crate::common::raw::Iroh).await;
}

/// Nothing is said of a tree that may not be read, as of one that is absent, until a grant.
#[tokio::test(start_paused = true)]
async fn a_tree_is_announced_to_whom_it_is_granted() {
    let way = InMemory::new(true);
    let server = server(&way).await;
    let (reader, stranger) = (secret("reader"), secret("stranger"));
    let tree = server.create_tree("private", vec![]).await;
    let tree = tree.expect("well formed");
    let mut granted = watch(&way, &server, &reader, vec![(tree, Cursor::NONE)]).await;
    let mut other = watch(&way, &server, &stranger, vec![(tree, Cursor::NONE)]).await;
    write(&server, tree, "before").await;
    assert!(granted.is_silent(Duration::from_secs(10)).await);
    let key = Subject::Key(reader.public());
    let grant = server.grant(tree, key, Role::Read).await;
    grant.expect("own tree");
    let began = Instant::now();
    assert_eq!(granted.next().await, Seen::CompareFirst(tree));
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(other.next().await, Seen::Heartbeat);
}

#[tokio::test(start_paused = true)]
async fn a_reader_revoked_while_it_was_slow_gets_nothing_more() {
    let way = InMemory::new(true);
    let server = server(&way).await;
    let reader = secret("reader");
    let tree = private_tree(&server, &reader).await;
    let cursor = end_of(&**server.store(), tree);
    let mut watcher = watch(&way, &server, &reader, vec![(tree, cursor)]).await;
    write(&server, tree, "before").await;
    let key = Subject::Key(reader.public());
    server.revoke(tree, key).await.expect("own tree");
    write(&server, tree, "after").await;
    assert_eq!(watcher.next().await, Seen::Gone(tree));
    // A watch that has nothing more to say ends, but not before its reader can replace it.
    let began = Instant::now();
    assert_eq!(watcher.next().await, Seen::End);
    assert_eq!(began.elapsed(), Duration::from_secs(15));
}

#[tokio::test(start_paused = true)]
async fn no_peer_is_sent_what_it_brought() {
    let way = InMemory::new(true);
    let server = server(&way).await;
    let tree = tree(&server, &["one"]).await;
    let (bringer, other) = (secret("bringer"), secret("other"));
    let cursor = end_of(&**server.store(), tree);
    let mut watchers = Vec::new();
    for key in [&bringer, &other] {
        watchers.push(watch(&way, &server, key, vec![(tree, cursor)]).await);
    }
    push(&way, &server, &bringer, tree, "brought").await;
    write(&server, tree, "written").await;
    let [bringer, other] = &mut watchers[..] else {
        panic!("there are two");
    };
    assert_eq!(bringer.next().await, news(tree, &["written"]));
    assert_eq!(other.next().await, news(tree, &["brought", "written"]));
    let end = end_of(&**server.store(), tree);
    assert_eq!((bringer.cursor, other.cursor), (end, end));
}

/// Pushes one entry on top of all others.
async fn push(way: &impl Way, server: &Node, key: &SecretKey, tree: TreeId, text: &str) {
    // Another node writes it.
    let author = crate::common::node(&MemoryNetwork::new(), "author").await;
    let log = server.log(tree).await.expect("in memory");
    let entries = log.map(|entry| entry.expect("in memory"));
    let entries = eidetica_dag::verify_batch(entries.collect()).verified;
    author.insert(tree, entries).await.expect("genuine");
    let id = write(&author, tree, text).await;
    let entry = author.entry(tree, id).await.expect("in memory");
    let mut packer = Packer::new();
    packer.push(&entry.expect("it was written"));
    let request = Request::SendEntries(SendEntries { tree, entries: 1 });
    let end = Part::End {
        tips: EndTips::Untold,
        cursor: Cursor::NONE,
    };
    let frames = [
        RequestHeader::new(request).encode(),
        Part::Batch(&packer.finish()).encode(),
        end.encode(),
    ];
    let answer = ask(way, server, As::Key(key), &frames).await;
    crate::common::raw::reply(&answer).expect("it may write");
}

#[cfg(any(feature = "http", feature = "iroh"))]
async fn a_server_that_stops_ends_its_watches(way: impl Way) {
    let server = server(&way).await;
    let tree = tree(&server, &["one"]).await;
    let cursor = end_of(&**server.store(), tree);
    let mut watcher = watch(&way, &server, &secret("watcher"), vec![(tree, cursor)]).await;
    let began = Instant::now();
    let (seen, stopped) = tokio::join!(watcher.next(), server.transports().stop_accepting());
    stopped.expect("nothing is left running");
    assert_eq!(seen, Seen::End);
    assert!(began.elapsed() < Duration::from_secs(4), "no grace is used");
    // It can be opened again with what it reached.
    server
        .accept_connections()
        .await
        .expect("the address is free");
    write(&server, tree, "two").await;
    let mut watcher = watch(&way, &server, &secret("watcher"), vec![(tree, cursor)]).await;
    assert_eq!(watcher.next().await, news(tree, &["two"]));
    let (seen, stopped) = tokio::join!(watcher.next(), server.shutdown());
    stopped.expect("nothing is left running");
    assert_eq!(seen, Seen::End);
}

#[cfg(feature = "http")]
#[tokio::test]
async fn a_server_that_stops_ends_its_watches_over_http() {
    a_server_that_stops_ends_its_watches(crate::common::raw::Http).await;
}

#[cfg(feature = "iroh")]
#[tokio::test]
async fn a_server_that_stops_ends_its_watches_over_iroh() {
    a_server_that_stops_ends_its_watches(crate::common::raw::Iroh).await;
}
