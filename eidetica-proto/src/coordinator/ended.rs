//! What the ends of exchanges mean.

use eidetica_dag::TreeId;

use super::{
    ABSENT_WAITS, Action, Coordinator, ExchangeId, HEARD_SPACING_MS, Need, Next, Outcome,
    PeerCursor, PeerId, REFUSED_WAITS, RETRY_AFTER_MAX_MS, RETRY_AFTER_MIN_MS, Reach,
    RefusedReason, State, Timer, UnreachableReason, Wanted, What,
};
use crate::backoff::BackoffPolicy;

impl Coordinator {
    /// Notes that the peer has begun to answer an exchange, or opened a watch. Costs O(log n).
    pub fn handle_answered(&mut self, id: ExchangeId, now_ms: u64) {
        self.note_time(now_ms);
        let Some(running) = self.running.get(&id) else {
            return;
        };
        let (peer, is_watch) = (running.peer, matches!(running.what, What::Watch));
        if is_watch {
            self.note_watch_answered(id);
        } else {
            self.unmute(id);
        }
        self.note_alive(peer, id);
        self.queue(peer);
    }

    /// Notes the end of an exchange or of a watch. Costs O(log n), and the length of a check.
    ///
    /// Reports about exchanges that ended before or never were are ignored, so a driver may report
    /// late and twice.
    pub fn handle_ended(&mut self, id: ExchangeId, outcome: Outcome, now_ms: u64) {
        self.note_time(now_ms);
        let Some(running) = self.running.get(&id) else {
            return;
        };
        let (peer, what) = (running.peer, running.what.clone());
        let went_well = matches!(outcome, Outcome::Success { .. } | Outcome::Checked(_));
        let outcome = match running.abandoned && !went_well {
            true => Outcome::Abandoned,
            false => outcome,
        };
        if let What::Watch = what {
            self.running.remove(&id);
            self.end_watch(id, peer, &outcome);
        } else {
            self.unmute(id);
            self.running.remove(&id);
            self.places_used -= 1;
            if let Some(of_peer) = self.peer_mut(peer) {
                of_peer.running.remove(&id);
            }
            self.judge_peer(peer, id, &outcome);
            match what {
                What::Check { trees, full } => self.end_check(id, peer, &trees, full, outcome),
                What::Exchange { tree, need, head } => {
                    self.end_exchange(id, (peer, tree), (need, head), &outcome);
                }
                What::Watch => {}
            }
        }
        self.queue(peer);
        self.forget_if_done(peer);
    }

    /// Draws what the end of an exchange says about the peer itself.
    fn judge_peer(&mut self, peer: PeerId, id: ExchangeId, outcome: &Outcome) {
        match outcome {
            Outcome::Unreachable(reason) => self.note_failed(peer, id, *reason),
            Outcome::RetryAfter(pause_ms) => {
                self.note_alive(peer, id);
                self.pause(peer, *pause_ms);
            }
            Outcome::Abandoned => {}
            Outcome::Success { .. } | Outcome::Checked(_) => {
                self.note_alive(peer, id);
                let places_max = self.options.exchanges_per_peer_max;
                if let Some(of_peer) = self.peer_mut(peer) {
                    of_peer.places = places_max.min(of_peer.places + 1);
                }
            }
            Outcome::CompareFirst
            | Outcome::NotHere
            | Outcome::Refused { .. }
            | Outcome::Failed
            | Outcome::Broken => self.note_alive(peer, id),
        }
    }

    /// Notes that the peer answered.
    pub(super) fn note_alive(&mut self, peer: PeerId, id: ExchangeId) {
        let Some(of_peer) = self.peer_mut(peer) else {
            return;
        };
        of_peer.failures = 0;
        of_peer.stuck = false;
        let before = of_peer.reach;
        // What was begun before the peer failed, or before the way to it became doubtful, ends that
        // as well, and leaves the check of all trees due.
        of_peer.reach = Reach::Proven;
        if let Reach::Probing(probe) = before
            && probe != id
        {
            of_peer.reach = before;
            return;
        }
        if before == Reach::Proven {
            return;
        }
        let was_away = of_peer.away.take().is_some();
        self.timers.clear(Timer::Retry(peer));
        if was_away {
            self.changed.insert((peer, None));
        }
        self.touch_watch(peer);
    }

