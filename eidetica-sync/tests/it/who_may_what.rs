//! Every kind of request, by every kind of caller, about an existing tree and an absent one: what is
//! answered and what is stored. Over connections that prove keys, and over others.

use std::sync::Arc;

use crate::common::raw::{self, As, InMemory, Way, ask, begin};
use crate::common::seed;
use bytes::Bytes;
use eidetica_dag::{
    AccessChange, Body, Entry, EntryId, Role, SecretKey, SignedEntry, Subject, TreeId,
    VerifiedEntry,
};
use eidetica_proto::batch::Packer;
use eidetica_proto::message::{
    Alive, CheckTrees, Checked, GetEntries, Hello, InviteProof, Join, JoinReply, ListTrees, Part,
    Peers, Reply, Request, RequestHeader, Sample, SendEntries, SyncReply, SyncTree, Watch,
    WatchFrame,
};
use eidetica_proto::tips::{EndTips, TipSet};
use eidetica_proto::{ErrorCode, PROTOCOL_VERSION, SyncTransport};
use eidetica_sync::store::{MemoryStore, Store};
use eidetica_sync::{InviteTerms, Node};
use futures::StreamExt;

const NAME: &str = "plans of the garden";
/// How many frames of the answer to a watch are read, which has no end.
const WATCH_FRAMES: usize = 2;

/// What a watch says of a tree that is absent or may not be read.
const GONE: WatchFrame<'static> = WatchFrame::Gone { tree: 0 };

/// What a check of one tree says.
fn checked(differ: Vec<u16>, absent: Vec<u16>) -> Result<Reply, ErrorCode> {
    Ok(Reply::Checked(Checked {
        looked_at: 1,
        differ,
        absent,
        equal: vec![],
    }))
}

const TEXT: &str = "tulips along the southern wall";

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Proves no key. Only where connections prove none.
    Anonymous,
    /// Says that it holds a key that it does not hold. Only where connections prove none.
    Liar,
    Stranger,
    Revoked,
    Reader,
    Writer,
    Admin,
    /// Shows an invite that has expired.
    Late,
    /// Shows an invite that another key has used.
    Second,
    /// Shows an invite that was never made.
    Forger,
    /// Shows an invite that was made for another key.
    Thief,
}

impl Who {
    const ALL: [Self; 11] = [
        Self::Anonymous,
        Self::Liar,
        Self::Stranger,
        Self::Revoked,
        Self::Reader,
        Self::Writer,
        Self::Admin,
        Self::Late,
        Self::Second,
        Self::Forger,
        Self::Thief,
    ];

    fn key(self) -> SecretKey {
        SecretKey::from_bytes(&[100 + self as u8; 32])
    }

    fn role(self) -> Option<Role> {
        match self {
            Self::Reader => Some(Role::Read),
            Self::Writer => Some(Role::Write),
            Self::Admin => Some(Role::Admin),
            _ => None,
        }
    }

    fn shows_an_invite(self) -> bool {
        matches!(self, Self::Late | Self::Second | Self::Forger | Self::Thief)
    }

    fn asks(self, key: &SecretKey) -> As<'_> {
        match self {
            Self::Anonymous => As::Anonymous,
            Self::Liar => As::Liar(key, Self::Admin.key().public()),
            _ => As::Key(key),
        }
    }

    fn proves_a_key(self) -> bool {
        !matches!(self, Self::Anonymous | Self::Liar)
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Hello,
    ListTrees,
    SyncTree,
    SendData,
    SendAccess,
    Join,
    Watch,
    CheckTrees,
    Peers,
    Alive,
    GetEntries,
}

impl What {
    const ALL: [Self; 11] = [
        Self::Hello,
        Self::ListTrees,
        Self::SyncTree,
        Self::SendData,
        Self::SendAccess,
        Self::Join,
        Self::Watch,
        Self::CheckTrees,
        Self::Peers,
        Self::Alive,
        Self::GetEntries,
    ];

    fn is_about_a_tree(self) -> bool {
        !matches!(self, Self::Hello | Self::ListTrees | Self::Alive)
    }
}

/// A server with a private tree.
struct World {
    node: Node,
    store: Arc<dyn Store>,
    tree: TreeId,
    root: SignedEntry,
    /// The invites that the server has made.
    invites: Vec<(Who, SecretKey)>,
}

