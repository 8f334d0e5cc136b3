//! The background engine: carries out what the coordinator decides.
//!
//! The loop takes actions from the coordinator and runs each in a task of its own, so it never waits
//! for a peer. Tasks report to the coordinator by themselves, through [`shared`], and so do the
//! methods of the node; the loop then looks again.
//!
//! | file | purpose |
//! |---|---|
//! | [`shared`] | the coordinator behind a lock, and what it does not keep |
//! | [`tasks`] | one function for each kind of action |
//! | [`outcome`] | what a failure means to the coordinator |
//! | [`by_hand`] | syncs that a program asks for |
//! | [`follows`] | follows that survive a restart |
//! | [`callers`] | peers that made contact and are not followed yet |
//! | [`follow_back`] | follows them |
//! | [`greetings`] | greets peers after an absence |
//! | [`found`] | swaps address records, and follows peers that are found by them |
//! | [`copies`] | notices keys that are alive on two machines |

pub(crate) mod by_hand;
mod callers;
mod copies;
mod follow_back;
pub(crate) mod follows;
mod found;
mod greetings;
mod outcome;
pub(crate) mod shared;
mod tasks;

use std::collections::BTreeMap;
use std::sync::Arc;

use eidetica_proto::coordinator::{Action, ExchangeId, Outcome, PeerId};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::Instant;

use self::by_hand::ByHand;
use self::found::Swapping;
use self::shared::{About, Following, Shared};
use self::tasks::{Ended, Exchange};
use crate::client::error::SyncError;
use crate::platform::clock::SuspendDetector;

/// How many syncs by hand may wait to be begun; another one waits to be queued.
pub(crate) const QUEUE_MAX: usize = 256;

/// How often the clocks are compared, in milliseconds: a machine that wakes up catches up within
/// this time.
const CLOCKS_EVERY_MS: u64 = 1_000;

/// The loop, and the tasks that it began.
pub(crate) struct Engine {
    shared: Arc<Shared>,
    /// Exchanges and watches under way.
    running: BTreeMap<ExchangeId, AbortHandle>,
    jobs: JoinSet<Option<ExchangeId>>,
}

