//! Membership: requests to join and invites, from whom trees are accepted, and where the peers of a
//! tree can be reached; kept in the store's metadata. What to do with a request
//! is decided by [`eidetica_proto::joining`]; grants are written as entries of the tree.

pub(crate) mod accepted;
pub(crate) mod readers;
pub(crate) mod records;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eidetica_dag::{AccessChange, PublicKey, Role, Subject, TreeId, current_access};
use eidetica_proto::WireError;
use eidetica_proto::joining::{
    INVITE_KEYS_MAX, INVITES_PER_TREE_MAX, Invite, JoinRequest, Known, Room, Verdict, Waiting,
    judge, room_for,
};
use eidetica_proto::message::{Join, JoinReply};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::news::News;
use crate::node::error::TreeError;
use crate::store::writer::{Revocation, Writer};
use crate::store::{Store, StoreError, remove_seen};

/// An invite that this node has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InviteInfo {
    /// The tree.
    pub tree: TreeId,
    /// The public half of the invite's key, which identifies the invite.
    pub invite: PublicKey,
    /// Its terms, and the keys that have used it.
    pub terms: Invite,
}

/// Manages requests and invites. Every call blocks.
pub(crate) struct Membership {
    store: Arc<dyn Store>,
    writer: Arc<Writer>,
    news: News,
    /// Held from reading to writing. What other servers on the same store must not get between is an
    /// update of one record.
    one_at_a_time: Mutex<()>,
}

impl Membership {
    pub(crate) fn new(store: Arc<dyn Store>, writer: Arc<Writer>, news: News) -> Self {
        Self {
            store,
            writer,
            news,
            one_at_a_time: Mutex::default(),
        }
    }

    fn now_ms(&self) -> u64 {
        self.writer.clock().now_ms()
    }

    /// Answers a request to join by `key`, which is proved, from a network.
    pub(crate) fn join(
        &self,
        key: &PublicKey,
        source: &str,
        join: &Join,
    ) -> Result<Result<JoinReply, WireError>, StoreError> {
        let _lock = self.lock();
        let now_ms = self.now_ms();
        let snapshot = self.store.snapshot(join.tree)?;
        let access = current_access(&*snapshot)?;
        let may_grant = access.allows(Some(&self.writer.key()), Role::Admin);
        // Look up everything in any case, so that the time of an answer reveals nothing.
        let is_theirs = (join.invite.as_ref()).is_some_and(|shown| shown.is_of(join.tree, key));
        let shown = join.invite.as_ref().map(|shown| shown.invite);
        let invite: Option<Invite> = match shown {
            Some(shown) => self.read(&invite_key(join.tree, &shown))?,
            None => None,
        };
        let invite = invite.filter(|_| is_theirs && may_grant);
        let earlier: Option<Waiting> = self.read(&request_key(join.tree, key))?;
        let kept = self.read_requests(None, now_ms)?;
        let room = room_for(&kept, join.tree, key, source);
        let known = Known {
            key,
            role: access.role_of(Some(key)),
            invite: invite.as_ref(),
            earlier: earlier.as_ref(),
            has_room: room != Room::None,
            source,
            now_ms,
        };
        match judge(join, known) {
            Verdict::Reply(reply) => Ok(Ok(reply)),
            Verdict::Refuse(error) => Ok(Err(error)),
            Verdict::Keep(waiting) => {
                self.make_room(&kept, room)?;
                // Another server on this store may have kept or rejected one meanwhile.
                self.update(&request_key(join.tree, key), |earlier: Option<Waiting>| {
                    let earlier = earlier.filter(|earlier| !earlier.is_expired(now_ms));
                    Some(earlier.unwrap_or_else(|| waiting.clone()))
                })?;
                self.news.join_requested(join.tree, *key, waiting.role);
                Ok(Ok(JoinReply::Pending))
            }
            Verdict::Grant(role) => {
                let shown = shown.expect("only an invite that is shown grants");
                // Count the use first: after a crash, a lost use is better than a free one.
                let mut is_counted = false;
                self.update(&invite_key(join.tree, &shown), |invite: Option<Invite>| {
                    let after = invite.as_ref().and_then(|it| it.after_use(key, now_ms));
                    is_counted = after.is_some();
                    after.or(invite)
                })?;
                if !is_counted {
                    // Another server on this store has counted its last use meanwhile.
                    return Ok(Err(WireError::not_found()));
                }
                Ok(match self.grant(join.tree, key, role) {
                    Ok(()) => Ok(JoinReply::Granted(role)),
                    Err(TreeError::Store(error)) => return Err(error),
                    Err(error) => {
                        tracing::error!(%error, "could not grant the role of an invite");
                        Err(WireError::internal())
                    }
                })
            }
        }
    }

