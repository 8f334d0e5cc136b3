//! Peers that break the protocol. Whatever they say, what is stored stays whole, and the fault
//! names the rule.

use bytes::Bytes;
use eidetica_dag::testing::shapes::sign_on_top;
use eidetica_dag::testing::{Drawn, draw, draw_with, key};
use eidetica_dag::{
    Body, DagView, Entry, EntryId, Rule, Signature, SignedEntry, VerifiedEntry, verify_batch,
};
use eidetica_proto::batch::Packer;
use eidetica_proto::error::BatchError;
use eidetica_proto::message::{Part, Reply, ResponseHeader, Stored, SyncReply};
use eidetica_proto::testing::{Link, Run, Way};
use eidetica_proto::tips::{EndTips, TipDigest};
use eidetica_proto::{
    Cursor, ErrorCode, PeerFault, SyncFault, SyncOptions, SyncOutcome, WAITING_ENTRIES_MAX,
    WireError,
};

use crate::sync::{SEED, empty, tips};

fn batch<'a>(entries: impl IntoIterator<Item = &'a SignedEntry>) -> Bytes {
    let mut packer = Packer::new();
    entries.into_iter().for_each(|entry| packer.push(entry));
    Part::Batch(&packer.finish()).encode()
}

fn batch_of(drawn: &Drawn, names: &[&str]) -> Bytes {
    let entries = drawn.entries(names);
    batch(entries.iter().map(VerifiedEntry::get))
}

fn end(drawn: &Drawn, names: &[&str]) -> Bytes {
    let mut tips = drawn.ids(names);
    tips.sort();
    let tips = EndTips::Listed(tips);
    let cursor = Cursor::NONE;
    Part::End { tips, cursor }.encode()
}

fn sync(reply: SyncReply) -> Bytes {
    ResponseHeader::encode(Ok(Reply::Sync(reply)))
}

fn announce(count: u32) -> Bytes {
    sync(SyncReply::Entries(count))
}

/// Lets B answer each request with these frames and no others.
fn script(answers: Vec<Vec<Bytes>>) -> impl FnMut(Way, usize, Bytes) -> Vec<Bytes> {
    let mut answers = answers.into_iter();
    let mut answered = false;
    move |way, _, frame| match way {
        Way::Asks => {
            answered = false;
            vec![frame]
        }
        Way::Answers if answered => vec![],
        Way::Answers => {
            answered = true;
            answers.next().expect("one answer for each request")
        }
    }
}

/// Runs a sync of an empty replica with a liar, and returns the names of what was stored.
fn lied_to(drawn: &Drawn, answers: Vec<Vec<Bytes>>) -> (Run, String) {
    let (mut a, mut b) = (empty(drawn), drawn.dag.clone());
    let run = Link::new(&mut a, &mut b)
        .named(drawn)
        .tamper(script(answers))
        .run();
    let ids: Vec<EntryId> = (0..a.entry_count())
        .map(|at| {
            let Ok(node) = a.node(eidetica_dag::Arrival(at));
            node.id
        })
        .collect();
    (run, drawn.names_of(&ids))
}

fn out_of_place(run: &Run) -> bool {
    matches!(run.fault(), SyncFault::Peer(PeerFault::OutOfPlace { .. }))
}

#[test]
fn a_forged_entry_is_named_and_what_comes_before_stays() {
    let drawn = draw_with("A-B-C-D", |name| key(name.len() as u32));
    let genuine = drawn.entry("D").into_inner();
    let forged = SignedEntry::from_parts(genuine.entry().clone(), &Signature::from_bytes([7; 64]));
    let forged = forged.expect("well formed");
    let mut entries: Vec<SignedEntry> = drawn
        .entries(&["A", "B", "C"])
        .into_iter()
        .map(VerifiedEntry::into_inner)
        .collect();
    entries.push(forged.clone());
    let (run, stored) = lied_to(
        &drawn,
        vec![vec![announce(4), batch(&entries), end(&drawn, &["D"])]],
    );
    assert_eq!(run.fault(), PeerFault::Forged(forged.id()).into());
    assert_eq!(stored, "A B C");
}

