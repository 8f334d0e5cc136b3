//! What is said in each situation. A transcript is compared line by line, so one more round trip,
//! or one entry too many, fails.

use eidetica_dag::MemoryDag;
use eidetica_dag::testing::draw;
use eidetica_proto::testing::{Link, Run};
use eidetica_proto::{ErrorCode, SyncFault, SyncOptions, SyncOutcome};

use crate::sync::{SEED, TIPS_FIRST, empty, tips, write};

/// What a sync costs on the wire that moves nothing, in either direction.
const NO_OP_BYTES_MAX: usize = 120;

fn assert_refused(run: &Run, code: ErrorCode) {
    match run.fault() {
        SyncFault::Refused(error) => assert_eq!(error.code, code),
        other => panic!("{other:?}"),
    }
}

#[test]
fn neither_peer_has_the_tree() {
    let drawn = draw("A-B");
    let (mut a, mut b) = (empty(&drawn), empty(&drawn));
    let run = Link::new(&mut a, &mut b).named(&drawn).run();
    run.assert_conversation(
        "A -> B SyncTree tips=[]
         B -> A refuses: NotFound",
    );
    assert_refused(&run, ErrorCode::NotFound);
}

#[test]
fn the_peer_has_nothing_of_the_tree() {
    let drawn = draw("A-B");
    let (mut a, mut b) = (drawn.replica(&["B"]), empty(&drawn));
    let run = Link::new(&mut a, &mut b).named(&drawn).run();
    run.assert_conversation(
        "A -> B SyncTree tips=[B] filter
         B -> A refuses: NotFound",
    );
    assert_refused(&run, ErrorCode::NotFound);
}

#[test]
fn bootstrap() {
    let drawn = draw("A-B-C");
    let (mut a, mut b) = (empty(&drawn), drawn.replica(&["C"]));
    let run = Link::new(&mut a, &mut b).named(&drawn).run();
    run.assert_conversation(
        "A -> B SyncTree tips=[]
         B -> A Entries(3)
         B -> A batch A B C
         B -> A end tips=[C]
         A stores A B C",
    );
    let report = run.report();
    assert_eq!(report.outcome, SyncOutcome::Equal);
    assert_eq!(
        (
            report.stats.received,
            report.stats.stored,
            report.stats.redundant
        ),
        (3, 3, 0)
    );
    assert_eq!(tips(&a), tips(&b));
}

#[test]
fn bootstrap_of_a_root_alone() {
    let drawn = draw("A");
    let (mut a, mut b) = (empty(&drawn), drawn.replica(&["A"]));
    Link::new(&mut a, &mut b)
        .named(&drawn)
        .run()
        .assert_conversation(
            "A -> B SyncTree tips=[]
         B -> A Entries(1)
         B -> A batch A
         B -> A end tips=[A]
         A stores A",
        );
    assert_eq!(tips(&a), drawn.ids(&["A"]));
}

#[test]
fn diamond() {
    let drawn = draw(
        r"
          B
         / \
        A   D
         \ /
          C
        ",
    );
    let (mut a, mut b) = (drawn.replica(&["B"]), drawn.replica(&["D"]));
    Link::new(&mut a, &mut b)
        .named(&drawn)
        .run()
        .assert_conversation(
            "A -> B SyncTree tips=[B] filter
         B -> A Entries(2)
         B -> A batch C D
         B -> A end tips=[D]
         A stores C D",
        );
}

/// A breadth-first walk from G, turned round, gives F before its parent E2.
#[test]
fn parents_come_first_in_an_uneven_diamond() {
    let drawn = draw(
        r"
          B-------C
         /         \
        A           G
         \         /
          D-E-E2--F
        ",
    );
    let (mut a, mut b) = (drawn.replica(&["A"]), drawn.replica(&["G"]));
    Link::new(&mut a, &mut b)
        .named(&drawn)
        .run()
        .assert_conversation(
            "A -> B SyncTree tips=[A] filter
         B -> A Entries(7)
         B -> A batch B C D E E2 F G
         B -> A end tips=[G]
         A stores B C D E E2 F G",
        );
}