impl World {
    async fn new(transport: impl SyncTransport) -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let key = SecretKey::from_bytes(&seed("server"));
        let node = Node::builder_with(store.clone(), key)
            .with_seed(seed("server"))
            .transport("net", transport)
            .expect("the first of its name")
            .start();
        node.accept_connections()
            .await
            .expect("the address is free");
        let grant = |who: Who, role| AccessChange::grant(Subject::Key(who.key().public()), role);
        let access = vec![
            grant(Who::Reader, Role::Read),
            grant(Who::Writer, Role::Write),
            grant(Who::Admin, Role::Admin),
            grant(Who::Revoked, Role::Admin),
        ];
        let tree = node.create_tree(NAME, access).await.expect("well formed");
        node.append(tree, TEXT).await.expect("its own tree");
        let revoked = Subject::Key(Who::Revoked.key().public());
        node.revoke(tree, revoked).await.expect("its own tree");
        let root = node.entry(tree, tree.root()).await.expect("in memory");
        let mut world = Self {
            root: root.expect("it is here"),
            node,
            store,
            tree,
            invites: Vec::new(),
        };
        for (who, seconds) in [(Who::Late, 0), (Who::Second, 60), (Who::Thief, 60)] {
            let terms = InviteTerms {
                role: Role::Write,
                valid_for: std::time::Duration::from_secs(seconds),
                uses: 1,
            };
            let made = world.node.invite(world.tree, terms).await;
            let secret = made.expect("an admin invites").invite;
            let secret = secret.expect("the ticket of an invite has its secret");
            world.invites.push((who, secret.key()));
        }
        world
    }

    /// The secret key of the invite that `who` shows.
    fn invite(&self, who: Who) -> Option<SecretKey> {
        let forged = || SecretKey::from_bytes(&[200; 32]);
        let made = self.invites.iter().find(|(other, _)| *other == who);
        let shown = made.map_or_else(forged, |(_, secret)| secret.clone());
        who.shows_an_invite().then_some(shown)
    }

    fn absent(&self) -> TreeId {
        TreeId::from_root(EntryId::from_bytes([9; 32]))
    }

    /// The frames of a request: its header, and the parts after it.
    fn request(&self, who: Who, what: What, tree: TreeId) -> Vec<Bytes> {
        let send = |body: Body| {
            // On top of the root, where even the revoked one was admin: its signature and its
            // place are right, so only the check of who sends keeps it out.
            let entry = Entry {
                tree: Some(self.tree),
                parents: vec![self.root.id()],
                height: 1,
                timestamp_ms: 1,
                author: who.key().public(),
                body,
            };
            let entry = VerifiedEntry::sign(entry, &who.key()).expect("well formed");
            let mut packer = Packer::new();
            packer.push(entry.get());
            let batch = packer.finish();
            let tips = EndTips::Untold;
            let header = RequestHeader::new(Request::SendEntries(SendEntries { tree, entries: 1 }));
            let cursor = eidetica_proto::Cursor::NONE;
            let parts = [
                Part::Batch(&batch).encode(),
                Part::End { tips, cursor }.encode(),
            ];
            [vec![header.encode()], parts.to_vec()].concat()
        };
        let single_frame = |request| vec![RequestHeader::new(request).encode()];
        match what {
            What::Hello => single_frame(Request::Hello(Hello {
                key: who.key().public(),
                versions: (PROTOCOL_VERSION, PROTOCOL_VERSION),
                addresses: vec![],
            })),
            What::ListTrees => single_frame(Request::ListTrees(ListTrees { after: None })),
            What::SyncTree => single_frame(Request::SyncTree(SyncTree {
                tree,
                tips: TipSet::Listed(vec![]),
                sample: Sample::None,
                wants: vec![],
            })),
            What::SendData => send(Body::Data(Bytes::from_static(b"weeds"))),
            What::SendAccess => {
                let friend = SecretKey::from_bytes(&[1; 32]).public();
                let friend = AccessChange::grant(Subject::Key(friend), Role::Read);
                send(Body::Access(vec![friend]))
            }
            What::Join => single_frame(Request::Join(Join {
                tree,
                role: who.role().unwrap_or(Role::Read),
                note: "let me in".into(),
                invite: self.invite(who).map(|invite| {
                    let shown_by = match who {
                        Who::Thief => Who::Second,
                        who => who,
                    };
                    InviteProof::new(&invite, tree, &shown_by.key().public())
                }),
            })),
            What::Watch => single_frame(Request::Watch(Watch {
                // Of another store: an empty one waits for the tree and is answered by silence.
                trees: vec![(
                    tree,
                    eidetica_proto::Cursor::from_bytes(&[9; 20]).expect("short enough"),
                )],
            })),
            What::CheckTrees => single_frame(Request::CheckTrees(CheckTrees {
                seed: [1; 8],
                trees: vec![(tree, [2; 8])],
            })),
            What::Peers => single_frame(Request::Peers(Peers {
                tree,
                records: vec![],
            })),
            What::GetEntries => single_frame(Request::GetEntries(GetEntries {
                tree,
                ids: vec![self.root.id()],
            })),
            What::Alive => single_frame(Request::Alive(Alive { epoch: [3; 8] })),
        }
    }
}