#[test]
fn a_lying_height_is_refused_and_what_comes_before_stays() {
    let drawn = draw("A-B-C");
    let liar = Entry {
        height: 9,
        ..drawn.entry("C").get().entry().clone()
    };
    let liar = VerifiedEntry::sign(liar, &key(0)).expect("well formed");
    let entries = [drawn.entry("A"), drawn.entry("B"), liar.clone()];
    let frames = vec![
        announce(3),
        batch(entries.iter().map(VerifiedEntry::get)),
        end(&drawn, &["C"]),
    ];
    let (run, stored) = lied_to(&drawn, vec![frames]);
    match run.fault() {
        SyncFault::Peer(PeerFault::RefusedEntry(refusal)) => {
            assert_eq!(refusal.id, liar.get().id());
            let (claimed, actual) = (9, 2);
            assert_eq!(refusal.rule, Rule::LyingHeight { claimed, actual });
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(stored, "A B");
}

/// The height puts the child before its parent among those that wait; it is found out all the same.
#[test]
fn a_lying_height_among_waiting_entries_is_refused() {
    let drawn = draw("A-B-C-D");
    let liar = Entry {
        height: 1,
        ..drawn.entry("D").get().entry().clone()
    };
    let liar = VerifiedEntry::sign(liar, &key(0)).expect("well formed");
    let late = [liar.clone(), drawn.entry("C")];
    let frames = vec![
        announce(4),
        batch(late.iter().map(VerifiedEntry::get)),
        batch_of(&drawn, &["A", "B"]),
        end(&drawn, &["C"]),
    ];
    let (mut a, mut b) = (empty(&drawn), drawn.dag.clone());
    let link = Link::new(&mut a, &mut b).store_each_part();
    let run = link.tamper(script(vec![frames])).run();
    match run.fault() {
        SyncFault::Peer(PeerFault::RefusedEntry(refusal)) => {
            assert_eq!(refusal.id, liar.get().id());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(tips(&a), drawn.ids(&["C"]));
}

#[test]
fn an_entry_that_is_asked_for_may_not_be_withheld() {
    let drawn = draw("A-B-C-D");
    let first = vec![
        announce(2),
        batch_of(&drawn, &["A", "D"]),
        end(&drawn, &["D"]),
    ];
    let second = vec![announce(0), end(&drawn, &["D"])];
    let (run, stored) = lied_to(&drawn, vec![first, second]);
    run.assert_conversation(
        "A -> B SyncTree tips=[]
         B -> A Entries(2)
         B -> A batch A D
         B -> A end tips=[D]
         A stores A, keeps D
         A -> B SyncTree tips=[A] filter wants=[C]
         B -> A Entries(0)
         B -> A end tips=[D]
         A stores nothing, keeps D",
    );
    assert_eq!(run.fault(), PeerFault::Withheld(drawn.id("C")).into());
    assert_eq!(stored, "A");
}

#[test]
fn a_tip_that_is_named_may_not_be_withheld() {
    let drawn = draw("A-B");
    let first = vec![announce(1), batch_of(&drawn, &["A"]), end(&drawn, &["B"])];
    let second = vec![announce(0), end(&drawn, &["A"])];
    let (run, _) = lied_to(&drawn, vec![first, second]);
    assert_eq!(run.fault(), PeerFault::Withheld(drawn.id("B")).into());
}

#[test]
fn entries_of_another_tree_do_not_get_in() {
    let drawn = draw("A-B");
    let other = draw_with("K-L", |_| key(5));
    let data = vec![
        announce(2),
        batch(&[drawn.entry("A").into_inner(), other.entry("L").into_inner()]),
        end(&drawn, &["A"]),
    ];
    let (run, stored) = lied_to(&drawn, vec![data]);
    // Unpacked as an entry of this tree, it is one without a valid signature.
    assert!(matches!(run.fault(), SyncFault::Peer(PeerFault::Forged(_))));
    assert_eq!(stored, "A");

    let root = vec![
        announce(2),
        batch(&[drawn.entry("A").into_inner(), other.entry("K").into_inner()]),
        end(&drawn, &["A"]),
    ];
    let (run, stored) = lied_to(&drawn, vec![root]);
    match run.fault() {
        SyncFault::Peer(PeerFault::RefusedEntry(refusal)) => {
            assert_eq!(
                (refusal.id, refusal.rule),
                (other.id("K"), Rule::SecondRoot)
            );
        }
        fault => panic!("{fault:?}"),
    }
    assert_eq!(stored, "A");
}

#[test]
fn duplicates_are_counted_and_do_no_harm() {
    let drawn = draw("A-B-C");
    let frames = vec![
        announce(5),
        batch_of(&drawn, &["A", "B"]),
        batch_of(&drawn, &["A", "B", "C"]),
        end(&drawn, &["C"]),
    ];
    let (run, stored) = lied_to(&drawn, vec![frames]);
    let stats = run.report().stats;
    assert_eq!((stats.received, stats.stored, stats.redundant), (5, 3, 2));
    assert_eq!(stored, "A B C");
}

/// A sender that forgets to sort is borne with: nothing is lost, and nothing asked for twice.
#[test]
fn children_before_parents_are_kept_until_these_come() {
    let drawn = draw("A-B-C-D    B-X");
    let names = ["D", "C", "X", "B", "A"];
    let frames: Vec<Bytes> = [announce(5)]
        .into_iter()
        .chain(names.map(|name| batch_of(&drawn, &[name])))
        .chain([end(&drawn, &["D", "X"])])
        .collect();
    let (mut a, mut b) = (empty(&drawn), drawn.dag.clone());
    let link = Link::new(&mut a, &mut b).store_each_part();
    let run = link.tamper(script(vec![frames])).run();
    let report = run.report();
    assert_eq!(report.outcome, SyncOutcome::Equal);
    assert_eq!((report.stats.round_trips, report.stats.stored), (1, 5));
    assert_eq!(tips(&a), tips(&b));
}

#[test]
fn what_is_announced_is_what_comes() {
    let drawn = draw("A-B");
    let frames = |count| {
        vec![
            announce(count),
            batch_of(&drawn, &["A", "B"]),
            end(&drawn, &["B"]),
        ]
    };
    for (count, fault) in [
        (1, "more entries than announced"),
        (3, "fewer entries than announced"),
    ] {
        let (run, stored) = lied_to(&drawn, vec![frames(count)]);
        assert_eq!(run.fault(), PeerFault::BadList(fault).into());
        assert_eq!(stored, "A B", "genuine entries are kept");
    }
    assert!(lied_to(&drawn, vec![frames(2)]).0.result.is_ok());
}

#[test]
fn nothing_follows_an_answer() {
    let drawn = draw("A-B");
    let whole = vec![
        announce(2),
        batch_of(&drawn, &["A", "B"]),
        end(&drawn, &["B"]),
    ];
    for extra in [batch_of(&drawn, &["A"]), end(&drawn, &["B"])] {
        for answer in [whole.clone(), vec![sync(SyncReply::Equal(Cursor::NONE))]] {
            let answer = [answer, vec![extra.clone()]].concat();
            assert!(out_of_place(&lied_to(&drawn, vec![answer]).0));
        }
    }
}

#[test]
fn answers_that_answer_something_else_are_refused() {
    let drawn = draw("A-B-C");
    let stored = ResponseHeader::encode(Ok(Reply::Stored(Stored {
        stored: 0,
        tips: TipDigest::of(&[]),
        missing: vec![],
        cursor: Cursor::NONE,
    })));
    let wants = vec![
        announce(2),
        batch_of(&drawn, &["A", "C"]),
        end(&drawn, &["C"]),
    ];
    for answers in [
        vec![vec![stored.clone()]],
        // The first request carries a filter where there is anything to sample.
        vec![vec![sync(SyncReply::SendFilter)]],
        // A peer that asks for entries by id is not equal.
        vec![wants, vec![sync(SyncReply::Equal(Cursor::NONE))]],
    ] {
        assert!(out_of_place(&lied_to(&drawn, answers).0));
    }
    // An acknowledgement is awaited, and tips are compared.
    let (mut a, mut b) = (drawn.replica(&["C"]), drawn.replica(&["B"]));
    let answers = vec![vec![announce(0), end(&drawn, &["B"])], vec![announce(0)]];
    assert!(out_of_place(
        &Link::new(&mut a, &mut b).tamper(script(answers)).run()
    ));
}

#[test]
fn a_peer_may_give_up_in_the_middle() {
    let drawn = draw("A-B-C");
    let frames = vec![
        announce(3),
        batch_of(&drawn, &["A", "B"]),
        Part::Failed(WireError::internal()).encode(),
    ];
    let (run, stored) = lied_to(&drawn, vec![frames]);
    assert_eq!(run.fault(), SyncFault::Refused(WireError::internal()));
    assert_eq!(stored, "A B");
}

/// Empty batches could follow each other for ever.
#[test]
fn an_empty_batch_is_refused() {
    let drawn = draw("A");
    let (run, _) = lied_to(&drawn, vec![vec![announce(1), batch([])]]);
    assert_eq!(
        run.fault(),
        PeerFault::BadBatch(BatchError::Malformed).into()
    );
}

#[test]
fn only_so_many_entries_wait() {
    let drawn = draw("A-B-C");
    let c = drawn.entry("C");
    let orphans: Vec<VerifiedEntry> = (0..=WAITING_ENTRIES_MAX as u64)
        .map(|n| {
            sign_on_top(
                Some(drawn.tree()),
                [&c],
                &key(0),
                n,
                Body::Data(Bytes::new()),
            )
        })
        .collect();
    let frames: Vec<Bytes> = [announce(orphans.len() as u32)]
        .into_iter()
        .chain(
            orphans
                .chunks(1_000)
                .map(|some| batch(some.iter().map(VerifiedEntry::get))),
        )
        .chain([end(&drawn, &["C"])])
        .collect();
    let (run, stored) = lied_to(&drawn, vec![frames]);
    assert_eq!(run.fault(), PeerFault::TooManyWaiting.into());
    assert_eq!(stored, "");
}

#[test]
fn a_forged_entry_is_refused_by_the_answerer_too() {
    let drawn = draw("A-B-C-D");
    let (mut a, mut b) = (drawn.replica(&["D"]), drawn.replica(&["A"]));
    let genuine = drawn.entry("D").into_inner();
    let forged = SignedEntry::from_parts(genuine.entry().clone(), &Signature::from_bytes([7; 64]));
    let pushed = [
        drawn.entry("B").into_inner(),
        drawn.entry("C").into_inner(),
        forged.expect("well formed"),
    ];
    // 0 SyncTree, 1 Entries, 2 end, 3 SendEntries, 4 batch.
    let forge = |_, number, frame| {
        if number == 4 {
            vec![batch(&pushed)]
        } else {
            vec![frame]
        }
    };
    let run = Link::new(&mut a, &mut b).tamper(forge).run();
    match run.fault() {
        SyncFault::Refused(error) => assert_eq!(error.code, ErrorCode::EntryRefused),
        other => panic!("{other:?}"),
    }
    assert_eq!(tips(&b), drawn.ids(&["C"]));
}

/// An author who signs wrongly on purpose, and proves it later, in another batch: a peer
/// that has both gives both, and a peer that gets both takes both.
#[test]
fn an_entry_that_the_next_batch_proves_is_taken() {
    let drawn = draw("A-B");
    let author = key(7);
    let sign = |parents: &[EntryId], height, text: &str| {
        let entry = Entry {
            tree: Some(drawn.tree()),
            parents: parents.to_vec(),
            height,
            timestamp_ms: 0,
            author: author.public(),
            body: Body::Data(text.as_bytes().to_vec().into()),
        };
        SignedEntry::sign(entry, &author).expect("well formed")
    };
    let genuine = sign(&drawn.ids(&["B"]), 2, "wrong");
    let wrong = SignedEntry::from_parts(genuine.entry().clone(), &Signature::from_bytes([7; 64]));
    let wrong = wrong.expect("well formed");
    let proof = sign(&[wrong.id()], 3, "right");
    let mut b = drawn.dag.clone();
    let both = verify_batch(vec![wrong.clone(), proof.clone()]).verified;
    assert_eq!(b.append(both).stored.len(), 2);
    let mut a = empty(&drawn);
    // 0 SyncTree, 1 Entries, 2 batch, 3 end.
    let own = [
        drawn.entry("A").into_inner(),
        drawn.entry("B").into_inner(),
        wrong,
    ];
    let split = |_, number, frame| match number {
        2 => vec![batch(&own), batch(std::slice::from_ref(&proof))],
        _ => vec![frame],
    };
    let run = Link::new(&mut a, &mut b).tamper(split).run();
    assert_eq!(run.report().outcome, SyncOutcome::Equal);
    assert_eq!(tips(&a), [proof.id()]);
}

/// Entries that come before their parents are kept by the server as well, and what it lacks at
/// the end it says.
#[test]
fn the_answerer_keeps_children_until_their_parents_come() {
    let drawn = draw("A-B-C-D");
    for (second, outcome, tip) in [
        ("B", SyncOutcome::Equal, "D"),
        ("D", SyncOutcome::PeerLacksParents, "A"),
    ] {
        let (mut a, mut b) = (drawn.replica(&["D"]), drawn.replica(&["A"]));
        let order = |_, number, frame| match number {
            4 => vec![batch_of(&drawn, &["D", "C"]), batch_of(&drawn, &[second])],
            _ => vec![frame],
        };
        let link = Link::new(&mut a, &mut b).named(&drawn).store_each_part();
        let report = link.tamper(order).run().report();
        assert_eq!(report.outcome, outcome);
        assert_eq!(tips(&b), drawn.ids(&[tip]));
    }
}

#[test]
fn a_filter_is_wished_for_once() {
    let drawn = draw("A-B");
    let (mut a, mut b) = (drawn.replica(&["B"]), drawn.replica(&["A"]));
    let options = SyncOptions {
        push: true,
        filter_at_once: false,
    };
    let wish = vec![sync(SyncReply::SendFilter)];
    let link = Link::new(&mut a, &mut b).options(options, SEED);
    let run = link.tamper(script(vec![wish.clone(), wish])).run();
    assert!(out_of_place(&run));
}
