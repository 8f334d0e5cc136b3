//! How many watches there may be.

use eidetica_dag::{EntryId, TreeId};
use eidetica_proto::Cursor;
use eidetica_proto::ErrorCode;
use eidetica_proto::message::{Request, Watch};

use super::watches::server;
use super::{Seen, end_of, header, news, watch};
use crate::common::raw::{self, As, InMemory, ask};
use crate::common::{secret, tree, write};

#[tokio::test(start_paused = true)]
async fn of_one_key_the_watch_without_progress_loses() {
    let way = InMemory::new(true);
    let server = server(&way).await;
    let tree = tree(&server, &["one"]).await;
    let cursor = end_of(&**server.store(), tree);
    let (key, other) = (secret("busy"), secret("other"));
    let mut of_other = watch(&way, &server, &other, vec![(tree, cursor)]).await;
    let mut first = watch(&way, &server, &key, vec![(tree, cursor)]).await;
    let mut second = watch(&way, &server, &key, vec![(tree, cursor)]).await;
    let mut third = watch(&way, &server, &key, vec![(tree, cursor)]).await;
    let mut fourth = watch(&way, &server, &key, vec![(tree, cursor)]).await;
    write(&server, tree, "two").await;
    for watcher in [&mut first, &mut third, &mut fourth] {
        assert_eq!(watcher.next().await, news(tree, &["two"]));
    }
    let mut fifth = watch(&way, &server, &key, vec![(tree, cursor)]).await;
    assert_eq!(fifth.next().await, news(tree, &["two"]));
    let failed = Seen::Failed(ErrorCode::Busy, Some(60_000));
    assert_eq!(second.next().await, failed, "it did not read");
    assert_eq!(second.next().await, Seen::End);
    write(&server, tree, "three").await;
    for watcher in [&mut first, &mut third, &mut fourth, &mut fifth] {
        assert_eq!(watcher.next().await, news(tree, &["three"]));
    }
    assert_eq!(of_other.next().await, news(tree, &["two", "three"]));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_waits_loses_its_place_at_once() {
    let way = InMemory::new(true);
    let server = server(&way).await;
    let tree = tree(&server, &["one"]).await;
    let cursor = end_of(&**server.store(), tree);
    let key = secret("busy");
    let mut first = watch(&way, &server, &key, vec![(tree, cursor)]).await;
    let displaced = async {
        let mut others = Vec::new();
        for _ in 0..4 {
            let mut watcher = watch(&way, &server, &key, vec![(tree, cursor)]).await;
            // Its reader asks for a frame.
            assert!(watcher.is_silent(std::time::Duration::from_millis(1)).await);
            others.push(watcher);
        }
        others
    };
    let (seen, _others) = tokio::join!(first.next(), displaced);
    assert!(matches!(seen, Seen::Failed(ErrorCode::Busy, Some(_))));
}

#[tokio::test]
async fn more_trees_than_one_watch_may_have_are_refused() {
    let way = InMemory::new(true);
    let server = server(&way).await;
    let tree = |n: u32| {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        TreeId::from_root(EntryId::from_bytes(bytes))
    };
    let trees = (0..16_385).map(|n| (tree(n), Cursor::NONE)).collect();
    let request = header(Request::Watch(Watch { trees }));
    let key = secret("watcher");
    let answer = ask(&way, &server, As::Key(&key), &request).await;
    let refused = raw::reply(&answer).expect_err("too many");
    assert_eq!(refused.code, ErrorCode::TooLarge);
}
