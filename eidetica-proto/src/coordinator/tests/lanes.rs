//! What one lane does: the conversation, exchange by exchange.

use super::super::*;
use super::sim::Sim;
use super::{PULL, peer, shared, tree};

/// What was begun since a time, in short.
fn said(sim: &Sim, from_ms: u64) -> Vec<String> {
    let name = |action: &Action| match action {
        Action::Check { trees, .. } => Some(format!("check {}", trees.len())),
        Action::Sync { .. } => Some("sync".to_owned()),
        Action::Push { from, .. } => Some(format!("push {from}")),
        Action::Give { .. } => Some("give".to_owned()),
        Action::Watch { trees, .. } => Some(format!("watch {}", trees.len())),
        Action::StopWatch { .. } => Some("stop".to_owned()),
        Action::Abandon { .. } => Some("abandon".to_owned()),
        Action::Swap { .. } | Action::StatusChanged { .. } => None,
    };
    let since = sim.log.iter().filter(|(at_ms, _)| *at_ms >= from_ms);
    since.filter_map(|(_, action)| name(action)).collect()
}

#[test]
fn first_contact_is_a_check_then_syncs_of_what_differs_then_one_watch() {
    let mut sim = Sim::new(Options::default(), 1);
    sim.with_peers([1], 0..100);
    sim.peer_writes(1, 4);
    sim.write(8);
    sim.run_for(1_000);
    // The watch opens when the equal ones are known, and once more with the others.
    assert_eq!(said(&sim, 0), ["check 100", "sync", "sync", "watch 100"]);
    assert!((0..100).all(|of| sim.is_in_sync(1, of)));
}

#[test]
fn news_are_one_push_at_once_and_while_it_runs_they_wait_for_the_next() {
    let mut sim = shared(1..2, 0..1);
    let from_ms = sim.now_ms;
    let first = sim.write(0);
    sim.run_for(1);
    let others: Vec<u64> = (0..50).map(|_| sim.write(0)).collect();
    sim.run_for(8);
    assert_eq!(said(&sim, from_ms), ["push 1"]);
    sim.run_for(100);
    // The simulated peer takes whatever is there when the push ends: all of them.
    assert_eq!(said(&sim, from_ms), ["push 1"]);
    assert_eq!(sim.delivered[&(1, first)] - from_ms, 10);
    assert!(
        others
            .iter()
            .all(|it| sim.delivered.contains_key(&(1, *it)))
    );
}

#[test]
fn news_that_a_push_did_not_carry_are_in_the_next() {
    let mut coordinator = Coordinator::new(Options::default(), 1);
    let cursor = PeerCursor::new(b"c").expect("short");
    coordinator
        .handle_follow(peer(1), tree(1), FollowOptions::default(), 5, 0)
        .expect("room");
    let begin = |it: &mut Coordinator, now_ms| {
        std::iter::from_fn(|| it.poll_action(now_ms))
            .find(|it| !matches!(it, Action::StatusChanged { .. } | Action::Swap { .. }))
    };
    let Some(Action::Check { id, .. }) = begin(&mut coordinator, 0) else {
        panic!("a check")
    };
    let equal = CheckAnswer::Equal { settled: 5, cursor };
    coordinator.handle_ended(id, Outcome::Checked(vec![equal]), 1);
    coordinator.handle_stored(tree(1), 5..6, Origin::Local, 2);
    let Some(Action::Push { id, from: 5, .. }) = begin(&mut coordinator, 2) else {
        panic!("5")
    };
    coordinator.handle_stored(tree(1), 6..9, Origin::Local, 3);
    assert_eq!(begin(&mut coordinator, 3), None);
    let cursor = Some(cursor);
    coordinator.handle_ended(id, Outcome::Success { settled: 6, cursor }, 4);
    let Some(Action::Push { id, from: 6, .. }) = begin(&mut coordinator, 4) else {
        panic!("6")
    };
    coordinator.handle_ended(id, Outcome::Success { settled: 9, cursor }, 5);
    assert_eq!(begin(&mut coordinator, 5), None);
    assert_eq!(coordinator.reached(peer(1), tree(1)), Some(9));
    // A report that comes twice, or for what never was, is nothing.
    coordinator.handle_ended(
        id,
        Outcome::Success {
            settled: 99,
            cursor,
        },
        6,
    );
    coordinator.handle_ended(ExchangeId(77), Outcome::NotHere, 6);
    assert_eq!(coordinator.reached(peer(1), tree(1)), Some(9));
    assert_eq!(begin(&mut coordinator, 6), None);
}