#[test]
fn the_client_is_behind() {
    let drawn = draw("A-B-C-D");
    let (mut a, mut b) = (drawn.replica(&["B"]), drawn.replica(&["D"]));
    Link::new(&mut a, &mut b)
        .named(&drawn)
        .run()
        .assert_conversation(
            "A -> B SyncTree tips=[B] filter
         B -> A Entries(2)
         B -> A batch C D
         B -> A end tips=[D]
         A stores C D",
        );
}

#[test]
fn the_client_is_ahead() {
    let drawn = draw("A-B-C-D");
    let (mut a, mut b) = (drawn.replica(&["D"]), drawn.replica(&["B"]));
    let run = Link::new(&mut a, &mut b).named(&drawn).run();
    run.assert_conversation(
        "A -> B SyncTree tips=[D] filter
         B -> A Entries(0)
         B -> A end tips=[B]
         A -> B SendEntries(2)
         A -> B batch C D
         A -> B end
         B stores C D
         B -> A Stored(2)",
    );
    let report = run.report();
    assert_eq!(report.outcome, SyncOutcome::Equal);
    assert_eq!((report.stats.sent, report.stats.peer_stored), (2, 2));
    assert_eq!(tips(&a), tips(&b));
}

#[test]
fn both_are_ahead() {
    let drawn = draw("A-B-C-D    B-X-Y");
    let (mut a, mut b) = (drawn.replica(&["D"]), drawn.replica(&["Y"]));
    let run = Link::new(&mut a, &mut b).named(&drawn).run();
    run.assert_conversation(
        "A -> B SyncTree tips=[D] filter
         B -> A Entries(2)
         B -> A batch X Y
         B -> A end tips=[Y]
         A stores X Y
         A -> B SendEntries(2)
         A -> B batch C D
         A -> B end
         B stores C D
         B -> A Stored(2)",
    );
    let report = run.report();
    assert_eq!(report.outcome, SyncOutcome::Equal);
    assert_eq!(
        (report.stats.pull_round_trips, report.stats.round_trips),
        (1, 2)
    );
    assert_eq!(tips(&a), tips(&b));
}

#[test]
fn equal_trees_move_nothing() {
    let drawn = draw("A-B-C  B-D");
    for options in [SyncOptions::default(), TIPS_FIRST] {
        let (mut a, mut b) = (drawn.replica(&["C", "D"]), drawn.replica(&["D", "C"]));
        let link = Link::new(&mut a, &mut b)
            .named(&drawn)
            .options(options, SEED);
        let run = link.run();
        let filter = if options.filter_at_once {
            " filter"
        } else {
            ""
        };
        run.assert_conversation(&format!(
            "A -> B SyncTree tips=[C D]{filter}
             B -> A Equal"
        ));
        assert_eq!(run.report().outcome, SyncOutcome::Equal);
        assert!(run.answered_bytes <= NO_OP_BYTES_MAX);
    }
    let (mut a, mut b) = (drawn.replica(&["C"]), drawn.replica(&["C"]));
    let run = Link::new(&mut a, &mut b).options(TIPS_FIRST, SEED).run();
    assert!(run.asked_bytes <= NO_OP_BYTES_MAX, "{}", run.asked_bytes);
    assert!(run.answered_bytes <= NO_OP_BYTES_MAX);
}

#[test]
fn tips_first_needs_no_filter_when_the_peer_is_ahead() {
    let drawn = draw("A-B-C-D");
    let (mut a, mut b) = (drawn.replica(&["B"]), drawn.replica(&["D"]));
    let link = Link::new(&mut a, &mut b)
        .named(&drawn)
        .options(TIPS_FIRST, SEED);
    link.run().assert_conversation(
        "A -> B SyncTree tips=[B]
         B -> A Entries(2)
         B -> A batch C D
         B -> A end tips=[D]
         A stores C D",
    );
}

#[test]
fn tips_first_sends_the_filter_when_asked() {
    let drawn = draw("A-B-C    B-X");
    let (mut a, mut b) = (drawn.replica(&["C"]), drawn.replica(&["X"]));
    let run = Link::new(&mut a, &mut b)
        .named(&drawn)
        .options(TIPS_FIRST, SEED)
        .run();
    run.assert_conversation(
        "A -> B SyncTree tips=[C]
         B -> A SendFilter
         A -> B SyncTree tips=[C] filter
         B -> A Entries(1)
         B -> A batch X
         B -> A end tips=[X]
         A stores X
         A -> B SendEntries(1)
         A -> B batch C
         A -> B end
         B stores C
         B -> A Stored(1)",
    );
    assert_eq!(run.report().stats.pull_round_trips, 2);
}

