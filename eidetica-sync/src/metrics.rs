//! What a node counts and measures, through the facade of the [`metrics`](https://docs.rs/metrics)
//! crate: a program installs the recorder that it likes.
//!
//! The recorder is global, so several nodes of a process count together.
//!
//! | name | kind | unit | labels |
//! |---|---|---|---|
//! | [`ENTRIES_STORED`] | counter | entries | `origin`: `local`, `pulled`, `pushed`, `watched`, `caller` |
//! | [`EXCHANGES`] | counter | exchanges | `kind`, `outcome` |
//! | [`EXCHANGE_SECONDS`] | histogram | seconds | `kind` |
//! | [`REQUESTS`] | counter | requests | `kind` |
//! | [`REQUESTS_REFUSED`] | counter | requests | `code` |
//! | [`FOLLOWED`] | gauge | pairs of a peer and a tree | `state` |
//! | [`KNOWN_PEERS`] | gauge | peers | |
//! | [`DUPLICATE_KEYS`] | gauge | keys | |
//!
//! Counters and histograms are recorded as things happen, gauges by
//! [`Node::record_gauges`](crate::Node::record_gauges). No label carries a key, an address or the id of
//! a tree, so the number of series is bounded, and metrics reveal nothing about them.

use std::time::Duration;

use ::metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram};
use ::metrics::{gauge, histogram};
use eidetica_proto::ErrorCode;
use eidetica_proto::coordinator::{LaneStatus, Outcome};
use eidetica_proto::message::Request;

/// Counts entries that were stored, by how they came.
pub const ENTRIES_STORED: &str = "eidetica_entries_stored_total";

/// Counts exchanges and watches that this node began and that have ended, by `kind` (`check`, `sync`,
/// `push`, `give`, `watch`) and `outcome` (`success`, `compare_first`, `busy`, `unreachable`,
/// `not_here`, `refused`, `failed`, `abandoned`).
pub const EXCHANGES: &str = "eidetica_exchanges_total";

/// Measures how long exchanges took that succeeded, in seconds; watches are left out.
pub const EXCHANGE_SECONDS: &str = "eidetica_exchange_seconds";

/// Counts requests of peers by `kind`, whatever their answer.
pub const REQUESTS: &str = "eidetica_requests_total";

/// Counts requests of peers that were refused, by the `code` of the refusal.
pub const REQUESTS_REFUSED: &str = "eidetica_requests_refused_total";

/// How many pairs of a peer and a tree are followed, by `state` (`in_sync`, `behind`, `ahead`,
/// `syncing`, `unreachable`, `refused`, `waiting_for_access`).
pub const FOLLOWED: &str = "eidetica_followed";

/// How many peers the peer book has.
pub const KNOWN_PEERS: &str = "eidetica_known_peers";

/// How many keys were noticed to be in use on two machines at once.
pub const DUPLICATE_KEYS: &str = "eidetica_duplicate_keys";

/// The states of [`FOLLOWED`].
const STATES: [&str; 7] = [
    "in_sync",
    "behind",
    "ahead",
    "syncing",
    "unreachable",
    "refused",
    "waiting_for_access",
];

/// Describes all metrics to the recorder that is installed.
pub fn describe() {
    describe_counter!(ENTRIES_STORED, Unit::Count, "Entries that were stored");
    describe_counter!(
        EXCHANGES,
        Unit::Count,
        "Exchanges begun here that have ended"
    );
    describe_histogram!(
        EXCHANGE_SECONDS,
        Unit::Seconds,
        "How long exchanges took that succeeded"
    );
    describe_counter!(REQUESTS, Unit::Count, "Requests of peers");
    describe_counter!(
        REQUESTS_REFUSED,
        Unit::Count,
        "Requests of peers that were refused"
    );
    describe_gauge!(
        FOLLOWED,
        Unit::Count,
        "Pairs of a peer and a tree that are followed"
    );
    describe_gauge!(KNOWN_PEERS, Unit::Count, "Peers in the peer book");
    describe_gauge!(
        DUPLICATE_KEYS,
        Unit::Count,
        "Keys that are in use on two machines at once"
    );
}

/// Counts entries that were stored.
pub(crate) fn stored(entries: usize, origin: &'static str) {
    counter!(ENTRIES_STORED, "origin" => origin).increment(entries as u64);
}

/// Counts an exchange that has ended.
pub(crate) fn exchange_ended(kind: &'static str, outcome: &Outcome, took: Duration) {
    let is_success = matches!(outcome, Outcome::Success { .. } | Outcome::Checked(_));
    let outcome = match outcome {
        Outcome::Success { .. } | Outcome::Checked(_) => "success",
        Outcome::CompareFirst => "compare_first",
        Outcome::RetryAfter(_) => "busy",
        Outcome::Unreachable(_) => "unreachable",
        Outcome::NotHere => "not_here",
        Outcome::Refused { .. } | Outcome::Broken => "refused",
        Outcome::Failed => "failed",
        Outcome::Abandoned => "abandoned",
    };
    counter!(EXCHANGES, "kind" => kind, "outcome" => outcome).increment(1);
    if is_success && kind != "watch" {
        histogram!(EXCHANGE_SECONDS, "kind" => kind).record(took.as_secs_f64());
    }
}

/// Counts a request of a peer.
pub(crate) fn requested(request: &Request) {
    let kind = match request {
        Request::Hello(_) => "hello",
        Request::ListTrees(_) => "list_trees",
        Request::SyncTree(_) => "sync",
        Request::SendEntries(_) => "push",
        Request::Join(_) => "join",
        Request::Watch(_) => "watch",
        Request::CheckTrees(_) => "check",
        Request::Peers(_) => "peers",
        Request::Alive(_) => "alive",
        Request::GetEntries(_) => "get",
        Request::Unknown(_) => "unknown",
    };
    counter!(REQUESTS, "kind" => kind).increment(1);
}

/// Counts a refusal.
pub(crate) fn refused(code: ErrorCode) {
    counter!(REQUESTS_REFUSED, "code" => u16::from(code).to_string()).increment(1);
}

/// Records how many pairs of a peer and a tree are in each state, how many peers are known, and how
/// many keys are in use twice.
pub(crate) fn gauges(states: impl Iterator<Item = LaneStatus>, peers: usize, duplicates: usize) {
    let mut counts = [0_u32; STATES.len()];
    for state in states {
        let at = match state {
            LaneStatus::InSync { .. } => 0,
            LaneStatus::Behind => 1,
            LaneStatus::Ahead { .. } => 2,
            LaneStatus::Syncing => 3,
            LaneStatus::Unreachable { .. } => 4,
            LaneStatus::Refused { .. } => 5,
            LaneStatus::WaitingForAccess => 6,
        };
        counts[at] += 1;
    }
    for (state, count) in STATES.into_iter().zip(counts) {
        gauge!(FOLLOWED, "state" => state).set(f64::from(count));
    }
    gauge!(KNOWN_PEERS).set(peers as f64);
    gauge!(DUPLICATE_KEYS).set(duplicates as f64);
}
