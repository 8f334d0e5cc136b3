//! What is known of one tree shared with one peer, and of one tree.

use std::collections::BTreeSet;
use std::ops::Range;

use super::action::{ExchangeId, InboundWatch, PeerCursor, PeerId, RefusedReason};

/// Most ranges of arrivals that are remembered as brought by a peer beyond the settled ones. Above
/// it the oldest are forgotten, which costs a redundant entry and nothing else.
const BROUGHT_RANGES_MAX: usize = 4;

/// What a lane needs an exchange for; a greater one does the work of a smaller one as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    Push,
    Compare,
    Give,
}

/// Where a lane is. Exactly one index of the coordinator lists it, according to its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// A check is to compare it: listed in the peer's `unchecked` until one is begun.
    Unchecked,
    /// Nothing to do. Listed in the tree's `resting` under this number if news are to be pushed.
    Resting { listed: Option<u32> },
    /// Listed in the peer's `due` under this number.
    Due { seq: u64, need: Need },
    /// An exchange runs; `again` tells what another one is needed for.
    Running {
        id: ExchangeId,
        need: Need,
        seq: u64,
        again: Option<Need>,
    },
    /// The peer does not have the tree for this node: listed in the peer's `absent`. The next watch
    /// asks it to say when it does.
    Absent,
    /// Waits for reasons of its own: listed in the tree's `held`.
    Held {
        reason: RefusedReason,
        next_ms: Option<u64>,
    },
}

/// One tree shared with one peer.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) pull: bool,
    pub(super) push: bool,
    pub(super) give: bool,
    pub(super) state: State,
    /// The peer has every entry that arrived here before this number.
    pub(super) settled: u32,
    /// Arrivals beyond `settled` that the peer brought itself, ascending and apart.
    pub(super) brought: Vec<Range<u32>>,
    pub(super) cursor: Option<PeerCursor>,
    /// How many exchanges failed in a row for reasons of the lane.
    pub(super) failures: u32,
    /// The same for refusals, whose waits are longer.
    pub(super) refusals: u32,
    /// The peer's watch said that the tree can be read, and no exchange or check has told since
    /// whether that is so. Such a lane is not awaited again at once, so that a lie is no loop.
    pub(super) announced: bool,
    /// The watch that this lane was last opened in.
    pub(super) watch: Option<ExchangeId>,
    /// The peer's watch of this node that this lane was last part of.
    pub(super) inbound: Option<InboundWatch>,
    /// Exchanges begun before this one cannot tell that the lane differs.
    pub(super) fresh_from: ExchangeId,
    /// The tree was offered since something last changed.
    pub(super) given: bool,
    pub(super) since_ms: u64,
    /// What programs were last told: the kind of the status and `settled`.
    pub(super) reported: Option<(u8, u32)>,
}

impl Lane {
    /// Notes that the peer has every entry that arrived here before `settled`. Tells whether that
    /// is news.
    pub(super) fn settle(&mut self, settled: u32) -> bool {
        let before = self.settled;
        self.settled = before.max(settled);
        while let Some(first) = self.brought.first()
            && first.start <= self.settled
        {
            self.settled = self.settled.max(first.end);
            self.brought.remove(0);
        }
        self.settled > before
    }

    /// Notes that the peer brought these arrivals.
    pub(super) fn bring(&mut self, arrivals: Range<u32>) {
        match self.brought.last_mut() {
            Some(last) if arrivals.start <= last.end && arrivals.start >= last.start => {
                last.end = last.end.max(arrivals.end);
            }
            _ => {
                self.brought.push(arrivals);
                self.brought.sort_by_key(|range| range.start);
                if self.brought.len() > BROUGHT_RANGES_MAX {
                    self.brought.remove(0);
                }
            }
        }
        self.settle(0);
    }

    /// Counts the arrivals before `head` that the peer is not known to have.
    pub(super) fn ahead(&self, head: u32) -> u32 {
        let brought: u32 = self
            .brought
            .iter()
            .map(|range| range.end.min(head).saturating_sub(range.start))
            .sum();
        head.saturating_sub(self.settled).saturating_sub(brought)
    }
}

/// One tree, with all lanes that share it.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) lanes: usize,
    /// How many entries have arrived here.
    pub(super) head: u32,
    /// Lanes at rest that get news pushed, by the number that is settled: those below `head` are to
    /// be pushed to. News leave this set as it is, so they cost the same for any number of lanes;
    /// each lane is then moved once, for the exchange that follows.
    pub(super) resting: BTreeSet<(u32, PeerId)>,
    /// Lanes whose peer lacked the tree, and was not asked again since it changed.
    pub(super) absent: BTreeSet<PeerId>,
    /// Lanes that wait for reasons of their own.
    pub(super) held: BTreeSet<PeerId>,
    /// The absent lanes are to be asked about.
    pub(super) stirred: bool,
    /// The held lanes are to be tried.
    pub(super) approved: bool,
    /// Is in the queue of trees with something to spread.
    pub(super) spreading: bool,
}
