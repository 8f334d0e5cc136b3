//! Decompression in Rust.

use bytes::Bytes;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Decompresses a frame that [`is_sound`](super::frame::is_sound) for this many bytes. It never writes
/// more than that and three blocks.
pub(super) fn decompress(packed: &[u8], raw_bytes: usize) -> Option<Bytes> {
    let mut input = packed;
    // A decoder that is reused allocates the window at once, and keeps its memory.
    let mut decoder = FrameDecoder::new();
    decoder.init(&mut input).ok()?;
    // It stops after the block with which it reaches this: too many bytes, because the last block may
    // be empty.
    let limit = BlockDecodingStrategy::UptoBytes(raw_bytes + 1);
    let is_finished = decoder.decode_blocks(&mut input, limit).ok()?;
    if !is_finished || decoder.can_collect() != raw_bytes {
        return None;
    }
    let raw = decoder.collect()?;
    let is_intact = decoder.get_checksum_from_data() == decoder.get_calculated_checksum();
    is_intact.then(|| raw.into())
}
