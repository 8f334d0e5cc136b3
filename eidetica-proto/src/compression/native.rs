//! Compression and decompression by the reference implementation, with contexts that are reused.
//!
//! A context takes some hundred kilobytes, which the system hands out page by page, zeroed. Making
//! one for each batch took as long as the compression.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use eidetica_dag::Buffer;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{CParameter, compress_bound};

/// zstd's level. Signatures and hashes are not compressed, so the level matters for payloads only.
/// Measured with the programs' own benchmarks on 4 MB of technical documentation, in blocks of 180 kB
/// and on one busy core, as share of the text and rate: lz4 0.46 at 380 MB/s, zstd at level 1 0.32 at 140, at
/// level 2 0.31 at 130, at level 3 0.30 at 90. Without compression, entries with 200 bytes of text take
/// 0.72 of their canonical size, with it 0.42. The negative levels leave out the coding of single bytes,
/// and with it most of the gain: beside level 1 with 0.32, level -1 has 0.38 and level -7 0.50 of the
/// documentation, in nine tenths of the time.
const LEVEL: i32 = 1;

/// Most contexts of each kind that are kept: two for each core of a small machine. Threads beyond
/// that make their own and drop them.
const KEPT_MAX: usize = 4;

static COMPRESSORS: Pool<Compressor<'static>> = Pool::new();
static DECOMPRESSORS: Pool<Decompressor<'static>> = Pool::new();

/// Compresses `raw` into one zstd frame in `packed`, which is emptied first. Returns whether it
/// succeeded.
pub(super) fn compress(raw: &[u8], packed: &mut Vec<u8>) -> bool {
    packed.clear();
    packed.reserve(compress_bound(raw.len()));
    let make = || {
        let mut compressor = Compressor::new(LEVEL).ok()?;
        let checksum = CParameter::ChecksumFlag(true);
        compressor.set_parameter(checksum).ok().map(|()| compressor)
    };
    let compress =
        |compressor: &mut Compressor<'_>| compressor.compress_to_buffer(raw, packed).ok();
    COMPRESSORS.with(make, compress).is_some()
}

/// Decompresses a frame that [`is_sound`](super::frame::is_sound) for this many bytes. It never writes
/// more than that.
pub(super) fn decompress(packed: &[u8], raw_bytes: usize) -> Option<Bytes> {
    let mut raw = Buffer::with_capacity(raw_bytes);
    raw.resize(raw_bytes, 0);
    let make = || Decompressor::new().ok();
    let decompress = |decompressor: &mut Decompressor<'_>| {
        let written = decompressor.decompress_to_buffer(packed, raw.as_mut_slice());
        written.ok().filter(|written| *written == raw_bytes)
    };
    DECOMPRESSORS.with(make, decompress)?;
    Some(raw.freeze())
}

/// Values that are expensive to make, of which some are kept.
struct Pool<T>(Mutex<Vec<T>>);

impl<T> Pool<T> {
    const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Works with a kept value or makes one, and keeps it if the work succeeds and there is room.
    fn with<R>(
        &self,
        make: impl FnOnce() -> Option<T>,
        work: impl FnOnce(&mut T) -> Option<R>,
    ) -> Option<R> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut one = kept.or_else(make)?;
        let result = work(&mut one)?;
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            kept.push(one);
        }
        Some(result)
    }
}
