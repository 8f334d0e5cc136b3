//! What the network knows: who listens, and what is wrong.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use eidetica_dag::PublicKey;
use eidetica_dag::testing::Random;
use eidetica_proto::transport::Service;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::lie::Lie;
use crate::record::Record;
use crate::store::SimStore;

/// Most exchanges between two nodes at a time: those of the engine, a watch and the one that replaces it,
/// and those that people begin.
const EXCHANGES_PER_PAIR_MAX: usize = 32;

/// Connects the nodes of a run. Clones are the same network.
#[derive(Clone)]
pub struct Network {
    pub(super) record: Record,
    state: Arc<Mutex<State>>,
}

pub(super) struct State {
    pub(super) random: Random,
    pub(super) listeners: BTreeMap<String, Listener>,
    hosts: Vec<Host>,
    blocked: BTreeMap<(usize, usize), Instant>,
    running: BTreeMap<u64, Running>,
    next: u64,
}

#[derive(Clone)]
pub(super) struct Listener {
    pub(super) host: usize,
    pub(super) key: Option<PublicKey>,
    pub(super) service: Arc<dyn Service>,
}

/// A node, as the network knows it. What is wrong has an end.
struct Host {
    key: PublicKey,
    store: Option<Arc<SimStore>>,
    latency_ms: u32,
    frozen: Instant,
    hung: Instant,
    slow: (Instant, u32),
    cut: (Instant, u32),
    replayed: Instant,
    lie: (Instant, Lie),
    has_lied: bool,
}

struct Running {
    from: usize,
    to: usize,
    abort: AbortHandle,
}

/// What happens to an exchange.
#[derive(Debug, Clone, Default)]
pub(super) struct Fate {
    pub(super) delay: Duration,
    pub(super) is_hung: bool,
    pub(super) cut_request_after: Option<u32>,
    pub(super) cut_answer_after: Option<u32>,
    pub(super) is_replayed: bool,
}

impl Network {
    /// Makes a network without nodes.
    pub fn new(seed: u64, record: &Record) -> Self {
        Self {
            record: record.clone(),
            state: Arc::new(Mutex::new(State {
                random: Random::new(seed ^ 0x6e_65_74),
                listeners: BTreeMap::new(),
                hosts: Vec::new(),
                blocked: BTreeMap::new(),
                running: BTreeMap::new(),
                next: 0,
            })),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a node and returns its number.
    pub fn add(&self, key: PublicKey, latency_ms: u32) -> usize {
        let now = Instant::now();
        let mut state = self.lock();
        state.hosts.push(Host {
            key,
            store: None,
            latency_ms,
            frozen: now,
            hung: now,
            slow: (now, 0),
            cut: (now, 0),
            replayed: now,
            lie: (now, Lie::Garble),
            has_lied: false,
        });
        state.hosts.len() - 1
    }

    /// Sets the store of a node, for those who watch what it says.
    pub fn set_store(&self, host: usize, store: Option<Arc<SimStore>>) {
        self.lock().hosts[host].store = store;
    }

    /// Sets the key of a node: a copy has that of another one.
    pub fn set_key(&self, host: usize, key: PublicKey) {
        self.lock().hosts[host].key = key;
    }

    /// Cuts everything of a node at once.
    pub fn kill(&self, host: usize) {
        let mut state = self.lock();
        state.hosts[host].store = None;
        state.listeners.retain(|_, listener| listener.host != host);
        drop(state);
        self.cut(|running| running.from == host || running.to == host);
    }

    pub(super) fn cut_answers_of(&self, host: usize) {
        self.cut(|running| running.to == host);
    }

    fn cut(&self, which: impl Fn(&Running) -> bool) {
        let state = self.lock();
        let running = state.running.values().filter(|running| which(running));
        let aborts: Vec<_> = running.map(|running| running.abort.clone()).collect();
        drop(state);
        aborts.iter().for_each(AbortHandle::abort);
    }

    /// Lets nothing get from one node to another one.
    pub fn block(&self, from: usize, to: usize, until: Instant) {
        let mut state = self.lock();
        let end = state.blocked.entry((from, to)).or_insert(until);
        *end = (*end).max(until);
    }

    /// Lets nothing get to a node or away from it.
    pub fn isolate(&self, host: usize, until: Instant) {
        let count = self.lock().hosts.len();
        for other in (0..count).filter(|other| *other != host) {
            self.block(host, other, until);
            self.block(other, host, until);
        }
    }

    /// Lets a node's process stand still.
    pub fn freeze(&self, host: usize, until: Instant) {
        self.lock().hosts[host].frozen = until;
    }

    /// Lets a node take requests without answering.
    pub fn hang(&self, host: usize, until: Instant) {
        self.lock().hosts[host].hung = until;
    }

    /// Lets a node's link carry few bytes.
    pub fn slow(&self, host: usize, until: Instant, bytes_per_s: u32) {
        self.lock().hosts[host].slow = (until, bytes_per_s);
    }

    /// Cuts one in so many exchanges with a node.
    pub fn cut_some(&self, host: usize, until: Instant, one_in: u32) {
        self.lock().hosts[host].cut = (until, one_in);
    }

    /// Lets what a node sends arrive once more.
    pub fn replay(&self, host: usize, until: Instant) {
        self.lock().hosts[host].replayed = until;
    }

    /// Lets a node lie.
    pub fn lie(&self, host: usize, until: Instant, lie: Lie) {
        let mut state = self.lock();
        state.hosts[host].lie = (until, lie);
        state.hosts[host].has_lied = true;
    }

    /// Returns whether a node has ever lied.
    pub fn has_lied(&self, host: usize) -> bool {
        self.lock().hosts[host].has_lied
    }

    /// Waits until frames get from one node to another one, at most until `deadline`. Tells whether they
    /// do.
    pub(super) async fn open(&self, from: usize, to: usize, deadline: Instant) -> bool {
        loop {
            let until = {
                let state = self.lock();
                let blocked = state.blocked.get(&(from, to)).copied();
                let frozen = state.hosts[from].frozen.max(state.hosts[to].frozen);
                blocked.map_or(frozen, |blocked| blocked.max(frozen))
            };
            let now = Instant::now();
            if until <= now {
                return true;
            }
            if now >= deadline {
                return false;
            }
            tokio::time::sleep_until(until.min(deadline)).await;
        }
    }

    /// Returns how long a frame takes beyond the delay of the link.
    pub(super) fn transfer_time(&self, from: usize, to: usize, bytes: usize) -> Duration {
        let (state, now) = (self.lock(), Instant::now());
        let time = |host: usize| match state.hosts[host].slow {
            (until, bytes_per_s) if until > now => {
                Duration::from_secs_f64(bytes as f64 / f64::from(bytes_per_s))
            }
            _ => Duration::ZERO,
        };
        time(from).max(time(to))
    }

    pub(super) fn listener(&self, name: &str) -> Option<Listener> {
        self.lock().listeners.get(name).cloned()
    }

    /// Returns the lie that a node tells now.
    pub(super) fn lie_of(&self, host: usize) -> Option<Lie> {
        let (until, lie) = self.lock().hosts[host].lie;
        (until > Instant::now()).then_some(lie)
    }

    pub(super) fn with_random<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.lock().random)
    }

