//! A filter as it is sent, its checks, and what it answers.

use eidetica_dag::EntryId;
use serde::{Deserialize, Serialize};

use super::golomb::{Code, CodeError, decode};
use super::sampling::Sampling;

/// Most heights that a filter declares. Each costs one to three bytes and a dense zone of its own;
/// beyond a handful of tips that grow at the same time, zones only thin each other.
pub const DECLARED_HEIGHTS_MAX: usize = 8;

/// Most entries in a filter: 50 kB, and a millisecond to decode. It serves trees of two thousand
/// tips at eight entries for each; trees of more tips get fewer for each.
pub const FILTER_ENTRIES_MAX: usize = 16_384;

/// Most bits in a fingerprint. A filter of the largest size has 23.
pub const FINGERPRINT_BITS_MAX: u8 = 32;

/// Fingerprints of a sample of the client's entries, as they are sent.
///
/// [`Filter::build`] makes it; the receiver turns it into a [`FilterMatcher`], which checks it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// The key of the fingerprints.
    pub(super) seed: [u8; 8],
    /// The highest declared height, then the distance from each to the next lower one.
    pub(super) height_steps: Vec<u32>,
    /// The density in sixteenths.
    pub(super) density: u32,
    /// How many fingerprints there are.
    pub(super) count: u32,
    /// How many bits tell a fingerprint from an accident.
    pub(super) fingerprint_bits: u8,
    /// The fingerprints, ascending, as Golomb–Rice coded differences.
    #[serde(with = "serde_bytes")]
    pub(super) bits: Vec<u8>,
}

/// A checked filter, ready to answer.
#[derive(Debug, Clone)]
pub struct FilterMatcher {
    seed: [u8; 8],
    sampling: Sampling,
    code: Code,
    /// Ascending.
    fingerprints: Vec<u64>,
}

/// Why a filter is refused: the client broke a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// There are no declared heights, so nothing could be sampled.
    #[error("a filter declares at least one height")]
    NoHeights,
    /// There are more than [`DECLARED_HEIGHTS_MAX`] heights.
    #[error("a filter declares at most {DECLARED_HEIGHTS_MAX} heights, this one {0}")]
    TooManyHeights(usize),
    /// The heights are not strictly descending, or go below zero.
    #[error("declared heights must descend strictly and not go below zero; number {0} breaks that")]
    BadHeight(usize),
    /// A fingerprint has no bits, or more than [`FINGERPRINT_BITS_MAX`].
    #[error("a fingerprint has 1 to {FINGERPRINT_BITS_MAX} bits, in this filter {0}")]
    BadFingerprintBits(u8),
    /// There are more than [`FILTER_ENTRIES_MAX`] fingerprints.
    #[error("a filter holds at most {FILTER_ENTRIES_MAX} fingerprints, this one claims {0}")]
    TooManyEntries(u32),
    /// The bits end before the last fingerprint.
    #[error("the filter ends before its last fingerprint")]
    Truncated,
    /// More follows the last fingerprint than zeros up to the end of its byte.
    #[error("the filter goes on after its last fingerprint")]
    Trailing,
    /// A fingerprint is not below the bound that follows from their number.
    #[error("a fingerprint is beyond the range that the number of fingerprints gives")]
    OutOfRange,
}

impl Filter {
    /// Returns how many bytes the filter takes in a message.
    pub fn encoded_bytes(&self) -> usize {
        let size = postcard::ser_flavors::Size::default();
        postcard::serialize_with_flavor(self, size).expect("counting bytes cannot fail")
    }

    /// Returns how many entries the filter holds.
    pub fn entry_count(&self) -> u32 {
        self.count
    }

    /// Checks the filter and makes it ready to answer.
    ///
    /// Time and memory are proportional to the length of the filter, and at most
    /// [`FILTER_ENTRIES_MAX`] fingerprints of eight bytes.
    ///
    /// # Errors
    /// Names the rule that the filter breaks.
    pub fn matcher(&self) -> Result<FilterMatcher, FilterError> {
        let heights = declared_heights(&self.height_steps)?;
        if !(1..=FINGERPRINT_BITS_MAX).contains(&self.fingerprint_bits) {
            return Err(FilterError::BadFingerprintBits(self.fingerprint_bits));
        }
        if self.count as usize > FILTER_ENTRIES_MAX {
            return Err(FilterError::TooManyEntries(self.count));
        }
        let code = Code {
            count: self.count,
            fingerprint_bits: self.fingerprint_bits.into(),
        };
        let fingerprints = decode(code, &self.bits)?;
        Ok(FilterMatcher {
            seed: self.seed,
            sampling: Sampling::new(heights, self.density),
            code,
            fingerprints,
        })
    }
}

