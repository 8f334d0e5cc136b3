//! Trees of every shape, from a seed.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;

use crate::entry::{Body, Entry};
use crate::id::{EntryId, TreeId};
use crate::key::SecretKey;
use crate::memory::MemoryDag;
use crate::testing::random::Random;
use crate::verify::VerifiedEntry;

/// A kind of history. Each has its own way of going wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One chain.
    Linear,
    /// Many chains from the root, never merged: as many tips as the square root of the size.
    Wide,
    /// Four chains that merge with each other at random.
    Braided,
    /// Pairs of entries of which each has both entries of the pair before as parents: many best
    /// common ancestors everywhere.
    CrissCross,
    /// Several chains that begin on their own and are merged later.
    ManyRoots,
    /// Fans of up to sixteen entries, merged at once.
    Octopus,
    /// Side branches of uneven length, each merged long after it was begun.
    UnevenDiamonds,
    /// A few long branches from near the root that arrive after everything else.
    LateBranches,
    /// One to three random earlier entries as parents.
    Random,
}

impl Shape {
    /// Every shape there is.
    pub const ALL: [Self; 9] = [
        Self::Linear,
        Self::Wide,
        Self::Braided,
        Self::CrissCross,
        Self::ManyRoots,
        Self::Octopus,
        Self::UnevenDiamonds,
        Self::LateBranches,
        Self::Random,
    ];

    /// Returns the parents of each of `n` entries, ascending. Parents have lower numbers than their
    /// children; an entry without parents is a root.
    pub fn parents(self, n: u32, seed: u64) -> Vec<Vec<u32>> {
        let mut random = Random::new(seed);
        let width = n.isqrt().max(1);
        let of = |i: u32| -> Vec<u32> {
            if i == 0 {
                return Vec::new();
            }
            let mut parents = match self {
                Self::Linear => vec![i - 1],
                Self::Wide => vec![i.saturating_sub(width)],
                Self::Braided => {
                    let own = i.saturating_sub(4);
                    let neighbour = i - 1 - random.below(i.min(4));
                    if random.one_in(3) {
                        vec![own, neighbour]
                    } else {
                        vec![own]
                    }
                }
                Self::CrissCross => match (i - 1) / 2 {
                    0 => vec![0],
                    pair => vec![2 * pair - 1, 2 * pair],
                },
                Self::ManyRoots => match i {
                    1..=4 => Vec::new(),
                    _ if random.one_in(20) => vec![i - 1, i - 5],
                    _ => vec![i - 5],
                },
                Self::Octopus => match i % 17 {
                    0 => (i - 16..i).collect(),
                    place => vec![i - place],
                },
                // Of every eight entries, six continue the trunk and the fourth is a side branch,
                // merged by the eighth, or by the beginning of a later eight, or never.
                Self::UnevenDiamonds => match i % 8 {
                    3 => vec![i - 3],
                    4 => vec![i - 2],
                    7 if random.one_in(2) => vec![i - 4, i - 1],
                    0 if i > 40 && random.one_in(2) => {
                        vec![i - 8 * (2 + random.below(3)) + 3, i - 1]
                    }
                    _ => vec![i - 1],
                },
                Self::LateBranches => match n / 2 {
                    half if i == half => vec![1.min(i - 1)],
                    half if i == half + n / 4 => vec![2.min(i - 1)],
                    _ => vec![i - 1],
                },
                Self::Random => (0..=random.below(3)).map(|_| random.below(i)).collect(),
            };
            parents.sort_unstable();
            parents.dedup();
            parents
        };
        (0..n).map(of).collect()
    }
}

/// Returns the parents of an entry in a tree with one root: other roots get the first as parent.
pub(super) fn joined(number: usize, parents: &[u32]) -> Cow<'_, [u32]> {
    if number > 0 && parents.is_empty() {
        Cow::Owned(vec![0])
    } else {
        Cow::Borrowed(parents)
    }
}

/// Signs a tree of this shape: five authors in runs of seven, sixteen bytes of payload each.
pub fn build(parents: &[Vec<u32>]) -> Vec<VerifiedEntry> {
    let payload = |number: u32| Bytes::copy_from_slice(format!("entry {number:010}").as_bytes());
    build_with(parents, |number| number / 7 % 5, payload)
}

/// Signs a tree of this shape. Entry `i` has the parents `parents[i]`, the author
/// `testing::key(author(i))` and the payload `payload(i)`. The first entry is the root, where
/// everyone may write; roots beyond it have it as their parent.
///
/// # Panics
/// If a parent has no lower number, or an entry breaks a rule of its form.
pub fn build_with(
    parents: &[Vec<u32>],
    mut author: impl FnMut(u32) -> u32,
    mut payload: impl FnMut(u32) -> Bytes,
) -> Vec<VerifiedEntry> {
    let mut keys: BTreeMap<u32, SecretKey> = BTreeMap::new();
    let mut built: Vec<VerifiedEntry> = Vec::with_capacity(parents.len());
    for (index, parents) in parents.iter().enumerate() {
        let number = index as u32;
        let author = author(number);
        let key = keys.entry(author).or_insert_with(|| super::key(author));
        let body = match number {
            0 => super::open_genesis("built"),
            _ => Body::Data(payload(number)),
        };
        let tree = built.first().map(|root| TreeId::from_root(root.get().id()));
        let parents = joined(index, parents);
        let parents = parents.iter().map(|parent| &built[*parent as usize]);
        built.push(sign_on_top(tree, parents, key, u64::from(number), body));
    }
    built
}

/// Signs one entry on top of others: works out its parents' ids and its height.
///
/// # Panics
/// If the entry breaks a rule of its form.
pub fn sign_on_top<'a>(
    tree: Option<TreeId>,
    parents: impl IntoIterator<Item = &'a VerifiedEntry>,
    key: &SecretKey,
    timestamp_ms: u64,
    body: Body,
) -> VerifiedEntry {
    let mut height = 0;
    let mut ids: Vec<EntryId> = Vec::new();
    for parent in parents {
        height = height.max(parent.get().entry().height + 1);
        ids.push(parent.get().id());
    }
    ids.sort_unstable();
    let entry = Entry {
        tree,
        parents: ids,
        height,
        timestamp_ms,
        author: key.public(),
        body,
    };
    VerifiedEntry::sign(entry, key).unwrap_or_else(|rule| panic!("a test's entry: {rule}"))
}

/// Stores a tree that was built, in the order given.
///
/// # Panics
/// If it is empty, or an entry cannot be stored.
pub fn dag_of(entries: Vec<VerifiedEntry>) -> MemoryDag {
    let root = entries.first().expect("a tree has a root");
    let mut dag = MemoryDag::new(root.get().tree());
    let count = entries.len();
    let outcome = dag.append(entries);
    if let Some(refusal) = outcome.refused {
        panic!("{refusal}");
    }
    assert_eq!(outcome.stored.len(), count, "parents come first");
    dag
}