#[test]
fn what_a_peer_brought_goes_to_all_others_and_never_back() {
    let mut sim = shared(1..5, 0..1);
    let from_ms = sim.now_ms;
    let pushed = sim.peer_pushes(2, 0);
    sim.run_for(100);
    let watched = sim.peer_writes(3, 0);
    sim.run_for(100);
    for of in [1, 4] {
        assert!(sim.delivered.contains_key(&(of, pushed)));
        assert!(sim.delivered.contains_key(&(of, watched)));
    }
    let to = |of| {
        sim.count(
            from_ms,
            |it| matches!(it, Action::Push { peer: p, .. } if *p == peer(of)),
        )
    };
    assert_eq!([to(1), to(2), to(3), to(4)], [2, 1, 1, 2]);
    assert_eq!(sim.redundant, 0);
}

#[test]
fn what_a_peer_brought_between_news_is_left_out_of_the_push() {
    let mut sim = shared(1..2, 0..1);
    let from_ms = sim.now_ms;
    let mine = sim.write(0);
    sim.peer_pushes(1, 0);
    sim.write(0);
    sim.run_for(100);
    assert_eq!(said(&sim, from_ms), ["push 1"]);
    assert_eq!(
        (sim.redundant, sim.status(1, 0)),
        (
            0,
            LaneStatus::InSync {
                since_ms: from_ms + 10
            }
        )
    );
    assert!(sim.delivered.contains_key(&(1, mine)));
}

#[test]
fn two_that_push_at_each_other_do_not_echo() {
    let mut sim = shared(1..2, 0..1);
    let from_ms = sim.now_ms;
    for _ in 0..20 {
        sim.peer_pushes(1, 0);
        sim.run_for(50);
    }
    assert_eq!(sim.begun(from_ms), 0);
}

#[test]
fn nothing_is_pushed_to_a_peer_that_watches_until_its_watch_ends() {
    let mut sim = shared(1..2, 0..2);
    sim.watch_us(1, 7, &[0]);
    sim.run_for(100);
    let from_ms = sim.now_ms;
    let (watched, pushed) = (sim.write(0), sim.write(1));
    sim.run_for(100);
    assert_eq!(said(&sim, from_ms), ["push 1"]);
    assert!(sim.delivered.contains_key(&(1, watched)) && sim.delivered.contains_key(&(1, pushed)));
    // That it was delivered is not known before it is confirmed.
    assert_eq!(sim.coordinator.reached(peer(1), tree(0)), Some(1));
    sim.coordinator
        .handle_retry_now(peer(1), Some(tree(0)), sim.now_ms);
    sim.run_for(100);
    assert_eq!(sim.coordinator.reached(peer(1), tree(0)), Some(2));
    // The last frame of a watch may be lost: what was not known to be there is compared.
    sim.at(1).inbound.as_mut().expect("it watches").1.clear();
    sim.write(0);
    sim.run_for(100);
    let from_ms = sim.now_ms;
    sim.stop_watching_us(1);
    sim.run_for(100);
    assert_eq!(said(&sim, from_ms), ["check 2", "sync"]);
    assert!(sim.is_in_sync(1, 0));
    // And pushed to from there on.
    let from_ms = sim.now_ms;
    sim.write(0);
    sim.run_for(100);
    assert_eq!(said(&sim, from_ms), ["push 3"]);
}

#[test]
fn a_watch_with_fewer_trees_in_place_of_another_loses_none() {
    let mut sim = shared(1..2, 0..3);
    sim.watch_us(1, 7, &[0, 1, 2]);
    sim.run_for(100);
    // One that grows costs nothing.
    let from_ms = sim.now_ms;
    sim.watch_us(1, 8, &[0, 1, 2]);
    sim.run_for(100);
    assert_eq!(sim.begun(from_ms), 0);
    sim.watch_us(1, 9, &[0]);
    // The end of one that was replaced means nothing.
    sim.coordinator.handle_watch_stopped(peer(1), 8, sim.now_ms);
    sim.run_for(100);
    let from_ms = sim.now_ms;
    (0..3).for_each(|of| {
        sim.write(of);
    });
    sim.run_for(100);
    assert_eq!(said(&sim, from_ms), ["push 1", "push 1"]);
}

