//! How following ends: what was begun ends, and nothing is left of it.

use super::super::*;
use super::sim::Mode;
use super::{PULL, peer, shared, tree};

#[test]
fn unfollowing_cuts_what_runs_and_following_again_waits_for_its_end() {
    let mut sim = shared(1..2, 0..2);
    sim.at(1).mode = Mode::Suspended;
    sim.write(0);
    sim.run_for(100);
    let from_ms = sim.now_ms;
    let (mut coordinator, now_ms) = (sim.coordinator, sim.now_ms);
    coordinator.handle_unfollow(peer(1), tree(0), now_ms);
    let begin = |it: &mut Coordinator| {
        std::iter::from_fn(|| it.poll_action(now_ms))
            .find(|it| !matches!(it, Action::StatusChanged { .. } | Action::Swap { .. }))
    };
    let Some(Action::Abandon { id }) = begin(&mut coordinator) else {
        panic!("it is cut")
    };
    coordinator
        .handle_follow(peer(1), tree(0), FollowOptions::default(), 2, from_ms)
        .expect("room");
    assert_eq!(begin(&mut coordinator), None);
    assert_eq!(
        coordinator.status(peer(1), tree(0)),
        Some(LaneStatus::Syncing)
    );
    coordinator.handle_ended(id, Outcome::Abandoned, now_ms);
    let next = begin(&mut coordinator);
    assert!(matches!(next, Some(Action::Sync { .. })), "{next:?}");
    assert_eq!(
        coordinator.status(peer(1), tree(0)),
        Some(LaneStatus::Syncing)
    );
}

#[test]
fn nothing_is_left_of_what_is_not_followed() {
    let mut sim = shared(1..4, 0..10);
    sim.at(2).mode = Mode::Suspended;
    sim.at(3).mode = Mode::Down;
    (0..10).for_each(|of| {
        sim.write(of);
    });
    sim.run_for(700);
    for of in 1..4 {
        for tree_number in 0..10 {
            sim.coordinator
                .handle_unfollow(peer(of), tree(tree_number), sim.now_ms);
            sim.run_for(1);
        }
    }
    sim.run_for(100);
    let it = &sim.coordinator;
    assert!(it.is_idle() && it.peers.is_empty() && it.trees.is_empty() && it.lanes.is_empty());
    assert!(it.by_tree.is_empty() && it.lingering.is_empty() && it.spreading.is_empty());
    assert!(it.mute_in_order.is_empty() && it.proven.is_empty() && it.unproven.is_empty());
    assert_eq!((it.timers.len(), it.places_used, it.probing), (0, 0, 0));
    assert_eq!(it.poll_wake(), None);
}

#[test]
fn shutdown_ends_all_that_was_begun_and_begins_nothing() {
    let mut sim = shared(1..40, 0..3);
    (1..30).for_each(|of| sim.at(of).mode = Mode::Suspended);
    (0..3).for_each(|of| {
        sim.write(of);
    });
    sim.run_for(20);
    assert!(sim.under_way() > 30 && !sim.coordinator.is_idle());
    let from_ms = sim.now_ms;
    sim.coordinator.handle_shutdown(from_ms);
    sim.write(0);
    sim.run_for(1);
    assert!(sim.coordinator.is_idle());
    assert_eq!(
        (sim.begun(from_ms + 1), sim.coordinator.poll_wake()),
        (0, None)
    );
    // Every Started has its Ended.
    assert_eq!(sim.under_way(), 0);
}

#[test]
fn so_many_lanes_and_no_more() {
    let options = Options {
        lanes_max: 2,
        ..Options::default()
    };
    let mut coordinator = Coordinator::new(options, 1);
    let mut follow =
        |of, tree_number| coordinator.handle_follow(peer(of), tree(tree_number), PULL, 0, 0);
    assert_eq!((follow(1, 1), follow(1, 2)), (Ok(()), Ok(())));
    assert_eq!(follow(2, 1), Err(TooManyLanes(2)));
    assert_eq!(follow(1, 2), Ok(()));
}
