//! Deadlines in order, at most one for each thing that waits.

use std::collections::{BTreeMap, BTreeSet};

use eidetica_dag::TreeId;

use super::action::{ExchangeId, PeerId};

/// What waits for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The next check of all trees.
    Check(PeerId),
    /// The next check of the trees that the peer lacked.
    Absent(PeerId),
    /// The end of a peer's backoff.
    Retry(PeerId),
    /// The end of the pause that a busy peer asked for.
    Pause(PeerId),
    /// The watch is opened, or opened anew with other trees.
    Watch(PeerId),
    /// The end of a wait of one lane.
    Lane(PeerId, TreeId),
    /// An exchange that has not been answered by then counts as mute.
    Mute(ExchangeId),
    /// The next round of catching up.
    CatchUp,
}

/// Deadlines in order. Every call costs O(log n).
#[derive(Debug, Default)]
pub(super) struct Timers {
    in_order: BTreeSet<(u64, Timer)>,
    deadlines: BTreeMap<Timer, u64>,
}

impl Timers {
    /// Sets a deadline in place of the one before.
    pub(super) fn set(&mut self, timer: Timer, at_ms: u64) {
        self.clear(timer);
        self.in_order.insert((at_ms, timer));
        self.deadlines.insert(timer, at_ms);
    }

    /// Sets a deadline unless an earlier one is set.
    pub(super) fn set_sooner(&mut self, timer: Timer, at_ms: u64) {
        if self.get(timer).is_none_or(|set_ms| at_ms < set_ms) {
            self.set(timer, at_ms);
        }
    }

    pub(super) fn get(&self, timer: Timer) -> Option<u64> {
        self.deadlines.get(&timer).copied()
    }

    pub(super) fn clear(&mut self, timer: Timer) {
        if let Some(at_ms) = self.deadlines.remove(&timer) {
            self.in_order.remove(&(at_ms, timer));
        }
    }

    /// Takes the first deadline that has passed.
    pub(super) fn pop(&mut self, now_ms: u64) -> Option<Timer> {
        let (at_ms, timer) = *self.in_order.first()?;
        if at_ms > now_ms {
            return None;
        }
        self.clear(timer);
        Some(timer)
    }

    pub(super) fn next_ms(&self) -> Option<u64> {
        self.in_order.first().map(|(at_ms, _)| *at_ms)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.deadlines.len()
    }
}
