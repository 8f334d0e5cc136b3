//! No peer and no tree waits for others that are slow, absent or many.

use super::super::*;
use super::sim::{Mode, Sim};
use super::{peer, tree};

fn quiet(seed: u64) -> Sim {
    Sim::new(Options::default(), seed)
}

/// When the last of these came to its peer, after the first was written.
fn slowest(sim: &Sim, written: &[(u32, u64, u64)]) -> u64 {
    let late = written.iter().map(|(of, entry, at_ms)| {
        let came_ms = sim.delivered.get(&(*of, *entry));
        came_ms.unwrap_or_else(|| panic!("peer {of} lacks {entry}")) - at_ms
    });
    late.max().expect("some were written")
}

#[test]
fn a_suspended_peer_with_a_thousand_trees_delays_no_other() {
    let mut sim = quiet(1);
    sim.with_peers([1], 0..1_000);
    sim.with_peers([2], [5_000]);
    sim.run_for(2_000);
    assert!(sim.is_in_sync(1, 999) && sim.is_in_sync(2, 5_000));
    sim.at(1).mode = Mode::Suspended;
    (0..1_000).for_each(|of| {
        sim.write(of);
    });
    let mut written = Vec::new();
    for _ in 0..100 {
        written.push((2, sim.write(5_000), sim.now_ms));
        sim.run_for(37);
    }
    sim.run_for(1_000);
    // One exchange takes 10 ms, and one may just run.
    assert!(slowest(&sim, &written) <= 20);
    // It is probed for now and then, and all is there once it is back.
    sim.at(1).mode = Mode::Up;
    sim.coordinator.handle_heard(peer(1), sim.now_ms);
    sim.run_for(70_000);
    assert!((0..1_000).all(|of| sim.is_in_sync(1, of)));
}

#[test]
fn many_peers_that_fall_silent_together_leave_places_for_others() {
    let mut sim = quiet(2);
    sim.with_peers(0..100, 0..8);
    sim.with_peers([500], [5_000]);
    sim.run_for(5_000);
    (0..100).for_each(|of| sim.at(of).mode = Mode::Suspended);
    (0..8).for_each(|of| {
        sim.write(of);
    });
    // A hundred have something due, and 64 and then 32 at a time are found to be mute.
    sim.run_for(3 * MUTE_AFTER_MS);
    let mut written = Vec::new();
    for _ in 0..50 {
        written.push((500, sim.write(5_000), sim.now_ms));
        sim.run_for(531);
    }
    assert!(slowest(&sim, &written) <= 20);
}

#[test]
fn first_contact_with_many_silent_peers_leaves_places_for_others() {
    let mut sim = quiet(3);
    sim.with_peers(0..500, [0]);
    (0..500).for_each(|of| sim.at(of).mode = Mode::Suspended);
    sim.with_peers([900], [1]);
    sim.run_for(40_000);
    let mut written = Vec::new();
    for _ in 0..50 {
        written.push((900, sim.write(1), sim.now_ms));
        sim.run_for(1_009);
    }
    assert!(slowest(&sim, &written) <= 20);
}

#[test]
fn no_peer_of_two_hundred_waits_under_thirty_writes_a_second() {
    let mut sim = quiet(4);
    sim.with_peers(0..200, [0]);
    // From a peer beside this one to one across the world.
    (0..200).for_each(|of| sim.at(of).latency_ms = 2 + u64::from(of) / 2);
    sim.run_for(3_000);
    let mut written = Vec::new();
    for _ in 0..300 {
        let (entry, now_ms) = (sim.write(0), sim.now_ms);
        written.extend((0..200).map(|of| (of, entry, now_ms)));
        sim.run_for(33);
    }
    sim.run_for(2_000);
    assert!(
        slowest(&sim, &written) <= 2_000,
        "{}",
        slowest(&sim, &written)
    );
    assert_eq!(sim.redundant, 0);
}

#[test]
fn five_hundred_absent_trees_cost_one_check_and_not_one_exchange_each() {
    let mut sim = quiet(5);
    sim.with_peers([1], 0..1);
    (1..501).for_each(|of| {
        sim.share(1, of);
        sim.at(1).trees.remove(&tree(of));
    });
    sim.run_for(40_000);
    assert_eq!(sim.status(1, 250), LaneStatus::WaitingForAccess);
    let before_ms = sim.now_ms;
    sim.write(0);
    sim.run_for(1_000);
    assert!(sim.begun(before_ms) <= 3, "{}", sim.begun(before_ms));
    assert_eq!(sim.coordinator.reached(peer(1), tree(0)), Some(2));
    // In an hour of nothing: a check of all each minute, and one of the absent ones between.
    let before_ms = sim.now_ms;
    sim.run_for(3_600_000);
    assert!(sim.begun(before_ms) <= 4 * 60, "{}", sim.begun(before_ms));
}