#[test]
fn news_of_a_watched_peer_cost_no_exchange_and_move_the_cursor() {
    let mut sim = shared(1..2, 0..3);
    let from_ms = sim.now_ms;
    for _ in 0..10 {
        sim.peer_writes(1, 1);
        sim.run_for(40);
    }
    assert_eq!((sim.begun(from_ms), sim.head(1)), (0, 11));
    assert!(sim.is_in_sync(1, 1));
    // A watch that is cut goes on from there, after a check.
    sim.cut_watch(1);
    sim.peer_writes(1, 2);
    sim.run_for(1_500);
    assert_eq!(said(&sim, from_ms), ["check 3", "sync", "watch 3"]);
    let Some((_, Action::Watch { trees, .. })) = sim
        .log
        .iter()
        .rfind(|(_, it)| matches!(it, Action::Watch { .. }))
    else {
        panic!("it watches");
    };
    assert_eq!(trees[1].1.as_bytes(), 11_u64.to_be_bytes());
}

#[test]
fn a_watch_that_ends_at_once_each_time_is_tried_ever_more_rarely() {
    let mut sim = shared(1..2, 0..1);
    let from_ms = sim.now_ms;
    for _ in 0..3_600 {
        sim.cut_watch(1);
        sim.run_for(1_000);
    }
    let watches = sim.count(from_ms, |it| matches!(it, Action::Watch { .. }));
    assert!((15..=35).contains(&watches), "{watches}");
}

#[test]
fn a_peer_without_watches_is_checked_and_pushed_to() {
    let mut sim = Sim::new(Options::default(), 1);
    sim.with_peers([1], [0]);
    sim.at(1).can_watch = false;
    sim.run_for(1_000);
    sim.peer_writes(1, 0);
    sim.run_for(75_100);
    assert!(sim.is_in_sync(1, 0));
    assert_eq!(sim.head(0), 2);
}

#[test]
fn trees_that_are_followed_one_after_the_other_do_not_reopen_the_watch_for_each() {
    let mut sim = shared(1..2, 0..1);
    let from_ms = sim.now_ms;
    for of in 1..500 {
        sim.share(1, of);
        sim.run_for(10);
    }
    sim.run_for(1_000);
    let watches = sim.count(from_ms, |it| matches!(it, Action::Watch { .. }));
    assert!((2..=22).contains(&watches), "{watches}");
    assert!((0..500).all(|of| sim.is_in_sync(1, of)));
}

#[test]
fn compare_first_and_gone_leave_the_watch_and_come_back() {
    let mut sim = shared(1..2, 0..3);
    let last_watch = |sim: &Sim| {
        let ids = sim.log.iter().filter_map(|(_, it)| match it {
            Action::Watch { id, .. } => Some(*id),
            _ => None,
        });
        ids.max().expect("it watches")
    };
    let (id, from_ms) = (last_watch(&sim), sim.now_ms);
    sim.coordinator.handle_compare_first(id, tree(1), from_ms);
    assert_eq!(sim.status(1, 1), LaneStatus::Behind);
    sim.run_for(2_000);
    assert_eq!(said(&sim, from_ms), ["sync", "watch 3"]);
    // What comes late of the watch before means nothing.
    sim.coordinator
        .handle_compare_first(id, tree(1), sim.now_ms);
    sim.coordinator.handle_gone(id, tree(1), sim.now_ms);
    assert!(sim.is_in_sync(1, 1));
    let (id, from_ms) = (last_watch(&sim), sim.now_ms);
    let gone = sim.at(1).trees.remove(&tree(1)).expect("it was there");
    sim.coordinator.handle_gone(id, tree(1), from_ms);
    sim.run_for(100);
    assert_eq!(sim.status(1, 1), LaneStatus::WaitingForAccess);
    sim.at(1).trees.insert(tree(1), gone);
    sim.run_for(2_000);
    assert!(sim.is_in_sync(1, 1));
    assert_eq!(
        said(&sim, from_ms).first().map(String::as_str),
        Some("check 1")
    );
}

