//! What checks find.

use std::sync::Arc;

use eidetica_dag::TreeId;

use super::{
    ABSENT_WAITS, CHECK_TREES_MAX, CheckAnswer, Coordinator, ExchangeId, Need, Next, Outcome,
    PeerId, Reach, State, Timer, UnreachableReason, Wanted,
};

impl Coordinator {
    pub(super) fn end_check(
        &mut self,
        id: ExchangeId,
        peer: PeerId,
        trees: &Arc<[TreeId]>,
        full: bool,
        outcome: Outcome,
    ) {
        if let Some(of_peer) = self.peer_mut(peer)
            && of_peer.checking == Some(id)
        {
            of_peer.checking = None;
        }
        match outcome {
            Outcome::Checked(answers) => {
                let mut answers = answers.into_iter();
                let mut newly_absent = false;
                for tree in trees.iter() {
                    let answer = answers.next().unwrap_or(CheckAnswer::Differs);
                    newly_absent |= self.take_answer(id, (peer, *tree), answer);
                }
                self.schedule_checks(peer, trees, full, newly_absent);
                self.swap_after_check(peer);
            }
            Outcome::RetryAfter(_) | Outcome::Unreachable(_) | Outcome::Abandoned => {
                self.uncheck(peer, trees, full);
            }
            // A peer that cannot answer checks is compared with, lane by lane; one that breaks the
            // rules is as good as away.
            Outcome::Broken | Outcome::Failed => {
                self.uncheck(peer, trees, full);
                self.note_failed(peer, id, UnreachableReason::BrokenPeer);
            }
            Outcome::Success { .. }
            | Outcome::CompareFirst
            | Outcome::NotHere
            | Outcome::Refused { .. } => {
                for tree in trees.iter() {
                    let state = self.lane_mut(peer, *tree).map(|lane| lane.state);
                    if matches!(state, Some(State::Unchecked | State::Resting { .. })) {
                        self.need(peer, *tree, Need::Compare);
                    }
                }
                self.schedule_checks(peer, trees, full, false);
            }
        }
        if let Some(of_peer) = self.peer_mut(peer)
            && of_peer.reach == Reach::Probing(id)
        {
            of_peer.reach = Reach::Unproven;
        }
    }

    /// Has the trees of a check that told nothing asked about again.
    fn uncheck(&mut self, peer: PeerId, trees: &[TreeId], full: bool) {
        let mut with_absent = false;
        for tree in trees {
            let state = self.lane_mut(peer, *tree).map(|lane| lane.state);
            with_absent |= state == Some(State::Absent);
            if state == Some(State::Unchecked)
                && let Some(of_peer) = self.peers.get_mut(&peer)
            {
                of_peer.unchecked.insert(*tree);
            }
        }
        if let Some(of_peer) = self.peer_mut(peer) {
            of_peer.full_check |= full;
            of_peer.absent_check |= with_absent;
        }
    }

    fn schedule_checks(&mut self, peer: PeerId, trees: &[TreeId], full: bool, newly_absent: bool) {
        let interval_ms = self.options.check_interval_ms;
        let jitter_ms = self.jitter.up_to(interval_ms / 2);
        let check_ms = self.in_ms(interval_ms - interval_ms / 4 + jitter_ms);
        let Some(of_peer) = self.peers.get_mut(&peer) else {
            return;
        };
        if full && trees.len() == CHECK_TREES_MAX && !of_peer.full_check {
            of_peer.full_check = true;
            of_peer.full_after = trees.last().copied();
        } else if full {
            self.timers.set(Timer::Check(peer), check_ms);
        }
        of_peer.absent_checks = match newly_absent {
            true => 1,
            false => of_peer.absent_checks.saturating_add(1),
        };
        if !of_peer.absent.is_empty() {
            let wait_ms = ABSENT_WAITS.wait_ms(of_peer.absent_checks, &mut self.jitter);
            let at_ms = self.in_ms(wait_ms);
            self.timers.set_sooner(Timer::Absent(peer), at_ms);
        }
    }

    /// Takes what a check found about one tree. Tells whether the peer was not known to lack it.
    fn take_answer(
        &mut self,
        id: ExchangeId,
        (peer, tree): (PeerId, TreeId),
        answer: CheckAnswer,
    ) -> bool {
        let Some(lane) = self.lane_mut(peer, tree) else {
            return false;
        };
        let (state, outdated) = (lane.state, id < lane.fresh_from);
        match answer {
            CheckAnswer::Equal { settled, cursor } => {
                self.note_settled(peer, tree, settled);
                match state {
                    // It learns more from the exchange that runs.
                    State::Running { .. } => {}
                    State::Due { seq, .. } => {
                        self.set_cursor(peer, tree, Some(cursor));
                        let head = self.head(tree);
                        match self.lane_mut(peer, tree) {
                            Some(lane) if lane.settled < head && lane.push => {
                                self.place(peer, tree, Next::DueAgain(Need::Push, seq));
                            }
                            _ => self.place(peer, tree, Next::Rest),
                        }
                    }
                    State::Unchecked
                    | State::Resting { .. }
                    | State::Absent
                    | State::Held { .. } => {
                        self.set_cursor(peer, tree, Some(cursor));
                        self.place(peer, tree, Next::Rest);
                    }
                }
                false
            }
            CheckAnswer::Differs => {
                match state {
                    State::Unchecked | State::Absent => self.need(peer, tree, Need::Compare),
                    // The watch brings new entries from there, and a push takes new ones there.
                    State::Due { .. } if self.is_watched(peer, tree) => {}
                    State::Due { .. } => self.need(peer, tree, Need::Compare),
                    State::Resting { .. } if !outdated => self.need(peer, tree, Need::Compare),
                    State::Resting { .. } | State::Running { .. } | State::Held { .. } => {}
                }
                false
            }
            CheckAnswer::Absent => match state {
                State::Running { .. } | State::Held { .. } => false,
                State::Resting { .. } | State::Due { .. } if outdated => false,
                State::Absent | State::Unchecked | State::Resting { .. } | State::Due { .. } => {
                    if let Some(lane) = self.lane_mut(peer, tree)
                        && state == State::Absent
                        && !outdated
                    {
                        lane.announced = false;
                    }
                    self.note_absent(peer, tree);
                    state != State::Absent
                }
            },
        }
    }

    /// Notes that the peer lacks a tree, or does not show it: offers it once, or waits.
    pub(super) fn note_absent(&mut self, peer: PeerId, tree: TreeId) {
        self.set_cursor(peer, tree, None);
        let has_tree = self.head(tree) > 0;
        self.unlist(peer, tree);
        let Some(lane) = self.lane_mut(peer, tree) else {
            return;
        };
        lane.state = State::Resting { listed: None };
        lane.settled = 0;
        lane.brought.clear();
        let gives = lane.push && lane.give && has_tree && !lane.given;
        lane.given |= gives;
        if gives {
            return self.place(peer, tree, Next::Due(Need::Give));
        }
        let awaits = lane.pull && !lane.announced;
        self.place(peer, tree, Next::Absent);
        if awaits {
            self.want_watched(peer, tree, Wanted::Arrival);
        }
    }
}
