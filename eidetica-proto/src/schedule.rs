//! When to sync which tree with which peer: the retry queue, as a machine without a clock.
//!
//! It holds no entries and no tips, only what is due: a sync that is tried again compares tips
//! again, so nothing that a lost attempt carried can be missing from the next.

use std::collections::BTreeMap;

use eidetica_dag::TreeId;

use crate::backoff::{Backoff, BackoffPolicy};

/// How long two equal sides wait before they compare tips again, in milliseconds. Changes are told
/// at once; this heals what was lost on the way.
pub const CHECK_INTERVAL_MS: u64 = 60_000;

/// How many syncs run at a time. Each keeps a few batches in memory.
pub const RUNNING_MAX: usize = 64;

/// Why a sync is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// It is time to look whether something was lost: the trees are probably equal.
    Check,
    /// Something is new here, or was never compared: the trees probably differ.
    Change,
}

/// How it stands with one peer and one tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerStatus {
    /// The last sync succeeded, and the next is due at this time.
    Settled {
        /// When, in milliseconds.
        next_ms: u64,
    },
    /// A sync is due and not begun yet.
    Due,
    /// A sync is under way.
    Running,
    /// The last syncs failed, and the next attempt is made at this time.
    Failing {
        /// How many failed in a row.
        failures: u32,
        /// When, in milliseconds.
        next_ms: u64,
    },
}

/// Decides when to sync which tree with which peer. `P` names a peer.
///
/// Tell it what happens with the `handle_…`, then take what to begin from [`Schedule::poll_start`]
/// until it gives nothing, and come back at [`Schedule::poll_wake_ms`] or when something happens.
/// For one peer and one tree there is one sync at a time; what changes meanwhile makes another one
/// due. Failures wait with [`Backoff`], for ever if need be.
#[derive(Debug)]
pub struct Schedule<P> {
    lanes: BTreeMap<(P, TreeId), Lane>,
    policy: BackoffPolicy,
    running: usize,
}

#[derive(Debug)]
struct Lane {
    backoff: Backoff,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Waits until a time.
    Waits { next_ms: u64, cause: Cause },
    /// A sync is under way; `again` if another one is due behind it.
    Running {
        cause: Cause,
        again: bool,
        unfollowed: bool,
    },
}

impl<P: Copy + Ord> Schedule<P> {
    /// Makes a schedule with nothing to do.
    pub fn new(policy: BackoffPolicy) -> Self {
        Self {
            lanes: BTreeMap::new(),
            policy,
            running: 0,
        }
    }

    /// Keeps a tree equal with a peer from here on. The first sync is due at once. `seed` decides
    /// the jitter of the waits.
    pub fn handle_follow(&mut self, peer: P, tree: TreeId, seed: u64) {
        let policy = self.policy;
        let lane = self.lanes.entry((peer, tree)).or_insert_with(|| Lane {
            backoff: Backoff::new(policy, seed),
            state: State::Waits {
                next_ms: 0,
                cause: Cause::Change,
            },
        });
        if let State::Running { unfollowed, .. } = &mut lane.state {
            *unfollowed = false;
        }
    }

    /// Stops to keep a tree equal with a peer. A sync under way goes on to its end.
    pub fn handle_unfollow(&mut self, peer: P, tree: TreeId) {
        match self
            .lanes
            .get_mut(&(peer, tree))
            .map(|lane| &mut lane.state)
        {
            Some(State::Running { unfollowed, .. }) => *unfollowed = true,
            Some(State::Waits { .. }) => {
                self.lanes.remove(&(peer, tree));
            }
            None => {}
        }
    }

    /// Takes note that entries of `tree` were stored, which came from the peer `from` or were
    /// written here. Everybody else is told; `from` knows them.
    pub fn handle_stored(&mut self, tree: TreeId, from: Option<P>) {
        for ((peer, of), lane) in &mut self.lanes {
            if *of != tree || Some(*peer) == from {
                continue;
            }
            match &mut lane.state {
                State::Running { again, .. } => *again = true,
                // Whoever fails is told when the wait is over, not before.
                State::Waits { next_ms, cause } => {
                    *cause = Cause::Change;
                    if lane.backoff.failures() == 0 {
                        *next_ms = 0;
                    }
                }
            }
        }
    }

