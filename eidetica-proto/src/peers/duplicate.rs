//! One secret key that is alive on two machines, such as by a copied store.
//!
//! Each start of a node draws an [`Epoch`]. A key whose epoch changes was restarted; one whose
//! earlier epoch comes back was alive under both at once, for no node goes back to an epoch.

use std::collections::{BTreeMap, VecDeque};

use eidetica_dag::PublicKey;

use crate::proof::Epoch;

/// How often a peer is asked for its epoch, in milliseconds. Two copies are told apart once one of
/// them is seen before and after the other, so within three times this.
pub const ALIVE_INTERVAL_MS: u64 = 300_000;

/// How long a request of one frame may have been on its way, in milliseconds. A transport gives up a
/// request that is not complete sooner than that.
pub const ALIVE_DELAY_MAX_MS: u64 = 10_000;

/// How long a duplicate is reported after it was last noticed, in milliseconds: an hour, so that a
/// copy that was switched off is forgotten.
pub const DUPLICATE_KEPT_MS: u64 = 3_600_000;

/// Most keys whose epochs are remembered, in about 1 MiB. Above it, the one that was seen least
/// recently is forgotten; duplicates of it are noticed later.
const KEYS_MAX: usize = 4_096;

/// Most epochs of one key: its current one, those of copies, and a few of earlier starts.
const EPOCHS_MAX: usize = 4;

/// Most sightings of one epoch, each at least [`ALIVE_DELAY_MAX_MS`] after the one before, so that
/// one of another epoch lies strictly between two of them, however often both are seen. Older ones
/// are forgotten, and with them copies that were switched off.
const SIGHTINGS_MAX: usize = 4;

/// A time between which and another one a key was alive under some epoch, in milliseconds: from when
/// a request was sent until its answer came, for example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// Not before this.
    pub from_ms: u64,
    /// Not after this.
    pub to_ms: u64,
}

impl Sighting {
    /// A request that has just come, and may have been on its way for [`ALIVE_DELAY_MAX_MS`].
    pub fn of_request(now_ms: u64) -> Self {
        Self {
            from_ms: now_ms.saturating_sub(ALIVE_DELAY_MAX_MS),
            to_ms: now_ms,
        }
    }
}

/// What is known of one epoch of a key.
#[derive(Debug)]
struct Life {
    epoch: Epoch,
    /// The latest last.
    seen: VecDeque<Sighting>,
}

#[derive(Debug, Default)]
struct Lives {
    /// The latest seen last.
    lives: Vec<Life>,
    last_ms: u64,
    asked_ms: Option<u64>,
}

/// Notices keys that are alive twice.
///
/// Times are milliseconds of any clock that never goes back.
///
/// ```
/// use eidetica_dag::PublicKey;
/// use eidetica_proto::peers::{Duplicates, Sighting};
///
/// let at = |at_ms| Sighting { from_ms: at_ms, to_ms: at_ms };
/// let [own, key] = [1, 2].map(|n| PublicKey::from_bytes([n; 32]));
/// let mut duplicates = Duplicates::new(own, [0; 8], 0);
/// assert!(!duplicates.handle_seen(key, [1; 8], at(1_000)));
/// assert!(!duplicates.handle_seen(key, [2; 8], at(2_000)), "it may have been restarted");
/// assert!(duplicates.handle_seen(key, [1; 8], at(3_000)), "both were alive at 2,000");
/// ```
#[derive(Debug)]
pub struct Duplicates {
    own: PublicKey,
    own_epoch: Epoch,
    began_ms: u64,
    keys: BTreeMap<PublicKey, Lives>,
    /// By key, when it was last noticed.
    found: BTreeMap<PublicKey, u64>,
}

impl Duplicates {
    /// Begins for the node of this key, which started at `began_ms` under this epoch.
    pub fn new(own: PublicKey, own_epoch: Epoch, began_ms: u64) -> Self {
        Self {
            own,
            own_epoch,
            began_ms,
            keys: BTreeMap::new(),
            found: BTreeMap::new(),
        }
    }

    /// Notes that a key, which was proved, was alive under an epoch. Returns whether that shows that
    /// it is alive twice, and was not known.
    pub fn handle_seen(&mut self, key: PublicKey, epoch: Epoch, seen: Sighting) -> bool {
        let is_twice = match key == self.own {
            true => epoch != self.own_epoch && seen.from_ms > self.began_ms,
            false => self.note(key, epoch, seen),
        };
        is_twice && self.note_found(key, seen.to_ms)
    }

