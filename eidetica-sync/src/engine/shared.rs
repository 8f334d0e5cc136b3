//! What the engine's loop, its tasks and the node share: the coordinator behind a lock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eidetica_dag::{PublicKey, TreeId};
use eidetica_proto::Coordinator;
use eidetica_proto::coordinator::{
    Action, CheckAnswer, ExchangeId, Greeter, Options, Origin, Outcome, PeerId,
};
use eidetica_proto::peer_book::AddressOrigin;
use eidetica_proto::peers::{Duplicates, Sighting};
use eidetica_proto::proof::Epoch;
use eidetica_proto::transport::Discovered;
use futures::{Stream, StreamExt};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::callers::Callers;
use crate::client::dialer::Dialer;
use crate::client::error::SyncError;
use crate::membership::records::Records;
use crate::news::{Facts, News};
use crate::platform::clock::WallClock;
use crate::platform::random::Random;
use crate::store::Store;

/// How many actions are taken at a time, so that a change of many statuses holds nothing up.
const ACTIONS_MAX: usize = 64;

/// What a node follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Following {
    Nothing,
    /// What a program follows, and what the store remembers.
    Remembered,
    /// The peers that make contact as well.
    CallersToo,
}

/// How a node keeps trees in sync, and who it is.
pub(crate) struct Settings {
    pub(crate) options: Options,
    pub(crate) following: Following,
    pub(crate) key: PublicKey,
    /// Which start of the node this is.
    pub(crate) epoch: Epoch,
    pub(crate) clock: WallClock,
}

/// What the engine works with.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) dialer: Dialer,
    pub(crate) news: News,
    pub(super) records: Arc<Records>,
    pub(crate) random: Random,
    pub(crate) following: Following,
    /// Which start of the node this is.
    pub(super) epoch: Epoch,
    pub(crate) clock: WallClock,
    /// The zero of the coordinator's clock.
    began: Instant,
    core: Mutex<Core>,
    wake: Notify,
    /// A program says that the network has changed.
    pub(crate) network_changed: Notify,
    /// The node has begun to serve.
    pub(crate) serving: Notify,
}

/// The coordinator, and what it does not keep.
pub(crate) struct Core {
    pub(crate) coordinator: Coordinator,
    pub(super) greeter: Greeter,
    pub(super) duplicates: Duplicates,
    failures: BTreeMap<(PeerId, Option<TreeId>), Failure>,
    waiters: BTreeMap<(PeerId, TreeId), Vec<Waiter>>,
    pub(super) callers: Callers,
    /// Peers whose check has just succeeded.
    met: BTreeSet<PeerId>,
    /// Watches to close because others took their places.
    replaced: Vec<ExchangeId>,
    /// The exchange that was begun last.
    last: Option<ExchangeId>,
    is_closed: bool,
}

/// Why an exchange failed last.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) error: Arc<SyncError>,
    pub(crate) at_ms: u64,
}

/// A caller that waits until a peer has confirmed to have the same entries.
struct Waiter {
    /// Only what began after this exchange counts.
    after: Option<ExchangeId>,
    /// The peer must have every entry that arrived here before this number.
    head: u32,
    confirmed: oneshot::Sender<()>,
}

/// What an exchange confirms of one tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Confirmed {
    /// Everything of the peer's is here, and it has what arrived here before this number.
    UpTo(u32),
    /// One of the two.
    Half,
    Nothing,
}

/// What an exchange was about.
#[derive(Debug, Clone)]
pub(crate) enum About {
    Trees(Arc<[TreeId]>),
    Tree(TreeId),
    Watch,
}

/// What the loop does next.
pub(super) struct Next {
    pub(super) actions: Vec<Action>,
    /// Watches to close.
    pub(super) replaced: Vec<ExchangeId>,
    /// Callers to follow.
    pub(super) callers: Vec<(PeerId, TreeId)>,
    /// Peers that were found to be there, to tell them of this node.
    pub(super) met: Vec<PeerId>,
    /// Peers to greet.
    pub(super) greetings: Vec<PeerId>,
    /// There is more to do at once.
    pub(super) is_more: bool,
    pub(super) wake_ms: Option<u64>,
}

