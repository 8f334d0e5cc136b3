//! Keeps trees equal with peers by itself: decides which exchange is due, as a machine without a
//! clock.
//!
//! A **lane** is one tree shared with one peer. The coordinator knows of each lane up to which of
//! its own arrivals the peer has everything (`settled`) and up to which place in the peer's log
//! this side has everything (the cursor). From these follow what it asks of its driver: a check
//! of many trees in one small exchange, a full comparison, a push of new entries, a watch of all
//! trees of a peer.
//!
//! # A peer
//!
//! ```text
//!               a check of all trees begins
//!   Unproven ───────────────────────────────▶ Probing ──── any answer ────▶ Proven
//!      ▲  ▲                                      │                            │
//!      │  └──── cut by the coordinator ──────────┤                            │
//!      │                                         ▼                            │
//!      │  backoff over, heard from,          Unreachable ◀── Unreachable ─────┘
//!      └── address, network, retry now ─────────┘
//! ```
//!
//! One probe speaks for all lanes of a peer. A busy peer is paused beside this, which is no failure.
//! An exchange without an answer for [`MUTE_AFTER_MS`] is **mute**: its peer begins no others until
//! it answers, and mute exchanges and probes together hold at most half of all places.
//!
//! # A lane
//!
//! ```text
//!   followed ──▶ Unchecked ── equal ──▶ Resting ── news here ──▶ Due(Push) ──▶ Running
//!                 ▲  │  │                  ▲  ▲                                 │ │ │
//!        wait over│  │  └─ differs ─▶ Due(Compare) ──▶ Running ── success ──────┘ │ │
//!                 │  └─ absent ─▶ Absent ◀──────────────────────── not here ──────┘ │
//!                Held ◀──────────────────────── refused, failed ────────────────────┘
//! ```
//!
//! A lane is `Held` for minutes where the peer refuses or breaks the protocol, and as backoff says otherwise.
//! An `Absent` lane is part of the peer's watch too, which says when the tree can be read; checks at
//! growing intervals find it where no watch can be opened.
//!
//! Each state is one index entry: `Unchecked` and `Absent` lanes are asked about in the next check
//! of the peer, `Due` lanes wait in the peer's queue, `Resting` lanes in the tree's set ordered by
//! what is settled. News of a tree leave that set alone: they raise the tree's arrival count, and
//! [`Coordinator::poll_action`] moves one lane after the other. So every input costs O(log n) for n
//! lanes, and a poll O(log n) for each lane that became due, once for each exchange that made it
//! settled before. Only inputs and actions that list trees cost their length.
//!
//! # The order of calls
//!
//! Call `handle_…` for whatever happens, then [`Coordinator::poll_action`] until it gives nothing,
//! and come back at [`Coordinator::poll_wake`] or when something happens. Times are milliseconds of
//! any clock; one that goes back counts as standing still. Everything that was begun is reported with
//! [`Coordinator::handle_ended`], once; reports about what was forgotten meanwhile are harmless.
//! The same seed and the same calls give the same actions.
//!
//! ```
//! use std::collections::VecDeque;
//!
//! use eidetica_dag::testing::draw;
//! use eidetica_dag::{PublicKey, TreeId};
//! use eidetica_proto::coordinator::{
//!     Action, CheckAnswer, Coordinator, FollowOptions, LaneStatus, Options, Origin, Outcome,
//!     PeerCursor,
//! };
//!
//! /// A driver whose exchanges succeed at once. A real one spawns a task for each action and
//! /// selects over the ends of tasks, its own inputs and a sleep until `poll_wake`.
//! fn drive(coordinator: &mut Coordinator, head: u32, now_ms: u64) -> Vec<&'static str> {
//!     let (mut log, mut ended) = (Vec::new(), VecDeque::new());
//!     let cursor = PeerCursor::new(b"here").expect("short");
//!     loop {
//!         while let Some(action) = coordinator.poll_action(now_ms) {
//!             match action {
//!                 Action::Check { id, trees, .. } => {
//!                     log.push("check");
//!                     let equal = CheckAnswer::Equal { settled: head, cursor };
//!                     ended.push_back((id, Outcome::Checked(vec![equal; trees.len()])));
//!                 }
//!                 Action::Sync { id, .. } | Action::Push { id, .. } | Action::Give { id, .. } => {
//!                     log.push("exchange");
//!                     let cursor = Some(cursor);
//!                     ended.push_back((id, Outcome::Success { settled: head, cursor }));
//!                 }
//!                 // It runs until it is stopped or breaks.
//!                 Action::Watch { .. } => log.push("watch"),
//!                 Action::StopWatch { id } | Action::Abandon { id } => {
//!                     ended.push_back((id, Outcome::Abandoned));
//!                 }
//!                 Action::Swap { peer, .. } => coordinator.handle_swapped(peer, now_ms),
//!                 Action::StatusChanged { .. } => {}
//!             }
//!         }
//!         match ended.pop_front() {
//!             Some((id, outcome)) => coordinator.handle_ended(id, outcome, now_ms),
//!             None => return log,
//!         }
//!     }
//! }
//!
//! let mut coordinator = Coordinator::new(Options::default(), 7);
//! let (peer, tree) = (PublicKey::from_bytes([1; 32]), draw("A-B").tree());
//! coordinator.handle_follow(peer, tree, FollowOptions::default(), 2, 0).expect("there is room");
//! assert_eq!(drive(&mut coordinator, 2, 0), ["check"]);
//! assert_eq!(coordinator.status(peer, tree), Some(LaneStatus::InSync { since_ms: 0 }));
//! let wake_ms = coordinator.poll_wake().expect("the watch is to be opened");
//! assert_eq!(drive(&mut coordinator, 2, wake_ms), ["watch"]);
//!
//! coordinator.handle_stored(tree, 2..3, Origin::Local, 1_000);
//! assert_eq!(drive(&mut coordinator, 3, 1_000), ["exchange"]);
//! assert_eq!(coordinator.reached(peer, tree), Some(3));
//! ```