fn reply(answer: &[Bytes]) -> Result<Reply, ErrorCode> {
    raw::reply(answer).map_err(|error| error.code)
}

fn holds(answer: &[Bytes], what: &[u8]) -> bool {
    (answer.concat().windows(what.len())).any(|window| window == what)
}

async fn every_caller_gets_only_what_its_role_allows(way: impl Way) {
    let server = way
        .transport("server", &SecretKey::from_bytes(&seed("server")))
        .await;
    let proves = server.proves_keys();
    let world = World::new(server).await;
    // The invite of `Second` is used by another key first.
    let used = Request::Join(Join {
        tree: world.tree,
        role: Role::Read,
        note: String::new(),
        invite: world
            .invite(Who::Second)
            .map(|invite| InviteProof::new(&invite, world.tree, &Who::Writer.key().public())),
    });
    // The writer has the role already, so the invite stays; a fresh key uses it up.
    let frames = vec![RequestHeader::new(used).encode()];
    let answer = ask(
        &way,
        &world.node,
        Who::Writer.asks(&Who::Writer.key()),
        &frames,
    )
    .await;
    assert_eq!(
        reply(&answer),
        Ok(Reply::Join(JoinReply::Granted(Role::Write)))
    );
    assert_eq!(world.node.invites(world.tree).await.expect("read").len(), 2);
    use_up(&world).await;
    assert_eq!(world.node.invites(world.tree).await.expect("read").len(), 1);

    for who in Who::ALL {
        if proves && !who.proves_a_key() {
            continue;
        }
        let key = who.key();
        for what in What::ALL {
            let before = world.store.snapshot(world.tree).expect("in memory");
            let before = before.entry_count();
            let request = |tree| world.request(who, what, tree);
            let ask = async |tree| {
                let asked = begin(&way, &world.node, who.asks(&key), &request(tree)).await;
                let frames = match what {
                    What::Watch => WATCH_FRAMES,
                    _ => usize::MAX,
                };
                let answer: Vec<_> = asked.frames.take(frames).collect().await;
                let closed = asked.transport.close().await;
                closed.expect("nothing is left running");
                let frames = answer.into_iter().map(|frame| frame.expect("whole"));
                frames.collect::<Vec<Bytes>>()
            };
            let here = ask(world.tree).await;
            let after = world.store.snapshot(world.tree).expect("in memory");
            let stored = after.entry_count() - before;
            let case = format!("{who:?} {what:?}");
            check(&world, who, what, &here, stored, &case);
            if !what.is_about_a_tree() {
                continue;
            }
            let absent = ask(world.absent()).await;
            if who.role().is_none() {
                assert_eq!(here, absent, "{case}: they look the same");
            } else {
                let expected = match what {
                    What::Join => Ok(Reply::Join(JoinReply::Pending)),
                    What::Watch => {
                        assert_eq!(absent[1], GONE.encode(), "{case}");
                        Ok(Reply::Watching)
                    }
                    What::CheckTrees => checked(vec![], vec![0]),
                    _ => Err(ErrorCode::NotFound),
                };
                assert_eq!(reply(&absent), expected, "{case}: there is none");
            }
            let trees = world.store.trees().expect("in memory");
            assert_eq!(trees, [world.tree], "{case}: nothing came into being");
        }
    }
    let requests = world.node.join_requests(None).await.expect("in memory");
    let of_here = requests.iter().filter(|it| it.tree == world.tree);
    let mut waiting: Vec<_> = of_here.map(|request| request.key).collect();
    waiting.sort();
    let mut expected = [Who::Stranger, Who::Revoked].map(|who| who.key().public());
    expected.sort();
    assert_eq!(waiting, expected, "only they asked properly");
    world
        .node
        .shutdown()
        .await
        .expect("nothing is left running");
}

async fn use_up(world: &World) {
    let invites = world.node.invites(world.tree).await.expect("in memory");
    let second = world.invite(Who::Second).expect("shown").public();
    let mut terms = invites
        .into_iter()
        .find(|invite| invite.invite == second)
        .expect("it is open")
        .terms;
    terms.uses_left = 0;
    terms.used_by.push(SecretKey::from_bytes(&[1; 32]).public());
    let bytes = postcard::to_stdvec(&terms).expect("it fits");
    let key = format!("invite/{}/{second}", world.tree);
    world.store.put(&key, Some(&bytes)).expect("in memory");
}

