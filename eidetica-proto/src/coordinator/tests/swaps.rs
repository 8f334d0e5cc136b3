//! When address records are swapped, and with which peers.

use super::super::*;
use super::sim::{Mode, Sim};
use super::{peer, tree};

/// Swaps since a time: with which peer, of which tree.
fn swaps(sim: &Sim, from_ms: u64) -> Vec<(PeerId, TreeId)> {
    let since = sim.log.iter().filter(|(at_ms, _)| *at_ms >= from_ms);
    let swaps = since.filter_map(|(_, action)| match action {
        Action::Swap { peer, tree } => Some((*peer, *tree)),
        _ => None,
    });
    swaps.collect()
}

fn ascending(mut trees: Vec<TreeId>) -> Vec<TreeId> {
    trees.sort();
    trees
}

#[test]
fn few_trees_are_swapped_once_and_then_twice_an_hour() {
    for trees in [1, 16] {
        let mut sim = Sim::new(Options::default(), 1);
        sim.with_peers([1], 0..trees);
        sim.run_for(60_000);
        let first = swaps(&sim, 0);
        assert_eq!(first.len(), trees as usize);
        sim.run_for(10 * 3_600_000);
        for swapped in first {
            let again = swaps(&sim, 60_000).into_iter();
            let count = again.filter(|it| *it == swapped).count();
            assert!((18..=27).contains(&count), "{count} of {trees}");
        }
    }
}

#[test]
fn many_trees_are_swapped_some_at_a_time_and_all_in_the_end() {
    let mut sim = Sim::new(Options::default(), 2);
    sim.with_peers([1], 0..40);
    sim.run_for(60_000);
    let all = ascending((0..40).map(tree).collect());
    let first: Vec<TreeId> = swaps(&sim, 0).into_iter().map(|(_, tree)| tree).collect();
    assert_eq!(first, all[..16]);
    sim.run_for(3 * 1_900_000);
    let mut swapped: Vec<TreeId> = swaps(&sim, 0).into_iter().map(|(_, tree)| tree).collect();
    swapped.sort();
    swapped.dedup();
    assert_eq!(swapped, all);
}

#[test]
fn other_addresses_are_told_after_the_next_check() {
    let mut sim = Sim::new(Options::default(), 3);
    sim.with_peers([1, 2], [0]);
    sim.run_for(60_000);
    let before_ms = sim.now_ms;
    sim.coordinator.handle_addresses_changed();
    sim.coordinator.handle_network_changed(before_ms);
    sim.run_for(100);
    assert_eq!(swaps(&sim, before_ms).len(), 2);
}

#[test]
fn others_are_asked_for_a_peer_that_cannot_be_reached() {
    let mut sim = Sim::new(Options::default(), 4);
    sim.with_peers([1, 2, 3], [0]);
    sim.with_peers([4], [1]);
    sim.run_for(60_000);
    sim.at(3).mode = Mode::Down;
    let before_ms = sim.now_ms;
    sim.write(0);
    sim.run_for(100);
    let mut asked = swaps(&sim, before_ms);
    asked.sort();
    let mut expected = [(peer(1), tree(0)), (peer(2), tree(0))];
    expected.sort();
    assert_eq!(asked, expected);
    // As often as the peer itself is tried, and not at all once it is back.
    sim.run_for(3_600_000);
    let count = swaps(&sim, before_ms).len();
    assert!((30..=80).contains(&count), "{count}");
}

#[test]
fn swaps_with_many_peers_are_bounded_and_no_peer_is_asked_twice_at_once() {
    let mut coordinator = Coordinator::new(Options::default(), 5);
    let cursor = PeerCursor::new(b"here").expect("short");
    for number in 0..100 {
        for of in 0..20 {
            coordinator
                .handle_follow(peer(number), tree(of), FollowOptions::default(), 1, 0)
                .expect("there is room");
        }
    }
    let mut under_way: Vec<PeerId> = Vec::new();
    let mut count = 0;
    for now_ms in 0..20_000 {
        while let Some(action) = coordinator.poll_action(now_ms) {
            match action {
                Action::Check { id, trees, .. } => {
                    let equal = CheckAnswer::Equal { settled: 1, cursor };
                    let checked = Outcome::Checked(vec![equal; trees.len()]);
                    coordinator.handle_ended(id, checked, now_ms);
                }
                Action::Swap { peer, .. } => {
                    assert!(!under_way.contains(&peer), "one at a time");
                    under_way.push(peer);
                    count += 1;
                    assert!(under_way.len() <= 16);
                }
                _ => {}
            }
        }
        if let Some(done) = under_way.pop() {
            coordinator.handle_swapped(done, now_ms);
        }
    }
    assert_eq!(count, 100 * 16);
}
