//! Which peers learn what.

use eidetica_dag::testing::draw::Drawing;
use eidetica_dag::testing::{Drawn, genesis, key};
use eidetica_dag::{AccessChange, MemoryDag, Role, Subject};
use eidetica_proto::testing::{Link, Way};
use eidetica_proto::{ErrorCode, SyncFault, SyncOutcome};

use crate::sync::empty;

fn drawn_with(access: Vec<AccessChange>) -> Drawn {
    let body = |name: &str| (name == "A").then(|| genesis("guarded", access.clone()));
    Drawing::of("A-B-C    B-X").body(body).draw()
}

/// Returns the frame with which `b` answers a peer that proved the key of `client`.
fn answer_to(client: u32, a: &mut MemoryDag, b: &mut MemoryDag) -> Vec<u8> {
    let mut answers = Vec::new();
    let listen = |way, _, frame: bytes::Bytes| {
        if way == Way::Answers {
            answers.push(frame.to_vec());
        }
        vec![frame]
    };
    let run = Link::new(a, b)
        .client_key(key(client).public())
        .tamper(listen)
        .run();
    match run.fault() {
        SyncFault::Refused(error) => assert_eq!(error.code, ErrorCode::NotFound),
        other => panic!("{other:?}"),
    }
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

#[test]
fn a_forbidden_tree_looks_like_none() {
    let drawn = drawn_with(vec![]);
    let mut a = drawn.replica(&["C"]);
    let forbidden = answer_to(1, &mut a, &mut drawn.replica(&["X"]));
    let unknown = answer_to(1, &mut a, &mut empty(&drawn));
    let another = answer_to(
        1,
        &mut a,
        &mut MemoryDag::new(
            drawn_with(vec![AccessChange::grant(Subject::Anyone, Role::Read)]).tree(),
        ),
    );
    assert_eq!(forbidden, unknown);
    assert_eq!(forbidden, another);
}

#[test]
fn a_reader_gets_everything_and_gives_nothing() {
    let drawn = drawn_with(vec![AccessChange::grant(Subject::Anyone, Role::Read)]);
    let (mut a, mut b) = (drawn.replica(&["C"]), drawn.replica(&["X"]));
    let run = Link::new(&mut a, &mut b)
        .named(&drawn)
        .client_key(key(1).public())
        .run();
    run.assert_conversation(
        "A -> B SyncTree tips=[C] filter
         B -> A Entries(1)
         B -> A batch X
         B -> A end tips=[X]
         A stores X
         A -> B SendEntries(1)
         B -> A refuses: ReadOnly",
    );
    let report = run.report();
    assert_eq!(report.outcome, SyncOutcome::PeerIsReadOnly);
    assert_eq!(report.stats.sent, 0, "a refused peer sends no entry");
}

#[test]
fn a_writer_gives_too() {
    let writer = AccessChange::grant(Subject::Key(key(1).public()), Role::Write);
    let drawn = drawn_with(vec![writer]);
    let (mut a, mut b) = (drawn.replica(&["C"]), drawn.replica(&["X"]));
    let run = Link::new(&mut a, &mut b)
        .client_key(key(1).public())
        .server_key(key(0).public())
        .run();
    assert_eq!(run.report().outcome, SyncOutcome::Equal);
}

/// A revoked peer still answers; what it has comes here, and what is new here does not go
/// there.
#[test]
fn a_peer_that_may_not_read_is_sent_nothing() {
    let writer = AccessChange::grant(Subject::Key(key(1).public()), Role::Write);
    let drawn = drawn_with(vec![writer]);
    for server in [None, Some(key(2).public())] {
        let (mut a, mut b) = (drawn.replica(&["C"]), drawn.replica(&["X"]));
        let mut link = Link::new(&mut a, &mut b)
            .named(&drawn)
            .client_key(key(1).public());
        if let Some(key) = server {
            link = link.server_key(key);
        }
        let run = link.run();
        run.assert_conversation(
            "A -> B SyncTree tips=[C] filter
             B -> A Entries(1)
             B -> A batch X
             B -> A end tips=[X]
             A stores X",
        );
        assert_eq!(run.report().outcome, SyncOutcome::PeerMayNotRead);
    }
}
