//! Fingerprints, and their coding as a Golomb-coded set: ascending numbers as Rice-coded
//! differences (Golomb, "Run-length encodings", 1966; Rice, 1979).
//!
//! The `n` fingerprints are spread evenly over `n * 2^b` numbers, so the differences are geometric
//! with mean `2^b`. Rice's parameter `b - 1` codes them in `b + 1.54` bits in the mean (`b` would
//! take `b + 1.58`; the entropy is `b + 1.44`), and never more than `b + 2`: the differences sum up
//! to less than `n * 2^b`, so the unary parts have less than `2n` ones in all.

use eidetica_dag::EntryId;
use siphasher::sip::SipHasher24;

/// The parameters of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code {
    /// How many fingerprints there are.
    pub(crate) count: u32,
    /// How many bits tell a fingerprint from an accident, at least 1: the chance that a foreign
    /// entry is taken for one in the filter is one in two to this power.
    pub(crate) fingerprint_bits: u32,
}

impl Code {
    /// Returns how many bits the code takes at most.
    pub(crate) fn bits_max(self) -> u64 {
        u64::from(self.count) * u64::from(self.fingerprint_bits + 2)
    }

    /// Returns the fingerprint of an entry: its id's SipHash-2-4 under the seed, scaled.
    ///
    /// A fingerprint needs a keyed pseudo-random function: people write entries without knowing the
    /// seed of a later request, so they cannot make two of them collide.
    pub(crate) fn fingerprint(self, seed: [u8; 8], id: &EntryId) -> u64 {
        let seed = u64::from_le_bytes(seed);
        // The second half of the key only has to differ from the first.
        let hash = SipHasher24::new_with_keys(seed, !seed).hash(id.as_bytes());
        let scaled = (u128::from(hash) * u128::from(self.range())) >> 64;
        scaled as u64
    }

    /// Returns the number that the fingerprints stay below.
    fn range(self) -> u64 {
        u64::from(self.count) << self.fingerprint_bits
    }

    /// Returns the Rice parameter: how many low bits of a difference are written as they are.
    fn low_bits(self) -> u32 {
        self.fingerprint_bits - 1
    }
}

/// Why bits are not the code of so many fingerprints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CodeError {
    Truncated,
    Trailing,
    OutOfRange,
}

/// Writes ascending fingerprints: for each difference the high part in unary (ones, then a zero)
/// and the low part in binary, highest bits of a byte first, padded with zeros.
pub(crate) fn encode(code: Code, fingerprints: &[u64]) -> Vec<u8> {
    let low_bits = code.low_bits();
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

/// Reads fingerprints, which must be all that there is.
pub(crate) fn decode(code: Code, bits: &[u8]) -> Result<Vec<u64>, CodeError> {
    let (count, range, low_bits) = (code.count, code.range(), code.low_bits());
    // The shortest code bounds the reservation by the bytes really received.
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
        // A frame full of ones is 2^23 of them: shifted by a few tens, far from overflowing.
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

    const SMALL: Code = Code {
        count: 3,
        fingerprint_bits: 16,
    };

    /// The standard library has a SipHash-2-4 of its own. It is deprecated for hash maps, but a good
    /// oracle.
    #[test]
    #[expect(deprecated)]
    fn a_fingerprint_is_a_scaled_siphash_2_4() {
        use std::hash::{Hasher, SipHasher};
        let bytes: [u8; 32] = std::array::from_fn(|at| at as u8);
        let seed = u64::from_le_bytes(*b"the seed");
        let mut oracle = SipHasher::new_with_keys(seed, !seed);
        oracle.write(&bytes);
        let range = u128::from(SMALL.range());
        let wanted = ((u128::from(oracle.finish()) * range) >> 64) as u64;
        let id = EntryId::from_bytes(bytes);
        assert_eq!(SMALL.fingerprint(*b"the seed", &id), wanted);
    }

    #[test]
    fn equal_fingerprints_are_kept() {
        let bits = encode(SMALL, &[5, 5, 70_000]);
        assert_eq!(decode(SMALL, &bits), Ok(vec![5, 5, 70_000]));
    }

    #[test]
    fn padding_is_zero() {
        let mut bits = encode(SMALL, &[5, 9, 70_000]);
        *bits.last_mut().expect("not empty") |= 1;
        assert_eq!(decode(SMALL, &bits), Err(CodeError::Trailing));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_and_within_bounds(
            ids in prop::collection::vec(any::<[u8; 32]>(), 0..600),
            fingerprint_bits in 1..=32_u32,
            seed: [u8; 8],
        ) {
            let code = Code { count: ids.len() as u32, fingerprint_bits };
            let ids = ids.into_iter().map(EntryId::from_bytes);
            let mut fingerprints: Vec<u64> = ids.map(|id| code.fingerprint(seed, &id)).collect();
            fingerprints.sort_unstable();
            let bits = encode(code, &fingerprints);
            prop_assert!(bits.len() as u64 <= code.bits_max().div_ceil(8));
            prop_assert_eq!(decode(code, &bits), Ok(fingerprints));
        }

        #[test]
        fn any_bits_are_the_one_code_of_a_set_or_refused(
            bits in prop::collection::vec(any::<u8>(), 0..64),
            count in 0..40_u32,
            fingerprint_bits in 1..=32_u32,
        ) {
            let code = Code { count, fingerprint_bits };
            if let Ok(fingerprints) = decode(code, &bits) {
                prop_assert_eq!(encode(code, &fingerprints), bits);
            }
        }
    }
}
