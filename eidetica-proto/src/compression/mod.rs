//! Compression of batches: one zstd frame (RFC 8878) for each.
//!
//! Frames are decompressed by `pure`, which is Rust alone, or with the feature `zstd` by `native`, the
//! reference implementation in C, which also compresses. Without the feature nothing is compressed:
//! any batch may be sent as it is.
//!
//! Both decoders work within the same bounds: `frame` reads what a frame declares before one of them
//! sees it. The two decode some malformed blocks differently, for example with bits that are left
//! over, so every frame carries a checksum of its content. A peer that forges it gains nothing: ids
//! and signatures are checked afterwards.

mod frame;
#[cfg(feature = "zstd")]
mod native;
#[cfg(any(not(feature = "zstd"), test, feature = "test-utils"))]
mod pure;
#[cfg(test)]
mod tests;

use bytes::Bytes;

/// Compresses `raw` into one frame in `packed`, which is emptied first. Returns whether it succeeded.
#[cfg(feature = "zstd")]
pub(crate) fn compress(raw: &[u8], packed: &mut Vec<u8>) -> bool {
    native::compress(raw, packed)
}

/// Compresses nothing, and returns that it did not.
#[cfg(not(feature = "zstd"))]
pub(crate) fn compress(_raw: &[u8], _packed: &mut Vec<u8>) -> bool {
    false
}

/// Decompresses one frame of exactly `raw_bytes`, or returns `None` if it is something else.
///
/// Memory is bounded by `raw_bytes` and a constant, whatever the frame declares.
pub(crate) fn decompress(packed: &[u8], raw_bytes: usize) -> Option<Bytes> {
    #[cfg(feature = "zstd")]
    use native::decompress;
    #[cfg(not(feature = "zstd"))]
    use pure::decompress;
    if !frame::is_sound(packed, raw_bytes) {
        return None;
    }
    decompress(packed, raw_bytes)
}

/// Does what [`decompress`] does without the feature `zstd`.
#[cfg(any(test, feature = "test-utils"))]
pub(crate) fn decompress_purely(packed: &[u8], raw_bytes: usize) -> Option<Bytes> {
    if !frame::is_sound(packed, raw_bytes) {
        return None;
    }
    pure::decompress(packed, raw_bytes)
}

/// Compresses with whatever features there are, less well than [`compress`] does.
#[cfg(any(test, feature = "test-utils"))]
pub(crate) fn compress_purely(raw: &[u8]) -> Vec<u8> {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    compress_to_vec(raw, CompressionLevel::Fastest)
}
