//! Checks of many trees in one request.

use eidetica_dag::{Role, SecretKey, Subject, TreeId};
use eidetica_proto::check::{CheckOutcome, CheckSession};
use eidetica_proto::message::Request;
use eidetica_proto::tips::TipDigest;
use eidetica_sync::Node;

use super::watches::server;
use super::{end_of, header, news, watch};
use crate::common::raw::{As, InMemory, Way, ask};
use crate::common::{secret, tree, write};

/// What a peer with these tips of the trees learns.
async fn check(
    way: &impl Way,
    server: &Node,
    key: &SecretKey,
    trees: Vec<(TreeId, TipDigest)>,
) -> Vec<(TreeId, CheckOutcome)> {
    let mut session = CheckSession::new(trees, [7; 8]);
    let mut outcomes = Vec::new();
    while let Some(request) = session.poll_request() {
        let request = header(Request::CheckTrees(request));
        let answer = ask(way, server, As::Key(key), &request).await;
        outcomes.extend(session.handle_header(&answer[0]).expect("an answer"));
    }
    outcomes
}

async fn tips(server: &Node, tree: TreeId) -> TipDigest {
    TipDigest::of(&server.tips(tree).await.expect("in memory"))
}

async fn a_check_tells_trees_apart(way: impl Way) {
    let server = server(&way).await;
    let (equal, differs) = (tree(&server, &["a"]).await, tree(&server, &["b"]).await);
    let private = server.create_tree("private", vec![]).await;
    let private = private.expect("well formed");
    let mut absent = *private.as_bytes();
    absent[0] ^= 1;
    let absent = TreeId::from_root(eidetica_dag::EntryId::from_bytes(absent));
    let old = tips(&server, differs).await;
    write(&server, differs, "news").await;
    let asked = vec![
        (equal, tips(&server, equal).await),
        (differs, old),
        // Even with the right tips.
        (private, tips(&server, private).await),
        (absent, old),
    ];
    let key = secret("client");
    let outcomes = check(&way, &server, &key, asked.clone()).await;
    let cursor = end_of(&**server.store(), equal);
    let mut expected = vec![
        (equal, CheckOutcome::Equal(cursor)),
        (differs, CheckOutcome::Differs),
        (private, CheckOutcome::NotHere),
        (absent, CheckOutcome::NotHere),
    ];
    expected.sort_unstable_by_key(|(tree, _)| *tree);
    assert_eq!(outcomes, expected);

    // A watch can begin at the cursor.
    let mut watcher = watch(&way, &server, &key, vec![(equal, cursor)]).await;
    write(&server, equal, "next").await;
    assert_eq!(watcher.next().await, news(equal, &["next"]));

    let reader = Subject::Key(key.public());
    server
        .grant(private, reader, Role::Read)
        .await
        .expect("own tree");
    let outcomes = check(&way, &server, &key, asked).await;
    let of_private = outcomes.iter().find(|(tree, _)| *tree == private);
    assert_eq!(of_private, Some(&(private, CheckOutcome::Differs)));
    server.shutdown().await.expect("nothing is left running");
}

#[tokio::test]
async fn a_check_tells_trees_apart_in_memory() {
    a_check_tells_trees_apart(InMemory::new(true)).await;
}

#[cfg(feature = "http")]
#[tokio::test]
async fn a_check_tells_trees_apart_over_http() {
    a_check_tells_trees_apart(crate::common::raw::Http).await;
}

#[cfg(feature = "iroh")]
#[tokio::test]
async fn a_check_tells_trees_apart_over_iroh() {
    a_check_tells_trees_apart(crate::common::raw::Iroh).await;
}
