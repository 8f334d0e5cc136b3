//! A bounded amount of something that many peers hold at once, such as places or memory.
//!
//! Turning away whoever comes last lets an attacker that came first keep everybody else out. Here
//! whoever has held its share for longest without getting on loses it instead: what honest peers
//! begin, they go on with and end soon. And it hits those who hold most in common: peers with the
//! same address, or the same key.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// What happens to whoever loses its share.
type Cut = Arc<dyn Fn() + Send + Sync>;

/// An amount of something, shared by many.
pub struct Quota {
    amount_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By the order in which they got on last.
    held: BTreeMap<u64, Held>,
    total: usize,
    /// What was lost by some and not given back by them yet.
    owed: usize,
    next: u64,
    /// Those who wait until what is owed is given back.
    waiting: Vec<Waker>,
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
    /// Where it stands in the order, and how much it is, if it is of anything. Lost if it is not
    /// among those that are held.
    standing: Option<(u64, usize)>,
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
            standing: None,
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

    fn insert(&mut self, held: Held) -> u64 {
        self.total += held.amount;
        let number = self.next;
        self.next += 1;
        self.held.insert(number, held);
        number
    }

    /// Takes the oldest share of the group that holds most; of several groups, of that whose is
    /// older.
    fn remove_oldest(&mut self) -> Option<Held> {
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

impl Share {
    /// Holds this amount from here on, and counts as having got on. If there is too little, others
    /// lose theirs, or this one does.
    pub fn set(&mut self, amount: usize) {
        let mut lost = Vec::new();
        let mut wakers = Vec::new();
        let mut state = self.quota.state();
        if let Some((number, before)) = self.standing
            && state.remove(number).is_none()
        {
            // Whoever has lost its share gets no other before it has given everything back.
            if amount > 0 {
                return;
            }
            state.owed -= before;
        }
        self.standing = (amount > 0).then(|| {
            let held = Held {
                amount,
                group: Arc::clone(&self.group),
                cut: Arc::clone(&self.cut),
            };
            (state.insert(held), amount)
        });
        while state.total > self.quota.amount_max {
            let Some(held) = state.remove_oldest() else {
                break;
            };
            state.owed += held.amount;
            lost.push(held);
        }
        if state.total + state.owed <= self.quota.amount_max {
            wakers.append(&mut state.waiting);
        }
        drop(state);
        lost.iter().for_each(|held| (held.cut)());
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Waits until no more is held than there is, including what others have lost and not given
    /// back yet. Whoever is about to take more waits here first. Whoever has lost its own does not
    /// wait: it would wait for itself.
    pub fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.quota.state();
        let lost = self
            .standing
            .is_some_and(|(number, _)| !state.held.contains_key(&number));
        if lost || state.total + state.owed <= self.quota.amount_max {
            return Poll::Ready(());
        }
        if !state.waiting.iter().any(|it| it.will_wake(context.waker())) {
            state.waiting.push(context.waker().clone());
        }
        Poll::Pending
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
        let mut e = table.share("", "e", 1);
        assert_eq!(table.lost(), [""; 0], "b gave its share back");
        // Whoever gets on, or begins anew, is the youngest.
        c.set(1);
        d.set(0);
        d.set(1);
        let _f = table.share("", "f", 1);
        assert_eq!(table.lost(), ["e"]);
        e.set(2);
        assert_eq!(table.lost(), [""; 0], "it gets no other");
        e.set(0);
        e.set(1);
        assert_eq!(table.lost(), ["c"], "it does when it has given it back");
    }

    #[test]
    fn what_is_lost_is_waited_for_until_it_is_given_back() {
        struct Count(std::sync::atomic::AtomicU32);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        }
        let count = Arc::new(Count(0.into()));
        let waker = Waker::from(Arc::clone(&count));
        let woken = || count.0.load(std::sync::atomic::Ordering::SeqCst);
        let mut context = Context::from_waker(&waker);

        let table = Table::new(4);
        let [mut a, b] = ["a", "b"].map(|name| table.share("", name, 2));
        let mut c = table.share("", "c", 3);
        assert_eq!(table.lost(), ["a", "b"]);
        for _ in 0..2 {
            assert!(c.poll_room(&mut context).is_pending());
        }
        let waits = a.poll_room(&mut context).is_pending();
        assert!(!waits, "it would wait for itself");
        drop(a);
        assert!(
            c.poll_room(&mut context).is_pending(),
            "b has its share yet"
        );
        assert_eq!(woken(), 0);
        drop(b);
        assert_eq!(woken(), 1, "once, however often it was asked");
        assert!(c.poll_room(&mut context).is_ready());
    }

    #[test]
    fn whoever_takes_too_much_loses_it() {
        let table = Table::new(10);
        let _small = table.share("", "small", 0);
        assert!(!table.quota.is_scarce());
        let large = table.share("", "large", 11);
        assert_eq!(table.lost(), ["large"]);
        drop(large);
        let state = table.quota.state();
        assert_eq!((state.total, state.owed, state.held.len()), (0, 0, 0));
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
        let _fourth = table.share("a place", "fourth", 1);
        let _fifth = table.share("another", "fifth", 1);
        assert_eq!(
            table.lost(),
            ["honest"],
            "all hold one, and it has the oldest"
        );
        let state = table.quota.state();
        assert_eq!((state.total, state.held.len()), (4, 4));
    }
}
