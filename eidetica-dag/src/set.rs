//! Sets of entries as bits, one for each number.

use crate::arrival::Arrival;

/// A set of entries of one tree, given by their numbers.
///
/// It takes one bit for each entry between the lowest number it may hold and the highest it does:
/// a hundred missing entries cost a few bytes, and all of a tree of a million 125 kB.
#[derive(Debug, Clone, Default)]
pub struct ArrivalSet {
    words: Vec<u64>,
    len: usize,
}

impl ArrivalSet {
    /// Makes an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes an empty set with room for the numbers below `count`.
    pub fn with_room_for(count: u32) -> Self {
        Self {
            words: vec![0; (count as usize).div_ceil(64)],
            len: 0,
        }
    }

    /// Makes the set of every number below `count`.
    pub fn all_below(count: u32) -> Self {
        let mut set = Self::with_room_for(count);
        set.words.fill(u64::MAX);
        if let (Some(last), rest @ 1..) = (set.words.last_mut(), count % 64) {
            *last = (1 << rest) - 1;
        }
        set.len = count as usize;
        set
    }

    /// Puts a number in and tells whether it was not in yet.
    pub fn insert(&mut self, at: Arrival) -> bool {
        let (word, bit) = (at.index() / 64, 1 << (at.index() % 64));
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.len += usize::from(is_new);
        is_new
    }

    /// Tells whether a number is in.
    pub fn contains(&self, at: Arrival) -> bool {
        let (word, bit) = (at.index() / 64, 1 << (at.index() % 64));
        self.words.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// Returns how many numbers are in.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Tells whether no number is in.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Lists the numbers, ascending: parents before children.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Arrival> + '_ {
        let set_bits = |(word, bits): (usize, &u64)| {
            let bits = *bits;
            let base = word as u32 * 64;
            (0..64)
                .filter(move |bit| bits >> bit & 1 == 1)
                .map(move |bit| Arrival(base + bit))
        };
        self.words
            .iter()
            .enumerate()
            .filter(|(_, bits)| **bits != 0)
            .flat_map(set_bits)
    }

    /// Returns the lowest number that is not in and not below `from`.
    pub fn gap_from(&self, from: Arrival) -> Arrival {
        let first = from.index() / 64;
        let mut mask = u64::MAX << (from.index() % 64);
        for (word, bits) in self.words.iter().enumerate().skip(first) {
            let free = !bits & mask;
            if free != 0 {
                return Arrival(word as u32 * 64 + free.trailing_zeros());
            }
            mask = u64::MAX;
        }
        Arrival(from.0.max(self.words.len() as u32 * 64))
    }

    /// Returns the lowest number that is in and not below `from`.
    pub fn next_from(&self, from: Arrival) -> Option<Arrival> {
        let first = from.index() / 64;
        let bits = self.words.get(first)? & (u64::MAX << (from.index() % 64));
        if bits != 0 {
            return Some(Arrival(first as u32 * 64 + bits.trailing_zeros()));
        }
        let word = (first + 1..self.words.len()).find(|word| self.words[*word] != 0)?;
        Some(Arrival(
            word as u32 * 64 + self.words[word].trailing_zeros(),
        ))
    }
}

/// Sets with the same numbers are equal, whatever room they were made with.
impl PartialEq for ArrivalSet {
    fn eq(&self, other: &Self) -> bool {
        let shared = self.words.len().min(other.words.len());
        self.len == other.len && self.words[..shared] == other.words[..shared]
    }
}

impl Eq for ArrivalSet {}

impl FromIterator<Arrival> for ArrivalSet {
    fn from_iter<I: IntoIterator<Item = Arrival>>(numbers: I) -> Self {
        let mut set = Self::new();
        for at in numbers {
            set.insert(at);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_out_ascending_and_once() {
        let numbers = [700, 0, 63, 64, 65, 63];
        let set: ArrivalSet = numbers.into_iter().map(Arrival).collect();
        let listed: Vec<u32> = set.iter().map(|at| at.0).collect();
        assert_eq!(listed, [0, 63, 64, 65, 700]);
        assert_eq!(set.len(), 5);
        assert!(set.contains(Arrival(700)) && !set.contains(Arrival(699)));
        assert!(!set.contains(Arrival(100_000)));
    }

    #[test]
    fn next_from_walks_the_set() {
        let set: ArrivalSet = [3, 64, 300].into_iter().map(Arrival).collect();
        assert_eq!(set.next_from(Arrival(0)), Some(Arrival(3)));
        assert_eq!(set.next_from(Arrival(4)), Some(Arrival(64)));
        assert_eq!(set.next_from(Arrival(65)), Some(Arrival(300)));
        assert_eq!(set.next_from(Arrival(301)), None);
    }

    #[test]
    fn gap_from_finds_the_end_of_a_run() {
        let set: ArrivalSet = (3..64).chain(65..140).map(Arrival).collect();
        let gaps = [(0, 0), (3, 64), (63, 64), (64, 64), (65, 140), (139, 140)];
        for (from, gap) in gaps {
            assert_eq!(set.gap_from(Arrival(from)), Arrival(gap), "from {from}");
        }
        assert_eq!(set.gap_from(Arrival(999)), Arrival(999));
        let whole = ArrivalSet::all_below(128);
        assert_eq!(whole.gap_from(Arrival(7)), Arrival(128));
        assert_eq!(whole.gap_from(Arrival(130)), Arrival(130));
    }

    #[test]
    fn room_makes_no_difference() {
        let mut roomy = ArrivalSet::with_room_for(1_000);
        let mut tight = ArrivalSet::new();
        assert_eq!(roomy, tight);
        roomy.insert(Arrival(3));
        assert_ne!(roomy, tight);
        tight.insert(Arrival(3));
        assert_eq!(roomy, tight);
        roomy.insert(Arrival(900));
        tight.insert(Arrival(4));
        assert_ne!(roomy, tight);
    }

    #[test]
    fn all_below_ends_where_it_says() {
        for count in [0, 1, 63, 64, 65, 128, 200] {
            let set = ArrivalSet::all_below(count);
            assert_eq!(set.len(), count as usize);
            assert_eq!(set.iter().count(), count as usize);
            assert!(!set.contains(Arrival(count)));
        }
    }
}
