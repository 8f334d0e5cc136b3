//! Fingerprints, and their coding as a Golomb-coded set: ascending numbers as Rice-coded
//! differences (Golomb, "Run-length encodings", 1966; Rice, 1979).
//!
//! The `n` fingerprints are spread evenly over `n * 2^b` numbers, so the differences are geometric
//! with mean `2^b`. Rice's parameter `b - 1` codes them in `b + 1.54` bits in the mean (`b` would
//! take `b + 1.58`; the entropy is `b + 1.44`), and never more than `b + 2`: the differences sum up
//! to less than `n * 2^b`, so the unary parts have less than `2n` ones in all.

use eidetica_dag::EntryId;

use super::siphash::siphash;

/// Fingerprints never have fewer bits than this, however few there are.
const FINGERPRINT_BITS_MIN: u32 = 16;

/// How many bits a fingerprint has beyond those that count the entries: if the other side tries as
/// many foreign entries as there are in the filter, one filter in `2^9 = 512` has an accident.
const ACCIDENT_BITS: u32 = 9;

/// Returns how many bits tell a fingerprint from an accident in a filter of `count` entries: 16 up
/// to 128 entries, 17 up to 256, 23 at the most.
///
/// Twice as many entries take one bit more, so the chance that a filter has an accident at all does
/// not grow with its size.
pub fn fingerprint_bits(count: u32) -> u32 {
    let count_bits = count.max(1).next_power_of_two().ilog2();
    FINGERPRINT_BITS_MIN.max(ACCIDENT_BITS + count_bits)
}

/// Returns how many bits `count` fingerprints take at most.
pub(super) fn code_bits_max(count: u32) -> u64 {
    u64::from(count) * u64::from(fingerprint_bits(count) + 2)
}

/// Returns the fingerprint of an entry among `count`.
pub(super) fn fingerprint(seed: [u8; 8], id: &EntryId, count: u32) -> u64 {
    let seed = u64::from_le_bytes(seed);
    // The second half of the key only has to differ from the first.
    let hash = siphash([seed, !seed], id.as_bytes());
    let scaled = (u128::from(hash) * u128::from(range(count))) >> 64;
    scaled as u64
}

/// Returns the number that the fingerprints of `count` entries stay below.
fn range(count: u32) -> u64 {
    u64::from(count) << fingerprint_bits(count)
}

/// Returns the Rice parameter: how many low bits of a difference are written as they are.
fn low_bits(count: u32) -> u32 {
    fingerprint_bits(count) - 1
}

/// Why bits are not the code of so many fingerprints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CodeError {
    Truncated,
    Trailing,
    OutOfRange,
}

/// Writes ascending fingerprints: for each difference the high part in unary (ones, then a zero)
/// and the low part in binary, highest bits of a byte first, padded with zeros.
pub(super) fn encode(fingerprints: &[u64]) -> Vec<u8> {
    let low_bits = low_bits(fingerprints.len() as u32);
    let mut writer = BitWriter::default();
    let mut last = 0;
    for fingerprint in fingerprints {
        let difference = fingerprint - last;
        last = *fingerprint;
        for _ in 0..difference >> low_bits {
            writer.push(true);
        }
        writer.push(false);
        for bit in (0..low_bits).rev() {
            writer.push(difference >> bit & 1 == 1);
        }
    }
    writer.bytes
}

/// Reads `count` fingerprints, which must be all that there is.
pub(super) fn decode(bits: &[u8], count: u32) -> Result<Vec<u64>, CodeError> {
    let (range, low_bits) = (range(count), low_bits(count));
    // The shortest code bounds what is reserved by what was really received.
    if (bits.len() as u64) * 8 < u64::from(count) * u64::from(low_bits + 1) {
        return Err(CodeError::Truncated);
    }
    let mut reader = BitReader { bits, position: 0 };
    let mut fingerprints = Vec::with_capacity(count as usize);
    let mut last = 0_u64;
    for _ in 0..count {
        let mut high = 0_u64;
        while reader.next()? {
            high += 1;
        }
        let mut low = 0_u64;
        for _ in 0..low_bits {
            low = low << 1 | u64::from(reader.next()?);
        }
        // The longest frame full of ones, shifted by 22, is far from overflowing.
        last += (high << low_bits) + low;
        if last >= range {
            return Err(CodeError::OutOfRange);
        }
        fingerprints.push(last);
    }
    reader.end()?;
    Ok(fingerprints)
}

#[derive(Default)]
struct BitWriter {
    bytes: Vec<u8>,
    len: usize,
}

impl BitWriter {
    fn push(&mut self, bit: bool) {
        if self.len.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if let (Some(byte), true) = (self.bytes.last_mut(), bit) {
            *byte |= 0x80 >> (self.len % 8);
        }
        self.len += 1;
    }
}

struct BitReader<'a> {
    bits: &'a [u8],
    position: usize,
}

impl BitReader<'_> {
    fn next(&mut self) -> Result<bool, CodeError> {
        let byte = self.bits.get(self.position / 8);
        let byte = byte.ok_or(CodeError::Truncated)?;
        let bit = byte >> (7 - self.position % 8) & 1;
        self.position += 1;
        Ok(bit == 1)
    }

    /// Checks that only the padding of the last byte is left: one set has one code.
    fn end(mut self) -> Result<(), CodeError> {
        if self.bits.len() != self.position.div_ceil(8) {
            return Err(CodeError::Trailing);
        }
        while let Ok(bit) = self.next() {
            if bit {
                return Err(CodeError::Trailing);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fingerprints_of(ids: &[[u8; 32]], seed: u64) -> Vec<u64> {
        let count = ids.len() as u32;
        let ids = ids.iter().map(|id| EntryId::from_bytes(*id));
        let mut fingerprints: Vec<u64> = ids
            .map(|id| fingerprint(seed.to_le_bytes(), &id, count))
            .collect();
        fingerprints.sort_unstable();
        fingerprints
    }

    #[test]
    fn bits_grow_with_the_number_of_entries() {
        let bits = [0, 1, 128, 129, 256, 257, 16_384].map(fingerprint_bits);
        assert_eq!(bits, [16, 16, 16, 17, 17, 18, 23]);
    }

    #[test]
    fn equal_fingerprints_are_kept() {
        let bits = encode(&[5, 5, 70_000]);
        assert_eq!(decode(&bits, 3), Ok(vec![5, 5, 70_000]));
    }

    #[test]
    fn padding_is_zero() {
        let mut bits = encode(&[5, 9, 70_000]);
        *bits.last_mut().expect("not empty") |= 1;
        assert_eq!(decode(&bits, 3), Err(CodeError::Trailing));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_and_within_bounds(
            ids in prop::collection::vec(any::<[u8; 32]>(), 0..600),
            seed: u64,
        ) {
            let fingerprints = fingerprints_of(&ids, seed);
            let bits = encode(&fingerprints);
            let count = ids.len() as u32;
            prop_assert!(bits.len() as u64 <= code_bits_max(count).div_ceil(8));
            prop_assert_eq!(decode(&bits, count), Ok(fingerprints));
        }

        #[test]
        fn any_bits_are_the_one_code_of_a_set_or_refused(
            bits in prop::collection::vec(any::<u8>(), 0..64),
            count in 0..40_u32,
        ) {
            if let Ok(fingerprints) = decode(&bits, count) {
                prop_assert_eq!(encode(&fingerprints), bits);
            }
        }
    }
}