impl Shared {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        dialer: Dialer,
        news: News,
        records: Arc<Records>,
        random: Random,
        settings: Settings,
    ) -> Self {
        let Settings {
            options,
            following,
            key,
            epoch,
            clock,
        } = settings;
        let seed = u64::from_le_bytes(random.bytes());
        Self {
            store,
            dialer,
            news,
            records,
            random,
            following,
            epoch,
            clock,
            began: Instant::now(),
            core: Mutex::new(Core {
                coordinator: Coordinator::new(options, seed),
                greeter: Greeter::default(),
                duplicates: Duplicates::new(key, epoch, 0),
                failures: BTreeMap::new(),
                waiters: BTreeMap::new(),
                callers: Callers::default(),
                met: BTreeSet::new(),
                replaced: Vec::new(),
                last: None,
                is_closed: false,
            }),
            wake: Notify::new(),
            network_changed: Notify::new(),
            serving: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Returns a time of the coordinator as milliseconds of the wall clock.
    pub(crate) fn wall_ms(&self, at_ms: u64) -> u64 {
        let now_ms = self.now_ms();
        (self.clock.now_ms().saturating_add(at_ms)).saturating_sub(now_ms)
    }

    fn ms_at(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.began).as_millis() as u64
    }

    pub(super) fn at(&self, at_ms: u64) -> Instant {
        self.began + std::time::Duration::from_millis(at_ms)
    }

    /// Tells the coordinator something, after what was stored before, and has the loop look.
    pub(crate) fn input<T>(&self, input: impl FnOnce(&mut Core, u64) -> T) -> T {
        let output = self.look(input);
        self.wake.notify_one();
        output
    }

    /// Looks at the coordinator as it is after what was stored before.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&mut Core, u64) -> T) -> T {
        let mut core = self.lock();
        let now_ms = self.now_ms();
        let mut facts = self.news.board().take();
        for ((peer, address), origin) in std::mem::take(&mut facts.learned) {
            if self.dialer.book.learn(peer, [address], origin) {
                core.coordinator.handle_address_learned(peer, now_ms);
            }
            core.callers.handle_address_learned(peer);
        }
        if self.following == Following::CallersToo {
            for (peer, tree) in facts.heard_about.keys() {
                if core.coordinator.status(*peer, *tree).is_none() {
                    let is_known = self.dialer.book.has_address(peer);
                    core.callers.handle_heard_about(*peer, *tree, is_known);
                }
            }
        }
        for ((peer, epoch), at) in std::mem::take(&mut facts.alive) {
            let seen = Sighting::of_request(self.ms_at(at));
            self.note_alive(&mut core, peer, epoch, seen);
        }
        core.take_facts(facts, now_ms);
        look(&mut core, now_ms)
    }

    /// Learns the addresses at which the transports find known peers by themselves. Anyone can claim
    /// a key on a local network, so peers that are not known are passed over.
    pub(super) async fn learn_found(&self, mut found: impl Stream<Item = Discovered> + Unpin) {
        while let Some(Discovered { key, address }) = found.next().await {
            if self.dialer.book.knows(&key)
                && self.dialer.book.learn(key, [address], AddressOrigin::Mdns)
            {
                self.input(|core, now_ms| core.coordinator.handle_address_learned(key, now_ms));
            }
        }
    }

    /// Waits until there may be something to do.
    pub(super) async fn changed(&self) {
        tokio::select! {
            biased;
            () = self.wake.notified() => {}
            () = self.news.board().changed() => {}
        }
    }

    pub(super) fn poll(&self) -> Next {
        self.look(|core, now_ms| {
            let mut actions = Vec::new();
            while actions.len() < ACTIONS_MAX
                && let Some(action) = core.coordinator.poll_action(now_ms)
            {
                core.last = began(&action).or(core.last);
                actions.push(action);
            }
            Next {
                is_more: actions.len() == ACTIONS_MAX,
                actions,
                replaced: std::mem::take(&mut core.replaced),
                callers: core.callers.poll_ready(),
                met: std::mem::take(&mut core.met).into_iter().collect(),
                greetings: core.poll_greetings(now_ms),
                wake_ms: core.poll_wake(),
            }
        })
    }

    /// Reports the end of an exchange, and why it failed if it did.
    pub(crate) fn ended(
        &self,
        id: ExchangeId,
        peer: PeerId,
        about: &About,
        outcome: Outcome,
        error: Option<Arc<SyncError>>,
    ) {
        self.input(|core, now_ms| {
            core.note_failure(peer, about, &outcome, error, now_ms);
            if let Outcome::Checked(_) = outcome {
                core.met.insert(peer);
            }
            let confirmed = core.confirmed_by(about, &outcome);
            core.coordinator.handle_ended(id, outcome, now_ms);
            for (tree, confirmed) in confirmed {
                core.confirm(id, peer, tree, confirmed, now_ms);
            }
        });
    }

    /// Has a watch closed in whose place another one was opened.
    pub(crate) fn replace(&self, watch: ExchangeId) {
        self.input(|core, _| core.replaced.push(watch));
    }

    /// Takes no further work.
    pub(super) fn close(&self) {
        self.news.board().close();
        let mut core = self.lock();
        core.is_closed = true;
        core.waiters.clear();
    }

    /// Refuses once the engine has ended.
    ///
    /// # Errors
    /// [`SyncError::Closed`].
    pub(crate) fn check_open(&self) -> Result<(), SyncError> {
        match self.lock().is_closed {
            true => Err(SyncError::Closed),
            false => Ok(()),
        }
    }
}

