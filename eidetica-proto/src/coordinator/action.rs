//! What the coordinator asks its driver to do, and what the driver reports.

use std::fmt;
use std::sync::Arc;

use eidetica_dag::{PublicKey, TreeId};

use crate::error::ErrorCode;

/// A peer is its key: how it is reached is another matter.
pub type PeerId = PublicKey;

/// Most bytes of a cursor. An arrival number with the identities of its log and of the entry before
/// it takes about 20.
pub const CURSOR_BYTES_MAX: usize = 32;

/// A place in the arrival log of a peer, opaque to this side.
///
/// A node that holds one for a peer and a tree has everything that the peer stored before it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerCursor {
    bytes: [u8; CURSOR_BYTES_MAX],
    len: u8,
}

impl PeerCursor {
    /// Names no place: in a watch, the peer is to say when the tree can be read.
    pub const NONE: Self = Self {
        bytes: [0; CURSOR_BYTES_MAX],
        len: 0,
    };

    /// Wraps the bytes of a cursor. Returns `None` above [`CURSOR_BYTES_MAX`].
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut padded = [0; CURSOR_BYTES_MAX];
        padded.get_mut(..bytes.len())?.copy_from_slice(bytes);
        let len = u8::try_from(bytes.len()).ok()?;
        Some(Self { bytes: padded, len })
    }

    /// Returns the bytes as the peer wrote them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for PeerCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerCursor({:02x?})", self.as_bytes())
    }
}

/// Names one exchange or watch that the coordinator began. Ids grow and are never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExchangeId(pub(super) u64);

/// Names one watch that a peer holds on this node; the server numbers them.
pub type InboundWatch = u64;

/// What the driver does next.
///
/// `Check`, `Sync`, `Push`, `Give` and `Watch` begin something: the driver reports its end with
/// [`Coordinator::handle_ended`](super::Coordinator::handle_ended), exactly once, whatever happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Compare the tip digests of these trees in one small exchange. Ends with
    /// [`Outcome::Checked`]. Also the probe of a peer after a silence.
    Check {
        /// This exchange.
        id: ExchangeId,
        /// Which peer.
        peer: PeerId,
        /// At most [`CHECK_TREES_MAX`](super::CHECK_TREES_MAX), ascending.
        trees: Arc<[TreeId]>,
    },
    /// Compare one tree in full and exchange the missing entries.
    Sync {
        /// This exchange.
        id: ExchangeId,
        /// Which peer.
        peer: PeerId,
        /// Which tree.
        tree: TreeId,
        /// Fetch what this side lacks.
        pull: bool,
        /// Send what the peer lacks.
        push: bool,
    },
    /// Send the entries that arrived here from number `from` on, without asking first, less those
    /// that this very peer brought. The driver looks up which these are when it takes the view that
    /// it sends: by then, the peer may have brought more.
    Push {
        /// This exchange.
        id: ExchangeId,
        /// Which peer.
        peer: PeerId,
        /// Which tree.
        tree: TreeId,
        /// The peer has every entry that arrived here before this number.
        from: u32,
    },
    /// Offer a whole tree to a peer that lacks it.
    Give {
        /// This exchange.
        id: ExchangeId,
        /// Which peer.
        peer: PeerId,
        /// Which tree.
        tree: TreeId,
    },
    /// Open a watch of these trees in place of the one that runs, if any.
    Watch {
        /// This watch.
        id: ExchangeId,
        /// Which peer.
        peer: PeerId,
        /// At most [`WATCH_TREES_MAX`](super::WATCH_TREES_MAX), ascending. Trees that the peer lacks
        /// or does not show have [`PeerCursor::NONE`].
        trees: Vec<(TreeId, PeerCursor)>,
        /// The watch to close once this one is open. Its end is reported too.
        replaces: Option<ExchangeId>,
    },
    /// Close a watch and report its end.
    StopWatch {
        /// The watch.
        id: ExchangeId,
    },
    /// Cut an exchange and report its end, at best with [`Outcome::Abandoned`].
    Abandon {
        /// The exchange.
        id: ExchangeId,
    },
    /// Swap the address records of a tree with a peer, and learn from the answer. Its end is reported
    /// with [`Coordinator::handle_swapped`](super::Coordinator::handle_swapped), exactly once,
    /// whatever happens; it says nothing about the peer.
    Swap {
        /// Which peer.
        peer: PeerId,
        /// Which tree.
        tree: TreeId,
    },
    /// Tell programs that a status or what a peer is known to have changed.
    StatusChanged {
        /// Which peer.
        peer: PeerId,
        /// Which tree. `None`: perhaps all that are shared with the peer.
        tree: Option<TreeId>,
    },
}

