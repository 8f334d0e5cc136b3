//! Pushes without a question, and trees that are given.

use eidetica_dag::testing::draw::Drawing;
use eidetica_dag::testing::{Drawn, draw, genesis, key};
use eidetica_dag::{AccessChange, DagView, MemoryDag, PublicKey, Role, Subject, tip_ids};
use eidetica_proto::answer::{AnswerError, acknowledge};
use eidetica_proto::message::{Request, RequestHeader, ResponseHeader};
use eidetica_proto::origins::Origins;
use eidetica_proto::push::{PushOutcome, PushSession, PushStart, check_push};
use eidetica_proto::testing::LINK_LOG;
use eidetica_proto::{EntryReceiver, ReceiveStep, Received, SyncFault};

use crate::live::end_of;

/// Carries a push out, and returns how it ended and how many entries were sent.
fn push(
    start: PushStart,
    a: &MemoryDag,
    b: &mut MemoryDag,
    client: Option<&PublicKey>,
    accepts: bool,
) -> (Result<PushOutcome, SyncFault>, u32) {
    let session = match start {
        PushStart::Done(outcome) => return (Ok(outcome), 0),
        PushStart::Send(session) => session,
    };
    let request = RequestHeader::decode(&session.header()).expect("our own");
    let Request::SendEntries(send) = request.request else {
        panic!("a push sends entries");
    };
    match check_push(b, client, |_| accepts) {
        Ok(()) => {}
        Err(AnswerError::Refuse(error)) => {
            let refusal = ResponseHeader::encode(Err(error));
            return (session.handle_header(&refusal), 0);
        }
        Err(AnswerError::View(never)) => match never {},
    }
    let mut receiver = EntryReceiver::new(send.tree);
    receiver.begin(send.entries);
    let mut outgoing = session.entries().outgoing();
    loop {
        match receiver.poll_step(0) {
            ReceiveStep::ReceivePart => {
                let Ok(frame) = outgoing.poll_frame(a);
                let (frame, _) = frame.expect("it ends with an end");
                let part = Received::from_frame(send.tree, &frame).expect("our own");
                receiver.handle_part(part, frame.len(), 0).expect("our own");
            }
            ReceiveStep::Append { entries, .. } => {
                receiver
                    .handle_appended(b.append(entries))
                    .expect("genuine");
            }
            ReceiveStep::AwaitAppend => panic!("stored at once"),
            ReceiveStep::Done => break,
        }
    }
    let Ok(answer) = acknowledge(&receiver, b, LINK_LOG);
    (session.handle_header(&answer), send.entries)
}

fn begin(a: &MemoryDag, settled: u32, peer: Option<&PublicKey>, origins: &Origins) -> PushStart {
    let Ok(start) = PushSession::begin(a, a.tree(), settled, peer, origins);
    start
}

#[test]
fn what_is_new_goes_out_at_once() {
    let drawn = draw("A-B-C-D");
    let (a, mut b) = (drawn.replica(&["D"]), drawn.replica(&["B"]));
    let start = begin(&a, 2, None, &Origins::new());
    let (outcome, sent) = push(start, &a, &mut b, None, false);
    let (up_to, stored, cursor) = (4, 2, Some(end_of(&b)));
    assert_eq!(
        outcome,
        Ok(PushOutcome::Settled {
            up_to,
            stored,
            cursor
        })
    );
    assert_eq!((sent, tip_ids(&a)), (2, tip_ids(&b)));
}

#[test]
fn a_peer_is_not_sent_back_what_it_brought() {
    let drawn = draw("A-B-C-D");
    let (a, mut b) = (drawn.replica(&["D"]), drawn.replica(&["C"]));
    let peer = key(5).public();
    let mut origins = Origins::new();
    origins.handle_stored(drawn.tree(), 1..3, peer);
    let (_, sent) = push(begin(&a, 1, Some(&peer), &origins), &a, &mut b, None, false);
    assert_eq!((sent, tip_ids(&a)), (1, tip_ids(&b)));
    origins.handle_stored(drawn.tree(), 3..4, peer);
    let (outcome, sent) = push(begin(&a, 1, Some(&peer), &origins), &a, &mut b, None, false);
    let settled = PushOutcome::Settled {
        up_to: 4,
        stored: 0,
        cursor: None,
    };
    assert_eq!((outcome, sent), (Ok(settled), 0));
}

