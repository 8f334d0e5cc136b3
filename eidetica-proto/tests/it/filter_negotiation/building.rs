//! What is put into a filter, and at what cost.

use eidetica_dag::DagView;
use eidetica_proto::filter::FILTER_ENTRIES_MAX;
use eidetica_proto::{Filter, FilterBudget};
use proptest::prelude::*;

use crate::filter_negotiation::shapes;
use crate::filter_negotiation::world::{Replica, Rng, World};

const SEED: [u8; 8] = *b"any seed";

fn everything(world: &World) -> Replica<'_> {
    Replica::new(world, (0..world.len()).collect())
}

fn build(view: &Replica<'_>, budget: FilterBudget) -> Filter {
    let Ok(filter) = Filter::build(view, SEED, budget);
    filter.expect("not empty")
}

fn built(view: &Replica<'_>) -> Filter {
    let Ok(tips) = view.tips();
    build(view, FilterBudget::for_tips(tips.len()))
}

/// Returns how many entries, the root not counted, the filter says are there.
fn known(view: &Replica<'_>, filter: &Filter) -> usize {
    let matcher = filter.matcher().expect("a valid filter");
    let nodes = (1..view.entry_count()).map(|at| {
        let Ok(node) = view.node(eidetica_dag::Arrival(at));
        node
    });
    nodes
        .filter(|node| matcher.contains(&node.id, node.height))
        .count()
}

fn line(length: usize) -> World {
    let mut world = World::default();
    let root = world.add(&[]);
    world.chain(root, length);
    world
}

#[test]
fn there_is_nothing_to_say_of_an_empty_tree() {
    let world = World::default();
    let Ok(filter) = Filter::build(&everything(&world), SEED, FilterBudget::for_tips(0));
    assert_eq!(filter, None);
}

#[test]
fn of_a_lone_root_the_filter_holds_nothing() {
    let world = line(0);
    let filter = built(&everything(&world));
    assert_eq!(filter.entry_count(), 0);
    assert!(filter.matcher().is_ok());
}

#[test]
fn a_short_history_fits_whole() {
    let world = line(200);
    let replica = everything(&world);
    let filter = built(&replica);
    // All but the root, which needs no fingerprint, and the tip, which is named beside the filter.
    assert_eq!(filter.entry_count(), 199);
    assert_eq!(known(&replica, &filter), 199);
}

#[test]
fn the_cost_does_not_grow_with_the_history() {
    let visits = [10_000, 100_000].map(|length| {
        let world = line(length);
        let replica = everything(&world);
        let filter = built(&replica);
        assert!(filter.entry_count() > 230, "{}", filter.entry_count());
        replica.visits.get()
    });
    assert!(visits[1] <= visits[0], "{visits:?} entries read");
    assert!(visits[0] < 1_000, "{visits:?} entries read");
}

#[test]
fn thousands_of_tips_stay_within_the_limits() {
    let mut world = World::default();
    let root = world.add(&[]);
    let mut rng = Rng(1);
    for _ in 0..5_000 {
        let length = 1 + rng.below(20);
        world.chain(root, length);
    }
    let replica = everything(&world);
    let filter = built(&replica);
    let entries = filter.entry_count() as usize;
    assert!((FILTER_ENTRIES_MAX / 2..=FILTER_ENTRIES_MAX).contains(&entries));
    assert!(filter.encoded_bytes() < 52 * 1_024);
    assert!(known(&replica, &filter) >= entries);
}

/// Filters of fixed trees under a fixed seed. A change of these bytes is a change of the protocol.
#[test]
fn golden_vectors() {
    let budget = FilterBudget {
        entries: 12,
        bytes: 100,
    };
    let line = line(300);
    let few_tips = build(&everything(&line), budget);
    let chains = shapes::all_forked(&mut Rng(1), 20);
    let many_tips = build(&everything(&chains.world), budget);
    let hex = |filter: &Filter| {
        let bytes = postcard::to_allocvec(filter).expect("encodable");
        data_encoding::HEXLOWER.encode(&bytes)
    };
    assert_eq!(
        hex(&few_tips),
        "616e79207365656401ac02300c101aa477cac357710dc4fd06b972db32efecedf0797bc7f76b834078"
    );
    assert_eq!(
        hex(&many_tips),
        "616e792073656564013fffffffff0f0c152209a5a47334b4c59784f5a75c922700d527c7639134ba8ecc99173334bc36a0cf2b20"
    );
}

/// Trees in which every entry has up to three of the last `reach` entries as parents.
fn any_world() -> impl Strategy<Value = World> {
    (1..600_usize, 1..60_usize, any::<u64>()).prop_map(|(count, reach, seed)| {
        let (mut world, mut rng) = (World::default(), Rng(seed));
        world.add(&[]);
        while world.len() < count {
            let parents = 1 + rng.below(3);
            let parent = |_| world.len() - 1 - rng.below(reach.min(world.len()));
            let mut parents: Vec<usize> = (0..parents).map(parent).collect();
            parents.sort_unstable();
            parents.dedup();
            world.add(&parents);
        }
        world
    })
}

proptest! {
    #[test]
    fn a_filter_keeps_within_its_budget_and_says_no_less_than_it_holds(
        world in any_world(),
        entries in 0..300_usize,
        bytes in 60..700_usize,
    ) {
        let replica = everything(&world);
        let filter = build(&replica, FilterBudget { entries, bytes });
        let count = filter.entry_count() as usize;
        prop_assert!(count <= entries);
        prop_assert!(filter.encoded_bytes() <= bytes);
        // Whatever is in the filter is also tried; an accident or two may add to it.
        prop_assert!(known(&replica, &filter) >= count);
    }
}
