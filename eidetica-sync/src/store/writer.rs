//! Writes entries that are signed with this device's key.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use eidetica_dag::{
    AccessChange, Body, Entry, EntryId, PARENTS_MAX, PublicKey, SecretKey, TreeId, VerifiedEntry,
};

use crate::event::{Origin, Publisher};
use crate::node::error::TreeError;
use crate::platform::clock::wall_clock_ms;
use crate::store::{Snapshot, Store};

/// Writes entries. Every call blocks.
pub(crate) struct Writer {
    store: Arc<dyn Store>,
    key: SecretKey,
    publisher: Publisher,
    /// Held while entries are written, so that concurrent appends form a line instead of forks.
    writing: Mutex<()>,
}

impl Writer {
    pub(crate) fn new(store: Arc<dyn Store>, key: SecretKey, publisher: Publisher) -> Self {
        Self {
            store,
            key,
            publisher,
            writing: Mutex::default(),
        }
    }

    /// Returns the public key of the author.
    pub(crate) fn key(&self) -> PublicKey {
        self.key.public()
    }

    /// Writes the root of a new tree.
    pub(crate) fn create(&self, genesis: Body) -> Result<TreeId, TreeError> {
        let root = Entry {
            tree: None,
            parents: Vec::new(),
            height: 0,
            timestamp_ms: wall_clock_ms(),
            author: self.key(),
            body: genesis,
        };
        let root = VerifiedEntry::sign(root, &self.key)?;
        let tree = root.get().tree();
        self.insert(tree, vec![root])?;
        Ok(tree)
    }

    /// Appends entries: the parents of the first are the tips, and each is the parent of the next.
    pub(crate) fn append(
        &self,
        tree: TreeId,
        bodies: Vec<Body>,
    ) -> Result<Vec<EntryId>, TreeError> {
        self.write(tree, |snapshot| self.on_top(tree, snapshot, bodies))
    }

    /// Changes the roles of others.
    pub(crate) fn change_access(
        &self,
        tree: TreeId,
        changes: Vec<AccessChange>,
    ) -> Result<EntryId, TreeError> {
        let ids = self.append(tree, vec![Body::Access(changes)])?;
        ids.last().copied().ok_or(TreeError::NoSuchTree(tree))
    }

    /// Stores signed entries.
    pub(crate) fn insert(
        &self,
        tree: TreeId,
        entries: Vec<VerifiedEntry>,
    ) -> Result<Vec<EntryId>, TreeError> {
        self.write(tree, |_| Ok(entries))
    }

    fn write(
        &self,
        tree: TreeId,
        make: impl FnOnce(&Snapshot) -> Result<Vec<VerifiedEntry>, TreeError>,
    ) -> Result<Vec<EntryId>, TreeError> {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = make(&self.store.snapshot(tree)?)?;
        let ids: Vec<EntryId> = entries.iter().map(|entry| entry.get().id()).collect();
        let outcome = self.store.append(tree, entries)?;
        self.publisher
            .stored(tree, outcome.stored.clone(), Origin::Local);
        match (outcome.refused, outcome.missing.first()) {
            (Some(refusal), _) => Err(TreeError::Refused(refusal)),
            (None, Some(missing)) => Err(TreeError::MissingParent(*missing)),
            (None, None) => Ok(ids),
        }
    }

    fn on_top(
        &self,
        tree: TreeId,
        snapshot: &Snapshot,
        bodies: Vec<Body>,
    ) -> Result<Vec<VerifiedEntry>, TreeError> {
        if snapshot.entry_count() == 0 {
            return Err(TreeError::NoSuchTree(tree));
        }
        let timestamp_ms = wall_clock_ms();
        let mut entries: Vec<VerifiedEntry> = Vec::with_capacity(bodies.len());
        for body in bodies {
            let (parents, height) = match entries.last() {
                Some(last) => (vec![last.get().id()], last.get().entry().height + 1),
                None => above_tips(snapshot)?,
            };
            let entry = Entry {
                tree: Some(tree),
                parents,
                height,
                timestamp_ms,
                author: self.key(),
                body,
            };
            entries.push(VerifiedEntry::sign(entry, &self.key)?);
        }
        Ok(entries)
    }
}

/// Returns the parents and the height of an entry above all tips.
///
/// If there are more tips than an entry can have parents, one tip of each state of access comes first,
/// so that a flood of tips hides no change of access from the entry; then the oldest tips. The next
/// entry takes the rest.
fn above_tips(snapshot: &Snapshot) -> Result<(Vec<EntryId>, u32), TreeError> {
    let mut states = BTreeSet::new();
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    for tip in snapshot.tips()? {
        let node = snapshot.node(tip)?;
        match states.insert(node.access) {
            true => first.push((node.id, node.height)),
            false => rest.push((node.id, node.height)),
        }
    }
    first.append(&mut rest);
    first.truncate(PARENTS_MAX);
    let highest = first.iter().map(|(_, height)| *height).max().unwrap_or(0);
    let mut parents: Vec<EntryId> = first.into_iter().map(|(id, _)| id).collect();
    parents.sort_unstable();
    Ok((parents, highest + 1))
}
