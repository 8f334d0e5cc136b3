//! How keeping equal is bounded and paced.

use crate::backoff::BackoffPolicy;

/// Time between two checks of all trees shared with a peer, in milliseconds, before jitter. News
/// travel at once; this heals what was lost on the way.
pub const CHECK_INTERVAL_MS: u64 = 60_000;

/// Exchanges under way in all. Each keeps a few batches in memory.
pub const EXCHANGES_MAX: usize = 64;

/// Exchanges under way with one peer: fewer than the 8 that a server of this project allows one
/// key, so that a watch and what a program asks for itself have room.
pub const EXCHANGES_PER_PEER_MAX: usize = 6;

/// Most lanes: at about half a KiB each they take 128 MiB.
pub const LANES_MAX: usize = 262_144;

/// Most trees in one check: 40 bytes each, so 640 KiB fit in a frame of 1 MiB.
pub const CHECK_TREES_MAX: usize = 16_384;

/// Most trees in one watch: as many as in a check. Trees beyond it are left to pushes and checks.
pub const WATCH_TREES_MAX: usize = 16_384;

/// Time without an answer after which an exchange is mute, in milliseconds: a peer that is there
/// answers in far less even across the world and under load.
pub const MUTE_AFTER_MS: u64 = 1_000;

/// Longest pause that a busy peer can ask for, in milliseconds: a peer cannot silence this side for
/// longer than a check interval.
pub const RETRY_AFTER_MAX_MS: u64 = 60_000;

/// Shortest pause after a busy answer, in milliseconds, so that an answer of zero is no loop.
pub(super) const RETRY_AFTER_MIN_MS: u64 = 20;

/// How often trees are asked for that a peer lacks or does not show: soon at first, when an admin
/// may be sitting beside it, and twice a minute in the end. One check asks for all of them.
pub(super) const ABSENT_WAITS: BackoffPolicy = BackoffPolicy {
    base_ms: 1_000,
    factor: 2,
    cap_ms: 30_000,
};

/// Shortest time between checks for absent trees that news cause, in milliseconds: many writes to a
/// tree that a peer lacks cost one small exchange a second.
pub(super) const ABSENT_SPACING_MS: u64 = 1_000;

/// How often a lane is tried that was refused, or whose peer broke the protocol: roles change rarely, and
/// their changes end the wait; programs change even more rarely.
pub(super) const REFUSED_WAITS: BackoffPolicy = BackoffPolicy {
    base_ms: 60_000,
    factor: 4,
    cap_ms: 3_600_000,
};

/// Shortest time between probes that are made because a peer was heard from, in milliseconds: a
/// peer that reaches this node may be behind a gate that does not let this node reach it.
pub(super) const HEARD_SPACING_MS: u64 = 1_000;

/// Shortest time between rounds of catching up, in milliseconds: network interfaces come and go in
/// bursts.
pub(super) const CATCH_UP_SPACING_MS: u64 = 1_000;

/// A driver that comes back this long after the time it was asked to, in milliseconds, was
/// suspended. A loaded one is late by less.
pub(super) const SUSPENDED_AFTER_MS: u64 = 10_000;

/// How keeping equal is bounded and paced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Time between two checks of all trees shared with a peer, in milliseconds. Each is drawn
    /// within a quarter of it, so that peers that began together do not come together.
    pub check_interval_ms: u64,
    /// Waits after failures to reach a peer.
    pub backoff: BackoffPolicy,
    /// Exchanges under way in all; at least 2.
    pub exchanges_max: usize,
    /// Exchanges under way with one peer; at least 1.
    pub exchanges_per_peer_max: usize,
    /// Most lanes.
    pub lanes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            check_interval_ms: CHECK_INTERVAL_MS,
            backoff: BackoffPolicy::default(),
            exchanges_max: EXCHANGES_MAX,
            exchanges_per_peer_max: EXCHANGES_PER_PEER_MAX,
            lanes_max: LANES_MAX,
        }
    }
}

/// What a lane is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowOptions {
    /// Fetch what the peer has.
    pub pull: bool,
    /// Send what the peer lacks.
    pub push: bool,
    /// Offer the tree if the peer lacks it. It has an effect only with `push`.
    pub give: bool,
}

impl Default for FollowOptions {
    /// Pulls and pushes, and gives nothing that the peer did not have.
    fn default() -> Self {
        Self {
            pull: true,
            push: true,
            give: false,
        }
    }
}
