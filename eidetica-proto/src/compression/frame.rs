//! What a frame may declare.
//!
//! A decoder allocates by what headers say. They are read here first, without any allocation, and
//! nothing that exceeds the batch reaches a decoder.

use crate::batch::BATCH_BYTES_MAX;

/// The first bytes of a frame.
const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();

/// Largest window that a frame may declare: more than a whole batch is of no use.
const WINDOW_BYTES_MAX: u64 = BATCH_BYTES_MAX as u64;

/// Kinds of blocks and of literals: as they are, one byte repeated, or compressed.
const STORED: u32 = 0;
const REPEATED: u32 = 1;
const COMPRESSED: u32 = 2;

/// Most bytes of a block, compressed or not, by the format.
const BLOCK_BYTES_MAX: u64 = 128 << 10;

/// Fewest bytes that a sequence copies, by the format.
const MATCH_BYTES_MIN: u64 = 3;

/// Bytes of the checksum at the end of a frame, by the format.
const CHECKSUM_BYTES: usize = 4;

/// Returns whether `packed` is one whole frame with a checksum that declares no more than `raw_bytes`,
/// and no dictionary. What is in its blocks may still be wrong.
pub(super) fn is_sound(packed: &[u8], raw_bytes: usize) -> bool {
    let mut input = packed;
    let raw_bytes = raw_bytes as u64;
    header(&mut input, raw_bytes)
        .and_then(|block_bytes_max| blocks(&mut input, block_bytes_max, raw_bytes))
        .is_some_and(|()| input.len() == CHECKSUM_BYTES)
}

/// Reads a frame's header, and returns how many bytes a block may have.
fn header(input: &mut &[u8], raw_bytes: u64) -> Option<u64> {
    if take::<4>(input)? != MAGIC {
        return None;
    }
    let [descriptor] = take(input)?;
    let is_single_segment = descriptor & 1 << 5 != 0;
    // The checksum, and neither a dictionary nor reserved bits.
    if descriptor & 0b1_1111 != 0b0_0100 {
        return None;
    }
    let window_bytes = match is_single_segment {
        true => raw_bytes,
        false => {
            let [window] = take(input)?;
            let base = 1_u64 << (10 + (window >> 3));
            base + base / 8 * u64::from(window & 7)
        }
    };
    let content_bytes = match descriptor >> 6 {
        0 if is_single_segment => take(input).map(|[byte]| byte.into())?,
        0 => raw_bytes,
        1 => u64::from(u16::from_le_bytes(take(input)?)) + 256,
        2 => u32::from_le_bytes(take(input)?).into(),
        _ => u64::from_le_bytes(take(input)?),
    };
    (content_bytes == raw_bytes && window_bytes <= WINDOW_BYTES_MAX)
        .then_some(window_bytes.min(BLOCK_BYTES_MAX))
}

/// Reads the blocks of a frame.
fn blocks(input: &mut &[u8], block_bytes_max: u64, raw_bytes: u64) -> Option<()> {
    let mut declared_bytes = 0;
    loop {
        let [low, middle, high] = take(input)?;
        let header = u32::from_le_bytes([low, middle, high, 0]);
        let bytes = u64::from(header >> 3);
        let kind = header >> 1 & 3;
        let block = skip(input, if kind == REPEATED { 1 } else { bytes })?;
        match kind {
            STORED | REPEATED => declared_bytes += bytes,
            COMPRESSED => compressed_block(block, block_bytes_max)?,
            _ => return None,
        }
        if bytes > block_bytes_max || declared_bytes > raw_bytes {
            return None;
        }
        if header & 1 == 1 {
            return Some(());
        }
    }
}

/// Reads the headers in a compressed block: of its literals, and of its sequences, which copy.
fn compressed_block(mut input: &[u8], block_bytes_max: u64) -> Option<()> {
    let first = u32::from(*input.first()?);
    let (kind, format) = (first & 3, first >> 2 & 3);
    // How many bytes the header has, at which bit the sizes begin, and how many bits each has.
    let (header_bytes, shift, bits) = match (kind, format) {
        (STORED | REPEATED, 0 | 2) => (1, 3, 5),
        (STORED | REPEATED, 1) => (2, 4, 12),
        (STORED | REPEATED, _) => (3, 4, 20),
        (_, 0 | 1) => (3, 4, 10),
        (_, 2) => (4, 4, 14),
        _ => (5, 4, 18),
    };
    let mut header = [0; 8];
    header[..header_bytes as usize].copy_from_slice(skip(&mut input, header_bytes)?);
    let sizes = u64::from_le_bytes(header) >> shift;
    let literals_bytes = sizes & ((1 << bits) - 1);
    let packed_bytes = match kind {
        STORED => literals_bytes,
        REPEATED => 1,
        _ => sizes >> bits,
    };
    if literals_bytes > block_bytes_max {
        return None;
    }
    skip(&mut input, packed_bytes)?;

    let [first] = take(&mut input)?;
    let sequences = match first {
        0..128 => u64::from(first),
        128..255 => take(&mut input).map(|[low]| u64::from(first - 128) << 8 | u64::from(low))?,
        255 => u64::from(u16::from_le_bytes(take(&mut input)?)) + 0x7f00,
    };
    if sequences == 0 {
        return input.is_empty().then_some(());
    }
    let [modes] = take(&mut input)?;
    let has_reserved_bits = modes & 3 != 0;
    (!has_reserved_bits && sequences * MATCH_BYTES_MIN <= block_bytes_max).then_some(())
}

/// Takes this many bytes from the front.
fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (front, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(*front)
}

/// Takes this many bytes from the front.
fn skip<'a>(input: &mut &'a [u8], bytes: u64) -> Option<&'a [u8]> {
    let (front, rest) = input.split_at_checked(usize::try_from(bytes).ok()?)?;
    *input = rest;
    Some(front)
}
