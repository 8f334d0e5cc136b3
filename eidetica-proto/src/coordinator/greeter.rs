//! Which peers to greet after an absence.

use std::collections::{BTreeMap, BTreeSet};

use super::PeerId;

/// Most peers that are greeted after one absence, those reached most recently first. The others
/// find this node at the end of their backoff.
pub const GREETED_MAX: usize = 256;

/// Greetings under way at a time. Each takes one small exchange.
const GREETINGS_MAX: usize = 32;

/// How long to wait for the answer to a greeting, in milliseconds: a peer that is there answers in
/// far less, and one that is not gives its place to the next.
pub const GREETING_TIMEOUT_MS: u64 = 2_000;

/// Waits before further attempts, in milliseconds: a network that has just come up may not carry
/// anything yet. After the last, a peer is left alone.
const WAITS_MS: [u64; 5] = [250, 500, 1_000, 4_000, 15_000];

/// Shortest time between two rounds, in milliseconds: network interfaces come and go in bursts.
const ROUND_SPACING_MS: u64 = 1_000;

/// Decides which peers to greet when this node starts to serve, or comes back to a network.
///
/// A peer that exchanges trees with this node waits longer after each attempt that fails. If this
/// node follows the peer in turn, its first check ends that wait, for it is contact. Otherwise a
/// greeting does.
///
/// Call [`Self::handle_back`] with the peers to greet, then [`Self::poll_greeting`] until it gives
/// nothing, report the end of each greeting with [`Self::handle_greeted`], and come back at
/// [`Self::poll_wake`]. Times are milliseconds of any clock that never goes back.
///
/// ```
/// use eidetica_dag::PublicKey;
/// use eidetica_proto::coordinator::Greeter;
///
/// let mut greeter = Greeter::default();
/// let peer = PublicKey::from_bytes([1; 32]);
/// greeter.handle_back([peer], 0);
/// assert_eq!(greeter.poll_greeting(0), Some(peer));
/// greeter.handle_greeted(peer, false, 10);
/// let again_ms = greeter.poll_wake().expect("it is tried again");
/// assert_eq!(greeter.poll_greeting(again_ms), Some(peer));
/// greeter.handle_greeted(peer, true, again_ms);
/// assert_eq!(greeter.poll_wake(), None);
/// ```
#[derive(Debug, Default)]
pub struct Greeter {
    /// By time, then in the order of this round.
    due: BTreeSet<(u64, usize, PeerId)>,
    /// The peers of this round: their place in its order, and how many attempts failed.
    round: BTreeMap<PeerId, (usize, usize)>,
    round_ms: Option<u64>,
    under_way: usize,
}

impl Greeter {
    /// Begins a round of greetings, in this order, at most [`GREETED_MAX`]. It replaces the round
    /// before.
    pub fn handle_back(&mut self, peers: impl IntoIterator<Item = PeerId>, now_ms: u64) {
        let spaced_ms = self
            .round_ms
            .map_or(0, |at_ms| at_ms.saturating_add(ROUND_SPACING_MS));
        let from_ms = now_ms.max(spaced_ms);
        self.round_ms = Some(from_ms);
        self.due.clear();
        self.round.clear();
        for (place, peer) in peers.into_iter().take(GREETED_MAX).enumerate() {
            if self.round.insert(peer, (place, 0)).is_none() {
                self.due.insert((from_ms, place, peer));
            }
        }
    }

    /// Returns the next peer to greet.
    pub fn poll_greeting(&mut self, now_ms: u64) -> Option<PeerId> {
        if self.under_way >= GREETINGS_MAX {
            return None;
        }
        let &(at_ms, place, peer) = self.due.first()?;
        if at_ms > now_ms {
            return None;
        }
        self.due.remove(&(at_ms, place, peer));
        self.under_way += 1;
        Some(peer)
    }

