//! Removed members and admins, on nodes: what they still write, and what comes of it.

use eidetica_dag::{
    AccessChange, Body, Entry, EntryId, PublicKey, Role, SignedEntry, Subject, TreeId,
    VerifiedEntry,
};
use eidetica_proto::testing::MemoryNetwork;
use eidetica_sync::{Event, Events, Node, TreeError};
use futures::{FutureExt, StreamExt};

use crate::common::{at, node, secret, write};

async fn private_tree(node: &Node) -> TreeId {
    node.create_tree("tree", vec![]).await.expect("a name")
}

fn subject(node: &Node) -> Subject {
    Subject::Key(node.key())
}

async fn entry(node: &Node, tree: TreeId, id: EntryId) -> SignedEntry {
    let entry = node.entry(tree, id).await.expect("in memory");
    entry.expect("it is stored")
}

/// Signs an entry on top of another one, whatever else there is.
fn sign_above(below: &SignedEntry, name: &str, body: Body) -> VerifiedEntry {
    let key = secret(name);
    let entry = Entry {
        tree: Some(below.tree()),
        parents: vec![below.id()],
        height: below.entry().height + 1,
        timestamp_ms: 0,
        author: key.public(),
        body,
    };
    VerifiedEntry::sign(entry, &key).expect("well formed")
}

/// The entries of a log that are contested, and by what.
async fn contested(node: &Node, tree: TreeId) -> Vec<(EntryId, EntryId)> {
    let mut log = node.log(tree).await.expect("in memory");
    let mut found = Vec::new();
    while let Some(entry) = log.next() {
        let entry = entry.expect("in memory");
        let by = log.contested_by(&entry).expect("in memory");
        found.extend(by.map(|by| (entry.id(), by)));
    }
    found
}

/// What is told of contested entries so far: their author, the removal, and how many they are.
fn told(events: &mut Events) -> Vec<(PublicKey, EntryId, u32)> {
    let ready = std::iter::from_fn(|| events.next().now_or_never().flatten());
    let contested = ready.filter_map(|event| match event {
        Event::Contested {
            author,
            removal,
            entries,
            ..
        } => Some((author, removal, entries)),
        _ => None,
    });
    contested.collect()
}

#[tokio::test]
async fn a_program_hears_of_what_a_removed_writer_wrote() {
    let network = MemoryNetwork::new();
    let (a, b, c) = (
        node(&network, "a").await,
        node(&network, "b").await,
        node(&network, "c").await,
    );
    let tree = private_tree(&a).await;
    for writer in [&b, &c] {
        let granted = a.grant(tree, subject(writer), Role::Write).await;
        granted.expect("a is admin");
        writer.sync(tree, at("a")).await.expect("it may write");
    }
    let mut events = a.events();
    write(&b, tree, "before").await;
    b.sync(tree, at("a")).await.expect("it may write");
    assert_eq!(told(&mut events), [], "it has the role");
    let revocation = a.revoke(tree, subject(&b)).await.expect("a is senior");
    for text in ["one", "two"] {
        write(&b, tree, text).await;
    }
    // c does not know of the removal, and passes them on.
    c.sync(tree, at("b")).await.expect("b lets c read");
    write(&c, tree, "of c").await;
    c.sync(tree, at("a")).await.expect("c may write");
    let expected = (b.key(), revocation.entry, 2);
    assert_eq!(told(&mut events), [expected]);
    let listed: Vec<_> = contested(&a, tree).await;
    assert_eq!(listed.len(), 2);
}

