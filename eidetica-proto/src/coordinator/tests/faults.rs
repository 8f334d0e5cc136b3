//! Peers that go, come back, are busy, or are reached over a changed network.

use super::super::*;
use super::sim::{Mode, Sim, TIMEOUT_MS};
use super::{peer, tree};

fn with(numbers: std::ops::Range<u32>, trees: std::ops::Range<u32>) -> Sim {
    let mut sim = Sim::new(Options::default(), 1);
    sim.with_peers(numbers, trees);
    sim.run_for(2_000);
    sim
}

fn begins(action: &Action) -> bool {
    matches!(
        action,
        Action::Check { .. } | Action::Sync { .. } | Action::Push { .. }
    )
}

#[test]
fn one_probe_speaks_for_all_lanes_and_backs_off_for_ever() {
    let mut sim = with(1..2, 0..1_000);
    sim.at(1).mode = Mode::Down;
    (0..1_000).for_each(|of| {
        sim.write(of);
    });
    let before_ms = sim.now_ms;
    sim.run_for(3_600_000);
    let probes = sim.begun(before_ms);
    // Six that ran when it went, ten that grow, and one in 150 to 300 s from there on.
    assert!((20..=45).contains(&probes), "{probes}");
    let LaneStatus::Unreachable { reason, next_ms } = sim.status(1, 500) else {
        panic!("{:?}", sim.status(1, 500));
    };
    assert_eq!(reason, UnreachableReason::NoConnection);
    assert!((1..=300_000).contains(&(next_ms - sim.now_ms)));
    sim.check_claims();
    // Exchanges that fail side by side count once.
    let first = sim
        .log
        .iter()
        .filter(|(at_ms, it)| *at_ms >= before_ms && begins(it));
    let times: Vec<u64> = first.map(|(at_ms, _)| *at_ms - before_ms).take(8).collect();
    assert_eq!(times[..6], [0; 6]);
    assert!((251..=501).contains(&times[6]), "{times:?}");
}

#[test]
fn contact_from_a_peer_ends_its_backoff() {
    let mut sim = with(1..2, 0..1);
    sim.at(1).mode = Mode::Down;
    let entry = sim.write(0);
    sim.run_for(900_000);
    sim.at(1).mode = Mode::Up;
    let before_ms = sim.now_ms;
    sim.coordinator.handle_heard(peer(1), before_ms);
    sim.run_for(100);
    // A check, then what it found.
    assert_eq!(sim.delivered[&(1, entry)] - before_ms, 20);
}

/// A probe is no sign that the peer is there.
#[test]
fn a_peer_stays_unreachable_while_it_is_probed() {
    let mut sim = with(1..2, 0..1);
    sim.at(1).mode = Mode::Suspended;
    sim.write(0);
    sim.run_for(60_000);
    let from_ms = sim.now_ms;
    for _ in 0..600 {
        sim.run_for(1_000);
        let status = sim.status(1, 0);
        assert!(
            matches!(status, LaneStatus::Unreachable { .. }),
            "{status:?}"
        );
    }
    assert!(sim.begun(from_ms) > 2);
    sim.at(1).mode = Mode::Up;
    sim.coordinator.handle_retry_now(peer(1), None, sim.now_ms);
    assert!(!sim.is_in_sync(1, 0));
    sim.run_for(100);
    assert!(sim.is_in_sync(1, 0));
}

/// A probe that was sent to where the peer is not any more says nothing about where it is.
#[test]
fn contact_during_a_probe_that_hangs_or_fails_leads_to_another_one() {
    let mut sim = with(1..2, 0..1);
    sim.at(1).mode = Mode::Suspended;
    let entry = sim.write(0);
    sim.run_for(900_000);
    // Comes back while a probe of the time before hangs.
    while sim.under_way() == 0 {
        sim.run_for(1_000);
    }
    sim.at(1).mode = Mode::Up;
    let before_ms = sim.now_ms;
    sim.coordinator.handle_heard(peer(1), before_ms);
    sim.run_for(2_500);
    let took_ms = sim.delivered[&(1, entry)] - before_ms;
    assert!(took_ms <= MUTE_AFTER_MS + 30, "{took_ms}");

    // Comes back while a probe is about to fail.
    let mut sim = with(1..2, 0..1);
    sim.at(1).mode = Mode::Down;
    let entry = sim.write(0);
    sim.run_for(900_000);
    sim.coordinator.handle_retry_now(peer(1), None, sim.now_ms);
    sim.run_for(0);
    assert_eq!(sim.under_way(), 1);
    sim.at(1).mode = Mode::Up;
    let before_ms = sim.now_ms;
    sim.coordinator.handle_heard(peer(1), before_ms);
    sim.run_for(2_500);
    let took_ms = sim.delivered[&(1, entry)] - before_ms;
    assert!(took_ms <= HEARD_SPACING_MS + 30, "{took_ms}");
}

