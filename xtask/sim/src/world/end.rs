//! After the faults: everything becomes equal, and nothing is left.

use std::collections::BTreeMap;
use std::time::Duration;

use eidetica_dag::{Role, TreeId};
use eidetica_sync::store::Store;
use eidetica_sync::{Node, SubscribeFrom};
use futures::StreamExt;
use std::sync::Arc;
use tokio::time::{Instant, sleep, timeout};

use super::World;
use crate::invariants::{self, first_lacking};
use crate::plan::{Deed, Step};

/// How long all copies may take to become equal: twice the longest backoff, and some checks.
const SETTLED_WITHIN: Duration = Duration::from_secs(2 * 300 + 4 * 60);

/// How long an entry may take to be everywhere once all are equal and all watches are open.
const NEWS_WITHIN: Duration = Duration::from_secs(5);

/// The same where nodes have lied: those are not watched for minutes, so entries travel by the checks of
/// each minute, from one node of a chain to the next.
const NEWS_BY_CHECKS_WITHIN: Duration = Duration::from_secs(4 * 66);

/// How long nothing happens before the last entries: all checks are made and all watches open then.
const QUIET: Duration = Duration::from_secs(75);

/// How often copies are compared.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long tasks may take to end after their node.
const ENDED_WITHIN: Duration = Duration::from_secs(200);

impl World {
    /// Waits until copies are equal, writes once more, and waits again.
    pub(super) async fn settle(self: &Arc<Self>) {
        for number in 0..self.count() {
            self.start(number).await;
            if let Some(store) = self.store(number) {
                store.fail_writes(0);
            }
        }
        self.tell_moved().await;
        let rule = "all copies are equal in the end";
        self.await_equal(rule, SETTLED_WITHIN, "seconds until all were equal")
            .await;
        if self.record.has_violations() {
            return;
        }
        sleep(QUIET).await;
        self.write_once_more().await;
        let rule = "news reach all once all are equal";
        let within = match self.plan.has_lies() {
            true => NEWS_BY_CHECKS_WITHIN,
            false => NEWS_WITHIN,
        };
        let counted = "seconds until news were everywhere";
        self.await_equal(rule, within, counted).await;
        self.check_statuses();
        self.check_copies();
        self.check_subscriptions().await;
    }

    /// Tells the followers of nodes that have moved where these are: two that move at once lose each
    /// other, and a person helps.
    async fn tell_moved(self: &Arc<Self>) {
        let follows = self.state().follows.clone();
        for (node, peer, tree) in follows {
            let (Some(of), has_moved) = (self.node(node), self.state().hosts[peer].address > 0)
            else {
                continue;
            };
            if has_moved {
                let step = Step {
                    number: usize::MAX,
                    at_ms: 0,
                    deed: Deed::Accept { node, peer },
                };
                self.follow(&step, of, (node, peer), tree, false).await;
            }
        }
    }

    async fn await_equal(&self, rule: &'static str, within: Duration, counted: &'static str) {
        let began = Instant::now();
        loop {
            let unequal = self.first_unequal();
            let elapsed = began.elapsed();
            match unequal {
                Ok(None) => {
                    self.record.add(counted, elapsed.as_secs());
                    self.record
                        .log(|| format!("all are equal after {elapsed:?}"));
                    return;
                }
                Ok(Some(text)) if elapsed >= within => {
                    self.log_statuses();
                    return self.record.violated(rule, text);
                }
                Err(text) => return self.record.violated(rule, text),
                Ok(Some(_)) => sleep(LOOK_EVERY).await,
            }
        }
    }

    fn log_statuses(&self) {
        for number in 0..self.count() {
            let Some(node) = self.node(number) else {
                continue;
            };
            for status in node.status() {
                self.record.log(|| format!("node {number}: {status:?}"));
            }
            for (peer, addresses) in node.peers() {
                self.record
                    .log(|| format!("node {number} knows {} at {addresses:?}", peer.short()));
            }
        }
    }

