//! How tips are named in messages: whole, as a digest, or as a sketch.
//!
//! A message lists a few tips. Of many it carries a **sketch**: a fingerprint of about three bytes
//! for each, keyed by a seed that the client draws for each request. The server recognises its own
//! entries in it, and names its own tips by their places in the sketch where it can. Where only
//! equality is in question, a digest is enough.

use std::collections::BTreeSet;

use eidetica_dag::{DagView, EntryId, tip_ids};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::filter::golomb::{Code, decode, encode};
use crate::message::growing::growing_enum;

/// Most tips that a request lists by their ids: a server that knows them all answers exactly,
/// without a walk.
pub const TIPS_LISTED_MAX: usize = 8;

/// Most tips that a request lists where the trees are probably equal; of more it carries a digest,
/// which is as long as one id.
pub const TIPS_CHECKED_MAX: usize = 2;

/// Most tips in a sketch, and most that the end of an answer names. Of more, it names those with the
/// lowest ids; an omitted tip costs the other side some redundancy.
pub const TIPS_MAX: usize = 16_384;

/// How many bits tell a tip in a sketch from another entry. If a million entries are compared with a
/// sketch, one time in sixteen one of them is taken for a tip by mistake, and asked for by id.
const SKETCH_BITS: u32 = 24;

/// SHA-256 over the ids of all tips, ascending. Equal digests mean equal tips, and so equal trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TipDigest([u8; 32]);

impl TipDigest {
    /// Digests ids that ascend.
    pub fn of(ids: &[EntryId]) -> Self {
        let mut hash = Sha256::new();
        ids.iter().for_each(|id| hash.update(id.as_bytes()));
        Self(hash.finalize().into())
    }

    /// Returns the 32 bytes of the digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Digests the tips of a view.
    ///
    /// # Errors
    /// Those of the view.
    pub fn of_view<V: DagView + ?Sized>(view: &V) -> Result<Self, V::Error> {
        Ok(Self::of(&tip_ids(view)?))
    }
}

growing_enum! {
    /// The client's tips, in a request.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum TipSet {
        /// The ids of all, ascending; at most [`TIPS_LISTED_MAX`].
        0 => Listed(Vec<EntryId>),
        /// Only their digest: the server can tell whether they are equal.
        1 => Digest(TipDigest),
        /// Of more than [`TIPS_LISTED_MAX`].
        2 => Sketch(TipSketch),
    }
}

impl TipSet {
    /// Returns the digest of the tips, or `None` if a later version named them.
    pub fn digest(&self) -> Option<TipDigest> {
        match self {
            Self::Listed(ids) => Some(TipDigest::of(ids)),
            Self::Digest(digest) | Self::Sketch(TipSketch { digest, .. }) => Some(*digest),
            Self::Unknown(_) => None,
        }
    }
}

/// Fingerprints of many tips.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TipSketch {
    /// The digest of all tips.
    pub digest: TipDigest,
    /// The key of the fingerprints.
    seed: [u8; 8],
    /// How many fingerprints there are.
    count: u32,
    /// The fingerprints, ascending, as Golomb–Rice coded differences.
    #[serde(with = "serde_bytes")]
    bits: Vec<u8>,
}

impl TipSketch {
    /// Sketches the tips with these ids, of which there are at most [`TIPS_MAX`]. Returns with it
    /// the ids in the order of their fingerprints: their places in the sketch.
    pub fn new(digest: TipDigest, tips: &[EntryId], seed: [u8; 8]) -> (Self, Vec<EntryId>) {
        let code = Code {
            count: tips.len() as u32,
            fingerprint_bits: SKETCH_BITS,
        };
        let mut placed: Vec<(u64, EntryId)> = tips
            .iter()
            .map(|id| (code.fingerprint(seed, id), *id))
            .collect();
        placed.sort_unstable();
        let fingerprints: Vec<u64> = placed.iter().map(|(fingerprint, _)| *fingerprint).collect();
        let bits = encode(code, &fingerprints);
        let sketch = Self {
            digest,
            seed,
            count: code.count,
            bits,
        };
        (sketch, placed.into_iter().map(|(_, id)| id).collect())
    }

    /// Decodes the sketch. Time and memory are proportional to its length.
    ///
    /// # Errors
    /// [`BadSketch`] if it is not as [`TipSketch::new`] makes it: the client's fault.
    pub fn matcher(&self) -> Result<TipMatcher, BadSketch> {
        if self.count as usize > TIPS_MAX {
            return Err(BadSketch);
        }
        let code = Code {
            count: self.count,
            fingerprint_bits: SKETCH_BITS,
        };
        let fingerprints = decode(code, &self.bits).map_err(|_| BadSketch)?;
        Ok(TipMatcher {
            seed: self.seed,
            code,
            fingerprints,
        })
    }
}

