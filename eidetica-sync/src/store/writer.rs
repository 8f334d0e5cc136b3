//! Writes entries that are signed with this device's key.

use std::sync::{Arc, Mutex, PoisonError};

use eidetica_dag::{
    AccessChange, AuthorError, Body, EntryId, Genesis, Outlook, PublicKey, Role, SecretKey,
    Subject, TreeId, VerifiedEntry, current_access, parents_above_tips, sign_above_tips, sign_root,
};

use crate::event::Origin;
use crate::news::News;
use crate::node::error::TreeError;
use crate::platform::clock::WallClock;
use crate::store::append_worker::append_and_tell;
use crate::store::{Snapshot, Store};

/// A revocation that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The entry that says so.
    pub entry: EntryId,
    /// The changes of access that lose their effect by it, with their entries. What other devices
    /// wrote without knowing of the revocation, and is not here yet, is not among them.
    pub voids: Vec<(EntryId, AccessChange)>,
}

/// Refuses to give a role to a key that cannot sign. Such a grant would be of no use, and an admin that
/// cannot act would count as one.
fn refuse_unusable(changes: &[AccessChange]) -> Result<(), TreeError> {
    let granted = changes.iter().filter(|change| change.role.is_some());
    for change in granted {
        if let Subject::Key(key) = change.subject
            && !key.is_usable()
        {
            return Err(TreeError::UnusableKey(key));
        }
    }
    Ok(())
}

/// Writes entries. Every call blocks.
pub(crate) struct Writer {
    store: Arc<dyn Store>,
    key: SecretKey,
    clock: WallClock,
    news: News,
    /// Held while entries are written, so that concurrent appends form a line instead of forks.
    writing: Mutex<()>,
}

impl Writer {
    pub(crate) fn new(store: Arc<dyn Store>, key: SecretKey, clock: WallClock, news: News) -> Self {
        Self {
            store,
            key,
            clock,
            news,
            writing: Mutex::default(),
        }
    }

    /// Returns the public key of the author.
    pub(crate) fn key(&self) -> PublicKey {
        self.key.public()
    }

    /// Returns the clock that dates its entries.
    pub(crate) fn clock(&self) -> &WallClock {
        &self.clock
    }

    /// Writes the root of a new tree.
    pub(crate) fn create(&self, genesis: Genesis) -> Result<TreeId, TreeError> {
        refuse_unusable(&genesis.access)?;
        let root = sign_root(&self.key, self.clock.now_ms(), genesis)?;
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
        self.change_knowing(tree, changes).map(|(id, _)| id)
    }

    /// Takes every role from a subject.
    pub(crate) fn revoke(&self, tree: TreeId, subject: Subject) -> Result<Revocation, TreeError> {
        let revocation = AccessChange::revoke(subject);
        let (entry, voids) = self.change_knowing(tree, vec![revocation])?;
        Ok(Revocation { entry, voids })
    }

    /// Changes what others may do, unless one of the changes has no effect. Returns the entry, and the
    /// changes that lose their effect by it.
    fn change_knowing(
        &self,
        tree: TreeId,
        changes: Vec<AccessChange>,
    ) -> Result<(EntryId, Vec<(EntryId, AccessChange)>), TreeError> {
        refuse_unusable(&changes)?;
        let mut voids = Vec::new();
        let ids = self.write(tree, |snapshot| {
            let outlook = self.outlook(snapshot, &changes)?;
            let mut effects = changes.iter().zip(&outlook.effective);
            if let Some((change, _)) = effects.find(|(_, effective)| !**effective) {
                return Err(TreeError::NoEffect(change.subject));
            }
            voids = outlook.voids;
            self.on_top(tree, snapshot, vec![Body::Access(changes)])
        })?;
        let id = ids.last().copied().ok_or(TreeError::NoSuchTree(tree))?;
        Ok((id, voids))
    }

    /// Tells what changes would do. Where no admin is lowered, they simply have their effect; a key
    /// that is no admin is refused as in any case.
    fn outlook(&self, snapshot: &Snapshot, changes: &[AccessChange]) -> Result<Outlook, TreeError> {
        let current = current_access(&**snapshot)?;
        let lowers_admin = |change: &AccessChange| {
            change.role < Some(Role::Admin)
                && current.own_role(&change.subject) == Some(Role::Admin)
        };
        if !current.allows(Some(&self.key()), Role::Admin) || !changes.iter().any(lowers_admin) {
            return Ok(Outlook {
                effective: vec![true; changes.len()],
                voids: Vec::new(),
            });
        }
        let (_, height) = parents_above_tips(&**snapshot)?;
        Ok(current.outlook(&current, self.key(), height, changes))
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
        let outcome = append_and_tell(&*self.store, &self.news, &Origin::Local, tree, entries)?;
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
        let signed = sign_above_tips(&**snapshot, &self.key, self.clock.now_ms(), bodies);
        signed.map_err(|error| match error {
            AuthorError::NoTree => TreeError::NoSuchTree(tree),
            AuthorError::Entry(error) => error.into(),
            AuthorError::View(error) => error.into(),
        })
    }
}