mod action;
mod begin;
mod checked;
mod ended;
mod greeter;
mod index;
mod inputs;
mod lane;
mod options;
mod peer;
mod spread;
mod status;
mod swap;
#[cfg(test)]
mod tests;
mod timers;
mod watch;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use eidetica_dag::{EntryId, TreeId};

use crate::backoff::Jitter;
pub use action::{
    Action, CURSOR_BYTES_MAX, CheckAnswer, ExchangeId, InboundWatch, LaneStatus, Outcome,
    PeerCursor, PeerId, RefusedReason, UnreachableReason,
};
pub use greeter::{GREETED_MAX, GREETING_TIMEOUT_MS, Greeter};
use lane::{Lane, Need, State, Tree};
use options::{
    ABSENT_SPACING_MS, ABSENT_WAITS, CATCH_UP_SPACING_MS, HEARD_SPACING_MS, REFUSED_WAITS,
    RETRY_AFTER_MIN_MS, SUSPENDED_AFTER_MS,
};
pub use options::{
    CHECK_INTERVAL_MS, CHECK_TREES_MAX, EXCHANGES_MAX, EXCHANGES_PER_PEER_MAX, FollowOptions,
    LANES_MAX, MUTE_AFTER_MS, Options, RETRY_AFTER_MAX_MS, WATCH_TREES_MAX,
};
use peer::{Class, Peer, Reach, Wanted};
use timers::{Timer, Timers};

/// No tree has a lower id.
const FIRST_ID: TreeId = TreeId::from_root(EntryId::from_bytes([0; 32]));

/// Where stored entries came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// They were written here, imported, or brought by a caller without a key.
    Local,
    /// This peer brought them, in whatever exchange.
    Peer(PeerId),
}

/// Too many trees are shared with too many peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at most {0} pairs of a peer and a tree can be followed: unfollow some first")]
pub struct TooManyLanes(pub usize);

/// Decides what to exchange with which peer, and when. See the [module](self) for how to use it.
#[derive(Debug)]
pub struct Coordinator {
    options: Options,
    jitter: Jitter,
    now_ms: u64,
    next_id: u64,
    /// Numbers what waits, in order.
    next_seq: u64,
    lanes: BTreeMap<(PeerId, TreeId), Lane>,
    by_tree: BTreeSet<(TreeId, PeerId)>,
    trees: BTreeMap<TreeId, Tree>,
    peers: BTreeMap<PeerId, Peer>,
    timers: Timers,
    running: BTreeMap<ExchangeId, Running>,
    /// Exchanges under way for lanes that were forgotten: such a lane waits for them if it is
    /// followed again.
    lingering: BTreeMap<(PeerId, TreeId), ExchangeId>,
    places_used: usize,
    /// Probes without an answer that are not mute yet.
    probing: usize,
    /// Mute exchanges that were not abandoned, oldest first.
    mute_in_order: BTreeSet<ExchangeId>,
    proven: BTreeMap<u64, PeerId>,
    unproven: BTreeMap<u64, PeerId>,
    watch_ready: BTreeSet<PeerId>,
    /// Peers with swaps of address records that are due, and those with one under way.
    swap_ready: BTreeSet<PeerId>,
    swapping: BTreeSet<PeerId>,
    /// Counts changes of this node's own addresses.
    swap_round: u64,
    /// Trees with lanes to move, longest waiting first.
    spreading: VecDeque<TreeId>,
    /// A round of catching up goes on with the peer after this one.
    catching_up: Option<Option<PeerId>>,
    caught_up_ms: Option<u64>,
    /// What is to be cut: bounded by what runs, for each is cut once.
    to_cut: VecDeque<Action>,
    changed: BTreeSet<(PeerId, Option<TreeId>)>,
    stopping: bool,
    /// Elementary steps: visited lanes and peers. Tests bound it.
    work: u64,
}

#[derive(Debug)]
struct Running {
    peer: PeerId,
    what: What,
    answered: bool,
    mute: bool,
    probe: bool,
    abandoned: bool,
}

#[derive(Debug, Clone)]
enum What {
    Check {
        trees: Arc<[TreeId]>,
        full: bool,
    },
    Exchange {
        tree: TreeId,
        need: Need,
        /// The arrival count at its beginning.
        head: u32,
    },
    Watch,
}

