//! Decides who holds how much of a bounded amount, such as places or memory, and who must give it
//! back.
//!
//! To refuse the last arrival would let an attacker that came first keep all others out. Instead,
//! the share that has made no progress for longest is lost: honest peers make progress with what
//! they begin, and end it soon. Of all groups, such as the connections from one host or of one key,
//! the one that holds most loses first.
//!
//! The machine is pure: a transport keeps it under a lock, and cuts what has lost its share.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A bounded amount, shared by many holders. Each holder has a [`Share`] and is known by a `T`.
#[derive(Debug)]
pub struct Quota<T> {
    amount_max: usize,
    /// In the order of the latest progress.
    held: BTreeMap<u64, Held<T>>,
    total: usize,
    /// What was lost by some holders and is not given back yet.
    owed: usize,
    next: u64,
}

#[derive(Debug)]
struct Held<T> {
    amount: usize,
    group: Arc<str>,
    holder: T,
}

/// What one holder has of a [`Quota`]. Before it is dropped, it must be set to zero.
#[derive(Debug)]
pub struct Share<T> {
    group: Arc<str>,
    holder: T,
    /// The number in the order of progress, and the amount. Lost if the quota no longer knows the
    /// number.
    taken: Option<(u64, usize)>,
}

impl<T> Share<T> {
    /// Makes a share of nothing. Holders that belong together name the same `group`.
    pub fn new(group: impl Into<Arc<str>>, holder: T) -> Self {
        Self {
            group: group.into(),
            holder,
            taken: None,
        }
    }
}

impl<T: Clone> Quota<T> {
    /// Makes a quota of this amount.
    pub fn new(amount_max: usize) -> Self {
        Self {
            amount_max,
            held: BTreeMap::new(),
            total: 0,
            owed: 0,
            next: 0,
        }
    }

    /// Sets how much `share` holds, which counts as progress. Returns the holders that lose their
    /// shares to make room; this one may be among them.
    ///
    /// A holder that has lost its share gets no other until it has set it to zero.
    #[must_use = "the holders that lost must give back what they hold"]
    pub fn handle_set(&mut self, share: &mut Share<T>, amount: usize) -> Vec<T> {
        if let Some((number, before)) = share.taken
            && self.remove(number).is_none()
        {
            if amount > 0 {
                return Vec::new();
            }
            self.owed -= before;
        }
        share.taken = (amount > 0).then(|| (self.insert(share, amount), amount));
        let mut lost = Vec::new();
        while self.total > self.amount_max {
            let Some(held) = self.remove_oldest() else {
                break;
            };
            self.owed += held.amount;
            lost.push(held.holder);
        }
        lost
    }

    /// Takes the share that is next to be lost, because the system has less of something than this quota
    /// says. Returns its holder, or `None` if nothing is held.
    #[must_use = "the holder must give back what it holds"]
    pub fn handle_shortage(&mut self) -> Option<T> {
        let held = self.remove_oldest()?;
        self.owed += held.amount;
        Some(held.holder)
    }

    /// Returns whether no more is held than there is, counting lost shares until they are given back.
    /// A holder that is about to take more waits until then. One that has lost its own share does
    /// not: it would wait for itself.
    pub fn has_room(&self, share: &Share<T>) -> bool {
        let lost = share
            .taken
            .is_some_and(|(number, _)| !self.held.contains_key(&number));
        lost || self.total + self.owed <= self.amount_max
    }

    /// Returns whether more than half of the amount is held.
    pub fn is_scarce(&self) -> bool {
        self.total > self.amount_max / 2
    }

    fn remove(&mut self, number: u64) -> Option<Held<T>> {
        let held = self.held.remove(&number)?;
        self.total -= held.amount;
        Some(held)
    }

    fn insert(&mut self, share: &Share<T>, amount: usize) -> u64 {
        self.total += amount;
        let number = self.next;
        self.next += 1;
        let held = Held {
            amount,
            group: share.group.clone(),
            holder: share.holder.clone(),
        };
        self.held.insert(number, held);
        number
    }