#[test]
fn contact_from_a_peer_that_cannot_be_reached_costs_a_probe_a_second() {
    let mut sim = with(1..2, 0..1);
    sim.at(1).mode = Mode::Down;
    sim.write(0);
    sim.run_for(900_000);
    let before_ms = sim.now_ms;
    for _ in 0..1_000 {
        sim.coordinator.handle_heard(peer(1), sim.now_ms);
        sim.run_for(10);
    }
    assert!(
        (9..=11).contains(&sim.begun(before_ms)),
        "{}",
        sim.begun(before_ms)
    );
}

#[test]
fn another_address_and_a_wish_of_a_program_end_the_backoff() {
    for retry in [
        |it: &mut Coordinator, now_ms| it.handle_address_learned(peer(1), now_ms),
        |it: &mut Coordinator, now_ms| it.handle_retry_now(peer(1), None, now_ms),
        |it: &mut Coordinator, now_ms| it.handle_retry_now(peer(1), Some(tree(0)), now_ms),
        |it: &mut Coordinator, now_ms| it.handle_network_changed(now_ms),
    ] {
        let mut sim = with(1..2, 0..1);
        sim.at(1).mode = Mode::Down;
        sim.write(0);
        sim.run_for(900_000);
        sim.at(1).mode = Mode::Up;
        retry(&mut sim.coordinator, sim.now_ms);
        sim.run_for(100);
        assert!(sim.is_in_sync(1, 0));
    }
}

#[test]
fn a_busy_peer_is_left_alone_as_long_as_it_asks_and_has_not_failed() {
    let mut sim = with(1..2, 0..50);
    sim.at(1).mode = Mode::Busy(2_000);
    (0..50).for_each(|of| {
        sim.write(of);
    });
    let before_ms = sim.now_ms;
    sim.run_for(1_900);
    assert_eq!(sim.begun(before_ms), 6);
    assert!(matches!(
        sim.status(1, 20),
        LaneStatus::Ahead { entries: 1 }
    ));
    // It lets fewer run from there on: one, after three answers of this kind.
    let before_ms = sim.now_ms;
    sim.run_for(20_000);
    assert!(
        (7..=12).contains(&sim.begun(before_ms)),
        "{}",
        sim.begun(before_ms)
    );
    sim.at(1).mode = Mode::Up;
    sim.run_for(4_000);
    assert!((0..50).all(|of| sim.is_in_sync(1, of)));
}

#[test]
fn a_pause_of_nothing_is_no_loop_and_one_without_end_is_cut_short() {
    let mut sim = with(1..2, 0..1);
    sim.at(1).mode = Mode::Busy(0);
    let before_ms = sim.now_ms;
    sim.write(0);
    sim.run_for(1_000);
    assert!(sim.begun(before_ms) <= 34, "{}", sim.begun(before_ms));
    sim.at(1).mode = Mode::Busy(u64::MAX);
    sim.run_for(100);
    sim.at(1).mode = Mode::Up;
    sim.run_for(RETRY_AFTER_MAX_MS * 5 / 4 + 100);
    assert!(sim.is_in_sync(1, 0));
}

#[test]
fn a_changed_network_is_one_check_of_each_peer_and_no_storm() {
    let mut sim = with(0..300, 0..3);
    let before_ms = sim.now_ms;
    for _ in 0..5 {
        sim.coordinator.handle_network_changed(sim.now_ms);
        sim.run_for(100);
    }
    sim.run_for(400);
    let checks = sim.count(before_ms, |it| matches!(it, Action::Check { .. }));
    assert_eq!((checks, sim.begun(before_ms)), (300, 300));
    // The other four came in a burst, and make one more round together.
    sim.run_for(3_000);
    assert_eq!(sim.begun(before_ms), 600);
    // Watches whose connection may be gone are opened anew.
    assert!(sim.count(before_ms, |it| matches!(it, Action::Watch { .. })) >= 300);
}

