//! Sets of numbers that share memory with the sets they were made from.

use std::sync::Arc;

/// Bits in a leaf.
const LEAF_BITS: u32 = 256;
/// Children of a branch, as a power of two.
const BRANCH_SHIFT: u32 = 4;
const BRANCH_CHILDREN: usize = 1 << BRANCH_SHIFT;

/// A set of numbers, as a tree of bits.
///
/// A clone costs nothing, and an altered clone shares all but the few nodes on the way to what was
/// altered. Where two sets share a node, comparing and joining them pass over it.
#[derive(Clone, Default)]
pub struct SharedSet {
    root: Option<Arc<Node>>,
    /// How many branches are above each leaf.
    levels: u32,
    len: usize,
}

#[derive(Clone)]
enum Node {
    Leaf([u64; LEAF_BITS as usize / 64]),
    Branch([Option<Arc<Node>>; BRANCH_CHILDREN]),
}

impl Node {
    const EMPTY_LEAF: Self = Self::Leaf([0; LEAF_BITS as usize / 64]);
    const EMPTY_BRANCH: Self = Self::Branch([const { None }; BRANCH_CHILDREN]);

    fn is_empty(&self) -> bool {
        match self {
            Self::Leaf(words) => words.iter().all(|word| *word == 0),
            Self::Branch(children) => children.iter().all(Option::is_none),
        }
    }
}

/// Splits the bits of a number within a leaf into a word and a mask.
fn place(number: u32) -> (usize, u64) {
    let bit = number % LEAF_BITS;
    ((bit / 64) as usize, 1 << (bit % 64))
}

/// Returns the child of a branch at `level` (1 is right above the leaves) that leads to a number.
fn child_index(number: u32, level: u32) -> usize {
    let leaf = number / LEAF_BITS;
    (leaf >> (BRANCH_SHIFT * (level - 1))) as usize % BRANCH_CHILDREN
}

impl SharedSet {
    /// Makes an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns how many numbers are in.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Tells whether no number is in.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Tells whether `number` is within what the tree can hold.
    fn has_room_for(&self, number: u32) -> bool {
        u64::from(number / LEAF_BITS) < 1 << (BRANCH_SHIFT * self.levels)
    }

    fn raise(&mut self) {
        if let Some(root) = self.root.take() {
            let mut children = [const { None }; BRANCH_CHILDREN];
            children[0] = Some(root);
            self.root = Some(Arc::new(Node::Branch(children)));
        }
        self.levels += 1;
    }

    /// Tells whether a number is in.
    pub fn contains(&self, number: u32) -> bool {
        if !self.has_room_for(number) {
            return false;
        }
        let mut node = self.root.as_ref();
        let mut level = self.levels;
        while let Some(at) = node {
            match &**at {
                Node::Leaf(words) => {
                    let (word, mask) = place(number);
                    return words[word] & mask != 0;
                }
                Node::Branch(children) => node = children[child_index(number, level)].as_ref(),
            }
            level -= 1;
        }
        false
    }

    /// Puts a number in and tells whether it was absent.
    pub fn insert(&mut self, number: u32) -> bool {
        while !self.has_room_for(number) {
            self.raise();
        }
        let mut slot = &mut self.root;
        let mut level = self.levels;
        loop {
            let empty = || match level {
                0 => Arc::new(Node::EMPTY_LEAF),
                _ => Arc::new(Node::EMPTY_BRANCH),
            };
            match Arc::make_mut(slot.get_or_insert_with(empty)) {
                Node::Leaf(words) => {
                    let (word, mask) = place(number);
                    let is_new = words[word] & mask == 0;
                    words[word] |= mask;
                    self.len += usize::from(is_new);
                    return is_new;
                }
                Node::Branch(children) => slot = &mut children[child_index(number, level)],
            }
            level -= 1;
        }
    }

    /// Takes a number out and tells whether it was in.
    pub fn remove(&mut self, number: u32) -> bool {
        if !self.contains(number) {
            return false;
        }
        remove_below(&mut self.root, number, self.levels);
        self.len -= 1;
        true
    }

    /// Tells whether every number of `other` is in.
    pub fn contains_all(&self, other: &Self) -> bool {
        if other.len > self.len {
            return false;
        }
        let (mut one, mut two) = (self.clone(), other.clone());
        one.raise_to(two.levels);
        two.raise_to(one.levels);
        covers(one.root.as_ref(), two.root.as_ref())
    }

    fn raise_to(&mut self, levels: u32) {
        while self.levels < levels {
            self.raise();
        }
    }

    /// Puts every number of `other` in.
    pub fn insert_all(&mut self, other: &Self) {
        let mut other = other.clone();
        self.raise_to(other.levels);
        other.raise_to(self.levels);
        let Some(theirs) = other.root else {
            return;
        };
        match &mut self.root {
            Some(own) => self.len += merge(own, &theirs),
            None => (self.root, self.len) = (Some(theirs), other.len),
        }
    }

    /// Lists the numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.iter_from(0)
    }

    /// Lists the numbers that are not below `from`, ascending. What is below is passed over.
    pub fn iter_from(&self, from: u32) -> impl Iterator<Item = u32> + '_ {
        let mut ahead: Vec<(&Node, u32, u32)> = Vec::new();
        ahead.extend(self.root.as_deref().map(|root| (root, 0, self.levels)));
        let leaves = std::iter::from_fn(move || {
            while let Some((node, leaf, level)) = ahead.pop() {
                match node {
                    Node::Leaf(words) => return Some((words, leaf)),
                    Node::Branch(children) => {
                        let below = BRANCH_SHIFT * (level - 1);
                        for (index, child) in children.iter().enumerate().rev() {
                            let leaf = leaf + ((index as u32) << below);
                            let last = u64::from(leaf) + (1 << below) - 1;
                            if last < u64::from(from / LEAF_BITS) {
                                break;
                            }
                            let child = child.as_deref();
                            ahead.extend(child.map(|child| (child, leaf, level - 1)));
                        }
                    }
                }
            }
            None
        });
        leaves.flat_map(move |(words, leaf)| {
            (0..LEAF_BITS).filter_map(move |bit| {
                let (word, mask) = place(bit);
                let number = leaf * LEAF_BITS + bit;
                (words[word] & mask != 0 && number >= from).then_some(number)
            })
        })
    }
}

