//! What a sync is to do, how far it has come, and how it went.

use serde::Serialize;

use crate::cursor::Cursor;
use crate::receiver::ReceiveCounts;

/// What a sync does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncOptions {
    /// Whether to send the peer what it lacks.
    pub push: bool,
    /// Whether the first request carries a filter. With it one round trip suffices; without it the
    /// request is smaller, which pays where the trees are probably equal.
    pub filter_at_once: bool,
}

impl Default for SyncOptions {
    fn default() -> Self {
        Self {
            push: true,
            filter_at_once: true,
        }
    }
}

/// How a sync ended that came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyncOutcome {
    /// Both sides have the same tips.
    Equal,
    /// This side has all that the peer had; the options said not to send the peer what it lacks.
    Pulled,
    /// This side has all that the peer had; the peer does not let this side write.
    PeerIsReadOnly,
    /// Each side got what the other had at first; one of them went on writing meanwhile.
    MovedOn,
    /// This side has all that the peer had; the peer was not sent what it lacks, because it may not
    /// read the tree or did not prove that it may.
    PeerMayNotRead,
    /// The peer could not store all that it was sent, because it lacks parents: it lost something
    /// while it was asked. The next sync heals that.
    PeerLacksParents,
}

/// How a sync went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How it ended.
    pub outcome: SyncOutcome,
    /// What it cost.
    pub stats: Stats,
    /// A place in the peer's log before which this side has everything.
    #[serde(skip)]
    pub cursor: Cursor,
}

/// What a sync cost. Bytes are those of frames, without what the transport puts around them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Requests until this side had everything.
    pub pull_round_trips: u32,
    /// Requests in all.
    pub round_trips: u32,
    /// Bytes of headers that were sent.
    pub request_bytes: u64,
    /// Bytes of headers and ends of streams that were received.
    pub response_bytes: u64,
    /// Bytes of batches that were received.
    pub received_bytes: u64,
    /// Bytes of batches that were sent.
    pub sent_bytes: u64,
    /// Entries that were received.
    pub received: u64,
    /// Entries that were received and stored.
    pub stored: u64,
    /// Entries that were received and had been stored before.
    pub redundant: u64,
    /// Entries that were sent.
    pub sent: u64,
    /// Entries that the peer stored of those that were sent.
    pub peer_stored: u64,
}

/// How far a sync has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Entries that the peer announced, as far as is known.
    pub expected: u64,
    /// Entries that were received.
    pub received: u64,
    /// Entries that this sync has stored.
    pub stored: u64,
    /// Entries that the peer lacks, as far as is known.
    pub to_send: u64,
}

impl Progress {
    /// Returns the progress of a sync whose receiver has counted `counts`, and whose peer lacks
    /// `to_send` entries.
    pub fn of(counts: ReceiveCounts, to_send: u64) -> Self {
        Self {
            expected: counts.announced,
            received: counts.received,
            stored: counts.stored,
            to_send,
        }
    }
}