    /// Notes that the peer could not be reached by this exchange.
    pub(super) fn note_failed(&mut self, peer: PeerId, id: ExchangeId, reason: UnreachableReason) {
        let newest = ExchangeId(self.next_id);
        let policy = self.options.backoff;
        let Some(of_peer) = self.peers.get_mut(&peer) else {
            return;
        };
        // Exchanges that ran side by side fail together and count once, and where a probe is due or
        // runs, it decides.
        let counts = match of_peer.reach {
            Reach::Proven => id >= of_peer.failed_before,
            Reach::Probing(probe) => probe == id,
            Reach::Unproven | Reach::Unreachable { .. } => false,
        };
        if !counts {
            return;
        }
        of_peer.failures = of_peer.failures.saturating_add(1);
        of_peer.failed_before = newest;
        let wait_ms = policy.wait_ms(of_peer.failures, &mut self.jitter);
        let mut next_ms = self.now_ms.saturating_add(wait_ms);
        // It came back while the probe was under way.
        if std::mem::take(&mut of_peer.heard_in_probe) {
            let spaced_ms = of_peer
                .heard_ms
                .map_or(0, |at_ms| at_ms.saturating_add(HEARD_SPACING_MS));
            next_ms = next_ms.min(self.now_ms.max(spaced_ms));
        }
        of_peer.reach = Reach::Unreachable { reason, next_ms };
        of_peer.away = Some(reason);
        of_peer.full_check = true;
        of_peer.full_after = None;
        self.timers.set(Timer::Retry(peer), next_ms);
        self.changed.insert((peer, None));
        self.queue(peer);
        self.ask_about(peer);
    }

    /// Lets a busy peer rest.
    pub(super) fn pause(&mut self, peer: PeerId, pause_ms: u64) {
        let pause_ms = pause_ms.clamp(RETRY_AFTER_MIN_MS, RETRY_AFTER_MAX_MS);
        // All whom a busy peer turns away would come back together.
        let pause_ms = pause_ms + self.jitter.up_to(pause_ms / 4);
        let until_ms = self.in_ms(pause_ms);
        let Some(of_peer) = self.peer_mut(peer) else {
            return;
        };
        of_peer.places = (of_peer.places / 2).max(1);
        of_peer.paused = true;
        let until_ms = until_ms.max(self.timers.get(Timer::Pause(peer)).unwrap_or(0));
        self.timers.set(Timer::Pause(peer), until_ms);
    }

    /// Gives up a mute exchange for which there is no room, and its peer with it for a while.
    pub(super) fn give_up(&mut self, id: ExchangeId) {
        if let Some(peer) = self.running.get(&id).map(|it| it.peer) {
            self.abandon(id);
            self.note_failed(peer, id, UnreachableReason::NoAnswer);
        }
    }

