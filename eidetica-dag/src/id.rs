//! Names of entries and trees: SHA-256 hashes, written as 64 hexadecimal digits.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::str::FromStr;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};

/// Length of an id in bytes.
pub const ID_BYTES: usize = 32;

/// The name of an entry: SHA-256 over its canonical bytes followed by its signature.
///
/// An id is computed where an entry is built or decoded, never taken from a peer. Ids order by their
/// bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EntryId([u8; ID_BYTES]);

/// The name of a tree: the id of its root.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TreeId(EntryId);

/// Why a text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is 64 hexadecimal digits")]
pub struct ParseIdError;

impl EntryId {
    /// Wraps the 32 bytes of a hash.
    pub const fn from_bytes(bytes: [u8; ID_BYTES]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes of the hash.
    pub const fn as_bytes(&self) -> &[u8; ID_BYTES] {
        &self.0
    }

    /// Returns the first eight bytes as a big-endian number, so that it orders like the id.
    ///
    /// Different ids can share a prefix, and authors can produce such ids on purpose: an index
    /// over prefixes must compare the whole id.
    pub fn prefix(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// Returns the first ten hexadecimal digits, for people.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(10);
        text
    }
}

/// Hands eight bytes to the hasher: an id is evenly spread already. To make many ids that share these
/// bytes takes 2^64 hashes for each.
impl Hash for EntryId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.prefix());
    }
}

/// A map keyed by ids. Every entry passes several of them between the wire and the store, where the
/// standard hasher took a tenth of the time.
pub type IdMap<V> = HashMap<EntryId, V, IdHashing>;

/// How an [`IdMap`] hashes: one multiplication by a secret.
///
/// Ids are evenly spread, but an author can try many and keep those which would crowd together in a
/// map. Without the secret, which differs for each map, an author cannot know which those are.
///
/// The secret comes from the standard library's [`RandomState`]. Targets without a source of randomness,
/// such as `wasm32-unknown-unknown`, derive it from addresses in memory, which an author may guess.
#[derive(Debug, Clone)]
pub struct IdHashing {
    mask: u64,
    factor: u64,
}

impl Default for IdHashing {
    #[expect(
        clippy::disallowed_methods,
        reason = "the secret places ids in a map and decides nothing"
    )]
    fn default() -> Self {
        let secret = RandomState::new();
        Self {
            mask: secret.hash_one(0),
            factor: secret.hash_one(1) | 1,
        }
    }
}

impl BuildHasher for IdHashing {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher {
            hash: self.mask,
            factor: self.factor,
        }
    }
}

/// The hasher of an [`IdMap`].
#[derive(Debug, Clone)]
pub struct IdHasher {
    hash: u64,
    factor: u64,
}

impl Hasher for IdHasher {
    fn write_u64(&mut self, number: u64) {
        // Both halves of the product, for a map looks at the highest bits and at the lowest.
        let product = u128::from(self.hash ^ number) * u128::from(self.factor);
        self.hash = product as u64 ^ (product >> 64) as u64;
    }

    /// Ids do not come here.
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}

impl TreeId {
    /// Names the tree whose root is `root`.
    pub const fn from_root(root: EntryId) -> Self {
        Self(root)
    }

    /// Returns the id of the root.
    pub const fn root(&self) -> EntryId {
        self.0
    }

    /// Returns the 32 bytes of the hash.
    pub const fn as_bytes(&self) -> &[u8; ID_BYTES] {
        self.0.as_bytes()
    }

    /// Returns the first ten hexadecimal digits, for people.
    pub fn short(&self) -> String {
        self.0.short()
    }
}

/// Reads exactly 32 bytes from 64 hexadecimal digits of either case.
pub(crate) fn read_hex(text: &str) -> Option<[u8; ID_BYTES]> {
    let mut bytes = [0; ID_BYTES];
    if HEXLOWER_PERMISSIVE.decode_len(text.len()) != Ok(ID_BYTES) {
        return None;
    }
    let read = HEXLOWER_PERMISSIVE.decode_mut(text.as_bytes(), &mut bytes);
    read.is_ok().then_some(bytes)
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        HEXLOWER.encode_display(&self.0).fmt(f)
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryId({})", self.short())
    }
}

impl FromStr for EntryId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        read_hex(text).map(Self).ok_or(ParseIdError)
    }
}

impl fmt::Display for TreeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for TreeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreeId({})", self.short())
    }
}

impl FromStr for TreeId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map looks at the highest seven bits and at the lowest. Ids that differ in one bit, or in a
    /// few chosen bits, must differ in both.
    #[test]
    fn ids_that_are_alike_do_not_crowd_together() {
        let hashing = IdHashing {
            mask: 0x243f_6a88_85a3_08d3,
            factor: 0x9e37_79b9_7f4a_7c15,
        };
        let hash = |number: u64| {
            let mut bytes = [0; ID_BYTES];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            hashing.hash_one(EntryId::from_bytes(bytes))
        };
        for shift in [0, 8, 20, 40, 54] {
            let hashes = (0..1 << 10).map(|number: u64| hash(number << shift));
            let (mut high, mut low) = (vec![0; 128], vec![0; 128]);
            for hash in hashes {
                high[(hash >> 57) as usize] += 1;
                low[(hash & 127) as usize] += 1;
            }
            // Eight are expected in each place.
            assert!(high.into_iter().max() < Some(32), "shifted by {shift}");
            assert!(low.into_iter().max() < Some(32), "shifted by {shift}");
        }
    }

    #[test]
    fn a_map_keeps_ids_with_the_same_beginning_apart() {
        let mut map = IdMap::default();
        for last in 0..200 {
            let mut bytes = [3; ID_BYTES];
            bytes[31] = last;
            map.insert(EntryId::from_bytes(bytes), last);
        }
        assert_eq!(map.len(), 200);
        assert_eq!(map.get(&EntryId::from_bytes([3; ID_BYTES])), Some(&3));
    }
}
