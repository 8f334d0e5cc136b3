//! Random appends on both sides, cuts at random frames, and restarts with the cursor reached.

use std::collections::BTreeMap;

use eidetica_dag::testing::{Shape, build, dag_of};
use eidetica_dag::{DagView, EntryId, VerifiedEntry};
use eidetica_proto::testing::{LINK_LOG, MemoryTrees, WatchLink};
use proptest::prelude::*;

use crate::{START_MS, end_of, entries};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The watcher never skips an entry: it ends with everything that the answerer has.
    #[test]
    fn a_watcher_ends_with_all_that_the_answerer_has(
        shape in proptest::sample::select(Shape::ALL.to_vec()),
        seed in any::<u64>(),
        steps in proptest::collection::vec((0..6_usize, 0..6_usize, 0..4_usize, any::<bool>()), 1..12),
    ) {
        let all = build(&shape.parents(60, seed));
        let start = dag_of(all[..1].to_vec());
        let tree = start.tree();
        let asker = eidetica_dag::testing::key(9).public();
        let (mut a, mut b) = (MemoryTrees::new([start.clone()]), MemoryTrees::new([start.clone()]));
        let mut link = WatchLink::open([(tree, end_of(&start))], Some(asker), LINK_LOG, START_MS);
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
                link.append_at_b(&mut b, tree, part, Some(asker));
            }
            for _ in 0..frames {
                let Some(frame) = link.poll_frame(&b) else { break };
                link.deliver(&mut a, &frame).expect("B is honest");
            }
            if is_cut {
                let lost = link.poll_frame(&b);
                drop(lost);
                let cursors: BTreeMap<_, _> = link.cursors.clone();
                prop_assert_eq!(cursors.len(), 1, "an honest answerer sends no one to compare");
                let origins = link.origins.clone();
                link = WatchLink::open(cursors, Some(asker), LINK_LOG, START_MS);
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
