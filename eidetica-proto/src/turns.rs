//! Decides who is next when work waits: networks take turns, and within a network its keys do.
//!
//! First come, first served would let whoever asks most often have nearly all of it. Here a caller
//! waits for at most one piece of work of each other network, and of each other key of its own,
//! however many they have queued. This is round robin, on two levels; every step takes logarithmic
//! time, except [`Turns::handle_left`], which looks through the names and what the same key has queued.
//!
//! ```
//! use eidetica_proto::turns::{Asker, Turns};
//!
//! let asker = |network: &str| Asker { network: network.into(), key: None };
//! let mut turns = Turns::new();
//! for work in ["first", "second", "third"] {
//!     turns.handle_queued(asker("192.0.2.1"), work);
//! }
//! turns.handle_queued(asker("198.51.100.7"), "of another network");
//! assert_eq!(turns.poll_next(), Some("first"));
//! assert_eq!(turns.poll_next(), Some("of another network"));
//! assert_eq!(turns.poll_next(), Some("second"));
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use eidetica_dag::PublicKey;

use crate::joining::source_of;
use crate::transport::Caller;

/// Who asks for work to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// The network that the request came from, as [`source_of`] names it.
    pub network: Arc<str>,
    /// The proved key of the caller. All callers without one are one.
    pub key: Option<PublicKey>,
}

impl Asker {
    /// Returns who a request comes from.
    pub fn of(caller: &Caller) -> Self {
        Self {
            network: source_of(caller.transport, &caller.remote).into(),
            key: caller.key,
        }
    }
}

/// Work that waits for its turn. Each piece is known by a `T`.
#[derive(Debug)]
pub struct Turns<T> {
    networks: Round<Arc<str>, Keys<T>>,
}

/// The work of one network.
type Keys<T> = Round<Option<[u8; 32]>, VecDeque<T>>;

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Turns<T> {
    /// Makes an empty queue.
    pub fn new() -> Self {
        Self {
            networks: Round::default(),
        }
    }

    /// Queues a piece of work after what its caller has queued already.
    pub fn handle_queued(&mut self, of: Asker, work: T) {
        let keys = self.networks.entry(of.network);
        keys.entry(of.key.map(|key| *key.as_bytes()))
            .push_back(work);
    }

    /// Takes back a piece of work of a caller, because its caller no longer waits for it. Returns whether
    /// it was queued.
    pub fn handle_left(&mut self, of: &Asker, is_it: impl Fn(&T) -> bool) -> bool {
        let Some(keys) = self.networks.queues.get_mut(&of.network) else {
            return false;
        };
        let key = of.key.map(|key| *key.as_bytes());
        let Some(queue) = keys.queues.get_mut(&key) else {
            return false;
        };
        let Some(index) = queue.iter().position(is_it) else {
            return false;
        };
        queue.remove(index);
        keys.forget_if_empty(&key);
        self.networks.forget_if_empty(&of.network);
        true
    }

    /// Takes the piece of work whose turn it is.
    pub fn poll_next(&mut self) -> Option<T> {
        self.networks.pop()
    }

    /// Tells whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }
}

/// Something that work is taken from.
trait Queue {
    type Work;
    fn pop(&mut self) -> Option<Self::Work>;
    fn is_empty(&self) -> bool;
}

impl<T> Queue for VecDeque<T> {
    type Work = T;

    fn pop(&mut self) -> Option<T> {
        self.pop_front()
    }

    fn is_empty(&self) -> bool {
        VecDeque::is_empty(self)
    }
}

/// Queues that take turns. None of them is empty.
#[derive(Debug)]
struct Round<K, Q> {
    queues: BTreeMap<K, Q>,
    /// Who is next: the names of the queues, each once.
    order: VecDeque<K>,
}

impl<K, Q> Default for Round<K, Q> {
    fn default() -> Self {
        Self {
            queues: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<K: Ord + Clone, Q: Queue + Default> Round<K, Q> {
    fn entry(&mut self, name: K) -> &mut Q {
        if !self.queues.contains_key(&name) {
            self.order.push_back(name.clone());
        }
        self.queues.entry(name).or_default()
    }

    fn forget_if_empty(&mut self, name: &K) {
        if self.queues.get(name).is_some_and(Queue::is_empty) {
            self.queues.remove(name);
            self.order.retain(|other| other != name);
        }
    }
}

impl<K: Ord + Clone, Q: Queue> Queue for Round<K, Q> {
    type Work = Q::Work;

    fn pop(&mut self) -> Option<Q::Work> {
        let name = self.order.pop_front()?;
        let queue = self.queues.get_mut(&name)?;
        let work = queue.pop();
        match queue.is_empty() {
            true => _ = self.queues.remove(&name),
            false => self.order.push_back(name),
        }
        work
    }

    fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use eidetica_dag::testing::key;

    use super::*;

    fn of(network: &str, n: Option<u32>) -> Asker {
        Asker {
            network: network.into(),
            key: n.map(|n| key(n).public()),
        }
    }

    fn drain<T>(turns: &mut Turns<T>) -> Vec<T> {
        std::iter::from_fn(|| turns.poll_next()).collect()
    }

    #[test]
    fn networks_take_turns_and_keys_within_them() {
        let mut turns = Turns::new();
        for n in 0..4 {
            turns.handle_queued(of("crowd", Some(1)), format!("crowd 1/{n}"));
        }
        turns.handle_queued(of("crowd", Some(2)), "crowd 2/0".to_owned());
        turns.handle_queued(of("crowd", None), "crowd anonymous".to_owned());
        for n in 0..2 {
            turns.handle_queued(of("honest", None), format!("honest {n}"));
        }
        let expected = [
            "crowd 1/0",
            "honest 0",
            "crowd 2/0",
            "honest 1",
            "crowd anonymous",
            "crowd 1/1",
            "crowd 1/2",
            "crowd 1/3",
        ];
        assert_eq!(drain(&mut turns), expected);
        assert!(turns.is_empty());
    }

    #[test]
    fn who_comes_back_waits_for_one_round() {
        let mut turns = Turns::new();
        for n in 0..100 {
            turns.handle_queued(of("crowd", None), n);
        }
        let mut waited = Vec::new();
        for round in 0..3 {
            turns.handle_queued(of("honest", None), 1_000 + round);
            let before = std::iter::from_fn(|| turns.poll_next());
            waited.push(before.take_while(|work| *work < 1_000).count());
        }
        assert!(waited.iter().all(|count| *count <= 1), "{waited:?}");
    }

    #[test]
    fn what_was_taken_back_has_no_turn() {
        let mut turns = Turns::new();
        for (network, work) in [("a", 1), ("b", 2), ("a", 3), ("c", 4)] {
            turns.handle_queued(of(network, None), work);
        }
        assert!(turns.handle_left(&of("a", None), |work| *work == 1));
        assert!(turns.handle_left(&of("b", None), |work| *work == 2));
        assert!(!turns.handle_left(&of("b", None), |work| *work == 2));
        assert!(!turns.handle_left(&of("c", Some(1)), |work| *work == 4));
        assert_eq!(drain(&mut turns), [3, 4]);
        turns.handle_queued(of("a", None), 5);
        assert!(turns.handle_left(&of("a", None), |work| *work == 5));
        assert!(turns.is_empty());
        let networks = &turns.networks;
        assert!(networks.order.is_empty() && networks.queues.is_empty());
    }
}
