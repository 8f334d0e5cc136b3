//! Random worlds: whatever happens, nothing is lost, and when faults stop all is equal soon.

use proptest::prelude::*;

use super::super::*;
use super::sim::{LOST_ANSWER, Mode, Sim};
use super::{peer, tree};
use crate::BackoffPolicy;

#[derive(Debug, Clone)]
enum Step {
    Write(u32),
    PeerWrites(u32, u32),
    PeerPushes(u32, u32),
    Mode(u32, Mode),
    Follow(u32, u32, bool),
    Unfollow(u32, u32),
    WatchUs(u32, Vec<u32>),
    StopWatchingUs(u32),
    CutWatch(u32),
    Heard(u32),
    HeardAbout(u32, u32),
    Network,
    Retry(u32, Option<u32>),
    AccessChanged(u32),
    Sleep(u64),
    Run(u64),
}

const PEERS: u32 = 4;
const TREES: u32 = 3;

fn step() -> impl Strategy<Value = Step> {
    let (of, tree) = (0..PEERS, 0..TREES);
    let both = (of.clone(), tree.clone());
    let mode = prop_oneof![
        3 => Just(Mode::Up),
        1 => Just(Mode::Down),
        1 => Just(Mode::Suspended),
        1 => (0..3_000_u64).prop_map(Mode::Busy),
    ];
    prop_oneof![
        6 => tree.clone().prop_map(Step::Write),
        3 => both.clone().prop_map(|(of, tree)| Step::PeerWrites(of, tree)),
        2 => both.clone().prop_map(|(of, tree)| Step::PeerPushes(of, tree)),
        4 => (of.clone(), mode).prop_map(|(of, mode)| Step::Mode(of, mode)),
        2 => (both.clone(), any::<bool>()).prop_map(|((of, tree), give)| Step::Follow(of, tree, give)),
        1 => both.clone().prop_map(|(of, tree)| Step::Unfollow(of, tree)),
        1 => (of.clone(), prop::collection::vec(0..TREES, 1..4))
            .prop_map(|(of, trees)| Step::WatchUs(of, trees)),
        1 => of.clone().prop_map(Step::StopWatchingUs),
        1 => of.clone().prop_map(Step::CutWatch),
        1 => of.clone().prop_map(Step::Heard),
        1 => both.clone().prop_map(|(of, tree)| Step::HeardAbout(of, tree)),
        1 => Just(Step::Network),
        1 => (of, prop::option::of(tree.clone())).prop_map(|(of, tree)| Step::Retry(of, tree)),
        1 => tree.prop_map(Step::AccessChanged),
        1 => (0..100_000_u64).prop_map(Step::Sleep),
        8 => (0..3_000_u64).prop_map(Step::Run),
    ]
}

/// Few places, so that they are scarce, and short waits, so that the end is soon.
fn options() -> Options {
    Options {
        check_interval_ms: 10_000,
        backoff: BackoffPolicy {
            base_ms: 100,
            factor: 2,
            cap_ms: 5_000,
        },
        exchanges_max: 4,
        exchanges_per_peer_max: 2,
        lanes_max: 100,
    }
}

fn fate(draw: u64) -> Option<Outcome> {
    match draw.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60 {
        0 => Some(LOST_ANSWER),
        1 => Some(Outcome::Unreachable(UnreachableReason::WrongPeer)),
        2 => Some(Outcome::Failed),
        3 => Some(Outcome::CompareFirst),
        _ => None,
    }
}

