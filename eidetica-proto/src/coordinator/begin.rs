//! Which exchange begins next.

use std::ops::Bound;
use std::sync::Arc;

use eidetica_dag::TreeId;

use super::{
    Action, CHECK_TREES_MAX, Class, Coordinator, ExchangeId, FIRST_ID, MUTE_AFTER_MS, Need, Next,
    PeerId, Reach, Running, State, Timer, What,
};

impl Coordinator {
    /// Begins the exchange that is due for longest, where a place is free: peers take turns, and
    /// each peer's lanes do.
    pub(super) fn begin_next(&mut self) -> Option<Action> {
        while self.places_used < self.options.exchanges_max {
            self.work += 1;
            let proven = self.proven.first_key_value();
            let slow = self.probing + self.mute_in_order.len();
            let may_probe = slow < self.slow_max();
            // A probe waits: the exchange that has been mute for longest makes room for it, so that
            // a peer that answers is found soon among many that do not.
            if !may_probe
                && !self.unproven.is_empty()
                && let Some(&oldest) = self.mute_in_order.first()
            {
                self.give_up(oldest);
                continue;
            }
            let unproven = self.unproven.first_key_value().filter(|_| may_probe);
            let (class, (seq, peer)) = match (proven, unproven) {
                (Some(proven), Some(unproven)) if unproven.0 < proven.0 => {
                    (Class::Unproven, unproven)
                }
                (Some(proven), _) => (Class::Proven, proven),
                (None, Some(unproven)) => (Class::Unproven, unproven),
                (None, None) => return None,
            };
            let (seq, peer) = (*seq, *peer);
            match class {
                Class::Proven => self.proven.remove(&seq),
                Class::Unproven => self.unproven.remove(&seq),
            };
            let of_peer = self.peer_mut(peer)?;
            of_peer.queued = None;
            let action = if class == Class::Unproven || of_peer.wants_check() {
                Some(self.begin_check(peer))
            } else {
                self.begin_exchange(peer)
            };
            self.queue(peer);
            if action.is_some() {
                return action;
            }
        }
        None
    }

    /// How many places probes and mute exchanges may hold.
    fn slow_max(&self) -> usize {
        self.options.exchanges_max / 2
    }

    fn begin(&mut self, peer: PeerId, what: What, probe: bool) -> ExchangeId {
        let id = self.new_id();
        self.places_used += 1;
        self.probing += usize::from(probe);
        self.timers.set(Timer::Mute(id), self.in_ms(MUTE_AFTER_MS));
        let running = Running {
            peer,
            what,
            answered: false,
            mute: false,
            probe,
            abandoned: false,
        };
        self.running.insert(id, running);
        if let Some(of_peer) = self.peer_mut(peer) {
            of_peer.running.insert(id);
        }
        id
    }

    fn begin_check(&mut self, peer: PeerId) -> Action {
        let now_ms = self.now_ms;
        let of_peer = self.peers.get_mut(&peer);
        let probe = of_peer.is_some_and(|of_peer| {
            let probe = of_peer.reach == Reach::Unproven;
            if probe {
                of_peer.full_check = true;
                of_peer.full_after = None;
                of_peer.heard_in_probe = false;
            }
            if of_peer.full_check || of_peer.absent_check {
                of_peer.absent_check_ms = Some(now_ms);
                self.timers.clear(Timer::Absent(peer));
            }
            probe
        });
        let full = self.peers.get(&peer).is_some_and(|it| it.full_check);
        let trees: Arc<[TreeId]> = match full {
            true => self.all_trees_to_check(peer).into(),
            false => self.some_trees_to_check(peer).into(),
        };
        self.work += trees.len() as u64;
        let what = What::Check {
            trees: Arc::clone(&trees),
            full,
        };
        let id = self.begin(peer, what, probe);
        if let Some(of_peer) = self.peer_mut(peer) {
            of_peer.full_check = false;
            of_peer.absent_check = false;
            of_peer.checking = Some(id);
            if probe {
                of_peer.reach = Reach::Probing(id);
            }
        }
        Action::Check { id, peer, trees }
    }