#[test]
fn a_peer_that_lost_what_it_had_is_compared_with() {
    let mut sim = shared(1..2, 0..1);
    (0..10).for_each(|_| {
        sim.write(0);
    });
    sim.run_for(100);
    let restored = sim.at(1).trees.get_mut(&tree(0)).expect("shared");
    restored.order.truncate(4);
    restored.set = restored.order.iter().copied().collect();
    let from_ms = sim.now_ms;
    sim.write(0);
    sim.run_for(100);
    assert_eq!(said(&sim, from_ms), ["push 11", "sync"]);
    assert_eq!(sim.at(1).trees[&tree(0)].order.len(), 12);
}

#[test]
fn a_follow_after_a_pending_join_is_there_soon_after_the_approval() {
    let mut sim = Sim::new(Options::default(), 1);
    sim.add_peer(1);
    sim.follow(1, 0, PULL);
    sim.run_for(20_000);
    assert_eq!(sim.status(1, 0), LaneStatus::WaitingForAccess);
    // The watch tells.
    let before_ms = sim.now_ms;
    sim.peer_writes(1, 0);
    sim.run_for(20);
    assert_eq!(sim.head(0), 1);
    assert_eq!(said(&sim, before_ms), ["stop", "sync"]);
    sim.run_for(1_000);
    assert_eq!(said(&sim, before_ms), ["stop", "sync", "watch 1"]);
    // Without a watch and where the approval itself is not heard of, the wait has grown to 30 s at
    // most.
    let mut sim = Sim::new(Options::default(), 1);
    sim.add_peer(1);
    sim.at(1).can_watch = false;
    sim.follow(1, 0, PULL);
    sim.run_for(20_000);
    let before_ms = sim.now_ms;
    sim.peer_writes(1, 0);
    sim.run_for(30_100);
    assert_eq!(sim.head(0), 1);
    assert!(sim.begun(before_ms) <= 4);
    // Here it is heard of.
    for hear in [
        |it: &mut Coordinator, now_ms| it.handle_heard_about(peer(1), tree(1), now_ms),
        |it: &mut Coordinator, now_ms| it.handle_access_changed(tree(1), now_ms),
        |it: &mut Coordinator, now_ms| it.handle_stored(tree(1), 0..0, Origin::Local, now_ms),
    ] {
        let mut sim = Sim::new(Options::default(), 1);
        sim.add_peer(1);
        sim.at(1).can_watch = false;
        sim.follow(1, 1, PULL);
        sim.run_for(600_000);
        sim.peer_writes(1, 1);
        hear(&mut sim.coordinator, sim.now_ms);
        sim.run_for(ABSENT_SPACING_MS + 100);
        assert_eq!(sim.head(1), 1);
    }
}

#[test]
fn a_tree_is_given_once_to_a_peer_that_lacks_it() {
    let mut sim = Sim::new(Options::default(), 1);
    let give = FollowOptions {
        give: true,
        ..FollowOptions::default()
    };
    sim.add_peer(1);
    sim.add_peer(2);
    sim.at(2).accepts_gifts = true;
    sim.write(0);
    sim.follow(1, 0, give);
    sim.follow(2, 0, give);
    sim.run_for(300);
    assert!(sim.is_in_sync(2, 0));
    assert_eq!(sim.status(1, 0), LaneStatus::WaitingForAccess);
    sim.run_for(600_000);
    let gifts = |sim: &Sim| {
        sim.count(
            0,
            |it| matches!(it, Action::Give { peer: p, .. } if *p == peer(1)),
        )
    };
    assert_eq!(gifts(&sim), 1);
    // A change may be a change of its mind.
    sim.at(1).accepts_gifts = true;
    sim.coordinator
        .handle_heard_about(peer(1), tree(0), sim.now_ms);
    sim.run_for(1_100);
    assert!(sim.is_in_sync(1, 0));
}

