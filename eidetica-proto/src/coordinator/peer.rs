//! What is known of one peer.

use std::collections::{BTreeMap, BTreeSet};

use eidetica_dag::TreeId;

use super::action::{ExchangeId, InboundWatch, UnreachableReason};

/// What the peer's watch is to do for a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Nothing,
    /// Say when the tree can be read.
    Arrival,
    /// Bring new entries.
    News,
}

/// Whether a peer can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Not known: the next exchange with it is a check of all trees, and the only one.
    Unproven,
    /// That check runs.
    Probing(ExchangeId),
    /// It answered last.
    Proven,
    /// It did not: the timer `Retry` ends this.
    Unreachable {
        reason: UnreachableReason,
        next_ms: u64,
    },
}

/// Which queue of peers with something to do one waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Proven,
    Unproven,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) lanes: usize,
    pub(super) reach: Reach,
    pub(super) failures: u32,
    /// Why it could not be reached, until it answers again.
    pub(super) away: Option<UnreachableReason>,
    /// Exchanges begun before this one do not count as further failures.
    pub(super) failed_before: ExchangeId,
    /// When a probe was last made after a failure.
    pub(super) heard_ms: Option<u64>,
    /// It was heard from while the probe that runs was under way: if the probe fails, another one
    /// is worth more than a wait.
    pub(super) heard_in_probe: bool,
    pub(super) paused: bool,
    /// How many exchanges it lets run at a time, as far as is known.
    pub(super) places: usize,
    /// Exchanges under way, watches apart.
    pub(super) running: BTreeSet<ExchangeId>,
    /// One of them became mute after the peer last answered.
    pub(super) stuck: bool,
    /// Lanes that need an exchange, longest waiting first.
    pub(super) due: BTreeMap<u64, TreeId>,
    pub(super) unchecked: BTreeSet<TreeId>,
    pub(super) absent: BTreeSet<TreeId>,
    /// How many checks in a row left trees absent.
    pub(super) absent_checks: u32,
    pub(super) absent_check_ms: Option<u64>,
    pub(super) checking: Option<ExchangeId>,
    /// A check of all trees is due, from the one after `full_after` on.
    pub(super) full_check: bool,
    pub(super) full_after: Option<TreeId>,
    pub(super) absent_check: bool,
    /// Trees to watch: those pulled whose cursor is known.
    pub(super) watchable: BTreeSet<TreeId>,
    /// Trees that the peer lacked: its watch is to say when they can be read.
    pub(super) awaited: BTreeSet<TreeId>,
    pub(super) watch: Option<ExchangeId>,
    pub(super) watch_trees: usize,
    pub(super) watch_begun_ms: Option<u64>,
    /// The watch that runs is to be replaced: other trees, or a doubt whether it lives.
    pub(super) watch_dirty: bool,
    pub(super) watch_failures: u32,
    /// No watch is opened before.
    pub(super) watch_from_ms: u64,
    /// The peer's watch of this node, and how many lanes are part of it.
    pub(super) inbound: Option<InboundWatch>,
    pub(super) inbound_lanes: usize,
    pub(super) queued: Option<(Class, u64)>,
    /// Trees of which address records are to be swapped.
    pub(super) swaps: BTreeSet<TreeId>,
    /// The last tree of the round before, the change of own addresses that it told, and when the next
    /// one is due.
    pub(super) swap_after: Option<TreeId>,
    pub(super) swap_round: Option<u64>,
    pub(super) swap_from_ms: u64,
}

impl Peer {
    pub(super) fn new(places: usize) -> Self {
        Self {
            lanes: 0,
            reach: Reach::Unproven,
            failures: 0,
            away: None,
            failed_before: ExchangeId(0),
            heard_ms: None,
            heard_in_probe: false,
            paused: false,
            places,
            running: BTreeSet::new(),
            stuck: false,
            due: BTreeMap::new(),
            unchecked: BTreeSet::new(),
            absent: BTreeSet::new(),
            absent_checks: 0,
            absent_check_ms: None,
            checking: None,
            full_check: true,
            full_after: None,
            absent_check: false,
            watchable: BTreeSet::new(),
            awaited: BTreeSet::new(),
            watch: None,
            watch_trees: 0,
            watch_begun_ms: None,
            watch_dirty: false,
            watch_failures: 0,
            watch_from_ms: 0,
            inbound: None,
            inbound_lanes: 0,
            queued: None,
            swaps: BTreeSet::new(),
            swap_after: None,
            swap_round: None,
            swap_from_ms: 0,
        }
    }

    /// How many trees the next watch is to have.
    pub(super) fn watch_wanted(&self) -> usize {
        self.watchable.len() + self.awaited.len()
    }

    pub(super) fn wants_check(&self) -> bool {
        let wanted = self.full_check || self.absent_check || !self.unchecked.is_empty();
        wanted && self.checking.is_none()
    }

    /// Returns the queue in which the peer waits to begin an exchange, if it may begin one.
    pub(super) fn class(&self, places_max: usize) -> Option<Class> {
        if self.lanes == 0 || self.paused {
            return None;
        }
        match self.reach {
            // One place beyond the others: a probe finds out whether those that hang still matter.
            Reach::Unproven if self.running.len() <= places_max => Some(Class::Unproven),
            Reach::Proven if self.running.len() < self.places && !self.stuck => {
                (self.wants_check() || !self.due.is_empty()).then_some(Class::Proven)
            }
            _ => None,
        }
    }
}