    fn note(&mut self, key: PublicKey, epoch: Epoch, seen: Sighting) -> bool {
        let lives = self.lives(key);
        lives.last_ms = lives.last_ms.max(seen.to_ms);
        lives.note(epoch, seen)
    }

    /// Returns what is known of a key, for which room is made.
    fn lives(&mut self, key: PublicKey) -> &mut Lives {
        if !self.keys.contains_key(&key) && self.keys.len() >= KEYS_MAX {
            let oldest = self.keys.iter().min_by_key(|(_, it)| it.last_ms);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                self.keys.remove(&oldest);
            }
        }
        self.keys.entry(key).or_default()
    }

    fn note_found(&mut self, key: PublicKey, now_ms: u64) -> bool {
        let known_ms = self.found.insert(key, now_ms);
        if self.found.len() > KEYS_MAX {
            self.found.retain(|_, at_ms| is_kept(*at_ms, now_ms));
        }
        if self.found.len() > KEYS_MAX {
            self.found.pop_first();
        }
        known_ms.is_none_or(|at_ms| !is_kept(at_ms, now_ms))
    }

    /// Returns whether to ask a peer for its epoch, and notes that it is asked.
    pub fn poll_ask(&mut self, peer: PublicKey, now_ms: u64) -> bool {
        let lives = self.lives(peer);
        lives.last_ms = lives.last_ms.max(now_ms);
        let next_ms = lives
            .asked_ms
            .map(|it| it.saturating_add(ALIVE_INTERVAL_MS));
        let is_due = next_ms.is_none_or(|next_ms| now_ms >= next_ms);
        if is_due {
            lives.asked_ms = Some(now_ms);
        }
        is_due
    }

    /// Returns the keys that are alive twice, each with when that was last noticed.
    pub fn found(&self, now_ms: u64) -> impl Iterator<Item = (PublicKey, u64)> {
        let found = self.found.iter().map(|(key, at_ms)| (*key, *at_ms));
        found.filter(move |(_, at_ms)| is_kept(*at_ms, now_ms))
    }
}

fn is_kept(at_ms: u64, now_ms: u64) -> bool {
    now_ms <= at_ms.saturating_add(DUPLICATE_KEPT_MS)
}