/// What the peer brings at this very moment is in the view, and its origin is not noted yet.
#[test]
fn a_push_ends_where_an_append_is_under_way() {
    let drawn = draw("A-B-C-D");
    let (a, mut b) = (drawn.replica(&["D"]), drawn.replica(&["A"]));
    let peer = key(5).public();
    let mut origins = Origins::new();
    origins.handle_append(drawn.tree(), 2);
    let (outcome, sent) = push(begin(&a, 1, Some(&peer), &origins), &a, &mut b, None, false);
    let settled = |up_to, outcome| matches!(outcome, Ok(PushOutcome::Settled { up_to: to, .. }) if to == up_to);
    assert!(settled(2, outcome));
    assert_eq!(sent, 1, "B alone");
    let passable = origins.handle_append_ended(drawn.tree(), Some((2..4, Some(peer))));
    assert_eq!(passable, [(2..4, Some(peer))]);
    let (outcome, sent) = push(begin(&a, 2, Some(&peer), &origins), &a, &mut b, None, false);
    assert!(settled(4, outcome));
    assert_eq!(sent, 0);
}

/// The push of a parent was lost: the child tells the peer and this side that something is missing.
#[test]
fn a_child_without_its_parent_leads_to_a_comparison() {
    let drawn = draw("A-B-C");
    let (a, mut b) = (drawn.replica(&["C"]), drawn.replica(&["A"]));
    let (outcome, sent) = push(begin(&a, 2, None, &Origins::new()), &a, &mut b, None, false);
    assert_eq!((outcome, sent), (Ok(PushOutcome::MissingParents), 1));
    assert_eq!(b.entry_count(), 1);
}

/// A peer that has more than this side has changed; its cursor would skip the additional entries.
#[test]
fn a_peer_with_other_tips_gives_no_cursor() {
    let drawn = draw("A-B-C    B-X");
    let (a, mut b) = (drawn.replica(&["C"]), drawn.replica(&["X"]));
    let (outcome, _) = push(begin(&a, 2, None, &Origins::new()), &a, &mut b, None, false);
    let (up_to, stored, cursor) = (3, 1, None);
    assert_eq!(
        outcome,
        Ok(PushOutcome::Settled {
            up_to,
            stored,
            cursor
        })
    );
}

fn guarded(role: Role) -> Drawn {
    let access = vec![AccessChange::grant(Subject::Key(key(5).public()), role)];
    let body = move |name: &str| (name == "A").then(|| genesis("guarded", access.clone()));
    Drawing::of("A-B-C").body(body).draw()
}

#[test]
fn each_refusal_is_an_outcome_of_its_own() {
    let peer = key(5).public();
    let drawn = guarded(Role::Read);
    let (a, mut b) = (drawn.replica(&["C"]), drawn.replica(&["A"]));
    let start = |settled, peer| begin(&a, settled, peer, &Origins::new());
    let stranger = key(6).public();
    let (outcome, _) = push(start(1, Some(&stranger)), &a, &mut b, None, false);
    assert_eq!(outcome, Ok(PushOutcome::PeerMayNotRead));
    let (outcome, _) = push(start(1, Some(&peer)), &a, &mut b, Some(&peer), false);
    assert_eq!(outcome, Ok(PushOutcome::ReadOnly));
    let (outcome, _) = push(start(1, Some(&peer)), &a, &mut b, Some(&stranger), true);
    assert_eq!(
        outcome,
        Ok(PushOutcome::NotHere),
        "the tree is here, and not for it"
    );
    let mut absent = MemoryDag::new(drawn.tree());
    let (outcome, _) = push(start(1, Some(&peer)), &a, &mut absent, Some(&peer), false);
    assert_eq!(outcome, Ok(PushOutcome::NotHere));
    assert_eq!((b.entry_count(), absent.entry_count()), (1, 0));
}

#[test]
fn a_tree_is_given_to_a_peer_that_accepts_it() {
    let peer = key(5).public();
    let drawn = guarded(Role::Read);
    let (a, mut b) = (drawn.replica(&["C"]), MemoryDag::new(drawn.tree()));
    let give = || {
        let Ok(start) = PushSession::give(&a, a.tree(), Some(&peer));
        start
    };
    let giver = key(1).public();
    // Without a key there is no setting to go by.
    let (outcome, _) = push(give(), &a, &mut b, None, true);
    assert_eq!(outcome, Ok(PushOutcome::NotHere));
    let (outcome, sent) = push(give(), &a, &mut b, Some(&giver), true);
    let (up_to, stored, cursor) = (3, 3, Some(end_of(&b)));
    assert_eq!(
        outcome,
        Ok(PushOutcome::Settled {
            up_to,
            stored,
            cursor
        })
    );
    assert_eq!((sent, tip_ids(&a)), (3, tip_ids(&b)));
}