    /// Appends the grant and forgets the request.
    fn grant(&self, tree: TreeId, key: &PublicKey, role: Role) -> Result<(), TreeError> {
        let grant = AccessChange::grant(Subject::Key(*key), role);
        self.writer.change_access(tree, vec![grant])?;
        Ok(self.store.put(&request_key(tree, key), None)?)
    }

    /// Grants the requested role or another one, never lowers a role, and returns the resulting role.
    pub(crate) fn approve(
        &self,
        tree: TreeId,
        key: &PublicKey,
        role: Option<Role>,
    ) -> Result<Role, TreeError> {
        let _lock = self.lock();
        let waiting = self.waiting(tree, key)?;
        // The admin role is only granted explicitly.
        let role = role.unwrap_or(waiting.role.min(Role::Write));
        // Another admin may have granted more meanwhile.
        let access = current_access(&*self.store.snapshot(tree)?)?;
        if let Some(had) = access.role_of(Some(key)).filter(|had| *had >= role) {
            self.store.put(&request_key(tree, key), None)?;
            return Ok(had);
        }
        self.grant(tree, key, role)?;
        Ok(role)
    }

    /// Rejects every request for a tree, and returns how many those were.
    pub(crate) fn reject_all(&self, tree: TreeId) -> Result<usize, StoreError> {
        let _lock = self.lock();
        let mut requests = self.read_requests(Some(tree), self.now_ms())?;
        requests.retain(|request| !request.waiting.rejected);
        for request in &requests {
            self.mark_rejected(tree, &request.key)?;
        }
        Ok(requests.len())
    }

    /// Marks a request as rejected, until it expires.
    pub(crate) fn reject(&self, tree: TreeId, key: &PublicKey) -> Result<(), TreeError> {
        let _lock = self.lock();
        self.waiting(tree, key)?;
        Ok(self.mark_rejected(tree, key)?)
    }

    fn mark_rejected(&self, tree: TreeId, key: &PublicKey) -> Result<(), StoreError> {
        // If it was granted meanwhile, it stays so.
        let reject = |waiting: Option<Waiting>| {
            waiting.map(|waiting| Waiting {
                rejected: true,
                ..waiting
            })
        };
        self.update(&request_key(tree, key), reject)
    }

    fn waiting(&self, tree: TreeId, key: &PublicKey) -> Result<Waiting, TreeError> {
        let now_ms = self.now_ms();
        let waiting: Option<Waiting> = self.read(&request_key(tree, key))?;
        let waiting = waiting.filter(|waiting| !waiting.is_expired(now_ms));
        waiting.ok_or(TreeError::NoSuchRequest(*key))
    }

    /// Returns the requests for one tree or all trees, and removes expired ones.
    pub(crate) fn requests(&self, tree: Option<TreeId>) -> Result<Vec<JoinRequest>, StoreError> {
        let _lock = self.lock();
        self.read_requests(tree, self.now_ms())
    }

    fn read_requests(
        &self,
        tree: Option<TreeId>,
        now_ms: u64,
    ) -> Result<Vec<JoinRequest>, StoreError> {
        let prefix = tree.map_or("join/".to_owned(), |tree| format!("join/{tree}/"));
        let mut requests = Vec::new();
        for (meta_key, bytes) in self.store.list(&prefix)? {
            let named = two_names(&meta_key);
            let waiting = postcard::from_bytes::<Waiting>(&bytes).ok();
            match (named, waiting) {
                (Some((tree, key)), Some(waiting)) if !waiting.is_expired(now_ms) => {
                    requests.push(JoinRequest { tree, key, waiting });
                }
                _ => remove_seen(&*self.store, &meta_key, &bytes)?,
            }
        }
        Ok(requests)
    }

    fn make_room(&self, kept: &[JoinRequest], room: Room) -> Result<(), StoreError> {
        let Room::After(removed) = room else {
            return Ok(());
        };
        for at in removed {
            let JoinRequest { tree, key, waiting } = &kept[at];
            // Unless another server on this store has changed it meanwhile.
            remove_seen(&*self.store, &request_key(*tree, key), &to_bytes(waiting))?;
        }
        Ok(())
    }

