//! Large entries, many entries, many tips.

use bytes::Bytes;
use eidetica_dag::testing::shapes::{build_with, sign_on_top};
use eidetica_dag::testing::{Random, dag_of, key, open_genesis};
use eidetica_dag::{
    Body, DagView, ENTRY_BYTES_MAX, MemoryDag, PARENTS_MAX, TreeId, VerifiedEntry, tip_ids,
};
use eidetica_proto::answer::answer_sync;
use eidetica_proto::batch::{BATCH_BYTES_TARGET, unpack};
use eidetica_proto::frame::FRAME_BYTES_MAX;
use eidetica_proto::message::{Part, Sample, SyncTree};
use eidetica_proto::testing::{LINK_LOG, Link, Way};
use eidetica_proto::tips::{TIPS_MAX, TipDigest, TipSet, TipSketch};
use eidetica_proto::{Filter, FilterBudget};
use eidetica_proto::{SyncOptions, SyncOutcome};

use crate::sync::{SEED, TIPS_FIRST, tips};

/// Bytes that do not compress.
fn noise(count: usize) -> Bytes {
    let mut random = Random::new(count as u64);
    (0..count).map(|_| random.next_u64() as u8).collect()
}

/// The largest entry there can be, with as many parents as there can be, goes into one frame.
#[test]
fn the_largest_entry_passes() {
    let root = sign_on_top(None, [], &key(0), 0, open_genesis("large"));
    let tree = TreeId::from_root(root.get().id());
    let fan: Vec<VerifiedEntry> = (0..PARENTS_MAX as u64)
        .map(|n| sign_on_top(Some(tree), [&root], &key(0), n, Body::Data(Bytes::new())))
        .collect();
    let bare = sign_on_top(
        Some(tree),
        &fan,
        &key(1),
        u64::MAX,
        Body::Data(Bytes::new()),
    );
    // The length of the payload takes two more bytes than that of an empty one.
    let room = ENTRY_BYTES_MAX - bare.get().encoded().len() - 2;
    let large = sign_on_top(Some(tree), &fan, &key(1), u64::MAX, Body::Data(noise(room)));
    assert_eq!(large.get().encoded().len(), ENTRY_BYTES_MAX);

    let all: Vec<VerifiedEntry> = [root].into_iter().chain(fan).chain([large]).collect();
    let mut b = dag_of(all);
    let mut a = MemoryDag::new(tree);
    let mut largest = 0;
    let measure = |_, _, frame: Bytes| {
        largest = largest.max(frame.len());
        vec![frame]
    };
    let run = Link::new(&mut a, &mut b).tamper(measure).run();
    assert_eq!(run.report().outcome, SyncOutcome::Equal);
    assert!(largest <= FRAME_BYTES_MAX && largest > ENTRY_BYTES_MAX - 1_000);
    assert_eq!(a.entry_count(), b.entry_count());
}

#[test]
fn batches_stay_within_their_limit() {
    let parents: Vec<Vec<u32>> = (0..1_500_u32)
        .map(|n| n.checked_sub(1).into_iter().collect())
        .collect();
    // Small ones, middling ones, and one in a hundred that does not fit beside any other.
    let size = |n: u32| match n % 100 {
        50 => BATCH_BYTES_TARGET,
        rest => rest as usize * 20,
    };
    let history = build_with(&parents, |n| n / 10 % 3, |n| noise(size(n)));
    let mut b = dag_of(history.clone());
    let tree = b.tree();
    let mut a = MemoryDag::new(tree);
    let mut batches = Vec::new();
    let listen = |way, number, frame: Bytes| {
        if way == Way::Answers
            && number > 1
            && let Ok(Part::Batch(batch)) = Part::decode(&frame)
        {
            batches.push(unpack(tree, batch).expect("a batch"));
        }
        vec![frame]
    };
    let run = Link::new(&mut a, &mut b).tamper(listen).run();
    assert_eq!(run.report().outcome, SyncOutcome::Equal);
    assert!(batches.len() > 15);
    for (index, batch) in batches.iter().enumerate() {
        let bytes: usize = batch.iter().map(|entry| entry.encoded().len()).sum();
        assert!(bytes <= BATCH_BYTES_TARGET || batch.len() == 1);
        // A batch ends only where the next entry has no room.
        if let Some(next) = batches.get(index + 1) {
            assert!(bytes + next[0].encoded().len() > BATCH_BYTES_TARGET);
        }
    }
    let sent: Vec<_> = batches.into_iter().flatten().collect();
    let wanted: Vec<_> = history.into_iter().map(VerifiedEntry::into_inner).collect();
    assert!(sent == wanted, "parents first, everything once");
}