/// Where a lane goes next.
#[derive(Debug, Clone, Copy)]
enum Next {
    Unchecked,
    Rest,
    Due(Need),
    DueAgain(Need, u64),
    Running(ExchangeId, Need, u64),
    Absent,
    Held(RefusedReason, Option<u64>),
}

impl Coordinator {
    /// Makes a coordinator with nothing to do. `seed` decides the jitter: give each node another.
    pub fn new(options: Options, seed: u64) -> Self {
        let options = Options {
            exchanges_max: options.exchanges_max.max(2),
            exchanges_per_peer_max: options.exchanges_per_peer_max.max(1),
            ..options
        };
        Self {
            options,
            jitter: Jitter(seed),
            now_ms: 0,
            next_id: 1,
            next_seq: 0,
            lanes: BTreeMap::new(),
            by_tree: BTreeSet::new(),
            trees: BTreeMap::new(),
            peers: BTreeMap::new(),
            timers: Timers::default(),
            running: BTreeMap::new(),
            lingering: BTreeMap::new(),
            places_used: 0,
            probing: 0,
            mute_in_order: BTreeSet::new(),
            proven: BTreeMap::new(),
            unproven: BTreeMap::new(),
            watch_ready: BTreeSet::new(),
            swap_ready: BTreeSet::new(),
            swapping: BTreeSet::new(),
            swap_round: 0,
            spreading: VecDeque::new(),
            catching_up: None,
            caught_up_ms: None,
            to_cut: VecDeque::new(),
            changed: BTreeSet::new(),
            stopping: false,
            work: 0,
        }
    }

    /// Returns what to do next, or `None` until something happens or [`Self::poll_wake`] has come.
    pub fn poll_action(&mut self, now_ms: u64) -> Option<Action> {
        self.note_time(now_ms);
        loop {
            if let Some(action) = self.to_cut.pop_front() {
                return Some(action);
            }
            if self.stopping {
                return None;
            }
            if let Some(timer) = self.timers.pop(self.now_ms) {
                self.handle_timer(timer);
                continue;
            }
            if let Some(action) = self.begin_next() {
                return Some(action);
            }
            if let Some(peer) = self.watch_ready.pop_first() {
                match self.begin_watch(peer) {
                    Some(action) => return Some(action),
                    None => continue,
                }
            }
            if self.spread_one() || self.catch_up_one() {
                continue;
            }
            if let Some(action) = self.begin_swap() {
                return Some(action);
            }
            return self.next_change();
        }
    }

    /// Returns when to call [`Self::poll_action`] again at the latest, if nothing happens before.
    pub fn poll_wake(&self) -> Option<u64> {
        let next_ms = self.timers.next_ms();
        next_ms.filter(|_| !self.stopping)
    }

    /// Tells whether nothing is under way: after [`Self::handle_shutdown`], the end.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    fn note_time(&mut self, now_ms: u64) {
        let late = |wake_ms| now_ms > SUSPENDED_AFTER_MS.saturating_add(wake_ms);
        let suspended = now_ms > self.now_ms && self.timers.next_ms().is_some_and(late);
        self.now_ms = self.now_ms.max(now_ms);
        if suspended {
            self.catch_up_soon();
        }
    }

    fn in_ms(&self, wait_ms: u64) -> u64 {
        self.now_ms.saturating_add(wait_ms)
    }

    fn new_id(&mut self) -> ExchangeId {
        self.next_id += 1;
        ExchangeId(self.next_id - 1)
    }

    fn lane_mut(&mut self, peer: PeerId, tree: TreeId) -> Option<&mut Lane> {
        self.work += 1;
        self.lanes.get_mut(&(peer, tree))
    }

    fn peer_mut(&mut self, peer: PeerId) -> Option<&mut Peer> {
        self.work += 1;
        self.peers.get_mut(&peer)
    }

    fn head(&self, tree: TreeId) -> u32 {
        self.trees.get(&tree).map_or(0, |it| it.head)
    }

    fn handle_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Check(peer) => self.check_soon(peer),
            Timer::Absent(peer) => {
                if let Some(of_peer) = self.peer_mut(peer) {
                    of_peer.absent_check = !of_peer.absent.is_empty();
                    self.queue(peer);
                }
            }
            Timer::Retry(peer) => {
                let now_ms = self.now_ms;
                if let Some(of_peer) = self.peer_mut(peer) {
                    of_peer.heard_ms = Some(now_ms);
                }
                self.probe_soon(peer);
            }
            Timer::Pause(peer) => {
                if let Some(of_peer) = self.peer_mut(peer) {
                    of_peer.paused = false;
                    self.queue(peer);
                    self.touch_watch(peer);
                }
            }
            Timer::Watch(peer) => {
                self.watch_ready.insert(peer);
            }
            Timer::Lane(peer, tree) => self.place(peer, tree, Next::Unchecked),
            Timer::Mute(id) => self.note_mute(id),
            Timer::CatchUp => self.catch_up_soon(),
        }
    }
}
