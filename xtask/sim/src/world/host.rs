//! A node over all its lives: its key, its disk, its clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use eidetica_dag::SecretKey;
use eidetica_dag::testing::Random;
use eidetica_proto::LogId;
use eidetica_sync::store::{MemoryStore, SimulatedDisk};
use eidetica_sync::{Event, Node};
use futures::StreamExt;
use tokio::time::{Instant, timeout};

use super::World;
use crate::invariants;
use crate::network::SimTransport;
use crate::plan::HostPlan;
use crate::store::{Acknowledged, Medium, SimStore};

/// The wall clock when a run begins, in milliseconds since 1970.
const BEGAN_MS: i64 = 1_700_000_000_000;

/// How long a node may take to shut down.
const SHUTDOWN: Duration = Duration::from_secs(120);

/// A node.
pub struct Host {
    pub plan: HostPlan,
    pub key: SecretKey,
    pub medium: Medium,
    pub log: LogId,
    pub acknowledged: Acknowledged,
    pub clock: Arc<Clock>,
    pub backup: Option<SimulatedDisk>,
    /// Which address it has: it moves.
    pub address: u32,
    /// Another node has the same key.
    pub has_twin: bool,
    /// Its entries or its memory of others may be older than what it said.
    pub was_restored: bool,
    pub lives: u32,
    pub life: Option<Life>,
}

/// One life of a node.
pub struct Life {
    pub node: Node,
    pub store: Arc<SimStore>,
    close: Arc<AtomicBool>,
}

/// A wall clock that jumps and drifts.
pub struct Clock {
    began: Instant,
    /// Added to the time, in milliseconds.
    offset_ms: AtomicI64,
    drift_ppm: AtomicI64,
}

impl Clock {
    fn now_ms(&self) -> u64 {
        let elapsed = self.began.elapsed().as_millis() as i64;
        let drift = elapsed * self.drift_ppm.load(Ordering::Relaxed) / 1_000_000;
        let now = BEGAN_MS + elapsed + drift + self.offset_ms.load(Ordering::Relaxed);
        u64::try_from(now).unwrap_or(0)
    }

    pub fn jump(&self, by_ms: i64) {
        self.offset_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    pub fn set_drift(&self, ppm: i32) {
        self.drift_ppm.store(ppm.into(), Ordering::Relaxed);
    }
}

impl Host {
    /// Makes a node that has not lived yet.
    pub fn new(world: &World, plan: &HostPlan) -> Self {
        let number = world.state().hosts.len();
        let mut random = Random::new(world.plan.seed ^ (0x6b_65_79 + number as u64));
        let mut bytes = [0; 32];
        for word in bytes.chunks_exact_mut(8) {
            word.copy_from_slice(&random.next_u64().to_le_bytes());
        }
        let key = SecretKey::from_bytes(&bytes);
        let added = world.network.add(key.public(), plan.latency_ms);
        assert_eq!(added, number, "the network and the world count alike");
        Self {
            plan: plan.clone(),
            key,
            medium: match plan.has_disk {
                true => Medium::Disk(SimulatedDisk::new()),
                false => Medium::Memory(Arc::new(MemoryStore::new())),
            },
            log: LogId::from_bytes(random.next_u64().to_le_bytes()),
            acknowledged: Acknowledged::default(),
            clock: Arc::new(Clock {
                began: world.began,
                offset_ms: AtomicI64::new(0),
                drift_ppm: AtomicI64::new(0),
            }),
            backup: None,
            address: 0,
            has_twin: false,
            was_restored: false,
            lives: 0,
            life: None,
        }
    }

    /// Returns the name of its address.
    pub fn name(&self, number: usize) -> String {
        format!("n{number}-{}", self.address)
    }
}

impl World {
    /// Returns how many nodes there are.
    pub fn count(&self) -> usize {
        self.state().hosts.len()
    }

    /// Returns a node that lives.
    pub fn node(&self, number: usize) -> Option<Node> {
        let state = self.state();
        let life = state.hosts.get(number)?.life.as_ref()?;
        Some(life.node.clone())
    }

    /// Returns the store of a node that lives.
    pub fn store(&self, number: usize) -> Option<Arc<SimStore>> {
        let state = self.state();
        let life = state.hosts.get(number)?.life.as_ref()?;
        Some(life.store.clone())
    }