/// What a check found about one tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckAnswer {
    /// Both sides have the same entries.
    Equal {
        /// How many entries had arrived here when the digest was taken.
        settled: u32,
        /// The peer's place at its answer.
        cursor: PeerCursor,
    },
    /// The sides differ.
    Differs,
    /// The peer lacks the tree or does not let this node read it: it does not say which.
    Absent,
}

/// Why a peer cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnreachableReason {
    /// No address of it is known.
    NoAddress,
    /// No connection could be made.
    NoConnection,
    /// It accepted and did not answer in time.
    NoAnswer,
    /// The connection broke while the exchange was under way.
    ConnectionLost,
    /// Another peer answered at every address.
    WrongPeer,
    /// It answered against the rules of the protocol, or in none of its versions.
    BrokenPeer,
}

/// How an exchange or a watch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A `Sync`, `Push` or `Give` did what it was for, or a `Watch` was closed in good order.
    Success {
        /// The peer has every entry that arrived here before this number: the arrival count of the
        /// view that the peer acknowledged in full.
        settled: u32,
        /// The peer's place before which this side has everything. After a push that is so only if
        /// the acknowledged tip digest equals this side's; else `None`.
        cursor: Option<PeerCursor>,
    },
    /// A `Check` was answered, with one answer for each tree in the order in which they were asked.
    Checked(Vec<CheckAnswer>),
    /// The peer lacks parents of what it was sent, or moved on: compare in full.
    CompareFirst,
    /// The peer is busy and asks for this pause, in milliseconds. No failure.
    RetryAfter(u64),
    /// The peer could not be reached at any address: a failure of the peer, not of the tree.
    Unreachable(UnreachableReason),
    /// The peer lacks the tree or does not let this node read it. No failure of the peer.
    NotHere,
    /// The peer refused what this node may not do, such as a push from a reader.
    Refused {
        /// Why.
        code: ErrorCode,
        /// As in [`Outcome::Success`], where the part that was allowed went through.
        cursor: Option<PeerCursor>,
    },
    /// This exchange failed for a reason of its own that may pass, such as a fault of the store.
    Failed,
    /// The peer broke a rule of the protocol, or what it said was altered on the way.
    Broken,
    /// It was cut because the coordinator said so.
    Abandoned,
}

/// Why a lane waits although its peer can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusedReason {
    /// The peer refused with this code.
    Code(ErrorCode),
    /// The exchange failed for a reason of its own.
    Failed,
    /// The peer broke a rule of the protocol, or what it said was altered on the way.
    Broken,
}

/// The state of one tree with one peer, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneStatus {
    /// Both sides have the same, as far as is known.
    InSync {
        /// When that became known, in milliseconds of the driver's clock.
        since_ms: u64,
    },
    /// The peer has, or may have, entries that are not here.
    Behind,
    /// Entries are here that the peer is not known to have.
    Ahead {
        /// How many.
        entries: u32,
    },
    /// An exchange is under way.
    Syncing,
    /// The peer cannot be reached.
    Unreachable {
        /// Why the last attempt failed.
        reason: UnreachableReason,
        /// When the next one is made, in milliseconds of the driver's clock.
        next_ms: u64,
    },
    /// The peer is there and this tree is not exchanged.
    Refused {
        /// Why.
        reason: RefusedReason,
        /// When it is tried again, in milliseconds of the driver's clock, if by itself.
        next_ms: Option<u64>,
    },
    /// The peer lacks the tree or does not let this node read it.
    WaitingForAccess,
}
