//! Random appends on both sides, cuts at random frames, and restarts with the cursor reached.

use std::collections::BTreeMap;
use std::ops::Range;

use eidetica_dag::testing::{Random, Shape, build, dag_of, key};
use eidetica_dag::{DagView, EntryId, PublicKey, VerifiedEntry};
use eidetica_proto::testing::{LINK_LOG, MemoryTrees, WatchLink};
use proptest::prelude::*;

use crate::live::{START_MS, end_of, entries};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The watcher never skips an entry: it ends with everything that the server has.
    #[test]
    fn a_watcher_ends_with_all_that_the_answerer_has(
        shape in proptest::sample::select(Shape::ALL.to_vec()),
        seed in any::<u64>(),
        steps in proptest::collection::vec((0..6_usize, 0..6_usize, 0..4_usize, any::<bool>()), 1..12),
    ) {
        let all = build(&shape.parents(60, seed));
        let start = dag_of(all[..1].to_vec());
        let tree = start.tree();
        let client = eidetica_dag::testing::key(9).public();
        let (mut a, mut b) = (MemoryTrees::new([start.clone()]), MemoryTrees::new([start.clone()]));
        let mut link = WatchLink::open([(tree, end_of(&start))], Some(client), LINK_LOG, START_MS);
        let (mut next, mut by_a) = (1, 0);
        for (at_b, pushed, frames, is_cut) in steps {
            // Others write at B, and A brings what it wrote itself.
            let part: Vec<VerifiedEntry> = all[next.min(60)..(next + at_b).min(60)].to_vec();
            next = (next + at_b).min(60);
            link.append_at_b(&mut b, tree, part, None);
            let part: Vec<VerifiedEntry> = all[next.min(60)..(next + pushed).min(60)].to_vec();
            let can_write = part.iter().all(|entry| {
                let parents = &entry.get().entry().parents;
                let known = |id: &EntryId| a.dag(tree).arrival(id).is_ok_and(|at| at.is_some());
                parents.iter().all(known)
            });
            if can_write && a.append(tree, part.clone()).waiting.is_empty() {
                next = (next + pushed).min(60);
                by_a += part.len();
                link.append_at_b(&mut b, tree, part, Some(client));
            }
            for _ in 0..frames {
                let Some(frame) = link.poll_frame(&b) else { break };
                link.deliver(&mut a, &frame).expect("B is honest");
            }
            if is_cut {
                let lost = link.poll_frame(&b);
                drop(lost);
                let cursors: BTreeMap<_, _> = link.cursors.clone();
                prop_assert_eq!(cursors.len(), 1, "an honest server sends no one to compare");
                let origins = link.origins.clone();
                link = WatchLink::open(cursors, Some(client), LINK_LOG, START_MS);
                link.origins = origins;
            }
        }
        link.run(&mut a, &b);
        let ids = |trees: &MemoryTrees| {
            let mut ids: Vec<EntryId> =
                entries(&trees.dag(tree), 0).iter().map(|entry| entry.get().id()).collect();
            ids.sort_unstable();
            ids
        };
        prop_assert_eq!(ids(&a), ids(&b));
        prop_assert_eq!(b.dag(tree).entry_count() as usize, next);
        prop_assert!(by_a <= next);
    }
}

/// An append at B that has begun and whose end is not told.
struct Append {
    stored: Option<Range<u32>>,
    by: Option<PublicKey>,
}

/// Appends run side by side: each is stored some time after it begins, and told some time after it is
/// stored, in any order. Whenever the watch is polled, it sends nothing back to the watcher, skips
/// nothing, and waits for nothing but appends that are not told.
#[test]
fn a_watch_between_storing_and_telling_sends_nothing_back() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let all = build(&Shape::ALL[seed as usize % Shape::ALL.len()].parents(40, seed));
        let start = dag_of(all[..1].to_vec());
        let tree = start.tree();
        let client = key(9).public();
        let (mut a, mut b) = (
            MemoryTrees::new([start.clone()]),
            MemoryTrees::new([start.clone()]),
        );
        let mut link = WatchLink::open([(tree, end_of(&start))], Some(client), LINK_LOG, START_MS);
        let (mut next, mut appends) = (1, Vec::<Append>::new());
        loop {
            let is_done = next == all.len() && appends.is_empty();
            match random.below(8) {
                0 | 1 if next < all.len() && appends.len() < 4 => {
                    let count = b.dag(tree).entry_count();
                    link.origins.handle_append(tree, count);
                    let by = (random.below(2) == 0).then_some(client);
                    appends.push(Append { stored: None, by });
                }
                2..=4 if !appends.is_empty() => {
                    let number = random.below(appends.len() as u32) as usize;
                    let append = &mut appends[number];
                    let end = (next + 1 + random.below(3) as usize).min(all.len());
                    let part = all[next..end].to_vec();
                    // What the client brings, it has; an append that stores nothing fails.
                    let can_store = append.by.is_none() || {
                        let known =
                            |id: &EntryId| a.dag(tree).arrival(id).is_ok_and(|at| at.is_some());
                        let ids: Vec<EntryId> = part.iter().map(|it| it.get().id()).collect();
                        part.iter().all(|entry| {
                            let mut parents = entry.get().entry().parents.iter();
                            parents.all(|parent| known(parent) || ids.contains(parent))
                        })
                    };
                    if append.stored.is_none() && can_store {
                        if append.by.is_some() {
                            a.append(tree, part.clone());
                        }
                        append.stored = Some(b.append(tree, part).stored);
                        next = end;
                    }
                }
                5 | 6 if !appends.is_empty() => {
                    let number = random.below(appends.len() as u32) as usize;
                    let Append { stored, by } = appends.swap_remove(number);
                    let stored = stored.map(|arrivals| (arrivals, by));
                    link.origins.handle_append_ended(tree, stored);
                    link.server.handle_changed(tree);
                }
                _ => link.run(&mut a, &b),
            }
            let untold = appends.iter().filter_map(|it| it.stored.as_ref());
            let count = b.dag(tree).entry_count();
            let passable = untold.map(|it| it.start).min().unwrap_or(count);
            assert_eq!(link.origins.passable(tree, count), passable, "seed {seed}");
            if is_done || random.below(4) == 0 {
                link.run(&mut a, &b);
                let sent = &entries(&b.dag(tree), 0)[..passable as usize];
                let arrived = |id: &EntryId| a.dag(tree).arrival(id).expect("in memory").is_some();
                assert!(sent.iter().all(|it| arrived(&it.get().id())), "seed {seed}");
            }
            assert_eq!(link.redundant, 0, "seed {seed}: sent back");
            if is_done {
                break;
            }
        }
        assert_eq!(a.dag(tree).entry_count() as usize, all.len(), "seed {seed}");
    }
}
