//! Random pairs of replicas of trees of every shape.

use std::collections::BTreeSet;

use bytes::Bytes;
use eidetica_dag::testing::shapes::sign_on_top;
use eidetica_dag::testing::{Oracle, Random, Shape, build, dag_of, key};
use eidetica_dag::{Arrival, Body, DagView, EntryId, MemoryDag, VerifiedEntry, check, walk};
use eidetica_proto::batch::unpack;
use eidetica_proto::message::Part;
use eidetica_proto::testing::{Broken, Link, Way};
use eidetica_proto::tips::TIPS_CHECKED_MAX;
use eidetica_proto::{SyncOptions, SyncOutcome};
use proptest::prelude::*;

use crate::sync::{TIPS_FIRST, tips, write};

/// A tree, and two replicas that have parts of it, each in its own order of arrival.
#[derive(Debug)]
struct Pair {
    a: MemoryDag,
    b: MemoryDag,
}

impl Pair {
    fn new(shape: Shape, size: u32, seed: u64) -> Self {
        let history = build(&shape.parents(size, seed));
        let whole = dag_of(history.clone());
        let mut random = Random::new(seed ^ 0xface);
        let mut part = || {
            let heads: Vec<Arrival> = (0..=random.below(4))
                .map(|_| Arrival(random.below(size)))
                .collect();
            let mut order: Vec<u32> = (0..size).collect();
            random.shuffle(&mut order);
            replica(&whole, &history, &heads, &order)
        };
        let (a, b) = (part(), part());
        Self { a, b }
    }

    fn union(&self) -> BTreeSet<EntryId> {
        &ids(&self.a) | &ids(&self.b)
    }
}

/// Stores the ancestors of `heads`, in an order that follows `order` as far as parents allow.
pub(crate) fn replica(
    whole: &MemoryDag,
    history: &[VerifiedEntry],
    heads: &[Arrival],
    order: &[u32],
) -> MemoryDag {
    let Ok(part) = walk::ancestors(whole, heads);
    let mut dag = MemoryDag::new(whole.tree());
    let mut left: Vec<VerifiedEntry> = order
        .iter()
        .filter(|at| part.contains(Arrival(**at)))
        .map(|at| history[*at as usize].clone())
        .collect();
    while !left.is_empty() {
        left = dag.append(left).waiting;
    }
    dag
}

pub(crate) fn ids(dag: &MemoryDag) -> BTreeSet<EntryId> {
    Oracle::of(dag).all()
}

fn shapes() -> impl Strategy<Value = Shape> {
    proptest::sample::select(Shape::ALL.to_vec())
}

fn options() -> impl Strategy<Value = SyncOptions> {
    proptest::sample::select(vec![SyncOptions::default(), TIPS_FIRST])
}