#[tokio::test]
async fn a_removed_admin_cannot_take_a_tree_over() {
    let network = MemoryNetwork::new();
    let (a, b, c) = (
        node(&network, "a").await,
        node(&network, "b").await,
        node(&network, "c").await,
    );
    let tree = private_tree(&a).await;
    let writer = a.grant(tree, subject(&c), Role::Write).await;
    writer.expect("a is admin");
    let grant = a.grant(tree, subject(&b), Role::Admin).await;
    let grant = entry(&a, tree, grant.expect("a is admin")).await;
    let revocation = a.revoke(tree, subject(&b)).await.expect("a is senior");
    assert_eq!(revocation.voids, []);
    write(&a, tree, "goes on").await;
    let before = a.access(tree).await.expect("in memory");

    // b makes the branch from before its removal higher than everything else, and c passes it on.
    let mut attack = Vec::new();
    let mut below = grant;
    for number in 0..20 {
        let changes = match number {
            18 => vec![AccessChange::grant(subject(&b), Role::Admin)],
            19 => vec![AccessChange::revoke(subject(&a))],
            _ => vec![],
        };
        let next = sign_above(&below, "b", Body::Access(changes));
        below = next.get().clone();
        attack.push(next);
    }
    c.sync(tree, at("a")).await.expect("c may read");
    c.insert(tree, attack.clone())
        .await
        .expect("they are valid");
    let report = c.sync(tree, at("a")).await.expect("c may write");
    assert_eq!(report.stats.peer_stored, 20);
    for node in [&a, &c] {
        assert_eq!(node.access(tree).await.expect("in memory"), before);
        let expected: Vec<EntryId> = attack.iter().map(|it| it.get().id()).collect();
        let found = contested(node, tree).await;
        assert!(found.iter().all(|(_, by)| *by == revocation.entry));
        let found: Vec<EntryId> = found.into_iter().map(|(entry, _)| entry).collect();
        assert_eq!(found, expected, "all of it is shown");
    }
    write(&a, tree, "still here").await;
    a.grant(tree, subject(&b), Role::Read).await.expect("admin");
}

#[tokio::test]
async fn a_junior_is_told_that_a_senior_stays() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = private_tree(&a).await;
    a.grant(tree, subject(&b), Role::Admin)
        .await
        .expect("admin");
    b.sync(tree, at("a")).await.expect("b may read");
    let tips = b.tips(tree).await.expect("in memory");
    let lower = AccessChange::grant(subject(&a), Role::Write);
    for error in [
        b.revoke(tree, subject(&a)).await.map(drop),
        b.change_access(tree, vec![lower]).await.map(drop),
    ] {
        let error = error.expect_err("a is senior");
        assert!(matches!(error, TreeError::NoEffect(_)), "{error}");
    }
    assert_eq!(
        b.tips(tree).await.expect("in memory"),
        tips,
        "nothing is written"
    );
    b.revoke(tree, subject(&b)).await.expect("of itself it may");
}

#[tokio::test]
async fn what_a_member_writes_beside_its_removal_is_shown() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = private_tree(&a).await;
    a.grant(tree, subject(&b), Role::Write)
        .await
        .expect("admin");
    b.sync(tree, at("a")).await.expect("b may read");
    write(&b, tree, "before").await;
    b.sync(tree, at("a")).await.expect("b may write");
    let revocation = a.revoke(tree, subject(&b)).await.expect("admin").entry;
    let late = write(&b, tree, "late, or pretending").await;
    let entry = entry(&b, tree, late).await;
    let entry = VerifiedEntry::verify(entry).expect("b signed it");
    a.insert(tree, vec![entry]).await.expect("it is valid");
    assert_eq!(contested(&a, tree).await, [(late, revocation)]);
    a.grant(tree, subject(&b), Role::Write)
        .await
        .expect("admin");
    assert_eq!(contested(&a, tree).await, [], "the admin has decided");
}

/// Digits that look like a key: no device can have it.
#[tokio::test]
async fn keys_that_cannot_sign_get_no_role() {
    let network = MemoryNetwork::new();
    let a = node(&network, "a").await;
    let tree = private_tree(&a).await;
    let roles = a.access(tree).await.expect("in memory");
    for byte in [0, 0xff] {
        let subject = Subject::Key(eidetica_dag::PublicKey::from_bytes([byte; 32]));
        let refused = a.grant(tree, subject, Role::Admin).await;
        assert!(
            matches!(refused, Err(TreeError::UnusableKey(_))),
            "{refused:?}"
        );
        let access = vec![AccessChange::grant(subject, Role::Read)];
        let refused = a.create_tree("other", access).await;
        assert!(
            matches!(refused, Err(TreeError::UnusableKey(_))),
            "{refused:?}"
        );
        assert_eq!(a.access(tree).await.expect("in memory"), roles);
    }
}
