//! Which of a peer's addresses is tried when, as a machine without a clock.

use crate::address::Address;
use crate::coordinator::UnreachableReason;

/// How long one address may be silent before the next is tried beside it, in milliseconds: the
/// connection attempt delay that RFC 8305 ("Happy Eyeballs") recommends.
pub const NEXT_ADDRESS_AFTER_MS: u64 = 250;

/// Most addresses in one race: as many as are remembered for a peer.
pub const RACE_ADDRESSES_MAX: usize = 16;

/// Names one attempt of a race.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt(usize);

/// What the driver of a race does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RaceAction {
    /// Connect to this address and have the peer prove its key, beside the attempts under way.
    Try(Attempt, Address),
    /// Drop this attempt: another one was faster.
    Cancel(Attempt),
}

/// What came of one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was not tried.
    Untried,
    /// It has not answered yet.
    Pending,
    /// The peer answered here first.
    Won,
    /// It was tried, and another address answered before it.
    Overtaken,
    /// No connection, or one that broke or stayed silent.
    Failed,
    /// Another peer answered.
    WrongPeer,
}

/// How a race ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RaceEnd {
    /// The peer answered at this address.
    Won(Address),
    /// It answered at none.
    Lost(UnreachableReason),
}

/// Tries the addresses of one peer until it answers at one: the first at once, each further one
/// [`NEXT_ADDRESS_AFTER_MS`] after the one before, or as soon as that has failed.
///
/// So a stale address, a black hole, a peer that accepts and says nothing and another peer at an
/// old address cost that much at most. Give the addresses in the order of
/// [`PeerBook::addresses`](crate::PeerBook::addresses) and report the race to
/// [`PeerBook::handle_race`](crate::PeerBook::handle_race), and they cost nothing the next time.
///
/// Take actions from [`Self::poll_action`] until it gives none, wait for an attempt or until
/// [`Self::poll_wake`], report what attempts came to, and stop when [`Self::end`] says how it ended
/// and the last actions were taken. An attempt is limited in time by its driver. Reports about
/// attempts that ended before are ignored.
///
/// ```
/// use eidetica_proto::address_race::{AddressRace, RaceAction, RaceEnd};
///
/// let stale = "http:192.0.2.1:80".parse()?;
/// let good = "http:192.0.2.2:80".parse()?;
/// let mut race = AddressRace::new([stale, good]);
/// let Some(RaceAction::Try(first, _)) = race.poll_action(0) else { panic!("the first") };
/// assert_eq!((race.poll_action(0), race.poll_wake()), (None, Some(250)));
/// // The first is silent.
/// let Some(RaceAction::Try(second, address)) = race.poll_action(250) else { panic!("the second") };
/// race.handle_answered(second);
/// assert_eq!(race.poll_action(260), Some(RaceAction::Cancel(first)));
/// assert_eq!(race.end(), Some(RaceEnd::Won(address)));
/// # Ok::<(), eidetica_proto::AddressError>(())
/// ```
#[derive(Debug)]
pub struct AddressRace {
    racers: Vec<(Address, Verdict)>,
    /// How many were tried.
    tried: usize,
    /// When the next is tried.
    next_ms: Option<u64>,
    to_cancel: Vec<Attempt>,
}

impl AddressRace {
    /// Begins a race over these addresses, most promising first. Those beyond
    /// [`RACE_ADDRESSES_MAX`] are left out, and so are repeated ones.
    pub fn new(addresses: impl IntoIterator<Item = Address>) -> Self {
        let mut racers: Vec<(Address, Verdict)> = Vec::new();
        for address in addresses {
            if racers.len() == RACE_ADDRESSES_MAX {
                break;
            }
            if racers.iter().all(|(other, _)| *other != address) {
                racers.push((address, Verdict::Untried));
            }
        }
        Self {
            racers,
            tried: 0,
            next_ms: None,
            to_cancel: Vec::new(),
        }
    }

    /// Returns what to do next.
    pub fn poll_action(&mut self, now_ms: u64) -> Option<RaceAction> {
        if let Some(attempt) = self.to_cancel.pop() {
            return Some(RaceAction::Cancel(attempt));
        }
        let is_over = self.end().is_some();
        if is_over || self.next_ms.is_some_and(|next_ms| now_ms < next_ms) {
            return None;
        }
        let (address, verdict) = self.racers.get_mut(self.tried)?;
        *verdict = Verdict::Pending;
        self.tried += 1;
        self.next_ms = Some(now_ms.saturating_add(NEXT_ADDRESS_AFTER_MS));
        Some(RaceAction::Try(Attempt(self.tried - 1), address.clone()))
    }

    /// Returns when the next address is tried, if no report comes before.
    pub fn poll_wake(&self) -> Option<u64> {
        let has_more = self.tried < self.racers.len() && self.end().is_none();
        self.next_ms.filter(|_| has_more)
    }

    /// Notes that the peer answered and proved its key. The first to do so has won.
    pub fn handle_answered(&mut self, attempt: Attempt) {
        if self.is_pending(attempt) && self.end().is_none() {
            self.racers[attempt.0].1 = Verdict::Won;
            for (at, (_, verdict)) in self.racers.iter_mut().enumerate() {
                if *verdict == Verdict::Pending {
                    *verdict = Verdict::Overtaken;
                    self.to_cancel.push(Attempt(at));
                }
            }
        }
    }

    /// Notes that an attempt failed. The next address is tried without a further wait.
    pub fn handle_failed(&mut self, attempt: Attempt) {
        self.lose(attempt, Verdict::Failed);
    }

    /// Notes that another peer answered.
    pub fn handle_wrong_peer(&mut self, attempt: Attempt) {
        self.lose(attempt, Verdict::WrongPeer);
    }

    fn lose(&mut self, attempt: Attempt, how: Verdict) {
        if self.is_pending(attempt) {
            self.racers[attempt.0].1 = how;
            self.next_ms = None;
        }
    }

    fn is_pending(&self, attempt: Attempt) -> bool {
        let racer = self.racers.get(attempt.0);
        racer.is_some_and(|(_, verdict)| *verdict == Verdict::Pending)
    }

    /// Returns how the race ended, if it has.
    pub fn end(&self) -> Option<RaceEnd> {
        let is = |wanted: Verdict| move |(_, verdict): &&(Address, Verdict)| *verdict == wanted;
        if let Some((address, _)) = self.racers.iter().find(is(Verdict::Won)) {
            return Some(RaceEnd::Won(address.clone()));
        }
        let open = |(_, it): &(Address, Verdict)| matches!(it, Verdict::Untried | Verdict::Pending);
        if self.racers.iter().any(open) {
            return None;
        }
        Some(RaceEnd::Lost(if self.racers.is_empty() {
            UnreachableReason::NoAddress
        } else if self.racers.iter().any(|it| is(Verdict::Failed)(&it)) {
            UnreachableReason::NoConnection
        } else {
            UnreachableReason::WrongPeer
        }))
    }

    /// Lists what came of each address, in the order in which they were given.
    pub fn verdicts(&self) -> impl Iterator<Item = (&Address, Verdict)> {
        self.racers.iter().map(|(address, it)| (address, *it))
    }
}
