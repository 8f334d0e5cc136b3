//! zstd with contexts that are reused.
//!
//! A context takes some hundred kilobytes, which the system hands out page by page, zeroed. Making
//! one for each batch took as long as the compression.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use eidetica_dag::Buffer;
use zstd::bulk::{Compressor, Decompressor};

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
pub(crate) fn compress(raw: &[u8], packed: &mut Vec<u8>) -> bool {
    packed.clear();
    packed.reserve(zstd::zstd_safe::compress_bound(raw.len()));
    let make = || Compressor::new(LEVEL).ok();
    let compress =
        |compressor: &mut Compressor<'_>| compressor.compress_to_buffer(raw, packed).ok();
    COMPRESSORS.with(make, compress).is_some()
}

/// Decompresses one zstd frame of exactly `raw_bytes`, or returns `None` if it is something else.
/// It never writes more than that.
pub(crate) fn decompress(packed: &[u8], raw_bytes: usize) -> Option<Bytes> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decompression_gives_back_exactly_what_was_compressed() {
        let raw = b"again and again ".repeat(100);
        // The second round reuses the contexts of the first.
        for _ in 0..2 {
            let mut packed = vec![7];
            assert!(compress(&raw, &mut packed));
            assert!(packed.len() < raw.len());
            assert_eq!(decompress(&packed, raw.len()), Some(raw.clone().into()));
            assert_eq!(decompress(&packed, raw.len() - 1), None);
            assert_eq!(decompress(&packed, raw.len() + 1), None);
            assert_eq!(decompress(&packed[1..], raw.len()), None);
        }
    }
}
