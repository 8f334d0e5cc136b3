//! Honest clients, and how long their syncs take.

use std::sync::Arc;
use std::time::Duration;

use eidetica_dag::TreeId;
use eidetica_sync::Node;
use eidetica_sync::proto::Address;
use eidetica_sync::store::MemoryStore;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::history::Text;
use crate::nodes::{Transport, start};
use xtask_support::failed;

/// Pause between the beginnings of two syncs on the open connection.
const WARM_INTERVAL: Duration = Duration::from_millis(10);

/// Pause between the beginnings of two syncs that make a connection of their own.
const FRESH_INTERVAL: Duration = Duration::from_millis(100);

/// How long a sync may take before it counts as failed.
const SYNC_TIMEOUT: Duration = Duration::from_secs(20);

/// Two clients: one keeps its connection, the other begins anew for each sync.
pub struct Honest {
    warm: Node,
    /// The trees of the first and of the second.
    trees: [TreeId; 2],
    address: Address,
    transport: Transport,
}

/// How the syncs of one client went.
#[derive(Debug, Default)]
pub struct Syncs {
    pub walls: Vec<Duration>,
    /// Why others failed.
    pub failures: Vec<String>,
}

impl Honest {
    /// Fetches the tree.
    pub async fn begin(
        transport: Transport,
        trees: [TreeId; 2],
        address: Address,
    ) -> Result<Self, String> {
        let warm = client(transport, 0).await?;
        let fetched = warm.sync(trees[0], address.clone()).await;
        fetched.map_err(failed)?;
        Ok(Self {
            warm,
            trees,
            address,
            transport,
        })
    }

    /// Syncs until `over`. Returns how it went on the open connection and on fresh ones.
    pub async fn sync_until(&self, over: impl Future<Output = ()>) -> Result<[Syncs; 2], String> {
        let (mut warm, mut fresh) = (Syncs::default(), Syncs::default());
        tokio::select! {
            failed = self.sync_warm(&mut warm) => failed?,
            failed = self.sync_fresh(&mut fresh) => failed?,
            () = over => {}
        }
        Ok([warm, fresh])
    }

    /// Ends both.
    pub async fn end(self) -> Result<(), String> {
        self.warm.shutdown().await.map_err(failed)
    }

    /// Writes an entry and syncs, again and again.
    async fn sync_warm(&self, syncs: &mut Syncs) -> Result<(), String> {
        let mut text = Text::new();
        let mut ticks = interval(WARM_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let entry = vec![text.line(200)];
            let appended = self.warm.append_all(self.trees[0], entry).await;
            appended.map_err(failed)?;
            self.sync(&self.warm, self.trees[0], syncs).await;
        }
    }

    /// Begins with an empty store and no connection, again and again.
    async fn sync_fresh(&self, syncs: &mut Syncs) -> Result<(), String> {
        let mut ticks = interval(FRESH_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut number = 0;
        loop {
            ticks.tick().await;
            number += 1;
            let node = client(self.transport, number).await?;
            self.sync(&node, self.trees[1], syncs).await;
            node.shutdown().await.map_err(failed)?;
        }
    }

    async fn sync(&self, node: &Node, tree: TreeId, syncs: &mut Syncs) {
        let began = Instant::now();
        let synced = node.sync(tree, self.address.clone());
        match tokio::time::timeout(SYNC_TIMEOUT, synced).await {
            Ok(Ok(_)) => syncs.walls.push(began.elapsed()),
            Ok(Err(error)) => syncs.failures.push(error.to_string()),
            Err(_) => syncs.failures.push("it does not end".into()),
        }
    }
}

async fn client(transport: Transport, number: u32) -> Result<Node, String> {
    let store = Arc::new(MemoryStore::new());
    let name = format!("asking {number}");
    start(&name, store, transport).await
}
