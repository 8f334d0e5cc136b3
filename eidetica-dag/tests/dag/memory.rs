//! The tree in memory, and how it is at each moment.

use eidetica_dag::testing::{Oracle, Random, Shape, Skeleton, build, dag_of};
use eidetica_dag::{
    CHECKPOINT_INTERVAL, DagView, EntryView, LANDMARK_INTERVAL, MemoryDag, tip_ids,
};

#[test]
fn every_prefix_is_what_the_tree_was() {
    for shape in Shape::ALL {
        let entries = build(&shape.parents(60, 2));
        let whole = dag_of(entries.clone());
        let mut growing = MemoryDag::new(whole.tree());
        for (index, entry) in entries.into_iter().enumerate() {
            growing.append(vec![entry]);
            let prefix = growing.prefix();
            assert_eq!(prefix.entry_count, index as u32 + 1);
            let Ok(expected) = growing.tips();
            assert!(prefix.tips.iter().eq(expected.iter().map(|tip| tip.0)));
            assert_eq!(prefix.access_count, 1);
            let Ok(tips) = tip_ids(&growing);
            let expected: Vec<_> = Oracle::of(&growing).tips().into_iter().collect();
            assert_eq!(tips, expected, "{shape:?}");
        }
    }
}

#[test]
fn checkpoints_are_the_tips_of_their_moment() {
    let count = 3 * CHECKPOINT_INTERVAL + 7;
    let entries = build(&Shape::Wide.parents(count, 3));
    // Batches that end before, at and after checkpoints.
    let mut dag = MemoryDag::new(entries[0].get().tree());
    let mut at_checkpoints = Vec::new();
    let mut random = Random::new(3);
    let mut left = entries.into_iter().peekable();
    while left.peek().is_some() {
        let until_checkpoint = CHECKPOINT_INTERVAL - dag.entry_count() % CHECKPOINT_INTERVAL;
        let most = if random.one_in(2) {
            until_checkpoint
        } else {
            until_checkpoint.min(random.below(200) + 1)
        };
        dag.append(left.by_ref().take(most as usize).collect());
        if dag.entry_count().is_multiple_of(CHECKPOINT_INTERVAL) {
            at_checkpoints.push(dag.prefix().tips);
        }
    }
    assert_eq!(at_checkpoints.len(), 3);
    for (index, tips) in (1..).zip(at_checkpoints) {
        let Ok(found) = dag.checkpoint(index * CHECKPOINT_INTERVAL);
        assert!(tips.iter().eq(found.iter().map(|tip| tip.0)));
    }
}

#[test]
fn a_batch_makes_the_same_tree_as_single_entries() {
    let entries = build(&Shape::Braided.parents(1_100, 4));
    let at_once = dag_of(entries.clone());
    let mut one_by_one = MemoryDag::new(at_once.tree());
    for entry in entries {
        one_by_one.append(vec![entry]);
    }
    assert_eq!(at_once.tips(), one_by_one.tips());
    for stored in [1, 2].map(|index| index * CHECKPOINT_INTERVAL) {
        assert_eq!(at_once.checkpoint(stored), one_by_one.checkpoint(stored));
    }
    for height in (0..1_100).step_by(LANDMARK_INTERVAL as usize) {
        let all = usize::MAX;
        assert_eq!(
            at_once.landmarks(height, all),
            one_by_one.landmarks(height, all)
        );
    }
}

#[test]
fn landmarks_come_in_the_order_of_arrival_up_to_a_limit() {
    let entries = build(&Shape::Wide.parents(1_600, 5));
    let dag = dag_of(entries.clone());
    let height = LANDMARK_INTERVAL;
    let at_height = entries.iter().map(|entry| entry.get());
    let at_height = at_height.filter(|entry| entry.entry().height == height);
    let ids: Vec<_> = at_height.map(|entry| entry.id()).collect();
    assert_eq!(ids.len(), 40);
    assert_eq!(dag.landmarks(height, usize::MAX), Ok(ids.clone()));
    assert_eq!(dag.landmarks(height, 3), Ok(ids[..3].to_vec()));
    assert_eq!(dag.landmarks(height * 100, 3), Ok(vec![]));
}

#[test]
fn entries_come_back_as_they_were() {
    let entries = build(&Shape::Random.parents(30, 6));
    let dag = dag_of(entries.clone());
    for entry in &entries {
        let Ok(at) = dag.arrival(&entry.get().id());
        let at = at.expect("it was stored");
        assert_eq!(dag.entry(at), Ok(entry.get().clone()));
        assert_eq!(dag.encoded(at), Ok(entry.get().encoded().clone()));
    }
}

/// The skeleton is held against a tree of real entries.
#[test]
fn skeletons_have_the_same_shape() {
    for shape in Shape::ALL {
        let parents = shape.parents(700, 7);
        let (dag, skeleton) = (dag_of(build(&parents)), Skeleton::new(&parents));
        assert_eq!(dag.entry_count(), skeleton.entry_count());
        assert_eq!(dag.tips(), skeleton.tips());
        assert_eq!(
            dag.checkpoint(CHECKPOINT_INTERVAL),
            skeleton.checkpoint(CHECKPOINT_INTERVAL)
        );
        for at in (0..700).map(eidetica_dag::Arrival) {
            let (Ok(real), Ok(bare)) = (dag.node(at), skeleton.node(at));
            assert_eq!((real.parents, real.height), (bare.parents, bare.height));
        }
        for height in (0..700).step_by(LANDMARK_INTERVAL as usize) {
            let (Ok(real), Ok(bare)) = (
                dag.landmarks(height, usize::MAX),
                skeleton.landmarks(height, usize::MAX),
            );
            assert_eq!(real.len(), bare.len());
        }
    }
}