    fn end_exchange(
        &mut self,
        id: ExchangeId,
        (peer, tree): (PeerId, TreeId),
        (need, head): (Need, u32),
        outcome: &Outcome,
    ) {
        if self.lingering.get(&(peer, tree)) == Some(&id) {
            self.lingering.remove(&(peer, tree));
        }
        let fresh_from = ExchangeId(self.next_id);
        let now_ms = self.now_ms;
        let Some(lane) = self.lane_mut(peer, tree) else {
            return;
        };
        let State::Running {
            id: runs,
            need: wanted,
            seq,
            again,
        } = lane.state
        else {
            return;
        };
        if runs != id {
            return;
        }
        lane.fresh_from = fresh_from;
        let (pull, announced) = (lane.pull, lane.announced);
        match outcome {
            Outcome::Success { settled, cursor } => {
                let gained = self.note_settled(peer, tree, *settled);
                if cursor.is_some() {
                    self.set_cursor(peer, tree, *cursor);
                }
                let Some(lane) = self.lane_mut(peer, tree) else {
                    return;
                };
                let knows_peer = cursor.is_some() || !pull;
                let finished = match need {
                    Need::Push => gained || lane.settled >= head,
                    Need::Compare | Need::Give => {
                        knows_peer && (lane.settled >= head || !lane.push)
                    }
                };
                if !finished && need != Need::Push {
                    return self.hold(peer, tree, RefusedReason::Failed);
                }
                (lane.failures, lane.refusals) = (0, 0);
                lane.given = false;
                lane.announced = false;
                let watched = self.is_watched(peer, tree);
                self.place(peer, tree, Next::Rest);
                if !finished || (!knows_peer && !watched) {
                    self.need(peer, tree, Need::Compare);
                } else if let Some(again) = again.filter(|it| *it > Need::Push) {
                    self.need(peer, tree, again);
                }
            }
            // A comparison that leads to another one is tried later.
            Outcome::CompareFirst if need == Need::Compare => {
                self.hold(peer, tree, RefusedReason::Failed);
            }
            Outcome::CompareFirst => self.place(peer, tree, Next::DueAgain(Need::Compare, seq)),
            Outcome::RetryAfter(_) | Outcome::Unreachable(_) | Outcome::Abandoned => {
                // A lane that was followed anew meanwhile needs more than what ran for the old one.
                let need = again.map_or(wanted, |again| again.max(wanted));
                self.place(peer, tree, Next::DueAgain(need, seq));
            }
            // The peer said while this ran that the tree can be read.
            Outcome::NotHere if announced && again >= Some(Need::Compare) => {
                self.place(peer, tree, Next::DueAgain(Need::Compare, seq));
            }
            Outcome::NotHere => {
                self.note_absent(peer, tree);
                let is_absent = |lane: &super::Lane| lane.state == State::Absent;
                if self.lanes.get(&(peer, tree)).is_some_and(is_absent) {
                    // A peer that says that it has the tree and does not show it ends no wait.
                    let checks = match self.peer_mut(peer) {
                        Some(of_peer) if announced => of_peer.absent_checks.max(1),
                        _ => 1,
                    };
                    let wait_ms = ABSENT_WAITS.wait_ms(checks, &mut self.jitter);
                    let at_ms = now_ms.saturating_add(wait_ms);
                    self.timers.set_sooner(Timer::Absent(peer), at_ms);
                    if let Some(of_peer) = self.peer_mut(peer) {
                        of_peer.absent_checks = checks;
                    }
                }
            }
            Outcome::Refused { code, cursor } => {
                if cursor.is_some() {
                    self.set_cursor(peer, tree, *cursor);
                }
                self.hold_long(peer, tree, RefusedReason::Code(*code));
            }
            Outcome::Failed | Outcome::Checked(_) => {
                self.hold(peer, tree, RefusedReason::Failed);
            }
            // A bit that flipped on the way must not part two copies for good.
            Outcome::Broken => self.hold_long(peer, tree, RefusedReason::Broken),
        }
    }

    /// Lets a lane wait that failed for a reason of its own.
    fn hold(&mut self, peer: PeerId, tree: TreeId, reason: RefusedReason) {
        let policy = self.options.backoff;
        let Some(lane) = self.lane_mut(peer, tree) else {
            return;
        };
        lane.failures = lane.failures.saturating_add(1);
        let failures = lane.failures;
        self.hold_for(policy, failures, (peer, tree), reason);
    }

    /// Lets a lane wait that the peer refuses.
    fn hold_long(&mut self, peer: PeerId, tree: TreeId, reason: RefusedReason) {
        let Some(lane) = self.lane_mut(peer, tree) else {
            return;
        };
        lane.refusals = lane.refusals.saturating_add(1);
        let refusals = lane.refusals;
        self.hold_for(REFUSED_WAITS, refusals, (peer, tree), reason);
    }

    fn hold_for(
        &mut self,
        policy: BackoffPolicy,
        failures: u32,
        (peer, tree): (PeerId, TreeId),
        reason: RefusedReason,
    ) {
        let wait_ms = policy.wait_ms(failures, &mut self.jitter);
        let next_ms = self.in_ms(wait_ms);
        self.place(peer, tree, Next::Held(reason, Some(next_ms)));
    }

