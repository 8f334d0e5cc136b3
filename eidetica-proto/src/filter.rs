//! What the client has, in half a kilobyte: a depth-thinned filter of its entries.
//!
//! When both sides have written, neither knows the other's tips, and tips alone say nothing about
//! how far back the two agree. So the client adds a [`Filter`]: short keyed fingerprints of a
//! *sample* of its entries, dense near its tips and ever thinner below. The server walks down
//! from its own tips; an entry that is sampled and whose fingerprint is in the filter is **known**,
//! and so are all its ancestors. Everything else is sent.
//!
//! # Which entries are sampled
//!
//! Both sides must agree on it from an entry's height alone. The client declares heights: those of
//! its tips, if there are no more than [`DECLARED_HEIGHTS_MAX`] different ones. The *depth* of a
//! height is the distance to the nearest declared height at or above it. With `c` the *density*, an
//! entry is sampled if
//!
//! ```text
//! depth <= c * 2^(number of trailing zero bits of its height)
//! ```
//!
//! which is the same as "its height is a multiple of the stride, and the stride is 1 down to depth
//! `c`, 2 down to `2c`, 4 down to `4c` …". On a line, a history of `H` entries has
//! `c * (1 + log2(H / c) / 2)` samples, and the redundant entries sent to a peer that lacks `m`
//! entries is about `m / c` at the most. The density is written in sixteenths, so that a very wide
//! tree, which has too many entries on every height, can be sampled with a `c` below one.
//!
//! The client need not put in everything that is sampled, only samples worth the room. A tip's
//! height is declared for the sake of what lies below that tip, so the client measures the depth of
//! an entry from a tip above *it*, not from any tip that happens to be near in height.
//!
//! Where the tips have more heights than can be declared, nearly every height is near one of them.
//! Then only the highest is declared, with a density at which all heights below are sampled, and
//! the fingerprints have more bits because more entries are tried.
//!
//! # What can go wrong
//!
//! - An entry that is sampled but not in the filter costs one or a few redundant entries.
//! - A false positive, an entry whose fingerprint equals one in the filter, makes the server leave
//!   out entries that the client lacks. The client notices that a parent or a tip is missing, and
//!   asks for it by id. Fingerprints have at least 16 bits, and more the more of them there are, so
//!   that this happens to one filter in 512 if the server tries as many foreign entries as there
//!   are in the filter.
//! - No attacker can cause false positives: the fingerprints are keyed (SipHash-2-4) by a seed that
//!   the client draws for each request. A client that chooses a bad seed or lies about its heights
//!   harms only its own copy.
//! - A request comes from a stranger: [`Filter::matcher`] checks every parameter and does no more
//!   work than the length of the filter warrants. No density is absurd: it only says how many of its
//!   entries the server looks up.

mod build;
mod format;
pub(crate) mod golomb;
mod sampling;

pub use self::build::{FILTER_VISITS_MAX, FilterBudget};
pub use self::format::{
    DECLARED_HEIGHTS_MAX, FILTER_ENTRIES_MAX, FINGERPRINT_BITS_MAX, Filter, FilterError,
    FilterMatcher,
};
