//! Trees that a peer lacks or does not show, and that its watch announces.

use super::super::*;
use super::sim::Sim;
use super::{peer, tree};

fn is_sync(action: &Action) -> bool {
    matches!(action, Action::Sync { .. })
}

fn is_watch(action: &Action) -> bool {
    matches!(action, Action::Watch { .. })
}

fn last_watch(sim: &Sim) -> (ExchangeId, Vec<(TreeId, PeerCursor)>) {
    let watch = sim.log.iter().rev().find_map(|(_, action)| match action {
        Action::Watch { id, trees, .. } => Some((*id, trees.clone())),
        _ => None,
    });
    watch.expect("one was opened")
}

/// A peer that has tree 0 and lacks tree 1, at rest.
fn lacks_one() -> Sim {
    let mut sim = Sim::new(Options::default(), 1);
    sim.with_peers(1..2, 0..1);
    sim.follow(1, 1, FollowOptions::default());
    sim.run_for(600_000);
    assert_eq!(sim.status(1, 1), LaneStatus::WaitingForAccess);
    sim
}

#[test]
fn an_absent_tree_is_part_of_the_watch_and_its_checks_do_not_open_it_anew() {
    let sim = lacks_one();
    let (_, trees) = last_watch(&sim);
    assert_eq!(trees.len(), 2);
    for (of, cursor) in trees {
        assert_eq!(cursor == PeerCursor::NONE, of == tree(1));
    }
    // One when the first tree was equal, at most one more for the other.
    assert!(sim.count(0, is_watch) <= 2);
    // Nothing but checks in ten minutes.
    assert_eq!(sim.count(0, is_sync), 0);
}

#[test]
fn a_watch_of_absent_trees_alone_is_opened() {
    let mut sim = Sim::new(Options::default(), 1);
    sim.add_peer(1);
    sim.follow(1, 1, FollowOptions::default());
    sim.run_for(1_000);
    assert_eq!(last_watch(&sim).1, [(tree(1), PeerCursor::NONE)]);
}

#[test]
fn a_lane_that_only_pushes_awaits_nothing() {
    let mut sim = Sim::new(Options::default(), 1);
    sim.add_peer(1);
    let pushes = FollowOptions {
        pull: false,
        ..FollowOptions::default()
    };
    sim.follow(1, 1, pushes);
    sim.run_for(100_000);
    assert_eq!(sim.count(0, is_watch), 0);
}

#[test]
fn an_announced_tree_is_compared_at_once_and_then_watched() {
    let mut sim = lacks_one();
    let from_ms = sim.now_ms;
    sim.peer_writes(1, 1);
    // One way for the frame, and there and back for the comparison.
    sim.run_for(15);
    assert!(sim.is_in_sync(1, 1));
    assert_eq!(sim.count(from_ms, is_sync), 1);
    sim.run_for(1_000);
    assert_eq!(sim.count(from_ms, is_watch), 1);
    assert!(last_watch(&sim).1.iter().all(|it| it.1 != PeerCursor::NONE));
    let from_ms = sim.now_ms;
    sim.peer_writes(1, 1);
    sim.run_for(5);
    assert_eq!(sim.head(1), 2, "the watch brings its news");
    assert_eq!(sim.begun(from_ms), 0);
}

/// A tree that is revoked and granted again is found again without a wait.
#[test]
fn a_tree_that_is_gone_is_awaited() {
    let mut sim = lacks_one();
    let gone = sim.at(1).trees.remove(&tree(0)).expect("it is there");
    let (id, _) = last_watch(&sim);
    sim.coordinator.handle_gone(id, tree(0), sim.now_ms);
    sim.run_for(1_000);
    assert_eq!(sim.status(1, 0), LaneStatus::WaitingForAccess);
    assert!(last_watch(&sim).1.iter().all(|it| it.1 == PeerCursor::NONE));
    sim.at(1).trees.insert(tree(0), gone);
    sim.peer_writes(1, 0);
    sim.run_for(15);
    assert!(sim.is_in_sync(1, 0));
}

#[test]
fn a_peer_that_lies_is_asked_no_more_often_than_without_a_watch() {
    let mut sim = Sim::new(Options::default(), 1);
    sim.add_peer(1);
    sim.at(1).announces_all = true;
    sim.follow(1, 1, FollowOptions::default());
    sim.run_for(120_000);
    let from_ms = sim.now_ms;
    sim.run_for(3_600_000);
    let syncs = sim.count(from_ms, is_sync);
    // The longest waits are half a minute at least in half, and the checks of all trees a minute.
    assert!((1..=300).contains(&syncs), "{syncs} in an hour");
    assert!(sim.count(from_ms, is_watch) <= 2 * syncs + 2);
    assert_eq!(sim.status(1, 1), LaneStatus::WaitingForAccess);
    // It is believed all the same once it is true.
    sim.peer_writes(1, 1);
    sim.run_for(31_000);
    assert!(sim.is_in_sync(1, 1));
}

/// The answer of a check that was begun before is older than what the watch says.
#[test]
fn an_older_answer_does_not_end_an_announcement() {
    let mut it = Coordinator::new(Options::default(), 1);
    let follow = it.handle_follow(peer(1), tree(1), FollowOptions::default(), 0, 0);
    follow.expect("there is room");
    let absent = || Outcome::Checked(vec![CheckAnswer::Absent]);
    let next = |it: &mut Coordinator, now_ms| loop {
        match it.poll_action(now_ms) {
            Some(Action::StatusChanged { .. } | Action::StopWatch { .. } | Action::Swap { .. }) => {
            }
            other => return other,
        }
    };
    let Some(Action::Check { id, .. }) = next(&mut it, 0) else {
        panic!("the first thing is a check");
    };
    it.handle_ended(id, absent(), 1);
    assert_eq!(next(&mut it, 1), None);
    let Some(Action::Watch { id: watch, .. }) = next(&mut it, 100) else {
        panic!("the tree is awaited");
    };
    it.handle_answered(watch, 101);
    it.handle_heard_about(peer(1), tree(1), 1_100);
    let Some(Action::Check { id: check, .. }) = next(&mut it, 1_100) else {
        panic!("the peer spoke of it");
    };
    it.handle_compare_first(watch, tree(1), 1_101);
    it.handle_ended(check, absent(), 1_102);
    let Some(Action::Sync { id: early, .. }) = next(&mut it, 1_102) else {
        panic!("it was announced");
    };
    it.handle_ended(early, Outcome::NotHere, 1_103);
    assert_eq!(
        it.status(peer(1), tree(1)),
        Some(LaneStatus::WaitingForAccess)
    );
    assert_eq!(next(&mut it, 1_103), None, "the slow waits go on");
}
