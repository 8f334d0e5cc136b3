//! Two servers on one store, and floods of requests.

use std::sync::{Arc, Barrier};
use std::thread;

use eidetica_dag::testing::key;
use eidetica_dag::{AccessRule, EntryId, Genesis};
use eidetica_proto::ErrorCode;
use eidetica_proto::joining::REQUESTS_PER_TREE_MAX;
use eidetica_proto::message::InviteProof;

use super::*;
use crate::event::Publisher;
use crate::platform::clock::WallClock;
use crate::store::MemoryStore;
use crate::store::hooked::HookedStore;

#[test]
fn an_invite_of_one_use_is_granted_once_by_two_servers_at_the_same_instant() {
    let (admin, invite) = (key(0), key(9));
    // Both read the invite at the same instant.
    let both_have_read = Barrier::new(2);
    let store: Arc<dyn Store> = Arc::new(HookedStore {
        on_get: Box::new(move |key| {
            if key.starts_with("invite/") {
                both_have_read.wait();
            }
        }),
        ..HookedStore::default()
    });
    let server = || {
        let news = News::new(Publisher::new());
        let writer = Arc::new(Writer::new(
            store.clone(),
            admin.clone(),
            WallClock::default(),
            news.clone(),
        ));
        Membership::new(store.clone(), writer, news)
    };
    let servers = [server(), server()];
    let genesis = Genesis {
        access_rule: AccessRule::SENIORITY,
        nonce: [0; 16],
        name: "tree".into(),
        access: Vec::new(),
    };
    let tree = servers[0].writer.create(genesis).unwrap();
    let terms = Invite {
        role: Role::Write,
        made_ms: 0,
        expires_ms: u64::MAX,
        uses_left: 1,
        used_by: Vec::new(),
    };
    servers[0].invite(tree, &invite.public(), &terms).unwrap();

    let joiners = [key(1).public(), key(2).public()];
    let ask = |server: &Membership, joiner: &PublicKey| {
        let join = Join {
            tree,
            role: Role::Write,
            note: String::new(),
            invite: Some(InviteProof::new(&invite, tree, joiner)),
        };
        server.join(joiner, "192.0.2.1", &join).unwrap()
    };
    let answers = thread::scope(|scope| {
        let asked = servers.iter().zip(&joiners);
        let asked: Vec<_> = asked
            .map(|(server, joiner)| scope.spawn(move || ask(server, joiner)))
            .collect();
        asked
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect::<Vec<_>>()
    });

    let granted = answers.iter().filter(|it| it.is_ok()).count();
    assert_eq!(granted, 1, "{answers:?}");
    assert!(answers.contains(&Ok(JoinReply::Granted(Role::Write))));
    assert!(answers.contains(&Err(WireError::not_found())));
    let access = current_access(&*store.snapshot(tree).unwrap()).unwrap();
    let members = joiners
        .iter()
        .filter(|it| access.role_of(Some(it)).is_some());
    assert_eq!(members.count(), 1);
    assert_eq!(servers[1].invites(tree).unwrap(), []);
}

fn busy(answer: &Result<JoinReply, WireError>) -> bool {
    (answer.as_ref()).is_err_and(|error| error.code == ErrorCode::Busy)
}

/// What a stranger can learn from answers, it would learn here: a flood that fills all room, then
/// others, for a tree that is here and one that is not.
#[test]
fn floods_are_answered_alike_for_present_and_absent_trees() {
    let answers = |is_here: bool| {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let news = News::new(Publisher::new());
        let writer = Arc::new(Writer::new(
            store.clone(),
            key(0),
            WallClock::default(),
            news.clone(),
        ));
        let server = Membership::new(store, writer, news);
        let genesis = Genesis {
            access_rule: AccessRule::SENIORITY,
            nonce: [0; 16],
            name: "tree".into(),
            access: Vec::new(),
        };
        let mut tree = server.writer.create(genesis).unwrap();
        if !is_here {
            tree = TreeId::from_root(EntryId::from_bytes([7; 32]));
        }
        let ask = |n: u32, source: &str| {
            let join = Join {
                tree,
                role: Role::Read,
                note: String::new(),
                invite: None,
            };
            server.join(&key(n).public(), source, &join).unwrap()
        };
        let mut answers = Vec::new();
        for n in 1..=200 {
            answers.push(ask(n, "192.0.2.1"));
        }
        for n in 201..=210 {
            answers.push(ask(n, &format!("198.51.100.{n}")));
        }
        // Ten of the flood gave way, and learn so when they ask again. Which ones they are depends
        // on the clock.
        let again = (1..=128).map(|n| ask(n, "192.0.2.1"));
        assert_eq!(again.filter(busy).count(), 10);
        answers.push(ask(205, "198.51.100.205"));
        let kept = server.requests(Some(tree)).unwrap();
        assert_eq!(kept.len(), REQUESTS_PER_TREE_MAX);
        answers
    };
    let here = answers(true);
    let pending = Ok(JoinReply::Pending);
    assert!(here[..128].iter().all(|answer| *answer == pending));
    assert!(here[128..200].iter().all(busy));
    assert!(here[200..].iter().all(|answer| *answer == pending));
    assert_eq!(here, answers(false));
}
