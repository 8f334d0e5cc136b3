//! Members who send what they must not: the stored entries, and the answers. Over connections in
//! memory, HTTP and iroh.

use crate::common::raw::{As, InMemory, Way, ask, reply};
use crate::common::seed;
use bytes::Bytes;
use eidetica_dag::{
    AccessChange, Body, Entry, EntryId, Role, SecretKey, Signature, SignedEntry, Subject, TreeId,
    VerifiedEntry,
};
use eidetica_proto::batch::Packer;
use eidetica_proto::message::{
    Part, Reply, Request, RequestHeader, Sample, SendEntries, SyncTree, WANTS_MAX,
};
use eidetica_proto::tips::{EndTips, TIPS_LISTED_MAX, TipSet};
use eidetica_proto::{Cursor, ErrorCode, WAITING_ENTRIES_MAX, WireError};
use eidetica_sync::Node;
use eidetica_sync::store::MemoryStore;

/// A server with a tree, and a member who may write to it.
struct World<W> {
    way: W,
    server: Node,
    tree: TreeId,
    member: SecretKey,
}

impl<W: Way> World<W> {
    async fn new(way: W) -> Self {
        let key = SecretKey::from_bytes(&seed("server"));
        let transport = way.transport("server", &key).await;
        let server = Node::builder(MemoryStore::new(), key)
            .with_seed(seed("server"))
            .transport("net", transport)
            .expect("the first of its name")
            .start();
        server.accept_connections().await.expect("it is free");
        let member = SecretKey::from_bytes(&seed("member"));
        let tree = Self::tree_for(&server, &member, "tree").await;
        Self {
            way,
            server,
            tree,
            member,
        }
    }

    async fn tree_for(server: &Node, member: &SecretKey, name: &str) -> TreeId {
        let grant = AccessChange::grant(Subject::Key(member.public()), Role::Write);
        let tree = server.create_tree(name, vec![grant]).await;
        tree.expect("well formed")
    }

    /// An entry of the member.
    fn entry(&self, parents: &[EntryId], height: u32, text: &str) -> SignedEntry {
        self.entry_of(self.tree, parents, height, text)
    }

    fn entry_of(&self, tree: TreeId, parents: &[EntryId], height: u32, text: &str) -> SignedEntry {
        let mut parents = parents.to_vec();
        parents.sort();
        let entry = Entry {
            tree: Some(tree),
            parents,
            height,
            timestamp_ms: 1,
            author: self.member.public(),
            body: Body::Data(Bytes::copy_from_slice(text.as_bytes())),
        };
        let signed = VerifiedEntry::sign(entry, &self.member);
        signed.expect("well formed").into_inner()
    }

    async fn send(&self, entries: &[SignedEntry]) -> Result<Reply, WireError> {
        let mut parts = Vec::new();
        let mut packer = Packer::new();
        for entry in entries {
            if !packer.has_room_for(entry.encoded().len()) {
                parts.push(Part::Batch(&packer.finish()).encode());
            }
            packer.push(entry);
        }
        parts.push(Part::Batch(&packer.finish()).encode());
        self.send_parts(entries.len(), parts).await
    }

    async fn send_parts(&self, entries: usize, parts: Vec<Bytes>) -> Result<Reply, WireError> {
        let header = RequestHeader::new(Request::SendEntries(SendEntries {
            tree: self.tree,
            entries: u32::try_from(entries).expect("a few"),
        }));
        let end = Part::End {
            tips: EndTips::Untold,
            cursor: Cursor::NONE,
        };
        let frames = [vec![header.encode()], parts, vec![end.encode()]].concat();
        self.ask(&frames).await
    }

    async fn ask(&self, frames: &[Bytes]) -> Result<Reply, WireError> {
        let who = As::Key(&self.member);
        reply(&ask(&self.way, &self.server, who, frames).await)
    }

    async fn has(&self, entry: &SignedEntry) -> bool {
        let found = self.server.entry(self.tree, entry.id()).await;
        found.expect("in memory").is_some()
    }
}

fn refused(reply: Result<Reply, WireError>, code: ErrorCode, rule: &str) {
    let error = reply.expect_err("it breaks a rule");
    assert_eq!(error.code, code, "{error}");
    assert!(error.text.contains(rule), "{error} says {rule:?}");
}

async fn a_forged_entry_ends_what_it_stands_in<W: Way>(way: W) {
    let world = World::new(way).await;
    let root = world.tree.root();
    let first = world.entry(&[root], 1, "first");
    let second = world.entry(&[first.id()], 2, "second");
    // In the name of the tree's admin, who never said that.
    let mut entry = world.entry(&[second.id()], 3, "third").entry().clone();
    entry.author = world.server.key();
    let nonsense = Signature::from_bytes([7; 64]);
    let forged = SignedEntry::from_parts(entry, &nonsense).expect("well formed");
    let above = world.entry(&[forged.id()], 4, "above");
    let beside = world.entry(&[second.id()], 3, "beside, and after it");
    let batch = [&first, &second, &forged, &above, &beside].map(Clone::clone);
    let said = world.send(&batch).await;
    refused(said, ErrorCode::EntryRefused, "forged");
    assert!(world.has(&first).await && world.has(&second).await);
    assert!(!world.has(&forged).await && !world.has(&above).await);
    world.server.shutdown().await.expect("nothing is left");
}

