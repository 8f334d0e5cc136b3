//! A bounded amount of something that many peers hold at once, such as places or memory.
//!
//! Turning away whoever comes last lets an attacker that came first keep everybody else out. Here
//! whoever has held its share for longest loses it instead: what honest peers begin, they end soon.
//! And it hits those who hold most in common: peers with the same address, or the same key.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What happens to whoever loses its share.
type Cut = Arc<dyn Fn() + Send + Sync>;

/// An amount of something, shared by many.
pub struct Quota {
    amount_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By the order in which they began.
    held: BTreeMap<u64, Held>,
    total: usize,
    begun: u64,
}

struct Held {
    amount: usize,
    group: Arc<str>,
    cut: Cut,
}

/// One peer's share of a [`Quota`]. Dropping it gives it back.
pub struct Share {
    quota: Arc<Quota>,
    group: Arc<str>,
    cut: Cut,
    /// Where it stands among those that hold something.
    number: Option<u64>,
}

impl Quota {
    /// Makes a quota of this amount.
    pub fn new(amount_max: usize) -> Arc<Self> {
        Arc::new(Self {
            amount_max,
            state: Mutex::default(),
        })
    }

    /// Makes a share of nothing.
    ///
    /// Those who know each other to be one, such as the connections from one host, name the same
    /// `group`. `cut` is called at most once each time that something is held, when it is lost to
    /// others; it must not block, and must not touch the quota.
    pub fn share(
        self: &Arc<Self>,
        group: impl Into<Arc<str>>,
        cut: impl Fn() + Send + Sync + 'static,
    ) -> Share {
        Share {
            quota: Arc::clone(self),
            group: group.into(),
            cut: Arc::new(cut),
            number: None,
        }
    }

    /// Tells whether more than half of it is held.
    pub fn is_scarce(&self) -> bool {
        self.state().total > self.amount_max / 2
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, number: u64) -> Option<Held> {
        let held = self.held.remove(&number)?;
        self.total -= held.amount;
        Some(held)
    }

    /// Takes the oldest share of the group that holds most.
    fn remove_oldest(&mut self) -> Option<Held> {
        let mut groups = BTreeMap::<&str, (usize, u64)>::new();
        for (number, held) in &self.held {
            let (amount, _oldest) = groups.entry(&held.group).or_insert((0, *number));
            *amount += held.amount;
        }
        let most = groups.into_values().max_by_key(|(amount, _)| *amount);
        self.remove(most?.1)
    }
}

impl Share {
    /// Holds this amount from here on. It counts as begun when the amount was nothing before. If
    /// there is too little, others lose theirs, or this one does.
    pub fn set(&mut self, amount: usize) {
        let mut lost = Vec::new();
        let mut state = self.quota.state();
        match (self.number, amount) {
            (None, 0) => return,
            (Some(number), 0) => {
                state.remove(number);
                self.number = None;
                return;
            }
            (Some(number), _) => {
                // Whoever has lost its share gets no other for what it began.
                let Some(held) = state.held.get_mut(&number) else {
                    return;
                };
                let before = std::mem::replace(&mut held.amount, amount);
                state.total = state.total - before + amount;
            }
            (None, _) => {
                let number = state.begun;
                state.begun += 1;
                self.number = Some(number);
                let held = Held {
                    amount,
                    group: Arc::clone(&self.group),
                    cut: Arc::clone(&self.cut),
                };
                state.held.insert(number, held);
                state.total += amount;
            }
        }
        while state.total > self.quota.amount_max {
            lost.extend(state.remove_oldest());
        }
        drop(state);
        for held in lost {
            (held.cut)();
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl fmt::Debug for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Quota")
            .field("amount_max", &self.amount_max)
            .field("total", &state.total)
            .field("shares", &state.held.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes shares, and collects the names of those that lose theirs.
    struct Table {
        quota: Arc<Quota>,
        lost: Arc<Mutex<Vec<&'static str>>>,
    }

    impl Table {
        fn new(amount_max: usize) -> Self {
            Self {
                quota: Quota::new(amount_max),
                lost: Arc::default(),
            }
        }

        fn share(&self, group: &str, name: &'static str, amount: usize) -> Share {
            let lost = Arc::clone(&self.lost);
            let mut share = self.quota.share(group, move || {
                lost.lock().expect("no test panics within").push(name);
            });
            share.set(amount);
            share
        }

        fn lost(&self) -> Vec<&'static str> {
            std::mem::take(&mut self.lost.lock().expect("no test panics within"))
        }
    }

    #[test]
    fn the_oldest_loses_first() {
        let table = Table::new(3);
        let [_a, b, mut c] = ["a", "b", "c"].map(|name| table.share("", name, 1));
        assert!(table.quota.is_scarce());
        assert_eq!(table.lost(), [""; 0]);
        let mut d = table.share("", "d", 1);
        assert_eq!(table.lost(), ["a"]);
        drop(b);
        let _e = table.share("", "e", 1);
        assert_eq!(table.lost(), [""; 0], "b gave its share back");
        // Whoever begins anew is the youngest.
        c.set(0);
        c.set(1);
        d.set(2);
        assert_eq!(table.lost(), ["d"], "also if it is the one that takes more");
        d.set(3);
        assert_eq!(table.lost(), [""; 0], "it gets no other");
        drop(d);
        let _f = table.share("", "f", 2);
        assert_eq!(table.lost(), ["e"]);
    }

    #[test]
    fn whoever_takes_too_much_loses_it() {
        let table = Table::new(10);
        let _small = table.share("", "small", 0);
        assert!(!table.quota.is_scarce());
        let _large = table.share("", "large", 11);
        assert_eq!(table.lost(), ["large"]);
        let state = table.quota.state();
        assert_eq!((state.total, state.held.len()), (0, 0));
    }

    #[test]
    fn those_who_hold_most_together_lose_first() {
        let table = Table::new(4);
        let _honest = table.share("there", "honest", 1);
        let crowd = ["1", "2", "3"].map(|name| table.share("here", name, 1));
        let _another = table.share("here", "4", 1);
        assert_eq!(table.lost(), ["1"]);
        let _third = table.share("elsewhere", "third", 1);
        assert_eq!(table.lost(), ["2"]);
        drop(crowd);
        let state = table.quota.state();
        assert_eq!((state.total, state.held.len()), (3, 3));
    }
}
