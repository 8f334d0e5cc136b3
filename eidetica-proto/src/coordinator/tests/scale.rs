//! A hundred thousand lanes: no input scans them, by counted steps and not by time.

use super::super::*;
use super::{peer, tree};

/// What one input may cost: a few look-ups, whatever the number of lanes.
const STEPS_MAX: u64 = 40;

type Input = Box<dyn Fn(&mut Coordinator, u64)>;

/// A world whose peers are all settled, answered by hand: fast enough for this many.
struct World {
    coordinator: Coordinator,
    now_ms: u64,
    begun: u64,
    /// Lanes whose news were pushed.
    pushed: u64,
}

impl World {
    fn new(lanes: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut world = Self {
            coordinator: Coordinator::new(Options::default(), 3),
            now_ms: 0,
            begun: 0,
            pushed: 0,
        };
        for (of, tree_number) in lanes {
            let it = &mut world.coordinator;
            let options = FollowOptions::default();
            it.handle_follow(peer(of), tree(tree_number), options, 1, 0)
                .expect("room");
        }
        world.run(1);
        world
    }

    /// Ends everything that is begun with success, until nothing is left to do.
    fn run(&mut self, head: u32) {
        let cursor = PeerCursor::new(b"cursor").expect("short");
        let mut under_way = std::collections::VecDeque::new();
        loop {
            while let Some(action) = self.coordinator.poll_action(self.now_ms) {
                let outcome = match &action {
                    Action::Check { trees, .. } => {
                        let equal = CheckAnswer::Equal {
                            settled: head,
                            cursor,
                        };
                        Outcome::Checked(vec![equal; trees.len()])
                    }
                    Action::Sync { .. } | Action::Push { .. } | Action::Give { .. } => {
                        self.pushed += 1;
                        Outcome::Success {
                            settled: head,
                            cursor: Some(cursor),
                        }
                    }
                    _ => continue,
                };
                let (Action::Check { id, .. }
                | Action::Sync { id, .. }
                | Action::Push { id, .. }
                | Action::Give { id, .. }) = action
                else {
                    continue;
                };
                self.begun += 1;
                under_way.push_back((id, outcome));
            }
            let Some((id, outcome)) = under_way.pop_front() else {
                return;
            };
            self.coordinator.handle_ended(id, outcome, self.now_ms);
        }
    }

    fn steps(&mut self, input: impl FnOnce(&mut Coordinator, u64)) -> u64 {
        let before = self.coordinator.work;
        input(&mut self.coordinator, self.now_ms);
        self.coordinator.work - before
    }

    /// No input costs more than a few steps, whatever follows from it.
    fn check_inputs(&mut self, of: PeerId, tree: TreeId) {
        let cursor = PeerCursor::new(b"cursor").expect("short");
        let inputs: Vec<(&str, Input)> = vec![
            (
                "stored",
                Box::new(move |it, now| it.handle_stored(tree, 1..2, Origin::Local, now)),
            ),
            (
                "brought",
                Box::new(move |it, now| it.handle_stored(tree, 2..3, Origin::Peer(of), now)),
            ),
            ("heard", Box::new(move |it, now| it.handle_heard(of, now))),
            (
                "about",
                Box::new(move |it, now| it.handle_heard_about(of, tree, now)),
            ),
            (
                "address",
                Box::new(move |it, now| it.handle_address_learned(of, now)),
            ),
            (
                "access",
                Box::new(move |it, now| it.handle_access_changed(tree, now)),
            ),
            (
                "has",
                Box::new(move |it, now| it.handle_peer_has(of, tree, 1, now)),
            ),
            (
                "network",
                Box::new(move |it, now| it.handle_network_changed(now)),
            ),
            (
                "retry",
                Box::new(move |it, now| it.handle_retry_now(of, None, now)),
            ),
            (
                "retry tree",
                Box::new(move |it, now| it.handle_retry_now(of, Some(tree), now)),
            ),
            (
                "watched",
                Box::new(move |it, now| it.handle_watched(of, 1, [tree], now)),
            ),
            (
                "unwatched",
                Box::new(move |it, now| it.handle_watch_stopped(of, 1, now)),
            ),
            (
                "news",
                Box::new(move |it, now| it.handle_news(ExchangeId(0), tree, cursor, now)),
            ),
            (
                "unfollow",
                Box::new(move |it, now| it.handle_unfollow(of, tree, now)),
            ),
            (
                "follow",
                Box::new(move |it, now| {
                    it.handle_follow(of, tree, FollowOptions::default(), 3, now)
                        .expect("room");
                }),
            ),
        ];
        for (name, input) in inputs {
            let steps = self.steps(input);
            assert!(steps <= STEPS_MAX, "{name}: {steps}");
        }
        // A failure of a peer that shares many trees.
        self.run(3);
        self.steps(|it, now| it.handle_stored(tree, 3..4, Origin::Local, now));
        let begun = std::iter::from_fn(|| self.coordinator.poll_action(self.now_ms)).find_map(
            |it| match it {
                Action::Push { id, .. } => Some(id),
                _ => None,
            },
        );
        let id = begun.expect("a push");
        let steps = self.steps(|it, now| {
            it.handle_answered(id, now);
            let failed = Outcome::Unreachable(UnreachableReason::ConnectionLost);
            it.handle_ended(id, failed, now);
        });
        assert!(steps <= STEPS_MAX, "ended: {steps}");
        let listed = self.coordinator.status(of, tree);
        assert!(listed.is_some());
    }
}

