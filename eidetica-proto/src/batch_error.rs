//! Why a batch cannot be unpacked.

use eidetica_dag::EntryError;

/// How many times its compressed size a batch may unpack to. What compresses better than that is
/// sent as it is, so that a small frame never costs much to refuse.
pub const COMPRESSION_RATIO_MAX: usize = 64;

/// The broken rule of a packed batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// It ends too soon, goes on too long or has a number that is out of range.
    #[error("it is not well formed")]
    Malformed,
    /// It unpacks to more than a batch may hold.
    #[error("it unpacks to more than a batch may hold")]
    TooLarge,
    /// It claims to unpack to many times its size.
    #[error(
        "it claims to unpack to more than {} times its size",
        COMPRESSION_RATIO_MAX
    )]
    RatioTooHigh,
    /// It cannot be decompressed.
    #[error("it cannot be decompressed")]
    NotCompressed,
    /// An entry in it is not well formed.
    #[error("an entry in it is not well formed: {0}")]
    Entry(#[from] EntryError),
}