impl Engine {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            running: BTreeMap::new(),
            jobs: JoinSet::new(),
        }
    }

    /// Runs until every sender of the queue is gone, then cuts the running exchanges. Entries stored by
    /// then stay.
    pub(crate) async fn run(mut self, mut queue: mpsc::Receiver<ByHand>) {
        let shared = self.shared.clone();
        let saving = shared.dialer.book.clone().save_changes();
        self.jobs.spawn(async {
            saving.await;
            None
        });
        let (found, shared_by) = (shared.dialer.manager.discovered(), shared.clone());
        self.jobs.spawn(async move {
            shared_by.learn_found(found).await;
            None
        });
        if shared.following != Following::Nothing {
            follows::resume(&shared).await;
        }
        let mut clocks = SuspendDetector::start(shared.clock.clone());
        loop {
            let next = shared.poll();
            for action in next.actions {
                self.carry_out(action);
            }
            for watch in next.replaced {
                self.cut(watch);
            }
            for (peer, tree) in next.callers {
                let shared = shared.clone();
                self.jobs.spawn(async move {
                    follow_back::follow(&shared, peer, tree).await;
                    None
                });
            }
            for peer in next.met {
                let shared = shared.clone();
                self.jobs.spawn(async move {
                    shared.dialer.announce(peer).await;
                    shared.ask_alive(peer).await;
                    None
                });
            }
            for peer in next.greetings {
                let shared = shared.clone();
                self.jobs.spawn(async move {
                    shared.greet(peer).await;
                    None
                });
            }
            while let Some(ended) = self.jobs.try_join_next() {
                self.reap(ended);
            }
            if next.is_more {
                tokio::task::yield_now().await;
                continue;
            }
            let now_ms = shared.now_ms();
            let look_ms = now_ms + CLOCKS_EVERY_MS;
            let wake_ms = next.wake_ms.unwrap_or(look_ms).min(look_ms);
            tokio::select! {
                biased;
                () = shared.network_changed.notified() => self.note_network_changed(),
                () = shared.serving.notified() => self.note_back(),
                job = queue.recv() => match job {
                    Some(job) => {
                        let shared = shared.clone();
                        self.jobs.spawn(async move { job.run(&shared).await; None });
                    }
                    None => break,
                },
                // Last, for it may be so all the time, and what has changed is looked at in any case.
                () = shared.changed() => {}
                () = tokio::time::sleep_until(shared.at(wake_ms)) => {}
            }
            if clocks.was_suspended(CLOCKS_EVERY_MS) {
                tracing::debug!("the machine was suspended: looking at every peer");
                self.note_network_changed();
            }
        }
        shared.input(|core, now_ms| core.coordinator.handle_shutdown(now_ms));
        shared.close();
        self.jobs.shutdown().await;
        shared.dialer.book.save().await;
    }

    /// Has every connection and every peer tried again.
    fn note_network_changed(&mut self) {
        let shared = self.shared.clone();
        self.jobs.spawn(async move {
            shared.dialer.manager.network_changed().await;
            shared.input(|core, now_ms| {
                core.coordinator.handle_addresses_changed();
                core.coordinator.handle_network_changed(now_ms);
            });
            shared.note_back().await;
            None
        });
    }

    /// Has the peers greeted that may wait for this node.
    fn note_back(&mut self) {
        let shared = self.shared.clone();
        self.jobs.spawn(async move {
            shared.note_back().await;
            None
        });
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Check { id, peer, trees } => {
                let about = About::Trees(trees.clone());
                self.begin("check", id, peer, about, |exchange| exchange.check(trees));
            }
            Action::Sync {
                id,
                peer,
                tree,
                pull,
                push,
            } => self.begin("sync", id, peer, About::Tree(tree), |exchange| {
                exchange.sync(tree, pull, push)
            }),
            Action::Push {
                id,
                peer,
                tree,
                from,
            } => self.begin("push", id, peer, About::Tree(tree), |exchange| {
                exchange.push(tree, from)
            }),
            Action::Give { id, peer, tree } => {
                self.begin("give", id, peer, About::Tree(tree), |exchange| {
                    exchange.give(tree)
                });
            }
            Action::Watch {
                id,
                peer,
                trees,
                replaces,
            } => self.begin("watch", id, peer, About::Watch, |exchange| {
                exchange.watch(trees, replaces)
            }),
            Action::StopWatch { id } | Action::Abandon { id } => self.cut(id),
            Action::Swap { peer, tree } => {
                let swap = Swapping::begin(self.shared.clone(), peer);
                self.jobs.spawn(async move {
                    swap.run(tree).await;
                    None
                });
            }
            Action::StatusChanged { peer, tree } => {
                self.shared.news.publisher().status_changed(peer, tree);
            }
        }
    }

    /// Runs an exchange in a task, whose end is reported whatever happens.
    fn begin<F>(
        &mut self,
        kind: &'static str,
        id: ExchangeId,
        peer: PeerId,
        about: About,
        run: impl FnOnce(Exchange) -> F,
    ) where
        F: Future<Output = Ended> + Send + 'static,
    {
        let shared = self.shared.clone();
        let exchange = run(Exchange {
            shared: shared.clone(),
            id,
            peer,
        });
        let mut end = End {
            shared,
            id,
            peer,
            about,
            kind,
            began: Instant::now(),
            is_reported: false,
        };
        let task = async move {
            let result = exchange.await;
            end.report(result);
            Some(id)
        };
        self.running.insert(id, self.jobs.spawn(task));
    }

    fn cut(&mut self, id: ExchangeId) {
        if let Some(task) = self.running.remove(&id) {
            task.abort();
        }
    }

    fn reap(&mut self, ended: Result<Option<ExchangeId>, JoinError>) {
        match ended {
            Ok(id) => {
                if let Some(id) = id {
                    self.running.remove(&id);
                }
            }
            Err(error) => {
                if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
}

/// Reports the end of an exchange, once: when it has ended, was cut, or has panicked.
struct End {
    shared: Arc<Shared>,
    id: ExchangeId,
    peer: PeerId,
    about: About,
    /// What metrics call it.
    kind: &'static str,
    began: Instant,
    is_reported: bool,
}

impl End {
    fn report(&mut self, result: Ended) {
        self.is_reported = true;
        let (outcome, error) = match result {
            Ok(outcome) => (outcome, None),
            Err(error) => (outcome::of_error(&error), Some(error)),
        };
        if let Some(error) = &error {
            tracing::debug!(peer = %self.peer, %error, "an exchange failed");
        }
        self.end(outcome, error);
    }

    fn end(&self, outcome: Outcome, error: Option<Arc<SyncError>>) {
        let took = self.began.elapsed();
        tracing::trace!(peer = %self.peer, kind = self.kind, ?took, ?outcome, "an exchange has ended");
        #[cfg(feature = "metrics")]
        crate::metrics::exchange_ended(self.kind, &outcome, took);
        self.shared
            .ended(self.id, self.peer, &self.about, outcome, error);
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if !self.is_reported {
            let outcome = match std::thread::panicking() {
                true => Outcome::Failed,
                false => Outcome::Abandoned,
            };
            self.end(outcome, None);
        }
    }
}
