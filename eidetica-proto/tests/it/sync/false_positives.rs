//! Filters that claim to know what the client lacks.
//!
//! Such accidents are rare, so the tests bring them about: on its way the client's filter is
//! exchanged for that of a replica that has more.

use bytes::Bytes;
use eidetica_dag::testing::{Drawn, draw};
use eidetica_dag::{MemoryDag, Verification};
use eidetica_proto::filter::{Filter, FilterBudget};
use eidetica_proto::message::{Reply, Request, RequestHeader, ResponseHeader, Sample, SyncReply};
use eidetica_proto::session::PULL_ROUNDS_MAX;
use eidetica_proto::testing::{Link, Way};
use eidetica_proto::tips::EndTips;
use eidetica_proto::{
    Cursor, PeerFault, ReceiveStep, Received, Step, SyncOptions, SyncOutcome, SyncSession,
};

use crate::sync::{SEED, empty, tips, write};

/// Exchanges the filters of the first requests for those of these replicas, one after the other.
fn claim(replicas: Vec<MemoryDag>) -> impl FnMut(Way, usize, Bytes) -> Vec<Bytes> {
    let mut replicas = replicas.into_iter();
    move |way, _, frame| {
        let header = (way == Way::Asks).then(|| RequestHeader::decode(&frame));
        match header {
            Some(Ok(RequestHeader {
                request: Request::SyncTree(mut sync),
                ..
            })) if sync.sample.filter().is_some() => {
                if let Some(replica) = replicas.next() {
                    let Ok(filter) = Filter::build(&replica, SEED, FilterBudget::for_tips(1));
                    sync.sample = filter.map_or(Sample::None, Sample::Full);
                }
                vec![RequestHeader::new(Request::SyncTree(sync)).encode()]
            }
            _ => vec![frame],
        }
    }
}

/// The client has M; the server has C. A filter made of G claims E and F, one made of Z also G and
/// C: tips themselves are not in a filter.
fn two_branches() -> Drawn {
    draw(
        r"
          M
         /
        A-B-E-F-G-C-Z
        ",
    )
}

#[test]
fn what_is_missing_below_comes_at_once() {
    let drawn = two_branches();
    let (mut a, mut b) = (drawn.replica(&["M", "B"]), drawn.replica(&["C"]));
    let link = Link::new(&mut a, &mut b).named(&drawn);
    let run = link.tamper(claim(vec![drawn.replica(&["G"])])).run();
    run.assert_conversation(
        "A -> B SyncTree tips=[B M] filter
         B -> A Entries(2)
         B -> A batch G C
         B -> A end tips=[C]
         A stores nothing, keeps G C
         A -> B SyncTree tips=[B M] filter wants=[F]
         B -> A Entries(2)
         B -> A batch E F
         B -> A end tips=[C]
         A stores E F G C
         A -> B SendEntries(1)
         A -> B batch M
         A -> B end
         B stores M
         B -> A Stored(1)",
    );
    let report = run.report();
    assert_eq!(report.outcome, SyncOutcome::Equal);
    assert_eq!(report.stats.pull_round_trips, 2);
    assert_eq!((report.stats.received, report.stats.redundant), (4, 0));
}

#[test]
fn a_tip_that_was_taken_for_known_is_asked_for() {
    let drawn = two_branches();
    let (mut a, mut b) = (drawn.replica(&["M", "B"]), drawn.replica(&["C"]));
    let link = Link::new(&mut a, &mut b).named(&drawn);
    let run = link.tamper(claim(vec![drawn.replica(&["Z"])])).run();
    run.assert_conversation(
        "A -> B SyncTree tips=[B M] filter
         B -> A Entries(0)
         B -> A end tips=[C]
         A -> B SyncTree tips=[B M] filter wants=[C]
         B -> A Entries(4)
         B -> A batch E F G C
         B -> A end tips=[C]
         A stores E F G C
         A -> B SendEntries(1)
         A -> B batch M
         A -> B end
         B stores M
         B -> A Stored(1)",
    );
}

/// The second filter claims C, which lies above the wanted F: that must not hide F again. It also
/// claims E, which lies below: that costs a third request.
#[test]
fn a_second_false_positive_is_no_fault() {
    let drawn = two_branches();
    let (mut a, mut b) = (drawn.replica(&["M", "B"]), drawn.replica(&["C"]));
    let link = Link::new(&mut a, &mut b).named(&drawn);
    let claims = vec![drawn.replica(&["G"]), drawn.replica(&["Z"])];
    let run = link.tamper(claim(claims)).run();
    run.assert_conversation(
        "A -> B SyncTree tips=[B M] filter
         B -> A Entries(2)
         B -> A batch G C
         B -> A end tips=[C]
         A stores nothing, keeps G C
         A -> B SyncTree tips=[B M] filter wants=[F]
         B -> A Entries(1)
         B -> A batch F
         B -> A end tips=[C]
         A stores nothing, keeps F G C
         A -> B SyncTree tips=[B M] filter wants=[E]
         B -> A Entries(1)
         B -> A batch E
         B -> A end tips=[C]
         A stores E F G C
         A -> B SendEntries(1)
         A -> B batch M
         A -> B end
         B stores M
         B -> A Stored(1)",
    );
}