pub(crate) fn assert_whole(dag: &MemoryDag) {
    let Ok(problems) = check(dag, dag.tree(), |_| ());
    assert!(problems.is_empty(), "{problems:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// One sync makes both equal to the union, and its statistics are true.
    #[test]
    fn one_sync_makes_both_equal(
        shape in shapes(),
        size in 1..150_u32,
        seed in any::<u64>(),
        options in options(),
        filter_seed in any::<[u8; 8]>(),
    ) {
        let Pair { mut a, mut b } = Pair::new(shape, size, seed);
        let pair = Pair::new(shape, size, seed);
        let (had_a, had_b) = (ids(&a), ids(&b));
        let tree = a.tree();
        let mut to_a: Vec<EntryId> = Vec::new();
        let mut to_b: Vec<EntryId> = Vec::new();
        let listen = |way, _, frame: Bytes| {
            if let Ok(Part::Batch(batch)) = Part::decode(&frame)
                && let Ok(entries) = unpack(tree, batch)
            {
                let seen = if way == Way::Asks { &mut to_b } else { &mut to_a };
                seen.extend(entries.iter().map(|entry| entry.id()));
            }
            vec![frame]
        };
        let run = Link::new(&mut a, &mut b).options(options, filter_seed).tamper(listen).run();
        let report = run.report();
        prop_assert_eq!(report.outcome, SyncOutcome::Equal);
        prop_assert_eq!(ids(&a), pair.union());
        prop_assert_eq!(ids(&b), pair.union());
        prop_assert_eq!(tips(&a), tips(&b));
        assert_whole(&a);
        assert_whole(&b);

        let stats = report.stats;
        let redundant = to_a.iter().filter(|id| had_a.contains(*id)).count();
        prop_assert_eq!(stats.received, to_a.len() as u64);
        prop_assert_eq!(stats.redundant, redundant as u64);
        prop_assert_eq!(stats.stored, stats.received - stats.redundant);
        prop_assert_eq!(stats.sent, to_b.len() as u64);

        // A knows all of B's tips when it sends, so nothing goes there in vain.
        let lacking: BTreeSet<EntryId> = &had_a - &had_b;
        prop_assert_eq!(to_b.len(), lacking.len());
        prop_assert_eq!(to_b.into_iter().collect::<BTreeSet<_>>(), lacking);
        prop_assert_eq!(stats.peer_stored, stats.sent);
        // And the other way round.
        if tips(&pair.a).iter().all(|tip| had_b.contains(tip)) {
            prop_assert_eq!(stats.redundant, 0);
            // More than a few tips are compared by their digest first, if that is wished.
            let by_digest = !options.filter_at_once && tips(&pair.a).len() > TIPS_CHECKED_MAX;
            let equal = tips(&pair.a) == tips(&pair.b);
            let round_trips = if by_digest && !equal { 2 } else { 1 };
            prop_assert_eq!(stats.pull_round_trips, round_trips);
        }
    }

    /// A cut after any frame, with writing on both sides meanwhile, then one more sync.
    #[test]
    fn a_cut_anywhere_heals(
        shape in shapes(),
        size in 1..150_u32,
        seed in any::<u64>(),
        cut in 0..12_usize,
        delay in 0..3_usize,
        writes in any::<[bool; 12]>(),
    ) {
        let Pair { mut a, mut b } = Pair::new(shape, size, seed);
        let wanted = &ids(&a) | &ids(&b);
        let author = |dag: &mut MemoryDag, at: usize| {
            write(dag, &format!("{at}"));
        };
        let run = Link::new(&mut a, &mut b)
            .cut_after(cut)
            .outcome_delay(delay)
            .store_each_part()
            .between(|at, a, b| {
                if writes.get(at).is_some_and(|writes| *writes) {
                    author(if at % 2 == 0 { a } else { b }, at);
                }
            })
            .run();
        prop_assert!(matches!(run.result, Ok(_) | Err(Broken::Cut)), "{:?}", run.result);
        assert_whole(&a);
        assert_whole(&b);
        let report = Link::new(&mut a, &mut b).run().report();
        prop_assert_eq!(report.outcome, SyncOutcome::Equal);
        prop_assert_eq!(ids(&a), ids(&b));
        prop_assert!(ids(&a).is_superset(&wanted));
    }
}

/// Both sides have written since they last met, thousands of entries ago: still one round trip, and
/// hardly anything in vain.
#[test]
fn a_long_history_costs_nothing() {
    for shape in [
        Shape::Linear,
        Shape::Braided,
        Shape::UnevenDiamonds,
        Shape::Wide,
    ] {
        let history = build(&shape.parents(3_000, 1));
        let (mut a, mut b) = (dag_of(history.clone()), dag_of(history.clone()));
        let last = history.last().expect("not empty");
        for (dag, author) in [(&mut a, 20), (&mut b, 21)] {
            let mut on = last.clone();
            for n in 0..10 {
                let body = Body::Data(Bytes::from_static(b"more"));
                on = sign_on_top(Some(dag.tree()), [&on], &key(author), n, body);
                assert_eq!(dag.append(vec![on.clone()]).stored.len(), 1);
            }
        }
        let run = Link::new(&mut a, &mut b).run();
        let stats = run.report().stats;
        assert_eq!(stats.pull_round_trips, 1, "{shape:?}");
        assert_eq!((stats.stored, stats.sent), (10, 10), "{shape:?}");
        assert!(
            stats.redundant <= 32,
            "{shape:?}: {} in vain",
            stats.redundant
        );
        let few_tips = a.tips().is_ok_and(|tips| tips.len() <= 8);
        assert!(
            !few_tips || stats.request_bytes <= 800,
            "{shape:?}: {}",
            stats.request_bytes
        );
    }
}
