//! The background engine: takes operations from a queue and runs each beside the loop.
//!
//! The loop itself never waits for a peer, so a slow or dead one delays nobody else. When to sync
//! with peers that are followed is decided by a [`Schedule`]; for one tree and one peer there is one
//! sync at a time, whoever asked for it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use eidetica_dag::TreeId;
use eidetica_proto::schedule::{Cause, PeerStatus, Schedule};
use eidetica_proto::{BackoffPolicy, Progress, Report, SyncOptions, SyncSession};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::addresses::try_in_order;
use crate::client::error::SyncError;
use crate::client::peer::Peer;
use crate::client::peer_client::PeerClient;
use crate::client::session_driver::SessionDriver;
use crate::news::{Facts, News};
use crate::platform::random::Random;
use crate::store::Store;
use crate::transport::manager::TransportManager;

/// How many operations may wait in the queue; whoever queues one more waits with it.
pub(crate) const QUEUE_MAX: usize = 256;

/// What a node asks of its engine.
pub(crate) enum Operation {
    /// Sync once, and tell the one who asked.
    Sync {
        tree: TreeId,
        peer: Peer,
        options: SyncOptions,
        progress: watch::Sender<Progress>,
        reply: oneshot::Sender<SyncResult>,
    },
    /// Keep a tree equal with a peer.
    Follow { tree: TreeId, peer: Peer },
    /// Stop that.
    Unfollow { tree: TreeId, peer: Peer },
    /// How does it stand with those that are followed?
    Statuses {
        reply: oneshot::Sender<Vec<(Peer, TreeId, PeerStatus)>>,
    },
}

type SyncResult = Result<Report, Arc<SyncError>>;

/// One sync to run.
struct Job {
    tree: TreeId,
    peer: Peer,
    options: SyncOptions,
    progress: watch::Sender<Progress>,
    asked_by: AskedBy,
}

enum AskedBy {
    Caller(oneshot::Sender<SyncResult>),
    Schedule(PeerNumber),
}

/// Numbers the peers that are followed, in the order in which they first were.
type PeerNumber = u32;

/// Syncs of one lane run one after the other.
type Lane = (Peer, TreeId);

/// A job that has ended.
struct Ended {
    lane: Lane,
    scheduled: Option<PeerNumber>,
    succeeded: bool,
}

/// What the engine works with.
#[derive(Clone)]
pub(crate) struct Engine {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) manager: Arc<TransportManager>,
    pub(crate) client: Arc<PeerClient>,
    pub(crate) news: News,
    pub(crate) random: Random,
}

/// What changes while the engine runs.
struct Running {
    engine: Engine,
    started: Instant,
    schedule: Schedule<PeerNumber>,
    peers: BTreeMap<PeerNumber, Peer>,
    /// Present while a job of that lane runs; holds those that wait for it.
    lanes: HashMap<Lane, VecDeque<Job>>,
    jobs: JoinSet<Ended>,
}

impl Engine {
    /// Runs until every sender of the queue is gone, then cuts what is under way. Whatever a sync
    /// had stored by then stays.
    pub(crate) async fn run(self, mut queue: mpsc::Receiver<Operation>) {
        let news = self.news.clone();
        let mut running = Running {
            engine: self,
            started: Instant::now(),
            schedule: Schedule::new(BackoffPolicy::default()),
            peers: BTreeMap::new(),
            lanes: HashMap::new(),
            jobs: JoinSet::new(),
        };
        loop {
            running.start_what_is_due();
            let wake = running.schedule.poll_wake_ms();
            let wake = wake.map(|ms| running.started + Duration::from_millis(ms));
            tokio::select! {
                operation = queue.recv() => match operation {
                    Some(operation) => running.handle_operation(operation),
                    None => break,
                },
                Some(ended) = running.jobs.join_next() => match ended {
                    Ok(ended) => running.handle_ended(ended),
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                () = news.board().changed() => running.handle_facts(&news.board().take()),
                () = tokio::time::sleep_until(wake.unwrap_or(running.started)), if wake.is_some() => {}
            }
        }
        running.jobs.shutdown().await;
    }
}

impl Running {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn handle_operation(&mut self, operation: Operation) {
        match operation {
            Operation::Sync {
                tree,
                peer,
                options,
                progress,
                reply,
            } => {
                let asked_by = AskedBy::Caller(reply);
                self.begin(Job {
                    tree,
                    peer,
                    options,
                    progress,
                    asked_by,
                });
            }
            Operation::Follow { tree, peer } => {
                let number = self.number_of(&peer).unwrap_or_else(|| {
                    let number = self.peers.last_key_value().map_or(0, |(last, _)| last + 1);
                    self.peers.insert(number, peer);
                    number
                });
                let seed = u64::from_le_bytes(self.engine.random.bytes());
                self.schedule.handle_follow(number, tree, seed);
            }
            Operation::Unfollow { tree, peer } => {
                if let Some(number) = self.number_of(&peer) {
                    self.schedule.handle_unfollow(number, tree);
                }
            }
            Operation::Statuses { reply } => {
                let statuses = self.schedule.statuses(self.now_ms());
                let named = |(number, tree, standing)| {
                    self.peers
                        .get(&number)
                        .map(|peer| (peer.clone(), tree, standing))
                };
                let _gave_up_waiting = reply.send(statuses.filter_map(named).collect());
            }
        }
    }