fn remove_below(slot: &mut Option<Arc<Node>>, number: u32, level: u32) {
    let Some(node) = slot else {
        return;
    };
    let node = Arc::make_mut(node);
    match node {
        Node::Leaf(words) => {
            let (word, mask) = place(number);
            words[word] &= !mask;
        }
        Node::Branch(children) => {
            remove_below(&mut children[child_index(number, level)], number, level - 1);
        }
    }
    if node.is_empty() {
        *slot = None;
    }
}

fn covers(one: Option<&Arc<Node>>, two: Option<&Arc<Node>>) -> bool {
    let Some(two) = two else {
        return true;
    };
    let Some(one) = one else {
        return two.is_empty();
    };
    if Arc::ptr_eq(one, two) {
        return true;
    }
    match (&**one, &**two) {
        (Node::Leaf(one), Node::Leaf(two)) => one.iter().zip(two).all(|(one, two)| two & !one == 0),
        (Node::Branch(one), Node::Branch(two)) => {
            let mut pairs = one.iter().zip(two);
            pairs.all(|(one, two)| covers(one.as_ref(), two.as_ref()))
        }
        _ => unreachable!("both have the same number of levels"),
    }
}

/// Adds the numbers below `theirs` to those below `own`, and returns how many numbers were absent.
fn merge(own: &mut Arc<Node>, theirs: &Arc<Node>) -> usize {
    if Arc::ptr_eq(own, theirs) || covers(Some(own), Some(theirs)) {
        return 0;
    }
    match (Arc::make_mut(own), &**theirs) {
        (Node::Leaf(own), Node::Leaf(theirs)) => {
            let mut added = 0;
            for (own, theirs) in own.iter_mut().zip(theirs) {
                added += (theirs & !*own).count_ones() as usize;
                *own |= theirs;
            }
            added
        }
        (Node::Branch(own), Node::Branch(theirs)) => {
            let mut added = 0;
            for (own, theirs) in own.iter_mut().zip(theirs) {
                added += match (own, theirs) {
                    (_, None) => 0,
                    (Some(own), Some(theirs)) => merge(own, theirs),
                    (slot @ None, Some(theirs)) => {
                        *slot = Some(theirs.clone());
                        count(theirs)
                    }
                };
            }
            added
        }
        _ => unreachable!("both have the same number of levels"),
    }
}

fn count(node: &Node) -> usize {
    match node {
        Node::Leaf(words) => words.iter().map(|word| word.count_ones() as usize).sum(),
        Node::Branch(children) => children.iter().flatten().map(|child| count(child)).sum(),
    }
}

/// Sets with the same numbers are equal, however they were made.
impl PartialEq for SharedSet {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.contains_all(other)
    }
}

impl Eq for SharedSet {}

impl std::fmt::Debug for SharedSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl FromIterator<u32> for SharedSet {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        let mut set = Self::new();
        for number in numbers {
            set.insert(number);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Numbers around the borders of leaves and branches, from a small generator.
    fn numbers(seed: u32, count: usize) -> BTreeSet<u32> {
        let mut state = seed;
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        let numbers: Vec<u32> = std::iter::repeat_with(next).take(count).collect();
        let limits = [300, 5_000, 70_000, 1 << 24];
        let limit = limits[seed as usize % limits.len()];
        numbers.into_iter().map(|number| number % limit).collect()
    }

    #[test]
    fn behaves_like_an_ordinary_set() {
        for seed in 0..16 {
            let (one, two) = (numbers(seed, 300), numbers(seed + 5, 200));
            let mut set: SharedSet = one.iter().copied().collect();
            let before = set.clone();
            let other: SharedSet = two.iter().copied().collect();
            assert!(set.iter().eq(one.iter().copied()));
            assert_eq!(set.contains_all(&other), one.is_superset(&two));
            set.insert_all(&other);
            let union: BTreeSet<u32> = &one | &two;
            assert_eq!(set.len(), union.len());
            assert!(set.iter().eq(union.iter().copied()));
            for from in [0, 255, 256, 4_095, 4_096, 4_097, 60_000] {
                let rest = union.range(from..).copied();
                assert!(set.iter_from(from).eq(rest), "from {from}");
            }
            assert!(set.contains_all(&other) && set.contains_all(&before));
            for number in &two {
                assert!(set.contains(*number));
                assert!(set.remove(*number));
                assert!(!set.remove(*number));
            }
            let rest: BTreeSet<u32> = &one - &two;
            assert!(set.iter().eq(rest.iter().copied()));
            assert_eq!(set, rest.iter().copied().collect());
            assert!(
                before.iter().eq(one.iter().copied()),
                "a clone stays as it was"
            );
        }
    }

    #[test]
    fn an_emptied_set_is_the_empty_set() {
        let mut set: SharedSet = [5, 100_000].into_iter().collect();
        set.remove(5);
        set.remove(100_000);
        assert_eq!(set, SharedSet::new());
        assert!(set.is_empty() && SharedSet::new().contains_all(&set));
        assert!(!set.contains(u32::MAX));
        set.insert(u32::MAX);
        assert!(set.iter().eq([u32::MAX]));
    }
}
