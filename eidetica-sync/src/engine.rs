//! The background engine: takes operations from a queue and runs each beside the loop.
//!
//! The loop itself never waits for a peer, so a slow or dead one delays nobody else. For one tree
//! and one peer there is one sync at a time; a second one waits for the first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use eidetica_dag::{PublicKey, TreeId};
use eidetica_proto::{Address, Progress, Report, SyncOptions, SyncSession};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::drive::Drive;
use crate::error::SyncError;
use crate::event::Publisher;
use crate::manager::TransportManager;
use crate::random::Random;
use crate::store::Store;

/// How many operations may wait in the queue; whoever queues one more waits with it.
pub(crate) const QUEUE_MAX: usize = 256;

/// One sync that somebody asked for.
pub(crate) struct SyncOperation {
    pub(crate) tree: TreeId,
    pub(crate) peer: Option<PublicKey>,
    /// Where the peer may be, in the order of trying.
    pub(crate) addresses: Vec<Address>,
    pub(crate) options: SyncOptions,
    pub(crate) progress: watch::Sender<Progress>,
    pub(crate) reply: oneshot::Sender<Result<Report, Arc<SyncError>>>,
}

/// Whatever identifies a peer here: its addresses.
type Lane = (Vec<Address>, TreeId);

pub(crate) struct Engine {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) manager: Arc<TransportManager>,
    pub(crate) publisher: Publisher,
    pub(crate) random: Random,
}

impl Engine {
    /// Runs until every sender of the queue is gone, then cuts what is under way. Whatever a sync
    /// had stored by then stays.
    pub(crate) async fn run(self, mut queue: mpsc::Receiver<SyncOperation>) {
        let mut running = JoinSet::new();
        // Present while a sync of that lane runs; holds those that wait for it.
        let mut lanes: HashMap<Lane, VecDeque<SyncOperation>> = HashMap::new();
        loop {
            tokio::select! {
                operation = queue.recv() => {
                    let Some(operation) = operation else { break };
                    let lane = (operation.addresses.clone(), operation.tree);
                    if let Some(waiting) = lanes.get_mut(&lane) {
                        waiting.push_back(operation);
                    } else {
                        lanes.insert(lane.clone(), VecDeque::new());
                        running.spawn(self.begin(lane, operation));
                    }
                }
                Some(ended) = running.join_next() => {
                    let lane = match ended {
                        Ok(lane) => lane,
                        Err(error) => std::panic::resume_unwind(error.into_panic()),
                    };
                    match lanes.get_mut(&lane).and_then(VecDeque::pop_front) {
                        Some(next) => {
                            running.spawn(self.begin(lane, next));
                        }
                        None => {
                            lanes.remove(&lane);
                        }
                    }
                }
            }
        }
        running.shutdown().await;
    }

    /// Makes the work of one operation, which gives its lane back at its end.
    fn begin(
        &self,
        lane: Lane,
        operation: SyncOperation,
    ) -> impl Future<Output = Lane> + Send + 'static {
        let SyncOperation {
            tree,
            peer,
            addresses,
            options,
            progress,
            reply,
        } = operation;
        let (store, manager) = (self.store.clone(), self.manager.clone());
        let (publisher, random) = (self.publisher.clone(), self.random.clone());
        async move {
            let sync = publisher.sync_started(tree, addresses.clone());
            let mut result = Err(SyncError::NoAddress);
            for address in addresses {
                let transport = match manager.transport_for(&address) {
                    Ok(transport) => transport.clone(),
                    Err(source) => {
                        result = result.or(Err(SyncError::Transport { address, source }));
                        continue;
                    }
                };
                let (store, publisher) = (store.clone(), publisher.clone());
                let progress = progress.clone();
                let drive = Drive {
                    store,
                    transport,
                    address,
                    peer,
                    publisher,
                    progress,
                };
                result = drive
                    .run(SyncSession::new(tree, options, random.bytes()))
                    .await;
                // Another address helps against a connection that fails, and nothing else.
                if !matches!(result, Err(SyncError::Transport { .. })) {
                    break;
                }
            }
            let result = result.map_err(Arc::new);
            publisher.sync_ended(sync, tree, result.clone());
            let _gave_up_waiting = reply.send(result);
            lane
        }
    }
}