    /// Lists the next trees that are shared with a peer, whatever is known of them.
    fn all_trees_to_check(&mut self, peer: PeerId) -> Vec<TreeId> {
        let Some(of_peer) = self.peers.get_mut(&peer) else {
            return Vec::new();
        };
        let from = match of_peer.full_after {
            Some(tree) => Bound::Excluded((peer, tree)),
            None => Bound::Included((peer, FIRST_ID)),
        };
        let lanes = self.lanes.range((from, Bound::Unbounded));
        let trees = lanes.map(|((of, tree), _)| (*of, *tree));
        let trees = trees
            .take_while(|(of, _)| *of == peer)
            .map(|(_, tree)| tree);
        let trees: Vec<TreeId> = trees.take(CHECK_TREES_MAX).collect();
        for tree in &trees {
            of_peer.unchecked.remove(tree);
        }
        trees
    }

    /// Lists the trees of a peer that nothing is known of, and those it lacked if that is due.
    fn some_trees_to_check(&mut self, peer: PeerId) -> Vec<TreeId> {
        let mut trees = Vec::new();
        let Some(of_peer) = self.peers.get_mut(&peer) else {
            return trees;
        };
        while trees.len() < CHECK_TREES_MAX
            && let Some(tree) = of_peer.unchecked.pop_first()
        {
            trees.push(tree);
        }
        if of_peer.absent_check {
            let room = CHECK_TREES_MAX - trees.len();
            trees.extend(of_peer.absent.iter().copied().take(room));
            trees.sort_unstable();
        }
        trees
    }

    /// Begins the exchange of the peer's lane that has waited longest. Returns `None` if what it
    /// was due for is done.
    fn begin_exchange(&mut self, peer: PeerId) -> Option<Action> {
        let (seq, tree) = self.peer_mut(peer)?.due.pop_first()?;
        let head = self.head(tree);
        let lane = self.lanes.get(&(peer, tree))?;
        let State::Due { need, .. } = lane.state else {
            return None;
        };
        let done = lane.settled >= head || self.is_watching_us(peer, lane) || !lane.push;
        if need == Need::Push && done {
            self.place(peer, tree, Next::Rest);
            return None;
        }
        let (pull, push) = (lane.pull, lane.push);
        let from = lane.settled;
        let what = What::Exchange { tree, need, head };
        let id = self.begin(peer, what, false);
        self.place(peer, tree, Next::Running(id, need, seq));
        Some(match need {
            Need::Push => Action::Push {
                id,
                peer,
                tree,
                from,
            },
            Need::Compare => Action::Sync {
                id,
                peer,
                tree,
                pull,
                push,
            },
            Need::Give => Action::Give { id, peer, tree },
        })
    }

    /// Notes that an exchange has not been answered in time.
    pub(super) fn note_mute(&mut self, id: ExchangeId) {
        self.work += 1;
        let Some(running) = self.running.get_mut(&id) else {
            return;
        };
        running.mute = true;
        self.probing -= usize::from(running.probe);
        let (peer, abandoned) = (running.peer, running.abandoned);
        if !abandoned {
            self.mute_in_order.insert(id);
        }
        if let Some(of_peer) = self.peer_mut(peer) {
            of_peer.stuck = true;
            let heard = of_peer.reach == Reach::Probing(id) && of_peer.heard_in_probe;
            self.queue(peer);
            // The peer is there, and the probe was sent to where it is not.
            if heard {
                self.note_heard(peer);
            }
        }
        // Not more than half of the places: the one that has been mute for longest makes room.
        if self.mute_in_order.len() > self.slow_max()
            && let Some(&oldest) = self.mute_in_order.first()
        {
            self.give_up(oldest);
        }
    }

    /// Ends the count of an exchange as a probe without an answer or a mute one.
    pub(super) fn unmute(&mut self, id: ExchangeId) {
        self.timers.clear(Timer::Mute(id));
        let Some(running) = self.running.get_mut(&id) else {
            return;
        };
        if running.answered {
            return;
        }
        running.answered = true;
        if !running.mute {
            self.probing -= usize::from(running.probe);
        }
        running.mute = false;
        self.mute_in_order.remove(&id);
    }

    /// Has an exchange cut.
    pub(super) fn abandon(&mut self, id: ExchangeId) {
        if let Some(running) = self.running.get_mut(&id)
            && !running.abandoned
        {
            running.abandoned = true;
            self.mute_in_order.remove(&id);
            self.to_cut.push_back(match running.what {
                What::Watch => Action::StopWatch { id },
                What::Check { .. } | What::Exchange { .. } => Action::Abandon { id },
            });
        }
    }
}