/// A peer that writes all the time has new tips in every answer. They are for the next sync.
#[test]
fn a_busy_peer_is_not_chased() {
    let drawn = two_branches();
    let (mut a, mut b) = (drawn.replica(&["M", "B"]), drawn.replica(&["C"]));
    let link = Link::new(&mut a, &mut b).tamper(claim(vec![drawn.replica(&["G"])]));
    let busy = |number: usize, _: &mut MemoryDag, b: &mut MemoryDag| {
        write(b, &format!("after frame {number}"));
    };
    let report = link.between(busy).run().report();
    assert_eq!(report.stats.pull_round_trips, 2);
    assert_eq!(report.outcome, SyncOutcome::MovedOn);
    assert_eq!(
        Link::new(&mut a, &mut b).run().report().outcome,
        SyncOutcome::Equal
    );
    assert_eq!(tips(&a), tips(&b));
}

/// What another sync brought meanwhile is not asked for.
#[test]
fn what_came_from_elsewhere_is_not_asked_for() {
    let drawn = two_branches();
    let (mut a, mut b) = (drawn.replica(&["M", "B"]), drawn.replica(&["C"]));
    let elsewhere = drawn.entries(&["E", "F"]);
    let link = Link::new(&mut a, &mut b).named(&drawn).store_each_part();
    // 0 SyncTree, 1 Entries, 2 batch, 3 end: E and F come when G and C are kept already.
    let run = link
        .tamper(claim(vec![drawn.replica(&["G"])]))
        .between(move |number, a: &mut MemoryDag, _: &mut MemoryDag| {
            if number == 3 {
                a.append(elsewhere.clone());
            }
        })
        .run();
    run.assert_conversation(
        "A -> B SyncTree tips=[B M] filter
         B -> A Entries(2)
         B -> A batch G C
         A stores nothing, keeps G C
         B -> A end tips=[C]
         A stores G C
         A -> B SendEntries(1)
         A -> B batch M
         B stores M
         A -> B end
         B -> A Stored(1)",
    );
}

/// The same, one moment later: the outcome has said already that F is missing.
#[test]
fn what_came_after_the_outcome_is_not_asked_for() {
    let drawn = two_branches();
    let mut a = drawn.replica(&["M", "B"]);
    let mut session = SyncSession::new(drawn.tree(), SyncOptions::default(), SEED);
    assert!(matches!(session.poll_step(), Step::View));
    let Ok(viewed) = session.handle_view(&a);
    viewed.expect("nothing is wrong");
    assert!(matches!(session.poll_step(), Step::Exchange { .. }));
    let reply = Reply::Sync(SyncReply::Entries(2));
    let header = ResponseHeader::encode(Ok(reply));
    session.handle_header(&header).expect("an answer");
    let entries = drawn.entries(&["G", "C"]);
    let parts = [
        Received::Entries(Verification {
            verified: entries,
            ..Verification::default()
        }),
        Received::End {
            tips: EndTips::Listed(drawn.ids(&["C"])),
            cursor: Cursor::NONE,
        },
    ];
    for part in parts {
        session.receiver().handle_part(part, 0, 0).expect("a part");
    }
    let store = |session: &mut SyncSession, a: &mut MemoryDag| {
        assert!(matches!(session.poll_step(), Step::Receive));
        let receiver = session.receiver();
        let ReceiveStep::Append { entries, .. } = receiver.poll_step(0) else {
            panic!("something is to be stored");
        };
        assert!(matches!(receiver.poll_step(0), ReceiveStep::AwaitAppend));
        let outcome = a.append(entries);
        let stored = outcome.stored.len();
        receiver.handle_appended(outcome).expect("nothing is wrong");
        stored
    };
    // What waits is tried once more before the session asks for anything.
    assert_eq!(store(&mut session, &mut a), 0);
    assert!(matches!(session.poll_step(), Step::View));
    a.append(drawn.entries(&["E", "F"]));
    let Ok(viewed) = session.handle_view(&a);
    viewed.expect("nothing is wrong");
    assert_eq!(store(&mut session, &mut a), 2);
    assert!(matches!(session.poll_step(), Step::View));
}

/// Filters that claim everything let one entry through in each round. That is no accident.
#[test]
fn rounds_come_to_an_end() {
    let drawn = draw("A-B-C-D-E-F-G-H-I-J-K-L-M-Z");
    let (mut a, mut b) = (drawn.replica(&["A"]), drawn.replica(&["M"]));
    let claims = vec![drawn.replica(&["Z"]); 20];
    // B writes something of its own, so that A's tip is unknown to it and its filter counts.
    write(&mut a, "unknown to B");
    let run = Link::new(&mut a, &mut b).tamper(claim(claims)).run();
    // The first round brings nothing but the tips, the others M, L, K …
    let withheld = drawn.id(&"FGHIJKLM"[..1]);
    assert_eq!(run.fault(), PeerFault::Withheld(withheld).into());
    let asked = |line: &&String| line.contains("SyncTree");
    assert_eq!(
        run.transcript.iter().filter(asked).count() as u32,
        PULL_ROUNDS_MAX
    );
    let report = Link::new(&mut a, &mut b).run().report();
    assert_eq!(report.outcome, SyncOutcome::Equal);
}

/// An empty replica has nothing to sample, and nothing can be taken for known.
#[test]
fn a_bootstrap_has_no_filter() {
    let drawn = two_branches();
    let (mut a, mut b) = (empty(&drawn), drawn.replica(&["C"]));
    let run = Link::new(&mut a, &mut b).named(&drawn).run();
    assert_eq!(run.transcript[0], "A -> B SyncTree tips=[]");
}