    fn handle_facts(&mut self, facts: &Facts) {
        for (tree, stored) in &facts.stored {
            let mut origins = stored.brought.iter().map(|(key, _)| *key);
            let first = origins.next();
            let from = first.filter(|key| origins.all(|other| other == *key));
            let from = from.and_then(|key| {
                let is_it = |peer: &Peer| peer.key == Some(key);
                let found = self.peers.iter().find(|(_, peer)| is_it(peer));
                found.map(|(number, _)| *number)
            });
            self.schedule.handle_stored(*tree, from);
        }
    }

    fn handle_ended(&mut self, ended: Ended) {
        let Ended {
            lane,
            scheduled,
            succeeded,
        } = ended;
        if let Some(number) = scheduled.or_else(|| self.number_of(&lane.0)) {
            if scheduled.is_some() {
                self.schedule
                    .handle_ended(number, lane.1, succeeded, self.now_ms());
            }
            if succeeded {
                self.schedule.handle_heard(number);
            }
        }
        match self.lanes.get_mut(&lane).and_then(VecDeque::pop_front) {
            Some(next) => self.spawn(next),
            None => {
                self.lanes.remove(&lane);
            }
        }
    }

    fn start_what_is_due(&mut self) {
        while let Some((number, tree, cause)) = self.schedule.poll_start(self.now_ms()) {
            let peer = self
                .peers
                .get(&number)
                .expect("whoever is followed was numbered")
                .clone();
            let filter_at_once = cause == Cause::Change;
            let options = SyncOptions {
                filter_at_once,
                ..SyncOptions::default()
            };
            let (progress, _) = watch::channel(Progress::default());
            let asked_by = AskedBy::Schedule(number);
            self.begin(Job {
                tree,
                peer,
                options,
                progress,
                asked_by,
            });
        }
    }

    fn number_of(&self, peer: &Peer) -> Option<PeerNumber> {
        self.peers
            .iter()
            .find(|(_, other)| *other == peer)
            .map(|(number, _)| *number)
    }

    fn begin(&mut self, job: Job) {
        let lane = (job.peer.clone(), job.tree);
        if let Some(waiting) = self.lanes.get_mut(&lane) {
            waiting.push_back(job);
        } else {
            self.lanes.insert(lane, VecDeque::new());
            self.spawn(job);
        }
    }

    fn spawn(&mut self, job: Job) {
        self.jobs.spawn(run_job(self.engine.clone(), job));
    }
}

/// Runs one sync: tries the addresses in order until one leads to the peer.
async fn run_job(engine: Engine, job: Job) -> Ended {
    let Job {
        tree,
        peer,
        options,
        progress,
        asked_by,
    } = job;
    let Engine {
        store,
        manager,
        client,
        news,
        random,
    } = engine;
    let publisher = news.publisher();
    let sync = publisher.sync_started(tree, peer.addresses.clone());
    let result = try_in_order(&peer, &manager, |transport, address| {
        let driver = SessionDriver {
            store: store.clone(),
            client: client.clone(),
            transport,
            address,
            peer: peer.key,
            news: news.clone(),
            progress: progress.clone(),
        };
        driver.run(SyncSession::new(tree, options, random.bytes()))
    });
    let result = result.await;
    if let Err(error) = &result {
        tracing::debug!(%tree, %error, "a sync failed");
    }
    let result = result.map_err(Arc::new);
    publisher.sync_ended(sync, tree, result.clone());
    let succeeded = result.is_ok();
    let scheduled = match asked_by {
        AskedBy::Schedule(number) => Some(number),
        AskedBy::Caller(reply) => {
            let _gave_up_waiting = reply.send(result);
            None
        }
    };
    Ended {
        lane: (peer, tree),
        scheduled,
        succeeded,
    }
}