    /// Notes that a greeting has ended, and whether the peer answered.
    pub fn handle_greeted(&mut self, peer: PeerId, answered: bool, now_ms: u64) {
        self.under_way = self.under_way.saturating_sub(1);
        let Some((place, failures)) = self.round.get_mut(&peer) else {
            return;
        };
        let wait_ms = WAITS_MS.get(*failures).filter(|_| !answered);
        *failures += 1;
        match wait_ms {
            Some(wait_ms) => {
                let at_ms = now_ms.saturating_add(*wait_ms);
                self.due.insert((at_ms, *place, peer));
            }
            None => {
                self.round.remove(&peer);
            }
        }
    }

    /// Returns when to call [`Self::poll_greeting`] again at the latest, if no greeting ends before.
    pub fn poll_wake(&self) -> Option<u64> {
        let first = self.due.first().map(|(at_ms, ..)| *at_ms);
        first.filter(|_| self.under_way < GREETINGS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u32) -> PeerId {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        PeerId::from_bytes(key)
    }

    fn polled(greeter: &mut Greeter, now_ms: u64) -> Vec<PeerId> {
        std::iter::from_fn(|| greeter.poll_greeting(now_ms)).collect()
    }

    #[test]
    fn all_are_greeted_once_in_their_order() {
        let mut greeter = Greeter::default();
        let peers: Vec<PeerId> = [3, 1, 2].map(peer).to_vec();
        greeter.handle_back(peers.clone(), 5);
        assert_eq!(polled(&mut greeter, 5), peers);
        for peer in peers {
            greeter.handle_greeted(peer, true, 6);
        }
        assert_eq!(
            (polled(&mut greeter, 1_000_000), greeter.poll_wake()),
            (vec![], None)
        );
    }

    #[test]
    fn one_that_does_not_answer_is_tried_again_and_left_alone_in_the_end() {
        let mut greeter = Greeter::default();
        greeter.handle_back([peer(1)], 0);
        let mut times = Vec::new();
        while let Some(at_ms) = greeter.poll_wake() {
            assert_eq!(greeter.poll_greeting(at_ms), Some(peer(1)));
            times.push(at_ms);
            greeter.handle_greeted(peer(1), false, at_ms);
        }
        assert_eq!(times, [0, 250, 750, 1_750, 5_750, 20_750]);
    }

    #[test]
    fn those_that_do_not_answer_hold_a_bounded_number_of_places_for_a_bounded_time() {
        let mut greeter = Greeter::default();
        greeter.handle_back((0..1_000).map(peer), 0);
        let first = polled(&mut greeter, 0);
        assert_eq!(
            first,
            (0..GREETINGS_MAX as u32).map(peer).collect::<Vec<_>>()
        );
        assert_eq!(
            greeter.poll_wake(),
            None,
            "it waits for the end of a greeting"
        );
        greeter.handle_greeted(peer(7), true, 10);
        assert_eq!(polled(&mut greeter, 10), [peer(GREETINGS_MAX as u32)]);
        let mut greeted = GREETINGS_MAX + 1;
        let mut under_way: Vec<_> = first.into_iter().filter(|it| *it != peer(7)).collect();
        under_way.push(peer(GREETINGS_MAX as u32));
        while let Some(done) = under_way.pop() {
            greeter.handle_greeted(done, true, 20);
            let next = polled(&mut greeter, 20);
            greeted += next.len();
            under_way.extend(next);
        }
        assert_eq!(greeted, GREETED_MAX);
    }

    #[test]
    fn a_round_replaces_the_one_before_and_bursts_are_spaced() {
        let mut greeter = Greeter::default();
        greeter.handle_back([peer(1), peer(2)], 0);
        assert_eq!(greeter.poll_greeting(0), Some(peer(1)));
        greeter.handle_back([peer(2), peer(3)], 100);
        assert_eq!(polled(&mut greeter, 999), []);
        assert_eq!(greeter.poll_wake(), Some(1_000));
        assert_eq!(polled(&mut greeter, 1_000), [peer(2), peer(3)]);
        // The end of what was begun in the round before changes nothing.
        greeter.handle_greeted(peer(1), false, 1_001);
        assert_eq!(greeter.poll_wake(), None);
    }
}