#[test]
fn writes_to_a_tree_that_the_peer_lacks_cost_a_check_a_second() {
    let mut sim = quiet(6);
    sim.with_peers([1], [0]);
    sim.at(1).trees.remove(&tree(0));
    sim.run_for(1_000);
    let before_ms = sim.now_ms;
    for _ in 0..300 {
        sim.write(0);
        sim.run_for(33);
    }
    assert!(sim.begun(before_ms) <= 11, "{}", sim.begun(before_ms));
}

#[test]
fn twenty_thousand_trees_written_at_once_are_pushed_in_linear_work() {
    let mut work_per_tree = Vec::new();
    for trees in [5_000, 20_000] {
        let mut sim = quiet(7);
        sim.with_peers([1], 0..trees);
        sim.run_for(5_000);
        let (before_ms, before) = (sim.now_ms, sim.coordinator.work);
        let written: Vec<_> = (0..trees).map(|of| (1, sim.write(of), before_ms)).collect();
        // Six at a time, each of 2 ms.
        sim.at(1).latency_ms = 1;
        sim.run_for(14_000);
        assert!(slowest(&sim, &written) <= 14_000);
        assert!((0..trees).all(|of| sim.is_in_sync(1, of)));
        let pushes = sim.count(before_ms, |it| matches!(it, Action::Push { .. }));
        assert_eq!(pushes, trees as usize);
        assert_eq!(sim.redundant, 0);
        work_per_tree.push((sim.coordinator.work - before) / u64::from(trees));
    }
    assert!(
        work_per_tree[1] <= work_per_tree[0] * 5 / 4,
        "{work_per_tree:?}"
    );
}

#[test]
fn five_thousand_idle_trees_cost_one_check_a_minute() {
    let mut sim = quiet(8);
    sim.with_peers([1], 0..5_000);
    sim.run_for(10_000);
    let before_ms = sim.now_ms;
    sim.run_for(600_000);
    let begun = sim.begun(before_ms);
    assert!((8..=13).contains(&begun), "{begun}");
    assert!(
        sim.log
            .iter()
            .all(|(_, it)| !matches!(it, Action::Sync { .. }))
    );
    // And a write to one is there at once.
    let written = [(1, sim.write(77), sim.now_ms)];
    sim.run_for(1_000);
    assert_eq!(slowest(&sim, &written), 10);
}

#[test]
fn checks_of_clients_that_began_together_do_not_come_together() {
    let mut times: Vec<u64> = (0..1_000)
        .map(|seed| {
            let mut sim = quiet(seed);
            sim.with_peers([1], [0]);
            sim.run_for(100_000);
            let is_check = |(_, it): &&(u64, Action)| matches!(it, Action::Check { .. });
            sim.log
                .iter()
                .filter(is_check)
                .nth(1)
                .expect("a second check")
                .0
        })
        .collect();
    times.sort_unstable();
    // Evenly over half a minute: no second has more than twice its share.
    assert!(
        times[0] < 46_000 && times[999] > 74_000,
        "{} {}",
        times[0],
        times[999]
    );
    let most = (0..times.len()).map(|at| {
        let until = times[at] + 1_000;
        times[at..].iter().take_while(|it| **it < until).count()
    });
    assert!(most.max() <= Some(67));
}

#[test]
fn a_hub_writes_once_for_all_that_watch_it() {
    let mut sim = quiet(9);
    sim.with_peers(0..300, [0]);
    sim.run_for(2_000);
    (0..300).for_each(|of| sim.watch_us(of, u64::from(of), &[0]));
    sim.run_for(100);
    let (before_ms, before) = (sim.now_ms, sim.coordinator.work);
    let entry = sim.write(0);
    assert_eq!(sim.coordinator.poll_action(before_ms), None);
    assert!(sim.coordinator.work - before < 20);
    sim.run_for(1_000);
    assert_eq!(sim.begun(before_ms), 0);
    assert!((0..300).all(|of| sim.delivered.contains_key(&(of, entry))));
}
