//! Which peer brought which entries, so that no peer is sent back what it brought.
//!
//! Entries are visible in the store before their origin can be noted. So an append is announced
//! before it begins, and while it runs, only what arrived before it is passed on: see
//! [`Origins::passable`].

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use eidetica_dag::{PublicKey, TreeId};

/// Most ranges that are remembered, in about 2 MiB. Forgetting one costs a peer entries that it has.
pub const ORIGIN_RANGES_MAX: usize = 16_384;

/// Remembers the ranges of arrivals that peers brought, the latest [`ORIGIN_RANGES_MAX`] of them.
///
/// It is an optimisation only: what it has forgotten is sent once more, and found redundant.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    /// By tree and first arrival: the end, and who brought them.
    ranges: BTreeMap<(TreeId, u32), (u32, PublicKey)>,
    /// The keys of `ranges`, oldest first.
    order: VecDeque<(TreeId, u32)>,
    appending: BTreeMap<TreeId, Appending>,
}

/// Arrivals of a tree, and the peer that brought them, if one did.
pub type Arrived = (Range<u32>, Option<PublicKey>);

/// The appends to one tree that are under way.
#[derive(Debug, Clone)]
struct Appending {
    appends: usize,
    /// Where the arrivals end of which every origin is noted.
    noted: u32,
    /// Arrivals after a gap that an append under way will fill: by the first, the end and who
    /// brought them.
    ahead: BTreeMap<u32, (u32, Option<PublicKey>)>,
}

impl Appending {
    /// Takes the arrivals before which no append under way can leave a gap.
    fn take_passable(&mut self) -> Vec<Arrived> {
        let mut passable = Vec::new();
        while let Some(first) = self.ahead.first_entry()
            && (self.appends == 0 || *first.key() <= self.noted)
        {
            let (start, (end, peer)) = first.remove_entry();
            self.noted = self.noted.max(end);
            passable.push((start..end, peer));
        }
        passable
    }
}