impl Lives {
    /// Notes a sighting. Returns whether another epoch was seen strictly between an earlier sighting
    /// of this one and this sighting: this one was alive all the time between.
    fn note(&mut self, epoch: Epoch, seen: Sighting) -> bool {
        let at = self.lives.iter().position(|life| life.epoch == epoch);
        let mut life = match at {
            Some(at) => self.lives.remove(at),
            None => Life {
                epoch,
                seen: VecDeque::new(),
            },
        };
        let is_between = |other: &Sighting| {
            let was_alive = life.seen.iter().any(|it| it.to_ms < other.from_ms);
            was_alive && other.to_ms < seen.from_ms
        };
        let is_twice = self.lives.iter().any(|it| it.seen.iter().any(is_between));
        let is_spaced =
            |last: &Sighting| seen.to_ms >= last.to_ms.saturating_add(ALIVE_DELAY_MAX_MS);
        if life.seen.back().is_none_or(is_spaced) {
            life.seen.push_back(seen);
            if life.seen.len() > SIGHTINGS_MAX {
                life.seen.pop_front();
            }
        }
        self.lives.push(life);
        if self.lives.len() > EPOCHS_MAX {
            self.lives.remove(0);
        }
        is_twice
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const X: Epoch = [1; 8];
    const Y: Epoch = [2; 8];

    fn key(number: u32) -> PublicKey {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        PublicKey::from_bytes(key)
    }

    fn duplicates() -> Duplicates {
        Duplicates::new(key(0), [0; 8], 1_000)
    }

    fn requests(seen: &[(Epoch, u64)]) -> Vec<bool> {
        let mut duplicates = duplicates();
        let seen = seen.iter();
        seen.map(|(epoch, at_s)| {
            duplicates.handle_seen(key(1), *epoch, Sighting::of_request(at_s * 1_000))
        })
        .collect()
    }

    #[test]
    fn an_epoch_that_comes_back_shows_a_copy_and_is_said_once() {
        let seen = [(X, 0), (Y, 100), (X, 200), (Y, 300), (X, 400)];
        assert_eq!(requests(&seen), [false, false, true, false, false]);
    }

    #[test]
    fn restarts_are_no_copies_however_many() {
        let seen: Vec<_> = (0..100_u8).map(|n| ([n; 8], u64::from(n))).collect();
        assert!(requests(&seen).iter().all(|is_new| !is_new));
    }

    #[test]
    fn a_request_that_was_under_way_during_a_restart_is_no_copy() {
        // Sent before the restart, and read ten seconds after it.
        let seen = [(X, 100), (Y, 105), (X, 115), (Y, 200)];
        assert!(requests(&seen).iter().all(|is_new| !is_new));
    }

    #[test]
    fn copies_that_make_contact_close_to_each_other_are_told_apart() {
        let mut seen = Vec::new();
        for round in 0..4 {
            seen.push((X, 300 * round));
            seen.push((Y, 300 * round + 1));
        }
        assert_eq!(requests(&seen).iter().filter(|is_new| **is_new).count(), 1);
    }

    #[test]
    fn a_copy_is_noticed_however_often_the_other_makes_contact_and_forgotten_when_it_ends() {
        let mut duplicates = duplicates();
        let mut noticed = Vec::new();
        for at_s in 0..1_000 {
            let seen = Sighting::of_request(at_s * 1_000);
            duplicates.handle_seen(key(1), X, seen);
            if at_s % 100 == 50 && at_s < 500 {
                duplicates.handle_seen(key(1), Y, seen);
            }
            noticed.push(duplicates.found(at_s * 1_000).map(|(_, at_ms)| at_ms).max());
        }
        assert_eq!(noticed[60], None);
        assert!(noticed[70].is_some());
        let last_ms = noticed[999].expect("it is kept");
        assert!((450_000..500_000).contains(&last_ms), "{last_ms}");
    }

    #[test]
    fn another_epoch_of_this_node_is_a_copy_unless_it_was_under_way_at_the_start() {
        let mut own = duplicates();
        let at = Sighting::of_request;
        assert!(!own.handle_seen(key(0), [0; 8], at(50_000)), "itself");
        assert!(!own.handle_seen(key(0), X, at(1_000 + ALIVE_DELAY_MAX_MS)));
        assert!(own.handle_seen(key(0), X, at(1_001 + ALIVE_DELAY_MAX_MS)));
        assert_eq!(own.found(50_000).count(), 1);
        assert_eq!(own.found(50_000 + DUPLICATE_KEPT_MS).count(), 0);
    }

    #[test]
    fn a_peer_is_asked_at_intervals() {
        let mut duplicates = duplicates();
        assert!(duplicates.poll_ask(key(1), 10));
        duplicates.handle_seen(key(1), X, Sighting::of_request(15));
        assert!(!duplicates.poll_ask(key(1), 10 + ALIVE_INTERVAL_MS - 1));
        assert!(duplicates.poll_ask(key(1), 10 + ALIVE_INTERVAL_MS));
    }

    #[test]
    fn memory_is_bounded() {
        let mut duplicates = duplicates();
        for number in 1..=KEYS_MAX as u32 + 10 {
            for (epoch, at_s) in [(X, 0), (Y, 100), (X, 200)] {
                let at_ms = u64::from(number) * 1_000_000 + at_s * 1_000;
                assert_eq!(
                    duplicates.handle_seen(key(number), epoch, Sighting::of_request(at_ms)),
                    at_s == 200
                );
            }
        }
        assert_eq!(duplicates.keys.len(), KEYS_MAX);
        assert!(duplicates.found.len() <= KEYS_MAX);
        for n in 0..100_u8 {
            duplicates.handle_seen(key(1), [n; 8], Sighting::of_request(u64::MAX));
        }
        assert!(duplicates.keys[&key(1)].lives.len() <= EPOCHS_MAX);
    }

    proptest! {
        /// One process after another, each seen at any moments, however delayed: never a copy.
        #[test]
        fn no_sequence_of_restarts_is_a_copy(
            lives in prop::collection::vec((1..50_000_u64, prop::collection::vec((0..50_000_u64, 0..=ALIVE_DELAY_MAX_MS), 0..6)), 1..8),
        ) {
            let mut seen = Vec::new();
            let mut began_ms = 0;
            for (epoch, (lasts_ms, contacts)) in lives.into_iter().enumerate() {
                for (at_ms, delay_ms) in contacts {
                    let sent_ms = began_ms + at_ms % lasts_ms;
                    seen.push((sent_ms + delay_ms, [epoch as u8 + 1; 8]));
                }
                began_ms += lasts_ms;
            }
            seen.sort_unstable();
            let mut duplicates = duplicates();
            for (at_ms, epoch) in seen {
                prop_assert!(!duplicates.handle_seen(key(1), epoch, Sighting::of_request(at_ms)));
            }
        }
    }
}