#[test]
fn a_hundred_thousand_lanes() {
    // A hundred peers that share a thousand trees each.
    let lanes = (0..100).flat_map(|of| (0..1_000).map(move |tree| (of, tree)));
    let mut world = World::new(lanes);
    assert_eq!(world.begun, 100);
    world.check_inputs(peer(50), tree(500));
}

#[test]
fn twenty_thousand_peers_with_five_trees_each() {
    let lanes = (0..20_000).flat_map(|of| (0..5).map(move |at| (of, (of + at) % 1_000)));
    let mut world = World::new(lanes);
    assert_eq!(world.begun, 20_000);
    world.check_inputs(peer(501), tree(501));
}

#[test]
fn twenty_thousand_trees_with_one_peer() {
    let mut world = World::new((0..20_000).map(|tree| (1, tree)));
    // More than one check may carry.
    assert_eq!(world.begun, 2);
    world.check_inputs(peer(1), tree(10_000));
}

#[test]
fn a_thousand_peers_on_one_tree() {
    let mut world = World::new((0..1_000).map(|of| (of, 0)));
    world.check_inputs(peer(500), tree(0));
}

#[test]
fn work_for_a_write_is_for_those_who_get_it_and_not_for_those_who_do_not() {
    let lanes = (0..100).flat_map(|of| (0..1_000).map(move |tree| (of, tree)));
    let mut world = World::new(lanes);
    let before = (world.coordinator.work, world.pushed);
    for at in 0..50 {
        let tree = tree(at * 7);
        world.steps(|it, now| it.handle_stored(tree, 1..2, Origin::Local, now));
        world.run(2);
    }
    let (work, pushed) = (world.coordinator.work - before.0, world.pushed - before.1);
    assert_eq!(pushed, 5_000);
    assert!(work <= pushed * 2 * STEPS_MAX, "{} each", work / pushed);
}

#[test]
fn writes_cost_nothing_for_peers_that_are_away() {
    let mut world = World::new((0..1_000).map(|of| (of, 0)));
    world.steps(|it, now| it.handle_stored(tree(0), 1..2, Origin::Local, now));
    // All fail.
    let mut failures = 0;
    while let Some(action) = world.coordinator.poll_action(world.now_ms) {
        if let Action::Push { id, .. } = action {
            let failed = Outcome::Unreachable(UnreachableReason::NoConnection);
            world.coordinator.handle_ended(id, failed, world.now_ms);
            failures += 1;
        }
    }
    assert_eq!(failures, 1_000);
    let before = world.coordinator.work;
    for at in 2..102 {
        world.steps(|it, now| it.handle_stored(tree(0), at..at + 1, Origin::Local, now));
        assert_eq!(world.coordinator.poll_action(world.now_ms), None);
    }
    assert!(world.coordinator.work - before <= 100 * STEPS_MAX);
}
