//! Limits of lists and texts in messages.

/// Most entries asked for by id in one request. Each is there because of a false positive of the
/// filter, of which a request rarely meets one.
pub const WANTS_MAX: usize = 4_096;

/// Most addresses in one message: every transport on every interface of a well-connected machine.
pub const ADDRESSES_MAX: usize = 32;

/// Longest note of a [`Join`](super::Join) in bytes: a name and a sentence.
pub const NOTE_BYTES_MAX: usize = 256;

/// Most trees in one list; a longer list is asked for in several steps.
pub const TREES_MAX: usize = 1_024;

/// Most trees in one watch. The request takes 55 bytes for each, so it fits into one frame.
pub const WATCHED_TREES_MAX: usize = 16_384;

/// Most trees in one check. The request takes 40 bytes for each, so it fits into one frame.
pub const CHECKED_TREES_MAX: usize = 16_384;