    pub(super) fn store_of(&self, host: usize) -> Option<Arc<SimStore>> {
        self.lock().hosts[host].store.clone()
    }

    pub(super) fn key_of(&self, host: usize) -> PublicKey {
        self.lock().hosts[host].key
    }

    pub(super) fn delay(&self, from: usize, to: usize) -> Duration {
        let mut state = self.lock();
        let most = (state.hosts[from].latency_ms + state.hosts[to].latency_ms).max(1);
        let ms = most / 2 + state.random.below(most);
        Duration::from_millis(u64::from(ms))
    }

    /// Draws what happens to an exchange.
    pub(super) fn fate(&self, from: usize, to: usize) -> Fate {
        let delay = self.delay(from, to);
        let (mut state, now) = (self.lock(), Instant::now());
        let mut fate = Fate {
            delay,
            is_hung: state.hosts[to].hung > now,
            is_replayed: state.hosts[from].replayed > now,
            ..Fate::default()
        };
        for host in [from, to] {
            let (until, one_in) = state.hosts[host].cut;
            if until > now && state.random.one_in(one_in) {
                let after = state.random.below(4);
                match state.random.one_in(2) {
                    true => fate.cut_request_after = Some(after),
                    false => fate.cut_answer_after = Some(after),
                }
            }
        }
        let faults = [
            ("exchanges that hung", fate.is_hung),
            ("requests that were cut", fate.cut_request_after.is_some()),
            ("answers that were cut", fate.cut_answer_after.is_some()),
            ("requests that came twice", fate.is_replayed),
        ];
        drop(state);
        for (what, happens) in faults {
            if happens {
                self.record.count(what);
            }
        }
        fate
    }

    /// Notes an exchange that runs.
    pub(super) fn begin(&self, from: usize, to: usize, abort: AbortHandle) -> u64 {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.running.insert(number, Running { from, to, abort });
        let both = |running: &&Running| (running.from, running.to) == (from, to);
        let count = state.running.values().filter(both).count();
        drop(state);
        self.record.count("exchanges");
        let holds = match count > EXCHANGES_PER_PAIR_MAX {
            true => Err(format!("{count} exchanges from node {from} to node {to}")),
            false => Ok(()),
        };
        self.record.check("exchanges are within their limit", holds);
        number
    }

    pub(super) fn end(&self, number: u64) {
        self.lock().running.remove(&number);
    }
}