#[test]
fn a_pull_leaves_the_peer_as_it_is() {
    let drawn = draw("A-B-C    B-X");
    let (mut a, mut b) = (drawn.replica(&["C"]), drawn.replica(&["X"]));
    let pull = SyncOptions {
        push: false,
        ..SyncOptions::default()
    };
    let run = Link::new(&mut a, &mut b)
        .named(&drawn)
        .options(pull, SEED)
        .run();
    run.assert_conversation(
        "A -> B SyncTree tips=[C] filter
         B -> A Entries(1)
         B -> A batch X
         B -> A end tips=[X]
         A stores X",
    );
    assert_eq!(run.report().outcome, SyncOutcome::Pulled);
    assert_eq!(tips(&b), drawn.ids(&["X"]));
}

/// What A writes before it knows what to send goes along; what it writes later does not.
#[test]
fn the_client_writes_meanwhile() {
    let drawn = draw("A-B-C");
    for (frame, outcome) in [
        (0, SyncOutcome::Equal),
        (3, SyncOutcome::Equal),
        (4, SyncOutcome::MovedOn),
    ] {
        let (mut a, mut b) = (drawn.replica(&["B"]), drawn.replica(&["C"]));
        write(&mut a, "early");
        let write_at = |at, a: &mut MemoryDag, _: &mut MemoryDag| {
            if at == frame {
                write(a, "late");
            }
        };
        let run = Link::new(&mut a, &mut b).between(write_at).run();
        let report = run.report();
        assert_eq!(report.outcome, outcome, "written after frame {frame}");
        assert_eq!(report.stats.round_trips, 2);
        let sent = if outcome == SyncOutcome::Equal { 2 } else { 1 };
        assert_eq!(report.stats.sent, sent);
    }
}

/// What B writes after it has answered is for the next sync.
#[test]
fn the_answerer_writes_meanwhile() {
    let drawn = draw("A-B-C    B-X");
    for frame in 0..8 {
        let (mut a, mut b) = (drawn.replica(&["C"]), drawn.replica(&["X"]));
        let write_at = |at, _: &mut MemoryDag, b: &mut MemoryDag| {
            if at == frame {
                write(b, "late");
            }
        };
        let run = Link::new(&mut a, &mut b).between(write_at).run();
        let report = run.report();
        assert_eq!(report.stats.round_trips, 2, "written after frame {frame}");
        // Before the first it is sent along; after the last, the acknowledgement, it goes unnoticed.
        let outcome = match frame {
            0 | 7 => SyncOutcome::Equal,
            _ => SyncOutcome::MovedOn,
        };
        assert_eq!(report.outcome, outcome, "written after frame {frame}");
        assert_eq!(
            Link::new(&mut a, &mut b).run().report().outcome,
            SyncOutcome::Equal
        );
        assert_eq!(tips(&a), tips(&b));
    }
}

#[test]
fn syncs_of_two_trees_share_nothing() {
    let one = draw("A-B-C    B-X");
    let two = eidetica_dag::testing::draw_with("K-L-M", |_| eidetica_dag::testing::key(9));
    assert_ne!(one.tree(), two.tree());
    let (mut a1, mut b1) = (one.replica(&["C"]), one.replica(&["X"]));
    let (mut a2, mut b2) = (two.replica(&["K"]), two.replica(&["M"]));
    let mut links = [
        Link::new(&mut a1, &mut b1).named(&one),
        Link::new(&mut a2, &mut b2).named(&two),
    ];
    let mut running = [true; 2];
    while running != [false; 2] {
        for (link, running) in links.iter_mut().zip(&mut running) {
            *running = *running && link.step();
        }
    }
    for link in links {
        assert_eq!(link.finish().report().outcome, SyncOutcome::Equal);
    }
    assert_eq!(tips(&a1), tips(&one.replica(&["C", "X"])));
    assert_eq!(tips(&a2), two.ids(&["M"]));
}