#[test]
fn a_process_that_was_suspended_catches_up_at_once_and_once() {
    let mut sim = with(0..200, 0..5);
    sim.sleep(400_000);
    let woke_ms = sim.now_ms;
    for of in 0..200 {
        sim.at(of)
            .trees
            .get_mut(&tree(0))
            .expect("shared")
            .order
            .push(7);
        sim.at(of)
            .trees
            .get_mut(&tree(0))
            .expect("shared")
            .set
            .insert(7);
    }
    sim.run_for(1_000);
    assert!((0..200).all(|of| (0..5).all(|tree| sim.is_in_sync(of, tree))));
    // A check of each peer, and an exchange for the tree that differed.
    assert!(sim.begun(woke_ms) <= 600, "{}", sim.begun(woke_ms));
    // And then a check of each in a minute, not all at once.
    sim.run_for(20_000);
    let before_ms = sim.now_ms;
    sim.run_for(60_000);
    assert!(
        (150..=300).contains(&sim.begun(before_ms)),
        "{}",
        sim.begun(before_ms)
    );
}

#[test]
fn what_hung_when_the_network_changed_is_cut_and_tried_anew() {
    let mut sim = with(1..2, 0..1);
    sim.at(1).mode = Mode::Suspended;
    let entry = sim.write(0);
    sim.run_for(3_000);
    assert_eq!(sim.status(1, 0), LaneStatus::Syncing);
    sim.at(1).mode = Mode::Up;
    let before_ms = sim.now_ms;
    sim.coordinator.handle_network_changed(before_ms);
    sim.run_for(100);
    assert!(sim.delivered[&(1, entry)] - before_ms <= 20);
}

#[test]
fn a_mute_exchange_blocks_its_peer_and_contact_from_it_finds_another_way() {
    let mut sim = with(1..2, 0..20);
    sim.at(1).mode = Mode::Suspended;
    sim.write(0);
    sim.run_for(1_500);
    (1..20).for_each(|of| {
        sim.write(of);
    });
    let before_ms = sim.now_ms;
    sim.run_for(500);
    assert_eq!(sim.begun(before_ms), 0);
    // The old connection is dead, and the peer was started anew.
    sim.at(1).mode = Mode::Up;
    let before_ms = sim.now_ms;
    sim.coordinator.handle_heard(peer(1), before_ms);
    sim.run_for(100);
    assert!((1..20).all(|of| sim.is_in_sync(1, of)));
    sim.run_for(TIMEOUT_MS);
    assert!(sim.is_in_sync(1, 0));
}

#[test]
fn a_peer_that_was_away_for_minutes_is_equal_at_its_first_contact() {
    let mut sim = with(1..2, 0..10);
    sim.at(1).mode = Mode::Down;
    sim.cut_watch(1);
    for at in 0..1_000 {
        sim.write(at % 10);
        sim.run_for(180);
    }
    sim.at(1).mode = Mode::Up;
    sim.peer_writes(1, 3);
    let back_ms = sim.now_ms;
    sim.coordinator.handle_heard(peer(1), back_ms);
    sim.run_for(2_000);
    assert!((0..10).all(|of| sim.is_in_sync(1, of)));
    // A check, an exchange for each tree, and one more where a push found that the peer wrote too.
    assert_eq!(sim.begun(back_ms), 12);
}

#[test]
fn the_driver_is_asked_to_try_again_without_any_contact() {
    let mut sim = with(1..2, 0..1);
    sim.at(1).mode = Mode::Down;
    sim.cut_watch(1);
    sim.run_for(4_000_000);
    sim.at(1).mode = Mode::Up;
    sim.run_for(sim_cap_ms() + 100);
    assert!(sim.is_in_sync(1, 0));
}

fn sim_cap_ms() -> u64 {
    crate::BackoffPolicy::default().cap_ms
}

#[test]
fn a_clock_that_goes_back_is_one_that_stands() {
    let mut sim = with(1..2, 0..1);
    let mut coordinator = sim.coordinator;
    let (now_ms, wake_ms) = (coordinator.now_ms, coordinator.poll_wake());
    coordinator.handle_heard(peer(1), 0);
    assert_eq!(coordinator.poll_action(0), None);
    assert_eq!(coordinator.poll_wake(), wake_ms);
    coordinator.handle_stored(tree(0), 1..2, Origin::Local, 5);
    assert!(matches!(
        coordinator.poll_action(5),
        Some(Action::Push { .. })
    ));
    assert_eq!(coordinator.now_ms, now_ms);
    sim.coordinator = Coordinator::new(Options::default(), 1);
}