    /// Stores an invite.
    pub(crate) fn invite(
        &self,
        tree: TreeId,
        invite: &PublicKey,
        terms: &Invite,
    ) -> Result<(), TreeError> {
        let _lock = self.lock();
        let snapshot = self.store.snapshot(tree)?;
        if snapshot.entry_count() == 0 {
            return Err(TreeError::NoSuchTree(tree));
        }
        if !current_access(&*snapshot)?.allows(Some(&self.writer.key()), Role::Admin) {
            return Err(TreeError::NotAdmin(tree));
        }
        if self.read_invites(tree, self.now_ms())?.len() >= INVITES_PER_TREE_MAX {
            return Err(TreeError::TooManyInvites(tree));
        }
        let key = invite_key(tree, invite);
        Ok(self.store.put(&key, Some(&to_bytes(terms)))?)
    }

    /// Returns the open invites of a tree, and removes the others.
    pub(crate) fn invites(&self, tree: TreeId) -> Result<Vec<InviteInfo>, StoreError> {
        let _lock = self.lock();
        let now_ms = self.now_ms();
        let mut invites = self.read_invites(tree, now_ms)?;
        // They stay in the store, in case it is the present clock that is wrong.
        invites.retain(|invite| !invite.terms.is_from_future(now_ms));
        Ok(invites)
    }

    fn read_invites(&self, tree: TreeId, now_ms: u64) -> Result<Vec<InviteInfo>, StoreError> {
        let mut invites = Vec::new();
        for (meta_key, bytes) in self.store.list(&format!("invite/{tree}/"))? {
            let named = two_names(&meta_key);
            let terms = postcard::from_bytes::<Invite>(&bytes).ok();
            match (named, terms) {
                (Some((tree, invite)), Some(terms))
                    if now_ms < terms.expires_ms && terms.uses_left > 0 =>
                {
                    invites.push(InviteInfo {
                        tree,
                        invite,
                        terms,
                    });
                }
                _ => remove_seen(&*self.store, &meta_key, &bytes)?,
            }
        }
        Ok(invites)
    }

    /// Revokes the role of a subject, and bars a key from this node's invites.
    pub(crate) fn revoke(&self, tree: TreeId, subject: Subject) -> Result<Revocation, TreeError> {
        let _lock = self.lock();
        let revocation = self.writer.revoke(tree, subject)?;
        if let Subject::Key(key) = subject {
            for InviteInfo { invite, .. } in self.read_invites(tree, self.now_ms())? {
                self.update(&invite_key(tree, &invite), |terms: Option<Invite>| {
                    let mut terms = terms?;
                    if !terms.used_by.contains(&key) {
                        terms.used_by.push(key);
                    }
                    // An invite that cannot record another barred key is withdrawn.
                    (terms.used_by.len() <= INVITE_KEYS_MAX).then_some(terms)
                })?;
            }
        }
        Ok(revocation)
    }

    /// Withdraws an invite.
    pub(crate) fn withdraw(&self, tree: TreeId, invite: &PublicKey) -> Result<(), StoreError> {
        let _lock = self.lock();
        self.store.put(&invite_key(tree, invite), None)
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        (self.one_at_a_time.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        let bytes = self.store.get(key)?;
        Ok(bytes.and_then(|bytes| postcard::from_bytes(&bytes).ok()))
    }

    /// Changes a record atomically. A damaged one counts as absent.
    fn update<T: DeserializeOwned + Serialize>(
        &self,
        key: &str,
        mut change: impl FnMut(Option<T>) -> Option<T>,
    ) -> Result<(), StoreError> {
        self.store.update(key, &mut |bytes| {
            let value = bytes.and_then(|bytes| postcard::from_bytes(bytes).ok());
            change(value).map(|value| to_bytes(&value))
        })
    }
}

fn to_bytes(value: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(value).expect("a vector takes every byte")
}

fn request_key(tree: TreeId, key: &PublicKey) -> String {
    format!("join/{tree}/{key}")
}

fn invite_key(tree: TreeId, invite: &PublicKey) -> String {
    format!("invite/{tree}/{invite}")
}

/// Parses the tree and the public key in a metadata key.
fn two_names(meta_key: &str) -> Option<(TreeId, PublicKey)> {
    let mut names = meta_key.split('/').skip(1);
    Some((names.next()?.parse().ok()?, names.next()?.parse().ok()?))
}