fn run(steps: &[Step], seed: u64) -> Sim {
    let mut sim = Sim::new(options(), seed);
    // The first two share all trees, the others only what they are given or write.
    sim.with_peers(0..2, 0..TREES);
    sim.add_peer(2);
    sim.add_peer(3);
    sim.at(2).accepts_gifts = true;
    sim.at(3).can_watch = false;
    for of in 0..PEERS {
        sim.at(of).latency_ms = 1 + 40 * u64::from(of);
    }
    sim.fate = Some(fate);
    let mut watches = 0;
    for step in steps {
        let now_ms = sim.now_ms;
        match step {
            Step::Write(of) => {
                sim.write(*of);
            }
            Step::PeerWrites(of, tree) => {
                sim.peer_writes(*of, *tree);
            }
            Step::PeerPushes(of, tree) => {
                sim.peer_pushes(*of, *tree);
            }
            Step::Mode(of, mode) => {
                sim.at(*of).mode = *mode;
                if *mode != Mode::Up {
                    sim.stop_watching_us(*of);
                    sim.cut_watch(*of);
                }
            }
            Step::Follow(of, tree, give) => {
                let options = FollowOptions {
                    give: *give,
                    ..FollowOptions::default()
                };
                sim.follow(*of, *tree, options);
            }
            Step::Unfollow(of, of_tree) => {
                sim.coordinator
                    .handle_unfollow(peer(*of), tree(*of_tree), now_ms);
            }
            Step::WatchUs(of, trees) if sim.peers[of].mode == Mode::Up => {
                watches += 1;
                sim.watch_us(*of, watches, trees);
            }
            Step::WatchUs(..) => {}
            Step::StopWatchingUs(of) => sim.stop_watching_us(*of),
            Step::CutWatch(of) => sim.cut_watch(*of),
            Step::Heard(of) => sim.coordinator.handle_heard(peer(*of), now_ms),
            Step::HeardAbout(of, of_tree) => {
                sim.coordinator
                    .handle_heard_about(peer(*of), tree(*of_tree), now_ms);
            }
            Step::Network => sim.coordinator.handle_network_changed(now_ms),
            Step::Retry(of, of_tree) => {
                let of_tree = of_tree.map(tree);
                sim.coordinator.handle_retry_now(peer(*of), of_tree, now_ms);
            }
            Step::AccessChanged(of_tree) => {
                sim.coordinator
                    .handle_access_changed(tree(*of_tree), now_ms);
            }
            Step::Sleep(for_ms) => sim.sleep(*for_ms),
            Step::Run(for_ms) => sim.run_for(*for_ms),
        }
        sim.check_claims();
    }
    sim
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn when_faults_stop_every_lane_settles(
        steps in prop::collection::vec(step(), 1..120),
        seed: u64,
    ) {
        let mut sim = run(&steps, seed);
        sim.fate = None;
        for of in 0..PEERS {
            sim.at(of).mode = Mode::Up;
        }
        // A timeout of what hangs, a pause, a wait of the longest backoff, a wait for absent trees
        // and two checks.
        sim.run_for(30_000 + 4_000 + 5_000 + 31_000 + 2 * 12_500);
        sim.check_claims();
        let standing: Vec<_> = sim.coordinator.statuses().collect();
        for (of, of_tree, status) in standing {
            let theirs = sim.peers[&super::sim::number(of)].trees.get(&of_tree);
            let ours = sim.ours.get(&of_tree);
            match status {
                LaneStatus::InSync { .. } => {
                    prop_assert_eq!(theirs.map(|it| &it.set), ours.map(|it| &it.set));
                }
                // What its watch brought may wait for the next check to be known.
                LaneStatus::Ahead { .. } => {
                    let of_peer = &sim.peers[&super::sim::number(of)];
                    let watches = of_peer.inbound.as_ref().is_some_and(|(_, it)| it.contains_key(&of_tree));
                    prop_assert!(watches, "{:?} {:?}", of, of_tree);
                    prop_assert_eq!(theirs.map(|it| &it.set), ours.map(|it| &it.set));
                }
                LaneStatus::WaitingForAccess => prop_assert!(theirs.is_none()),
                status => prop_assert!(false, "{:?} {:?} {:?}", of, of_tree, status),
            }
        }
        // And then it is quiet, but for checks.
        prop_assert!(sim.under_way() <= PEERS as usize);
        let from_ms = sim.now_ms;
        sim.run_for(60_000);
        // Each peer a check in 7.5 s, and one in 15 s for what it lacks.
        prop_assert!(sim.begun(from_ms) <= 4 * 12 + 4, "{}", sim.begun(from_ms));
        // Nothing is left behind.
        let ends_ms = sim.now_ms;
        sim.coordinator.handle_shutdown(ends_ms);
        sim.run_for(1);
        prop_assert!(sim.coordinator.is_idle());
    }

    #[test]
    fn the_same_inputs_give_the_same_actions(
        steps in prop::collection::vec(step(), 1..60),
        seed: u64,
    ) {
        let (one, other) = (run(&steps, seed), run(&steps, seed));
        prop_assert_eq!(one.log, other.log);
    }
}