    /// Notes how far the peer has everything. Tells whether that is news.
    pub(super) fn note_settled(&mut self, peer: PeerId, tree: TreeId, settled: u32) -> bool {
        let now_ms = self.now_ms;
        let Some(lane) = self.lane_mut(peer, tree) else {
            return false;
        };
        // The set of lanes at rest is ordered by what changes here.
        let is_listed = matches!(lane.state, State::Resting { listed: Some(_) });
        if is_listed && settled > lane.settled {
            self.unlist(peer, tree);
        }
        let Some(lane) = self.lane_mut(peer, tree) else {
            return false;
        };
        let gained = lane.settle(settled);
        if gained {
            lane.since_ms = now_ms;
            self.changed.insert((peer, Some(tree)));
        }
        if gained && is_listed {
            if let Some(lane) = self.lane_mut(peer, tree) {
                lane.state = State::Resting { listed: None };
            }
            self.place(peer, tree, Next::Rest);
        }
        gained
    }

    /// Notes that at least so many entries of a tree have arrived here.
    pub(super) fn note_head(&mut self, tree: TreeId, head: u32) {
        if let Some(of_tree) = self.trees.get_mut(&tree)
            && head > of_tree.head
        {
            of_tree.head = head;
            self.spread(tree);
        }
    }

    /// Notes up to where this side has everything of the peer's.
    pub(super) fn set_cursor(&mut self, peer: PeerId, tree: TreeId, cursor: Option<PeerCursor>) {
        let now_ms = self.now_ms;
        let Some(lane) = self.lane_mut(peer, tree) else {
            return;
        };
        if lane.cursor.is_none() && cursor.is_some() {
            lane.since_ms = now_ms;
        }
        lane.cursor = cursor;
        let pull = lane.pull;
        let of_peer = self.peers.get(&peer);
        let is_awaited = of_peer.is_some_and(|it| it.awaited.contains(&tree));
        let wanted = match cursor {
            Some(_) if pull => Wanted::News,
            None if pull && is_awaited => Wanted::Arrival,
            _ => Wanted::Nothing,
        };
        self.want_watched(peer, tree, wanted);
    }

    /// Ends what the driver had begun for a lane that is gone; used by [`Action::Abandon`].
    pub(super) fn cut_lane(&mut self, peer: PeerId, tree: TreeId, id: ExchangeId) {
        self.lingering.insert((peer, tree), id);
        self.abandon(id);
    }

    /// Forgets a peer with which nothing is shared and nothing runs.
    pub(super) fn forget_if_done(&mut self, peer: PeerId) {
        let done = |it: &super::Peer| it.lanes == 0 && it.running.is_empty() && it.watch.is_none();
        if self.peers.get(&peer).is_some_and(done) {
            for timer in [
                Timer::Check(peer),
                Timer::Absent(peer),
                Timer::Retry(peer),
                Timer::Pause(peer),
                Timer::Watch(peer),
            ] {
                self.timers.clear(timer);
            }
            self.queue(peer);
            self.watch_ready.remove(&peer);
            self.swap_ready.remove(&peer);
            self.peers.remove(&peer);
        }
    }

    /// Passes on the next change of a status that programs were not told of.
    pub(super) fn next_change(&mut self) -> Option<Action> {
        loop {
            let (peer, tree) = self.changed.pop_first()?;
            self.work += 1;
            let Some(of_tree) = tree else {
                return Some(Action::StatusChanged { peer, tree });
            };
            let kind = self.status(peer, of_tree).map(|it| it.kind());
            let told = match self.lanes.get_mut(&(peer, of_tree)) {
                Some(lane) => {
                    let state = kind.map(|kind| (kind, lane.settled));
                    std::mem::replace(&mut lane.reported, state) == state
                }
                None => false,
            };
            if !told {
                return Some(Action::StatusChanged { peer, tree });
            }
        }
    }
}