    /// Takes note that a peer was heard from: if it was failing, it is tried at once.
    pub fn handle_heard(&mut self, peer: P) {
        for ((of, _), lane) in &mut self.lanes {
            if *of == peer && lane.backoff.failures() > 0 {
                lane.backoff.handle_success();
                if let State::Waits { next_ms, .. } = &mut lane.state {
                    *next_ms = 0;
                }
            }
        }
    }

    /// Takes note that a sync which [`Schedule::poll_start`] gave has ended.
    pub fn handle_ended(&mut self, peer: P, tree: TreeId, succeeded: bool, now_ms: u64) {
        let Some(lane) = self.lanes.get_mut(&(peer, tree)) else {
            return;
        };
        let State::Running {
            cause,
            again,
            unfollowed,
        } = lane.state
        else {
            return;
        };
        self.running -= 1;
        if unfollowed {
            self.lanes.remove(&(peer, tree));
            return;
        }
        lane.state = if succeeded {
            lane.backoff.handle_success();
            if again {
                State::Waits {
                    next_ms: now_ms,
                    cause: Cause::Change,
                }
            } else {
                let next_ms = now_ms.saturating_add(CHECK_INTERVAL_MS);
                State::Waits {
                    next_ms,
                    cause: Cause::Check,
                }
            }
        } else {
            lane.backoff.handle_failure(now_ms);
            let next_ms = lane.backoff.poll_ready(now_ms).err().unwrap_or(now_ms);
            State::Waits {
                next_ms,
                cause: if again { Cause::Change } else { cause },
            }
        };
    }

    /// Returns a sync to begin, if one is due and there is room: the one that has been due longest.
    pub fn poll_start(&mut self, now_ms: u64) -> Option<(P, TreeId, Cause)> {
        if self.running >= RUNNING_MAX {
            return None;
        }
        let waiting = self
            .lanes
            .iter_mut()
            .filter_map(|(key, lane)| match lane.state {
                State::Waits { next_ms, cause } if next_ms <= now_ms => {
                    Some((next_ms, *key, cause, lane))
                }
                State::Waits { .. } | State::Running { .. } => None,
            });
        let (_, (peer, tree), cause, lane) =
            waiting.min_by_key(|(next_ms, key, ..)| (*next_ms, *key))?;
        lane.state = State::Running {
            cause,
            again: false,
            unfollowed: false,
        };
        self.running += 1;
        Some((peer, tree, cause))
    }

    /// Returns when the next sync is due, in milliseconds, if nothing happens before.
    pub fn poll_wake_ms(&self) -> Option<u64> {
        if self.running >= RUNNING_MAX {
            return None;
        }
        let waits = self.lanes.values().filter_map(|lane| match lane.state {
            State::Waits { next_ms, .. } => Some(next_ms),
            State::Running { .. } => None,
        });
        waits.min()
    }

    /// Lists how it stands with each peer and tree.
    pub fn statuses(&self, now_ms: u64) -> impl Iterator<Item = (P, TreeId, PeerStatus)> + '_ {
        self.lanes.iter().map(move |((peer, tree), lane)| {
            let failures = lane.backoff.failures();
            let status = match lane.state {
                State::Running { .. } => PeerStatus::Running,
                State::Waits { next_ms, .. } if next_ms <= now_ms => PeerStatus::Due,
                State::Waits { next_ms, .. } if failures > 0 => {
                    PeerStatus::Failing { failures, next_ms }
                }
                State::Waits { next_ms, .. } => PeerStatus::Settled { next_ms },
            };
            (*peer, *tree, status)
        })
    }
}

#[cfg(test)]
mod tests {
    use eidetica_dag::EntryId;

    use super::*;

    fn tree(n: u8) -> TreeId {
        TreeId::from_root(EntryId::from_bytes([n; 32]))
    }

    fn following(peers: &[u8]) -> Schedule<u8> {
        let mut schedule = Schedule::new(BackoffPolicy::default());
        for peer in peers {
            schedule.handle_follow(*peer, tree(1), u64::from(*peer));
        }
        schedule
    }

    fn started(schedule: &mut Schedule<u8>, now_ms: u64) -> Vec<u8> {
        std::iter::from_fn(|| schedule.poll_start(now_ms))
            .map(|(peer, ..)| peer)
            .collect()
    }