impl Origins {
    /// Makes a memory of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes that `peer` brought these arrivals of a tree. Arrivals are stored once, so ranges of
    /// the same tree do not overlap.
    pub fn handle_stored(&mut self, tree: TreeId, arrivals: Range<u32>, peer: PublicKey) {
        if arrivals.is_empty() {
            return;
        }
        let before = self.ranges.range_mut((tree, 0)..(tree, arrivals.start));
        if let Some((_, (end, earlier))) = before.last()
            && *end == arrivals.start
            && *earlier == peer
        {
            *end = arrivals.end;
            return;
        }
        let key = (tree, arrivals.start);
        if (self.ranges.insert(key, (arrivals.end, peer))).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > ORIGIN_RANGES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ranges.remove(&oldest);
        }
    }

    /// Tells whether an append to this tree is under way.
    pub fn is_appending(&self, tree: TreeId) -> bool {
        self.appending.contains_key(&tree)
    }

    /// Takes that an append to a tree begins. `arrived` is how many entries of the tree are stored;
    /// it does not matter if another append to the tree is under way.
    ///
    /// The end of each append is to be reported, also if it fails.
    pub fn handle_append(&mut self, tree: TreeId, arrived: u32) {
        let appending = self.appending.entry(tree).or_insert_with(|| Appending {
            appends: 0,
            noted: arrived,
            ahead: BTreeMap::new(),
        });
        appending.appends += 1;
    }

    /// Takes that an append has ended, and what it stored, if anything. Returns the arrivals that
    /// may be passed on from here on, in order: those before which no append can leave a gap.
    pub fn handle_append_ended(&mut self, tree: TreeId, stored: Option<Arrived>) -> Vec<Arrived> {
        if let Some((arrivals, Some(peer))) = &stored {
            self.handle_stored(tree, arrivals.clone(), *peer);
        }
        let Some(appending) = self.appending.get_mut(&tree) else {
            return stored.into_iter().collect();
        };
        if let Some((arrivals, peer)) = stored
            && !arrivals.is_empty()
        {
            appending.ahead.insert(arrivals.start, (arrivals.end, peer));
        }
        appending.appends -= 1;
        let passable = appending.take_passable();
        if appending.appends == 0 {
            self.appending.remove(&tree);
        }
        passable
    }

    /// Takes that arrivals came by way of another server on the same store. Returns the arrivals that may
    /// be passed on from here on, as [`Self::handle_append_ended`] does.
    pub fn handle_stored_elsewhere(&mut self, tree: TreeId, arrivals: Range<u32>) -> Vec<Arrived> {
        if arrivals.is_empty() {
            return Vec::new();
        }
        let Some(appending) = self.appending.get_mut(&tree) else {
            return vec![(arrivals, None)];
        };
        let ahead = appending.ahead.entry(arrivals.start);
        let (end, _) = ahead.or_insert((arrivals.end, None));
        *end = arrivals.end.max(*end);
        appending.take_passable()
    }

    /// Returns how many of the first `count` arrivals of a tree may be passed on: those of which
    /// every origin is noted. `count` is of a view that was taken after the last call of
    /// [`Self::handle_append`].
    pub fn passable(&self, tree: TreeId, count: u32) -> u32 {
        let appending = self.appending.get(&tree);
        appending.map_or(count, |it| it.noted.min(count))
    }

    /// Returns the first arrivals in `within` that `peer` is not known to have brought, or `None` if
    /// it brought them all. What follows them, `peer` brought, or it is past the end.
    pub fn next_for(
        &self,
        tree: TreeId,
        within: Range<u32>,
        peer: Option<&PublicKey>,
    ) -> Option<Range<u32>> {
        let Range { mut start, end } = within;
        let Some(peer) = peer else {
            return (start < end).then_some(start..end);
        };
        let before = self.ranges.range((tree, 0)..=(tree, start)).next_back();
        let from = before.map_or((tree, start), |(key, _)| *key);
        for ((_, first), (last, by)) in self.ranges.range(from..(tree, end)) {
            if by != peer || *last <= start {
                continue;
            }
            if *first > start {
                return Some(start..*first);
            }
            start = *last;
        }
        (start < end).then_some(start..end)
    }

    /// Returns how many ranges are remembered.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Tells whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use eidetica_dag::EntryId;
    use eidetica_dag::testing::{Random, key};

    use super::*;

    fn tree(n: u8) -> TreeId {
        TreeId::from_root(EntryId::from_bytes([n; 32]))
    }

    /// Lists the arrivals to send one by one.
    fn listed(origins: &Origins, tree: TreeId, within: Range<u32>, peer: &PublicKey) -> Vec<u32> {
        let (mut listed, mut at) = (Vec::new(), within.start);
        while let Some(range) = origins.next_for(tree, at..within.end, Some(peer)) {
            assert!(!range.is_empty() && range.start >= at && range.end <= within.end);
            listed.extend(range.clone());
            at = range.end;
        }
        listed
    }

    #[test]
    fn a_peer_is_not_sent_what_it_brought() {
        let (p, q) = (key(1).public(), key(2).public());
        let mut origins = Origins::new();
        origins.handle_stored(tree(1), 2..4, p);
        origins.handle_stored(tree(1), 4..6, p);
        origins.handle_stored(tree(1), 6..7, q);
        assert_eq!(origins.len(), 2, "ranges that meet are one");
        assert_eq!(listed(&origins, tree(1), 0..8, &p), [0, 1, 6, 7]);
        assert_eq!(listed(&origins, tree(1), 3..8, &p), [6, 7]);
        assert_eq!(listed(&origins, tree(1), 0..8, &q), [0, 1, 2, 3, 4, 5, 7]);
        assert_eq!(listed(&origins, tree(2), 0..3, &p), [0, 1, 2]);
        assert_eq!(origins.next_for(tree(1), 2..6, Some(&p)), None);
        assert_eq!(origins.next_for(tree(1), 2..6, None), Some(2..6));
        assert_eq!(origins.next_for(tree(1), 5..5, None), None);
    }

    #[test]
    fn what_another_server_stored_fills_the_gap_before_an_append() {
        let p = key(1).public();
        let mut origins = Origins::new();
        assert_eq!(
            origins.handle_stored_elsewhere(tree(1), 0..2),
            [(0..2, None)]
        );
        // Two appends, between which another server stores.
        origins.handle_append(tree(1), 2);
        origins.handle_append(tree(1), 2);
        let stored = Some((5..6, Some(p)));
        assert_eq!(origins.handle_append_ended(tree(1), stored), []);
        assert_eq!(origins.passable(tree(1), 6), 2);
        let passable = origins.handle_stored_elsewhere(tree(1), 2..5);
        assert_eq!(passable, [(2..5, None), (5..6, Some(p))]);
        assert_eq!(origins.passable(tree(1), 6), 6);
        assert_eq!(origins.handle_append_ended(tree(1), None), []);
        assert!(!origins.is_appending(tree(1)));
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let (p, q) = (key(1).public(), key(2).public());
        let mut origins = Origins::new();
        for n in 0..=ORIGIN_RANGES_MAX as u32 {
            origins.handle_stored(tree(1), n..n + 1, if n % 2 == 0 { p } else { q });
        }
        assert_eq!(origins.len(), ORIGIN_RANGES_MAX);
        assert_eq!(listed(&origins, tree(1), 0..4, &p), [0, 1, 3]);
    }

    #[test]
    fn random_ranges_equal_a_plain_list() {
        let peers = [1, 2, 3].map(|n| key(n).public());
        for seed in 0..50 {
            let mut random = Random::new(seed);
            let (mut origins, mut oracle) = (Origins::new(), BTreeMap::new());
            let mut at = 0;
            for _ in 0..40 {
                let end = at + random.below(5);
                match random.below(4) {
                    3 => {}
                    by => {
                        let by = peers[by as usize];
                        origins.handle_stored(tree(1), at..end, by);
                        oracle.extend((at..end).map(|n| (n, by)));
                    }
                }
                at = end;
            }
            for peer in &peers {
                let from = random.below(at + 1);
                let wanted: Vec<u32> = (from..at).filter(|n| oracle.get(n) != Some(peer)).collect();
                assert_eq!(listed(&origins, tree(1), from..at, peer), wanted);
            }
        }
    }
}