    /// Returns what one side of a follow lacks of the other's, if it should not.
    fn first_unequal(&self) -> Result<Option<String>, String> {
        let follows = self.state().follows.clone();
        for (node, peer, tree) in follows {
            // A follower of a key that is alive twice may meet either.
            if self.state().hosts[peer].has_twin {
                continue;
            }
            let pulls = self.allows(peer, node, tree, Role::Read);
            if pulls && let Some(text) = self.lacks(node, peer, tree)? {
                return Ok(Some(text));
            }
            let pushes = self.allows(peer, node, tree, Role::Write)
                && self.allows(node, peer, tree, Role::Read);
            if pushes && let Some(text) = self.lacks(peer, node, tree)? {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    fn lacks(&self, node: usize, peer: usize, tree: TreeId) -> Result<Option<String>, String> {
        let (Some(own), Some(theirs)) = (self.store(node), self.store(peer)) else {
            return Ok(None);
        };
        let read = |error: eidetica_sync::store::StoreError| error.to_string();
        let own = own.inner().snapshot(tree).map_err(read)?;
        let theirs = theirs.inner().snapshot(tree).map_err(read)?;
        let lacking = first_lacking(&*own, &*theirs, theirs.entry_count())?;
        Ok(lacking.map(|id| {
            let (has, of) = (own.entry_count(), theirs.entry_count());
            let (id, tree) = (id.short(), tree.root().short());
            format!("node {node} lacks {id} of {tree}, which node {peer} has ({has} of {of})")
        }))
    }

    /// Checks what nodes say of others against what these have.
    pub(super) fn check_statuses(&self) {
        let count = self.count();
        for number in 0..count {
            let (Some(node), Some(own)) = (self.node(number), self.store(number)) else {
                continue;
            };
            for status in node.status() {
                let mut others = (0..count).filter(|other| self.key(*other) == status.peer);
                let Some(other) = others.next().filter(|other| self.is_reliable(*other)) else {
                    continue;
                };
                if let Some(theirs) = self.store(other) {
                    let has = status.peer_has;
                    let holds = invariants::peer_has_it(&own, &theirs, status.tree, has);
                    let holds =
                        holds.map_err(|text| format!("node {number} of node {other}: {text}"));
                    let rule = "what a peer is said to have, it has";
                    self.record.check(rule, holds);
                }
            }
        }
    }

    fn key(&self, number: usize) -> eidetica_dag::PublicKey {
        self.state().hosts[number].key.public()
    }

    /// Tells whether a node has told no lies, and forgot nothing that it said.
    fn is_reliable(&self, number: usize) -> bool {
        let state = self.state();
        let host = &state.hosts[number];
        !host.has_twin && !host.was_restored && !self.network.has_lied(number)
    }

    /// Writes one entry to each tree, at a node that may.
    async fn write_once_more(&self) {
        let trees: Vec<TreeId> = self.state().trees.values().copied().collect();
        for tree in trees {
            let count = self.count();
            let writer = (0..count).find(|node| self.allows(*node, *node, tree, Role::Write));
            if let Some(node) = writer.and_then(|writer| self.node(writer))
                && node.append(tree, "the last").await.is_ok()
            {
                self.record.count("news after all were equal");
            }
        }
    }

    /// Compares what copies say.
    fn check_copies(&self) {
        let trees: Vec<TreeId> = self.state().trees.values().copied().collect();
        for tree in trees {
            let count = self.count();
            let stores = (0..count).filter_map(|node| self.store(node));
            let views = stores.filter_map(|store| store.inner().snapshot(tree).ok());
            let views: Vec<_> = views.filter(|view| view.entry_count() > 0).collect();
            for (one, other) in views.iter().zip(views.iter().skip(1)) {
                let agree = invariants::verdicts_agree(&**one, &**other);
                self.record
                    .check("all copies give the same verdicts", agree);
            }
            let largest = views.iter().max_by_key(|view| view.entry_count());
            if let Some(view) = largest {
                let rule = "nothing is stored that access refuses";
                self.record
                    .check(rule, invariants::access_is_that_of_the_rule(&**view));
                let sound = invariants::tree_is_sound(&**view, tree);
                self.record.check("a stored tree has no damage", sound);
                self.record
                    .add("entries at the end", view.entry_count().into());
            }
        }
    }

    /// Reads every tree by a subscription from its start: each entry once, parents first.
    async fn check_subscriptions(&self) {
        let trees: Vec<TreeId> = self.state().trees.values().copied().collect();
        for number in 0..self.count() {
            let Some(node) = self.node(number) else {
                continue;
            };
            for tree in &trees {
                let holds = read_all(&node, *tree).await;
                let rule = "a subscription gives each entry once, parents first";
                self.record
                    .check(rule, holds.map_err(|text| format!("node {number}: {text}")));
            }
        }
    }

    /// Shuts everything down, and waits for what is left.
    pub(super) async fn finish(self: &Arc<Self>) {
        for number in 0..self.count() {
            self.stop(number).await;
        }
        if !self.record.has_violations() {
            let acknowledged: Vec<_> = {
                let state = self.state();
                let of = |host: &super::Host| (host.medium.clone(), host.acknowledged.all());
                state.hosts.iter().map(of).collect()
            };
            for (number, (medium, acknowledged)) in acknowledged.into_iter().enumerate() {
                self.check_closed_store(number, &medium, &acknowledged);
            }
        }
        self.state().hosts.clear();
        sleep(ENDED_WITHIN).await;
    }

    fn check_closed_store(
        &self,
        number: usize,
        medium: &crate::store::Medium,
        acknowledged: &std::collections::BTreeSet<(TreeId, eidetica_dag::EntryId)>,
    ) {
        let opened = match medium {
            crate::store::Medium::Disk(disk) => disk.open().map(|store| Arc::new(store) as _),
            crate::store::Medium::Memory(store) => Ok(store.clone() as Arc<dyn Store>),
        };
        let holds = match &opened {
            Ok(store) => invariants::acknowledged_is_kept(&**store, acknowledged),
            Err(error) => Err(error.to_string()),
        };
        let holds = holds.map_err(|text| format!("node {number}: {text}"));
        self.record.check("what is acknowledged is kept", holds);
    }
}

async fn read_all(node: &Node, tree: TreeId) -> Result<(), String> {
    let count = node
        .store()
        .snapshot(tree)
        .map_err(|error| error.to_string())?;
    let count = count.entry_count();
    let subscribed = node.subscribe(tree, SubscribeFrom::Start).await;
    let mut entries = subscribed.map_err(|error| error.to_string())?;
    let mut seen = BTreeMap::new();
    while (seen.len() as u32) < count {
        let next = timeout(Duration::from_secs(60), entries.next()).await;
        let Ok(Some(Ok(entry))) = next else {
            return Err(format!("it ends after {} of {count}", seen.len()));
        };
        let id = entry.id();
        if !entry
            .entry()
            .parents
            .iter()
            .all(|parent| seen.contains_key(parent))
        {
            return Err(format!("{} before its parents", id.short()));
        }
        if seen.insert(id, ()).is_some() {
            return Err(format!("{} twice", id.short()));
        }
    }
    Ok(())
}