/// A malformed sketch of tips: the client's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sketch of tips is malformed")]
pub struct BadSketch;

/// A checked sketch, ready to answer.
#[derive(Debug, Clone)]
pub struct TipMatcher {
    seed: [u8; 8],
    code: Code,
    /// Ascending.
    fingerprints: Vec<u64>,
}

impl TipMatcher {
    /// Returns the place of an entry among the client's tips, if it is one.
    pub fn place(&self, id: &EntryId) -> Option<usize> {
        self.fingerprints
            .binary_search(&self.code.fingerprint(self.seed, id))
            .ok()
    }

    /// Returns how many tips are in the sketch.
    pub fn tip_count(&self) -> usize {
        self.fingerprints.len()
    }
}

/// The server's tips, at the end of its entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndTips {
    /// They are not named: the receiver of the entries has no use for them.
    Untold,
    /// The ids, ascending; at most [`TIPS_MAX`].
    Listed(Vec<EntryId>),
    /// Named with the help of the client's tips.
    Shared {
        /// One bit for each place in the client's sketch, lowest bit of a byte first: whether the
        /// server has the same tip.
        #[serde(with = "serde_bytes")]
        places: Vec<u8>,
        /// The other tips, ascending; at most [`TIPS_MAX`].
        others: Vec<EntryId>,
    },
}

impl EndTips {
    /// Names tips, ascending, to a client whose sketch this is.
    pub fn by_sketch(tips: Vec<EntryId>, sketch: &TipMatcher) -> Self {
        let mut places = vec![0; sketch.tip_count().div_ceil(8)];
        let mut others = Vec::new();
        for tip in tips {
            match sketch.place(&tip) {
                Some(place) => places[place / 8] |= 1 << (place % 8),
                None => others.push(tip),
            }
        }
        Self::Shared { places, others }
    }

    /// Returns the tips, ascending, given the client's own in the order of its sketch.
    pub fn resolve(self, sketched: &[EntryId]) -> Vec<EntryId> {
        match self {
            Self::Untold => Vec::new(),
            Self::Listed(tips) => tips,
            Self::Shared { places, others } => {
                let is_shared = |place: usize| {
                    places
                        .get(place / 8)
                        .is_some_and(|bits| bits >> (place % 8) & 1 == 1)
                };
                let shared = sketched
                    .iter()
                    .enumerate()
                    .filter(|(place, _)| is_shared(*place));
                let tips: BTreeSet<EntryId> = shared.map(|(_, id)| *id).chain(others).collect();
                tips.into_iter().collect()
            }
        }
    }

    /// Returns the tips that are named by their ids.
    pub fn listed(&self) -> &[EntryId] {
        match self {
            Self::Untold => &[],
            Self::Listed(tips) | Self::Shared { others: tips, .. } => tips,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: std::ops::Range<u32>) -> Vec<EntryId> {
        let hash = |n: u32| EntryId::from_bytes(Sha256::digest(n.to_le_bytes()).into());
        let mut ids: Vec<EntryId> = numbers.map(hash).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn tips_are_named_by_their_places() {
        let (own, theirs) = (ids(0..1_000), ids(20..1_020));
        let (sketch, placed) = TipSketch::new(TipDigest::of(&own), &own, *b"the seed");
        let matcher = sketch.matcher().expect("well formed");
        let end = EndTips::by_sketch(theirs.clone(), &matcher);
        assert_eq!(end.listed(), ids(1_000..1_020));
        let bytes = postcard::to_stdvec(&(sketch, &end))
            .expect("a vector takes every byte")
            .len();
        assert!(bytes < 4_100, "{bytes} bytes");
        assert_eq!(end.resolve(&placed), theirs);
    }

    #[test]
    fn a_truncated_sketch_is_refused() {
        let own = ids(0..100);
        let (sketch, _) = TipSketch::new(TipDigest::of(&own), &own, *b"the seed");
        let cut = TipSketch {
            bits: sketch.bits[..sketch.bits.len() - 2].to_vec(),
            ..sketch.clone()
        };
        assert_eq!(cut.matcher().map(|_| ()), Err(BadSketch));
        let endless = TipSketch {
            count: u32::MAX,
            ..sketch
        };
        assert_eq!(endless.matcher().map(|_| ()), Err(BadSketch));
    }

    #[test]
    fn places_beyond_the_sketch_are_ignored() {
        let own = ids(0..3);
        let end = EndTips::Shared {
            places: vec![0xff; 10],
            others: Vec::new(),
        };
        assert_eq!(end.resolve(&own), own);
    }
}