impl FilterMatcher {
    /// Tells whether the client says that it has this entry: it is sampled, and its fingerprint is
    /// in the filter.
    ///
    /// The root is never in the filter and always known: a peer that has anything of a tree has its
    /// root.
    pub fn contains(&self, id: &EntryId, height: u32) -> bool {
        if height == 0 {
            return true;
        }
        if !self.sampling.includes(height) {
            return false;
        }
        let wanted = self.code.fingerprint(self.seed, id);
        self.fingerprints.binary_search(&wanted).is_ok()
    }
}

impl From<CodeError> for FilterError {
    fn from(error: CodeError) -> Self {
        match error {
            CodeError::Truncated => Self::Truncated,
            CodeError::Trailing => Self::Trailing,
            CodeError::OutOfRange => Self::OutOfRange,
        }
    }
}

/// Turns strictly descending heights into the first and the steps down from each to the next.
pub(super) fn height_steps(heights: &[u32]) -> Vec<u32> {
    let first = heights.first().copied();
    let steps = heights.windows(2).map(|pair| pair[0] - pair[1]);
    first.into_iter().chain(steps).collect()
}

/// Undoes [`height_steps`], checking that the heights are few and descend strictly.
fn declared_heights(steps: &[u32]) -> Result<Vec<u32>, FilterError> {
    let (first, rest) = steps.split_first().ok_or(FilterError::NoHeights)?;
    if steps.len() > DECLARED_HEIGHTS_MAX {
        return Err(FilterError::TooManyHeights(steps.len()));
    }
    let mut heights = vec![*first];
    for (last, step) in rest.iter().enumerate() {
        let next = heights[last].checked_sub(*step).filter(|_| *step > 0);
        heights.push(next.ok_or(FilterError::BadHeight(last + 1))?);
    }
    Ok(heights)
}

#[cfg(test)]
mod tests {
    use super::super::golomb::encode;
    use super::*;

    const CODE: Code = Code {
        count: 20,
        fingerprint_bits: 16,
    };

    fn filter() -> Filter {
        let fingerprints: Vec<u64> = (0..20).map(|n| n * 60_000).collect();
        Filter {
            seed: *b"the seed",
            height_steps: vec![100, 10, 90],
            density: 16,
            count: CODE.count,
            fingerprint_bits: 16,
            bits: encode(CODE, &fingerprints),
        }
    }

    #[test]
    fn heights_survive_their_coding() {
        for heights in [&[7][..], &[0], &[9, 8, 0], &[u32::MAX, 12]] {
            assert_eq!(declared_heights(&height_steps(heights)), Ok(heights.into()));
        }
    }

    #[test]
    fn each_broken_rule_has_its_error() {
        let refused = |change: fn(&mut Filter)| {
            let mut filter = filter();
            change(&mut filter);
            filter.matcher().expect_err("a rule is broken")
        };
        assert!(filter().matcher().is_ok());
        assert_eq!(refused(|f| f.height_steps = vec![]), FilterError::NoHeights);
        assert_eq!(
            refused(|f| f.height_steps = vec![1; 9]),
            FilterError::TooManyHeights(9)
        );
        assert_eq!(
            refused(|f| f.height_steps = vec![5, 0]),
            FilterError::BadHeight(1)
        );
        assert_eq!(
            refused(|f| f.height_steps = vec![5, 1, 5]),
            FilterError::BadHeight(2)
        );
        for bits in [0, 33] {
            let filter = Filter {
                fingerprint_bits: bits,
                ..filter()
            };
            let error = filter.matcher().expect_err("a rule is broken");
            assert_eq!(error, FilterError::BadFingerprintBits(bits));
        }
        assert_eq!(
            refused(|f| f.count = u32::MAX),
            FilterError::TooManyEntries(u32::MAX)
        );
        assert_eq!(refused(|f| f.bits.truncate(3)), FilterError::Truncated);
        assert_eq!(refused(|f| f.bits.push(0)), FilterError::Trailing);
        assert_eq!(
            refused(|f| f.bits.fill(0xff)),
            FilterError::Truncated,
            "an endless unary run"
        );
        let beyond = 20 << 16;
        let out_of_range = Filter {
            bits: encode(CODE, &[vec![0; 19], vec![beyond]].concat()),
            ..filter()
        };
        assert_eq!(out_of_range.matcher().err(), Some(FilterError::OutOfRange));
    }

    #[test]
    fn a_filter_of_nothing_knows_only_the_root() {
        let filter = Filter {
            count: 0,
            bits: vec![],
            ..filter()
        };
        let matcher = filter.matcher().expect("a filter");
        let id = EntryId::from_bytes([7; 32]);
        assert!(matcher.contains(&id, 0));
        assert!((1..=101).all(|height| !matcher.contains(&id, height)));
    }

    #[test]
    fn the_encoded_length_is_that_of_the_message() {
        let filter = filter();
        let encoded = postcard::to_allocvec(&filter).expect("encodable");
        assert_eq!(filter.encoded_bytes(), encoded.len());
        assert_eq!(postcard::from_bytes(&encoded), Ok(filter));
    }
}