    /// Starts a node on its disk.
    pub async fn start(self: &Arc<Self>, number: usize) {
        let node = {
            let mut state = self.state();
            let host = &mut state.hosts[number];
            if host.life.is_some() {
                return;
            }
            let opened = SimStore::open(&host.medium, host.log, &self.record, &host.acknowledged);
            let store = match opened {
                Ok(store) => Arc::new(store),
                Err(error) => {
                    let text = format!("node {number}: {error}");
                    self.record
                        .violated("a store opens after every fault", text);
                    return;
                }
            };
            let kept = invariants::acknowledged_is_kept(store.inner(), &host.acknowledged.all());
            let kept = kept.map_err(|text| format!("node {number}: {text}"));
            self.record.check("what is acknowledged is kept", kept);
            host.lives += 1;
            let mut seed = [0; 32];
            seed[..8].copy_from_slice(&self.plan.seed.to_le_bytes());
            seed[8] = number as u8;
            seed[9..13].copy_from_slice(&host.lives.to_le_bytes());
            let proved = self.plan.proves_keys.then(|| host.key.public());
            let name = host.name(number);
            let transport = SimTransport::new(&self.network, number, &name, proved);
            let close = transport.closer();
            let clock = host.clock.clone();
            let mut builder = Node::builder_with(store.clone(), host.key.clone())
                .with_seed(seed)
                .with_wall_clock(move || clock.now_ms())
                .transport("sim", transport)
                .expect("the first of its name");
            if host.plan.follows_callers {
                builder = builder.follow_callers();
            }
            let node = builder.start();
            self.network.set_store(number, Some(store.clone()));
            host.life = Some(Life {
                node: node.clone(),
                store,
                close,
            });
            node
        };
        self.watch_events(number, &node);
        if let Err(error) = node.accept_connections().await {
            self.record
                .log(|| format!("node {number} does not serve: {error}"));
        }
    }

    /// Checks that each sync that starts ends.
    fn watch_events(self: &Arc<Self>, number: usize, node: &Node) {
        let (mut events, record) = (node.events(), self.record.clone());
        tokio::spawn(async move {
            let mut open = std::collections::BTreeSet::new();
            let mut has_missed = false;
            while let Some(event) = events.next().await {
                match event {
                    Event::SyncStarted { sync, .. } => {
                        record.count("syncs");
                        open.insert(sync);
                    }
                    Event::SyncEnded { sync, result, .. } => {
                        record.log(|| match &result {
                            Ok(report) => format!("node {number}: sync {sync}: {:?}", report.stats),
                            Err(error) => format!("node {number}: sync {sync}: {error}"),
                        });
                        if !open.remove(&sync) && !has_missed {
                            let text = format!("node {number}: {sync} ended and never started");
                            record.violated("every start has its end", text);
                        }
                    }
                    Event::Lagged(_) => has_missed = true,
                    Event::DuplicateKey { .. } => record.count("keys seen on two machines"),
                    Event::Contested { .. } => record.count("contested entries seen"),
                    _ => {}
                }
            }
            let holds = match open.len() {
                0 => Ok(()),
                _ if has_missed => Ok(()),
                left => Err(format!(
                    "node {number}: {left} are open when the node is gone"
                )),
            };
            record.check("every start has its end", holds);
        });
    }

    /// Ends a life at once: nothing that still runs reaches the disk or the network.
    pub fn kill(self: &Arc<Self>, number: usize) -> bool {
        let life = self.state().hosts[number].life.take();
        let Some(life) = life else {
            return false;
        };
        life.store.kill();
        life.close.store(true, Ordering::Relaxed);
        self.network.kill(number);
        self.bury(number, life);
        true
    }

    /// Lets a dead node's tasks end.
    fn bury(self: &Arc<Self>, number: usize, life: Life) {
        let record = self.record.clone();
        tokio::spawn(async move {
            if timeout(SHUTDOWN, life.node.shutdown()).await.is_err() {
                record.violated("a node shuts down", format!("node {number}"));
            }
        });
    }

    /// Shuts a node down in order.
    pub async fn stop(self: &Arc<Self>, number: usize) -> bool {
        let life = self.state().hosts[number].life.take();
        let Some(life) = life else {
            return false;
        };
        let ended = timeout(SHUTDOWN, life.node.shutdown()).await;
        if ended.is_err() {
            let text = format!("node {number}");
            self.record.violated("a node shuts down", text);
        }
        life.store.kill();
        drop(life);
        // What still holds the store is gone with the process.
        if let Medium::Disk(disk) = &self.state().hosts[number].medium {
            disk.unplug();
        }
        self.network.kill(number);
        true
    }
}