fn fan(tips: usize) -> Vec<VerifiedEntry> {
    let parents: Vec<Vec<u32>> = (0..=tips)
        .map(|n| if n == 0 { vec![] } else { vec![0] })
        .collect();
    build_with(&parents, |_| 0, |n| n.to_le_bytes().to_vec().into())
}

/// A sketch that leaves tips out proves nothing: only the digest of all does.
#[test]
fn tips_beyond_the_limit_never_count_as_equal() {
    let all = fan(TIPS_MAX + 1);
    let mut by_id: Vec<VerifiedEntry> = all[1..].to_vec();
    by_id.sort_by_key(|entry| entry.get().id());
    let with = |kept: usize| {
        let mut dag = dag_of(vec![all[0].clone()]);
        dag.append(by_id[..kept].to_vec());
        dag
    };
    for (a, b, entries) in [
        (TIPS_MAX + 1, TIPS_MAX + 1, None),
        // A cannot name one more, and B must not tell it that they are equal.
        (TIPS_MAX + 1, TIPS_MAX, Some(0)),
        (TIPS_MAX, TIPS_MAX + 1, Some(1)),
    ] {
        let (a, b) = (with(a), with(b));
        let Ok(mut tips) = tip_ids(&a);
        let digest = TipDigest::of(&tips);
        tips.truncate(TIPS_MAX);
        let Ok(filter) = Filter::build(&a, SEED, FilterBudget::for_tips(tips.len()));
        let request = SyncTree {
            tree: a.tree(),
            tips: TipSet::Sketch(TipSketch::new(digest, &tips, SEED).0),
            sample: filter.map_or(Sample::None, Sample::Full),
            wants: vec![],
        };
        let answer = answer_sync(&b, LINK_LOG, &request).expect("an answer");
        assert_eq!(answer.entries.map(|entries| entries.entry_count()), entries);
    }
}

/// The bytes of a first request and of the answer beyond the entries, and the round trips.
fn costs(a: &mut MemoryDag, b: &mut MemoryDag) -> (u64, u64, u32, u64) {
    let run = Link::new(a, b).run();
    let report = run.report();
    assert_eq!(report.outcome, SyncOutcome::Equal);
    let stats = report.stats;
    (
        stats.request_bytes,
        stats.response_bytes,
        stats.pull_round_trips,
        stats.redundant,
    )
}

fn chains(count: usize, forked: std::ops::Range<usize>) -> (MemoryDag, MemoryDag) {
    // A root, chains of five, and one more entry of each side on some of them.
    let mut parents: Vec<Vec<u32>> = vec![vec![]];
    for step in 0..5 {
        for chain in 0..count {
            let above = if step == 0 { 0 } else { parents.len() - count };
            debug_assert!(chain < count);
            parents.push(vec![above as u32]);
        }
    }
    let shared = parents.len();
    for chain in forked.clone() {
        let tip = (shared - count + chain) as u32;
        parents.extend([vec![tip], vec![tip]]);
    }
    let entries = build_with(&parents, |n| n % 2, |n| n.to_le_bytes().to_vec().into());
    let side = |odd: usize| {
        let own = entries[shared..].iter().skip(odd).step_by(2);
        dag_of(entries[..shared].iter().chain(own).cloned().collect())
    };
    (side(0), side(1))
}

#[test]
fn a_thousand_tips_that_differ_little_take_one_small_request() {
    let (mut a, mut b) = chains(1_000, 0..20);
    let (request, response, rounds, redundant) = costs(&mut a, &mut b);
    assert!(request + response < 12_000, "{request} + {response} bytes");
    assert_eq!(rounds, 1);
    assert!(redundant <= 32, "{redundant} redundant");
    // Equal ones take a digest.
    let run = Link::new(&mut a, &mut b).options(TIPS_FIRST, SEED).run();
    let stats = run.report().stats;
    assert!(
        stats.request_bytes <= 120 && stats.response_bytes <= 120,
        "{stats:?}"
    );
}

#[test]
fn a_thousand_forked_chains_take_two_round_trips_at_most() {
    let (mut a, mut b) = chains(1_000, 0..1_000);
    let (_, _, rounds, redundant) = costs(&mut a, &mut b);
    assert!(rounds <= 2, "{rounds} round trips");
    assert!(redundant <= 62, "{redundant} redundant");
}

#[test]
fn more_tips_than_a_list_takes_become_equal() {
    let all = fan(TIPS_MAX + 2);
    let mut a = dag_of(all[..all.len() - 1].to_vec());
    let mut b = dag_of(vec![all[0].clone()]);
    b.append(all[2..].to_vec());
    for options in [SyncOptions::default(), TIPS_FIRST] {
        let report = Link::new(&mut a, &mut b)
            .options(options, SEED)
            .run()
            .report();
        assert_eq!(report.outcome, SyncOutcome::Equal);
        assert_eq!(tips(&a), tips(&b));
    }
}