/// Returns the exchange that an action begins.
fn began(action: &Action) -> Option<ExchangeId> {
    match action {
        Action::Check { id, .. }
        | Action::Sync { id, .. }
        | Action::Push { id, .. }
        | Action::Give { id, .. }
        | Action::Watch { id, .. } => Some(*id),
        Action::StopWatch { .. }
        | Action::Abandon { .. }
        | Action::Swap { .. }
        | Action::StatusChanged { .. } => None,
    }
}

impl Core {
    fn poll_wake(&self) -> Option<u64> {
        let wakes = [self.coordinator.poll_wake(), self.greeter.poll_wake()];
        wakes.into_iter().flatten().min()
    }

    /// Hands over what was stored and heard since the last call.
    fn take_facts(&mut self, facts: Facts, now_ms: u64) {
        let coordinator = &mut self.coordinator;
        for (tree, stored) in facts.stored {
            for (peer, arrivals) in stored.brought {
                coordinator.handle_stored(tree, arrivals, Origin::Peer(peer), now_ms);
            }
            coordinator.handle_stored(tree, stored.end..stored.end, Origin::Local, now_ms);
        }
        for (watch, change) in facts.watches {
            if let Some(trees) = change.opened {
                coordinator.handle_watched(change.peer, watch, trees.iter().copied(), now_ms);
            }
            if change.closed {
                coordinator.handle_watch_stopped(change.peer, watch, now_ms);
            }
        }
        for ((peer, tree), settled) in facts.has {
            coordinator.handle_peer_has(peer, tree, settled, now_ms);
        }
        for peer in facts.heard {
            coordinator.handle_heard(peer, now_ms);
        }
        for ((peer, tree), may_have) in facts.heard_about {
            if may_have {
                coordinator.handle_heard_about(peer, tree, now_ms);
            }
        }
    }

    fn note_failure(
        &mut self,
        peer: PeerId,
        about: &About,
        outcome: &Outcome,
        error: Option<Arc<SyncError>>,
        now_ms: u64,
    ) {
        let is_of_peer = matches!(outcome, Outcome::Unreachable(_) | Outcome::RetryAfter(_));
        let tree = match about {
            About::Tree(tree) if !is_of_peer => Some(*tree),
            _ => None,
        };
        match error {
            Some(_) if *outcome == Outcome::Abandoned => {}
            Some(error) => {
                let at_ms = now_ms;
                self.failures.insert((peer, tree), Failure { error, at_ms });
            }
            None => {
                self.failures.remove(&(peer, tree));
                self.failures.remove(&(peer, None));
            }
        }
    }