    /// Removes the oldest share of the group that holds most; of several such groups, of the one
    /// with the older share.
    fn remove_oldest(&mut self) -> Option<Held<T>> {
        let mut groups = BTreeMap::<&str, (usize, u64)>::new();
        for (number, held) in &self.held {
            let (amount, _oldest) = groups.entry(&held.group).or_insert((0, *number));
            *amount += held.amount;
        }
        let most = groups
            .into_values()
            .max_by_key(|(amount, oldest)| (*amount, Reverse(*oldest)));
        self.remove(most?.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Names = Quota<&'static str>;

    fn share(group: &str, name: &'static str) -> Share<&'static str> {
        Share::new(group, name)
    }

    /// Takes an amount for a holder, and returns its share and the names of those that lose.
    fn take(
        quota: &mut Names,
        group: &str,
        name: &'static str,
        amount: usize,
    ) -> (Share<&'static str>, Vec<&'static str>) {
        let mut share = share(group, name);
        let lost = quota.handle_set(&mut share, amount);
        (share, lost)
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn the_oldest_loses_first() {
        let mut quota = Names::new(3);
        let (_a, lost) = take(&mut quota, "", "a", 1);
        assert_eq!(lost, NONE);
        let (mut b, _) = take(&mut quota, "", "b", 1);
        let (mut c, _) = take(&mut quota, "", "c", 1);
        assert!(quota.is_scarce());
        let (mut d, lost) = take(&mut quota, "", "d", 1);
        assert_eq!(lost, ["a"]);
        assert_eq!(quota.handle_set(&mut b, 0), NONE);
        let (mut e, lost) = take(&mut quota, "", "e", 1);
        assert_eq!(lost, NONE, "b gave its share back");
        // A holder that makes progress, or begins again, is the youngest.
        assert_eq!(quota.handle_set(&mut c, 1), NONE);
        assert_eq!(quota.handle_set(&mut d, 0), NONE);
        assert_eq!(quota.handle_set(&mut d, 1), NONE);
        let (_f, lost) = take(&mut quota, "", "f", 1);
        assert_eq!(lost, ["e"]);
        assert_eq!(quota.handle_set(&mut e, 2), NONE, "it gets no other share");
        assert_eq!(quota.handle_set(&mut e, 0), NONE);
        let lost = quota.handle_set(&mut e, 1);
        assert_eq!(lost, ["c"], "after giving it back it does");
    }

    #[test]
    fn what_is_lost_leaves_no_room_until_it_is_given_back() {
        let mut quota = Names::new(4);
        let (mut a, _) = take(&mut quota, "", "a", 2);
        let (mut b, _) = take(&mut quota, "", "b", 2);
        let (c, lost) = take(&mut quota, "", "c", 3);
        assert_eq!(lost, ["a", "b"]);
        assert!(!quota.has_room(&c));
        assert!(quota.has_room(&a), "it would wait for itself");
        assert_eq!(quota.handle_set(&mut a, 0), NONE);
        assert!(!quota.has_room(&c), "b still has its share");
        assert_eq!(quota.handle_set(&mut b, 0), NONE);
        assert!(quota.has_room(&c));
    }

    #[test]
    fn a_holder_that_takes_more_than_there_is_loses_it() {
        let mut quota = Names::new(10);
        let (_small, _) = take(&mut quota, "", "small", 0);
        assert!(!quota.is_scarce());
        let (mut large, lost) = take(&mut quota, "", "large", 11);
        assert_eq!(lost, ["large"]);
        assert_eq!(quota.handle_set(&mut large, 0), NONE);
        assert_eq!((quota.total, quota.owed, quota.held.len()), (0, 0, 0));
    }

    #[test]
    fn a_shortage_costs_the_oldest() {
        let mut quota = Names::new(9);
        let (mut a, _) = take(&mut quota, "", "a", 1);
        let (_b, _) = take(&mut quota, "", "b", 1);
        assert_eq!(quota.handle_shortage(), Some("a"));
        assert_eq!(quota.handle_shortage(), Some("b"));
        assert_eq!(quota.handle_shortage(), None);
        assert_eq!(quota.handle_set(&mut a, 0), NONE);
        assert_eq!((quota.total, quota.owed), (0, 1));
    }

    #[test]
    fn the_group_that_holds_most_loses_first() {
        let mut quota = Names::new(4);
        let (_honest, _) = take(&mut quota, "there", "honest", 1);
        let mut crowd: Vec<_> = ["1", "2", "3"]
            .map(|name| take(&mut quota, "here", name, 1).0)
            .into();
        let (_another, lost) = take(&mut quota, "here", "4", 1);
        assert_eq!(lost, ["1"]);
        let (_third, lost) = take(&mut quota, "elsewhere", "third", 1);
        assert_eq!(lost, ["2"]);
        for share in &mut crowd {
            assert_eq!(quota.handle_set(share, 0), NONE);
        }
        let (_fourth, _) = take(&mut quota, "a place", "fourth", 1);
        let (_fifth, lost) = take(&mut quota, "another", "fifth", 1);
        assert_eq!(
            lost,
            ["honest"],
            "all hold one, and its share is the oldest"
        );
        assert_eq!((quota.total, quota.owed, quota.held.len()), (4, 1, 4));
    }
}