fn check(world: &World, who: Who, what: What, answer: &[Bytes], stored: u32, case: &str) {
    let role = who.role();
    let reads = role >= Some(Role::Read);
    for secret in [NAME.as_bytes(), TEXT.as_bytes()] {
        let told = holds(answer, secret) && !reads;
        assert!(!told, "{case}: told what is in the tree");
    }
    if !reads {
        let told = holds(answer, world.tree.as_bytes());
        assert!(!told, "{case}: told which tree there is");
    }
    let got = reply(answer);
    let may_store = match what {
        What::SendData => role >= Some(Role::Write),
        What::SendAccess => role >= Some(Role::Admin),
        _ => false,
    };
    assert_eq!(stored, u32::from(may_store), "{case}: stored");
    if who == Who::Liar {
        assert_eq!(got, Err(ErrorCode::Unproven), "{case}");
        return;
    }
    match (what, role) {
        (What::Hello, _) => assert!(
            matches!(&got, Ok(Reply::Hello(hello)) if hello.key == world.node.key()),
            "{case}: {got:?}"
        ),
        // Any caller may ask, and says nothing by it without a proved key.
        (What::Alive, _) => assert!(matches!(got, Ok(Reply::Alive(_))), "{case}: {got:?}"),
        (What::ListTrees, role) => {
            let Ok(Reply::Trees(trees)) = got else {
                panic!("{case}: {got:?}")
            };
            let trees: Vec<TreeId> = trees.into_iter().map(|summary| summary.tree).collect();
            let expected = role.map(|_| world.tree);
            assert_eq!(trees, expected.into_iter().collect::<Vec<_>>(), "{case}");
        }
        (What::GetEntries, Some(_)) => {
            let entries = matches!(got, Ok(Reply::Sync(SyncReply::Entries(1))));
            assert!(entries, "{case}: {got:?}");
        }
        (What::SyncTree, Some(_)) => {
            let entries = matches!(got, Ok(Reply::Sync(SyncReply::Entries(3..))));
            assert!(entries, "{case}: {got:?}");
        }
        (What::SendData | What::SendAccess, Some(Role::Read)) => {
            assert_eq!(got, Err(ErrorCode::ReadOnly), "{case}");
        }
        (What::SendAccess, Some(Role::Write)) => {
            assert_eq!(got, Err(ErrorCode::EntryRefused), "{case}");
        }
        (What::SendData | What::SendAccess, Some(_)) => {
            assert!(
                matches!(&got, Ok(Reply::Stored(stored)) if stored.stored == 1),
                "{case}: {got:?}"
            );
        }
        (What::Join, Some(role)) => {
            assert_eq!(got, Ok(Reply::Join(JoinReply::Granted(role))), "{case}");
        }
        (What::Join, None) if who == Who::Anonymous => {
            assert_eq!(got, Err(ErrorCode::Unproven), "{case}");
        }
        (What::Join, None) if !who.shows_an_invite() => {
            assert_eq!(got, Ok(Reply::Join(JoinReply::Pending)), "{case}");
        }
        (What::Watch, role) => {
            assert_eq!(got, Ok(Reply::Watching), "{case}");
            let compare = WatchFrame::CompareFirst { tree: 0 };
            let expected = role.map_or(GONE, |_| compare);
            assert_eq!(answer[1], expected.encode(), "{case}");
        }
        (What::CheckTrees, Some(_)) => assert_eq!(got, checked(vec![0], vec![]), "{case}"),
        (What::CheckTrees, None) => assert_eq!(got, checked(vec![], vec![0]), "{case}"),
        (What::Peers, Some(_)) => {
            let Ok(Reply::Peers(records)) = got else {
                panic!("{case}: {got:?}")
            };
            let keys: Vec<_> = records.iter().map(|record| *record.key()).collect();
            assert_eq!(keys, [world.node.key()], "{case}");
        }
        (_, None) => assert_eq!(got, Err(ErrorCode::NotFound), "{case}"),
    }
}

#[tokio::test]
async fn over_connections_that_prove_keys() {
    every_caller_gets_only_what_its_role_allows(InMemory::new(true)).await;
}

#[tokio::test]
async fn over_connections_that_prove_none() {
    every_caller_gets_only_what_its_role_allows(InMemory::new(false)).await;
}

#[cfg(feature = "http")]
#[tokio::test]
async fn over_http() {
    every_caller_gets_only_what_its_role_allows(raw::Http).await;
}

#[cfg(feature = "iroh")]
#[tokio::test]
async fn over_iroh() {
    every_caller_gets_only_what_its_role_allows(raw::Iroh).await;
}