async fn whatever_breaks_a_rule_is_named_and_not_stored<W: Way>(way: W) {
    let world = World::new(way).await;
    let root = world.tree.root();
    let other = World::<W>::tree_for(&world.server, &world.member, "other").await;
    let first = world.entry(&[root], 1, "first");

    // An entry of another tree, which the member may write to as well. In this tree's batch it is
    // an entry without a valid signature.
    let stray = world.entry_of(other, &[other.root()], 1, "stray");
    refused(
        world.send(std::slice::from_ref(&stray)).await,
        ErrorCode::EntryRefused,
        "forged",
    );
    assert!(!world.has(&stray).await);

    let high = world.entry(&[root], 9, "higher than it is");
    refused(
        world.send(std::slice::from_ref(&high)).await,
        ErrorCode::EntryRefused,
        "height",
    );
    assert!(!world.has(&high).await);

    // An entry cannot name itself, for its id is a hash of it; what it can name is nothing at all.
    let nowhere = EntryId::from_bytes([5; 32]);
    let orphan = world.entry(&[nowhere], 1, "orphan");
    let Ok(Reply::Stored(stored)) = world.send(&[orphan.clone(), first.clone()]).await else {
        panic!("it is no fault to lack a parent");
    };
    assert_eq!((stored.stored, stored.missing), (1, vec![nowhere]));
    assert!(world.has(&first).await && !world.has(&orphan).await);

    // Duplicate entries are stored once.
    let mut packer = Packer::new();
    let batches = [0, 1].map(|_| {
        packer.push(&first);
        Part::Batch(&packer.finish()).encode()
    });
    let twice = world.send_parts(2, batches.into()).await;
    assert!(
        twice.is_ok(),
        "it is no fault to send what is there: {twice:?}"
    );

    let bomb = {
        let mut bomb = vec![1, 1, 0, 0, 0];
        bomb.extend_from_slice(&[0xff; 9]);
        bomb
    };
    for garbage in [&b"garbage"[..], &bomb, &[]] {
        let said = world
            .send_parts(1, vec![Part::Batch(garbage).encode()])
            .await;
        refused(said, ErrorCode::Malformed, "batch");
    }
    // More than was announced.
    let more = world.entry(&[first.id()], 2, "more");
    let mut packer = Packer::new();
    packer.push(&more);
    let batch = packer.finish();
    let said = world
        .send_parts(0, vec![Part::Batch(&batch).encode()])
        .await;
    refused(said, ErrorCode::Malformed, "announced");
    world.server.shutdown().await.expect("nothing is left");
}

async fn lists_and_waiting_entries_are_bounded<W: Way>(way: W) {
    let world = World::new(way).await;
    let id = |n: usize| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
        EntryId::from_bytes(bytes)
    };
    let sync = |tips: usize, wants: usize| {
        let request = Request::SyncTree(SyncTree {
            tree: world.tree,
            tips: TipSet::Listed((0..tips).map(id).collect()),
            sample: Sample::None,
            wants: (0..wants).map(id).collect(),
        });
        RequestHeader::new(request).encode()
    };
    for header in [
        sync(TIPS_LISTED_MAX + 1, 0),
        sync(30_000, 0),
        sync(0, WANTS_MAX + 1),
    ] {
        refused(world.ask(&[header]).await, ErrorCode::TooLarge, "many");
    }
    // Wants for entries that do not exist are answered with none.
    let wanted = world.ask(&[sync(0, WANTS_MAX)]).await;
    assert!(matches!(wanted, Ok(Reply::Sync(_))), "{wanted:?}");

    let nowhere = EntryId::from_bytes([5; 32]);
    let orphans: Vec<SignedEntry> = (0..=WAITING_ENTRIES_MAX)
        .map(|n| world.entry(&[nowhere], 1, &format!("orphan {n}")))
        .collect();
    let said = world.send(&orphans).await;
    refused(said, ErrorCode::TooLarge, "without their parents");
    let trees = world.server.trees().await.expect("in memory");
    assert_eq!(trees[0].entries, 1, "only the root");
    world.server.shutdown().await.expect("nothing is left");
}

macro_rules! over_everything {
    ($($case:ident)*) => {
        mod in_memory {
            use super::*;
            $(#[tokio::test]
            async fn $case() {
                super::$case(InMemory::new(false)).await;
            })*
        }

        #[cfg(feature = "http")]
        mod over_http {
            $(#[tokio::test]
            async fn $case() {
                super::$case(crate::common::raw::Http).await;
            })*
        }

        #[cfg(feature = "iroh")]
        mod over_iroh {
            $(#[tokio::test]
            async fn $case() {
                super::$case(crate::common::raw::Iroh).await;
            })*
        }
    };
}

over_everything! {
    a_forged_entry_ends_what_it_stands_in
    whatever_breaks_a_rule_is_named_and_not_stored
    lists_and_waiting_entries_are_bounded
}
