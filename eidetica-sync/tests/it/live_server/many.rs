//! Many watchers, and many watched trees.

use std::time::Duration;

use eidetica_dag::testing::{key, shapes::sign_on_top};
use eidetica_dag::{AccessChange, AccessRule, Body, Genesis, Role, Subject, TreeId};
use eidetica_proto::Cursor;
use eidetica_proto::message::WATCHED_TREES_MAX;
use futures::future::join_all;
use tokio::time::Instant;

use super::watches::server;
use super::{Seen, end_of, news, watch};
use crate::common::raw::InMemory;
use crate::common::{secret, tree, write};

#[tokio::test(start_paused = true)]
async fn a_thousand_watchers_get_one_write_once() {
    let way = InMemory::new(true);
    let server = server(&way).await;
    let tree = tree(&server, &["one"]).await;
    let cursor = end_of(&**server.store(), tree);
    let mut watchers = Vec::new();
    for n in 0..1_000 {
        watchers.push(watch(&way, &server, &key(n), vec![(tree, cursor)]).await);
    }
    let all = join_all(watchers.iter_mut().map(|watcher| watcher.next()));
    let (seen, _) = tokio::join!(all, write(&server, tree, "two"));
    assert!(seen.iter().all(|seen| *seen == news(tree, &["two"])));
    let began = Instant::now();
    let seen = join_all(watchers.iter_mut().map(|watcher| watcher.next())).await;
    assert!(seen.iter().all(|seen| *seen == Seen::Heartbeat));
    assert_eq!(began.elapsed(), Duration::from_secs(15));
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_16_384_trees_brings_what_changes() {
    let way = InMemory::new(true);
    let server = server(&way).await;
    let store = server.store();
    let writes = AccessChange::grant(Subject::Key(server.key()), Role::Write);
    let reads = AccessChange::grant(Subject::Anyone, Role::Read);
    let mut trees: Vec<(TreeId, Cursor)> = Vec::new();
    for n in 0..WATCHED_TREES_MAX {
        let genesis = Genesis {
            access_rule: AccessRule::SENIORITY,
            nonce: [0; 16],
            name: n.to_string(),
            access: vec![writes, reads],
        };
        let root = sign_on_top(None, [], &key(0), 0, Body::Genesis(genesis));
        let tree = root.get().tree();
        store.append(tree, vec![root]).expect("in memory");
        trees.push((tree, end_of(&**store, tree)));
    }
    trees.sort_unstable();
    let mut watcher = watch(&way, &server, &secret("watcher"), trees.clone()).await;
    for at in [0, 8_191, WATCHED_TREES_MAX - 1] {
        let (tree, _) = trees[at];
        let (seen, _) = tokio::join!(watcher.next(), write(&server, tree, "news"));
        assert_eq!(seen, news(tree, &["news"]));
    }
    // All of them change while the watcher does not read.
    for (tree, _) in &trees {
        write(&server, *tree, "more").await;
    }
    let mut seen = Vec::new();
    for _ in &trees {
        match watcher.next().await {
            Seen::News(tree, texts) => {
                assert_eq!(texts, ["more"]);
                seen.push(tree);
            }
            other => panic!("{other:?}"),
        }
    }
    seen.sort_unstable();
    assert!(seen.iter().eq(trees.iter().map(|(tree, _)| tree)));
    assert_eq!(watcher.next().await, Seen::Heartbeat, "there is no more");
}