#[test]
fn a_refused_push_waits_by_itself_and_news_still_come() {
    let mut sim = shared(1..2, 0..2);
    sim.at(1).read_only = true;
    let from_ms = sim.now_ms;
    for _ in 0..100 {
        sim.write(0);
        sim.run_for(30);
    }
    assert_eq!(said(&sim, from_ms), ["push 1"]);
    let LaneStatus::Refused { reason, next_ms } = sim.status(1, 0) else {
        panic!("refused")
    };
    assert_eq!(reason, RefusedReason::Code(crate::ErrorCode::ReadOnly));
    assert!(next_ms.is_some_and(|at_ms| at_ms - from_ms <= 60_010));
    sim.peer_writes(1, 0);
    sim.run_for(100);
    assert_eq!(sim.head(0), 102);
    assert_eq!(said(&sim, from_ms), ["push 1"]);
    // The other tree is none the worse for it, and a role that is learned of ends the wait.
    sim.at(1).read_only = false;
    sim.coordinator.handle_access_changed(tree(0), sim.now_ms);
    sim.run_for(100);
    assert!(sim.is_in_sync(1, 0) && sim.is_in_sync(1, 1));
}

#[test]
fn a_success_of_one_lane_leaves_the_waits_of_others_alone() {
    let mut sim = shared(1..2, 0..10);
    sim.fate = Some(|_| Some(Outcome::Failed));
    (0..9).for_each(|of| {
        sim.write(of);
    });
    sim.run_for(200);
    sim.fate = None;
    let failing = |sim: &Sim| (0..9).filter(|of| !sim.is_in_sync(1, *of)).count();
    assert_eq!(failing(&sim), 9);
    let from_ms = sim.now_ms;
    sim.write(9);
    sim.run_for(30);
    assert_eq!(
        (said(&sim, from_ms), failing(&sim)),
        (vec!["push 1".to_owned()], 9)
    );
    sim.run_for(600);
    assert_eq!(failing(&sim), 0);
}

#[test]
fn a_peer_that_breaks_the_protocol_is_tried_again_rarely() {
    let mut sim = shared(1..2, 0..1);
    sim.fate = Some(|_| Some(Outcome::Broken));
    sim.write(0);
    sim.run_for(20);
    sim.fate = None;
    let is_broken = |status| {
        let reason = RefusedReason::Broken;
        matches!(status, LaneStatus::Refused { reason: found, next_ms: Some(_) } if found == reason)
    };
    assert!(is_broken(sim.status(1, 0)), "{:?}", sim.status(1, 0));
    sim.run_for(25_000);
    assert!(is_broken(sim.status(1, 0)), "{:?}", sim.status(1, 0));
    sim.run_for(60_000);
    assert!(sim.is_in_sync(1, 0));

    sim.fate = Some(|_| Some(Outcome::Broken));
    sim.write(0);
    sim.run_for(20);
    sim.fate = None;
    sim.coordinator
        .handle_retry_now(peer(1), Some(tree(0)), sim.now_ms);
    sim.run_for(100);
    assert!(sim.is_in_sync(1, 0));
}

#[test]
fn comparisons_that_lead_nowhere_are_no_loop() {
    let mut sim = shared(1..2, 0..1);
    sim.fate = Some(|_| Some(Outcome::CompareFirst));
    sim.write(0);
    let from_ms = sim.now_ms;
    sim.run_for(60_000);
    assert!(sim.begun(from_ms) <= 30, "{}", sim.begun(from_ms));
    sim.fate = Some(|_| {
        Some(Outcome::Success {
            settled: 1,
            cursor: None,
        })
    });
    let from_ms = sim.now_ms;
    sim.run_for(600_000);
    assert!(sim.begun(from_ms) <= 60, "{}", sim.begun(from_ms));
    sim.check_claims();
}

#[test]
fn a_change_of_status_is_told_once() {
    let mut sim = shared(1..2, 0..1);
    let from_ms = sim.now_ms;
    sim.run_for(50_000);
    let told =
        |sim: &Sim, from_ms| sim.count(from_ms, |it| matches!(it, Action::StatusChanged { .. }));
    assert_eq!(told(&sim, from_ms), 0);
    let from_ms = sim.now_ms;
    sim.write(0);
    sim.run_for(1_000);
    // Syncing, and in sync with more.
    assert_eq!(told(&sim, from_ms), 2);
    let listed: Vec<_> = sim.coordinator.statuses_of_tree(tree(0)).collect();
    assert_eq!(listed, [(peer(1), sim.status(1, 0))]);
    let listed: Vec<_> = sim.coordinator.statuses_of_peer(peer(1)).collect();
    assert_eq!(listed, [(tree(0), sim.status(1, 0))]);
}