    /// Returns why the last exchange about a tree failed, or the last one with the peer.
    pub(crate) fn failure(&self, peer: PeerId, tree: TreeId) -> Option<&Failure> {
        let of_tree = self.failures.get(&(peer, Some(tree)));
        of_tree.or_else(|| self.failures.get(&(peer, None)))
    }

    /// Forgets the state kept for a lane.
    pub(crate) fn forget(&mut self, peer: PeerId, tree: TreeId) {
        self.failures.remove(&(peer, Some(tree)));
        self.waiters.remove(&(peer, tree));
        if self.coordinator.statuses_of_peer(peer).next().is_none() {
            self.failures.remove(&(peer, None));
        }
    }

    /// Waits until the peer has confirmed to have the same entries, `head` of which are here. The
    /// receiver fails if the tree is not followed any more.
    pub(crate) fn wait_confirmed(
        &mut self,
        peer: PeerId,
        tree: TreeId,
        head: u32,
        now_ms: u64,
    ) -> oneshot::Receiver<()> {
        let (confirmed, receiver) = oneshot::channel();
        if self.coordinator.status(peer, tree).is_some() && !self.is_closed {
            let after = self.last;
            let waiters = self.waiters.entry((peer, tree)).or_default();
            waiters.retain(|waiter| !waiter.confirmed.is_closed());
            waiters.push(Waiter {
                after,
                head,
                confirmed,
            });
            self.coordinator.handle_retry_now(peer, Some(tree), now_ms);
        }
        receiver
    }

    /// Returns what an exchange confirms, if a caller waits for any confirmation.
    fn confirmed_by(&self, about: &About, outcome: &Outcome) -> Vec<(TreeId, Confirmed)> {
        if self.waiters.is_empty() {
            return Vec::new();
        }
        match (about, outcome) {
            (About::Trees(trees), Outcome::Checked(answers)) => {
                let confirmed = answers.iter().map(|answer| match answer {
                    CheckAnswer::Equal { settled, .. } => Confirmed::UpTo(*settled),
                    // A comparison follows by itself.
                    CheckAnswer::Differs | CheckAnswer::Absent => Confirmed::Nothing,
                });
                trees.iter().copied().zip(confirmed).collect()
            }
            (About::Tree(tree), Outcome::Success { settled, cursor }) => {
                let confirmed = match cursor {
                    Some(_) => Confirmed::UpTo(*settled),
                    // It tells what the peer has, and nothing about entries missing here.
                    None => Confirmed::Half,
                };
                vec![(*tree, confirmed)]
            }
            _ => Vec::new(),
        }
    }

    /// Tells callers that wait for it what an exchange confirmed, and asks again if that tells more.
    fn confirm(
        &mut self,
        id: ExchangeId,
        peer: PeerId,
        tree: TreeId,
        confirmed: Confirmed,
        now_ms: u64,
    ) {
        let Some(waiters) = self.waiters.remove(&(peer, tree)) else {
            return;
        };
        let (mut waiting, mut asks_again) = (Vec::new(), confirmed == Confirmed::Half);
        for waiter in waiters {
            let is_after = waiter.after.is_none_or(|after| id > after);
            match confirmed {
                Confirmed::UpTo(settled) if is_after && settled >= waiter.head => {
                    let _gave_up_waiting = waiter.confirmed.send(());
                }
                _ if waiter.confirmed.is_closed() => {}
                _ => {
                    asks_again |= !is_after;
                    waiting.push(waiter);
                }
            }
        }
        if !waiting.is_empty() {
            self.waiters.insert((peer, tree), waiting);
            if asks_again {
                self.coordinator.handle_retry_now(peer, Some(tree), now_ms);
            }
        }
    }
}
