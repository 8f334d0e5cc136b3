//! Links that break.

use eidetica_dag::testing::{Shape, build, dag_of, draw};
use eidetica_dag::{DagView, MemoryDag};
use eidetica_proto::testing::{Broken, Link};
use eidetica_proto::{PeerFault, SyncFault, SyncOutcome};

use crate::sync::{empty, entries, tips};

#[test]
fn what_arrived_before_a_cut_is_not_sent_again() {
    let drawn = draw("A-B-C-D");
    let (mut a, mut b) = (empty(&drawn), drawn.replica(&["D"]));
    // The batch has arrived, the end has not.
    let run = Link::new(&mut a, &mut b).named(&drawn).cut_after(3).run();
    assert_eq!(run.result, Err(Broken::Cut));
    run.assert_conversation(
        "A -> B SyncTree tips=[]
         B -> A Entries(4)
         B -> A batch A B C D
         A stores A B C D",
    );
    let run = Link::new(&mut a, &mut b).named(&drawn).run();
    run.assert_conversation(
        "A -> B SyncTree tips=[D] filter
         B -> A Equal",
    );
}

#[test]
fn what_was_pushed_before_a_cut_is_not_sent_again() {
    let drawn = draw("A-B-C-D");
    let (mut a, mut b) = (drawn.replica(&["D"]), drawn.replica(&["B"]));
    let run = Link::new(&mut a, &mut b).named(&drawn).cut_after(5).run();
    assert_eq!(run.result, Err(Broken::Cut));
    assert_eq!(tips(&b), drawn.ids(&["D"]));
}

/// A cut at any frame, then another sync: both have everything, and what A had stored before the
/// cut was not sent a second time.
#[test]
fn any_cut_heals() {
    let history = entries_of(Shape::Braided, 9_000);
    let (common, rest) = history.split_at(100);
    let a_start: Vec<_> = common.to_vec();
    let uncut = {
        let (mut a, mut b) = (dag_of(a_start.clone()), dag_of(history.clone()));
        Link::new(&mut a, &mut b).run().frames
    };
    assert!(uncut >= 6, "there are several batches: {uncut} frames");
    for cut in 0..uncut {
        let (mut a, mut b) = (dag_of(a_start.clone()), dag_of(history.clone()));
        let run = Link::new(&mut a, &mut b)
            .cut_after(cut)
            .outcome_delay(2)
            .store_each_part()
            .run();
        assert_eq!(run.result, Err(Broken::Cut), "after {cut} frames");
        let kept = a.entry_count() as usize - common.len();
        assert_eq!(kept > 0, cut > 2, "after {cut} frames");
        let report = Link::new(&mut a, &mut b).run().report();
        assert_eq!(report.outcome, SyncOutcome::Equal);
        assert_eq!(tips(&a), tips(&b));
        if kept < rest.len() {
            assert_eq!(report.stats.received as usize, rest.len() - kept);
        }
    }
}

fn entries_of(shape: Shape, n: u32) -> Vec<eidetica_dag::VerifiedEntry> {
    build(&shape.parents(n, 1))
}

/// A response that ends cleanly and too soon is not mistaken for a whole one.
#[test]
fn a_response_without_its_end_is_incomplete() {
    let drawn = draw("A-B-C");
    for lost in 1..4 {
        let (mut a, mut b) = (empty(&drawn), drawn.replica(&["C"]));
        let lose = |_, number, frame| if number >= lost { vec![] } else { vec![frame] };
        let run = Link::new(&mut a, &mut b).tamper(lose).run();
        assert_eq!(
            run.fault(),
            PeerFault::Incomplete.into(),
            "from frame {lost}"
        );
        let kept = if lost == 3 { 3 } else { 0 };
        assert_eq!(a.entry_count(), kept);
    }
}

#[test]
fn a_request_without_its_end_is_not_acknowledged() {
    let drawn = draw("A-B-C");
    let (mut a, mut b) = (drawn.replica(&["C"]), drawn.replica(&["A"]));
    // 0 SyncTree, 1 Entries, 2 end, 3 SendEntries, 4 batch, 5 end.
    let lose = |_, number, frame| if number == 5 { vec![] } else { vec![frame] };
    let run = Link::new(&mut a, &mut b).named(&drawn).tamper(lose).run();
    match run.fault() {
        SyncFault::Refused(error) => assert!(error.text.contains("before it was complete")),
        other => panic!("{other:?}"),
    }
}

/// Whatever order steps of the store and parts come in, the result is the same.
#[test]
fn parts_arrive_while_entries_are_stored() {
    let history = entries_of(Shape::UnevenDiamonds, 5_000);
    let mut whole = dag_of(history.clone());
    for delay in [0, 1, 2, 100] {
        for each in [false, true] {
            let mut a = MemoryDag::new(whole.tree());
            let link = Link::new(&mut a, &mut whole).outcome_delay(delay);
            let run = if each { link.store_each_part() } else { link }.run();
            let report = run.report();
            assert_eq!(report.outcome, SyncOutcome::Equal);
            assert_eq!(
                (report.stats.stored, report.stats.redundant),
                (history.len() as u64, 0)
            );
            assert_eq!(entries(&a), history, "in the order of arrival");
        }
    }
}