    #[test]
    fn a_change_is_told_to_everybody_but_its_origin() {
        let mut schedule = following(&[1, 2, 3]);
        assert_eq!(started(&mut schedule, 0), [1, 2, 3]);
        (1..=3).for_each(|peer| schedule.handle_ended(peer, tree(1), true, 10));
        assert_eq!(started(&mut schedule, 10), []);
        schedule.handle_stored(tree(2), None);
        assert_eq!(started(&mut schedule, 11), []);
        schedule.handle_stored(tree(1), Some(2));
        assert_eq!(started(&mut schedule, 11), [1, 3]);
    }

    #[test]
    fn one_sync_at_a_time_and_another_behind_it() {
        let mut schedule = following(&[1]);
        assert_eq!(started(&mut schedule, 0), [1]);
        schedule.handle_stored(tree(1), None);
        schedule.handle_stored(tree(1), None);
        assert_eq!(started(&mut schedule, 5), []);
        schedule.handle_ended(1, tree(1), true, 6);
        assert_eq!(schedule.poll_start(6), Some((1, tree(1), Cause::Change)));
        schedule.handle_ended(1, tree(1), true, 7);
        assert_eq!(started(&mut schedule, 8), []);
    }

    #[test]
    fn equal_trees_are_compared_now_and_then() {
        let mut schedule = following(&[1]);
        started(&mut schedule, 0);
        schedule.handle_ended(1, tree(1), true, 100);
        let due_ms = 100 + CHECK_INTERVAL_MS;
        assert_eq!(schedule.poll_wake_ms(), Some(due_ms));
        assert_eq!(schedule.poll_start(due_ms - 1), None);
        assert_eq!(
            schedule.poll_start(due_ms),
            Some((1, tree(1), Cause::Check))
        );
    }

    #[test]
    fn failures_back_off_for_ever_and_never_give_up() {
        let mut schedule = following(&[1]);
        let mut now_ms = 0;
        let mut waits = Vec::new();
        for failures in 1..=40 {
            assert_eq!(started(&mut schedule, now_ms), [1]);
            schedule.handle_ended(1, tree(1), false, now_ms);
            // News do not hurry a peer that fails.
            schedule.handle_stored(tree(1), None);
            let next_ms = schedule.poll_wake_ms().expect("it never gives up");
            let status = schedule.statuses(now_ms).next().expect("it is followed").2;
            assert_eq!(status, PeerStatus::Failing { failures, next_ms });
            waits.push(next_ms - now_ms);
            now_ms = next_ms;
        }
        let cap_ms = BackoffPolicy::default().cap_ms;
        assert!(
            waits[0] <= 500 && waits[39] > cap_ms / 2 - 1 && waits[39] <= cap_ms,
            "{waits:?}"
        );
    }

    #[test]
    fn a_peer_that_is_heard_from_is_tried_at_once() {
        let mut schedule = following(&[1, 2]);
        started(&mut schedule, 0);
        schedule.handle_ended(1, tree(1), false, 0);
        schedule.handle_ended(2, tree(1), false, 0);
        schedule.handle_heard(2);
        assert_eq!(started(&mut schedule, 1), [2]);
    }

    #[test]
    fn nobody_is_followed_any_longer_than_wished() {
        let mut schedule = following(&[1, 2]);
        schedule.handle_unfollow(1, tree(1));
        assert_eq!(started(&mut schedule, 0), [2]);
        schedule.handle_unfollow(2, tree(1));
        schedule.handle_ended(2, tree(1), true, 1);
        assert_eq!(schedule.poll_wake_ms(), None);
        assert_eq!(schedule.statuses(1).count(), 0);
    }

    #[test]
    fn no_more_than_so_many_run_at_a_time() {
        let peers: Vec<u8> = (0..100).collect();
        let mut schedule = following(&peers);
        assert_eq!(started(&mut schedule, 0).len(), RUNNING_MAX);
        assert_eq!(schedule.poll_wake_ms(), None);
        schedule.handle_ended(0, tree(1), true, 1);
        assert_eq!(started(&mut schedule, 1), [RUNNING_MAX as u8]);
    }
}
