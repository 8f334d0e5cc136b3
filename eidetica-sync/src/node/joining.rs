//! Joining trees, and managing the access of others.

use std::sync::Arc;
use std::time::Duration;

use eidetica_dag::{AccessChange, EntryId, PublicKey, Role, Subject, TreeId, current_access};
use eidetica_proto::joining::{INVITE_USES_MAX, Invite, JoinRequest};
use eidetica_proto::message::{
    InviteProof, Join, JoinReply, Reply, Request, RequestHeader, ResponseHeader,
};
use eidetica_proto::{Backoff, BackoffPolicy, InviteSecret, PeerFault, Report, SyncFault, Ticket};
use tokio::time::Instant;

use super::Node;
use crate::client::error::SyncError;
use crate::client::peer::Peer;
use crate::membership::InviteInfo;
use crate::node::error::TreeError;
use crate::platform::blocking;
use crate::store::StoreError;
use crate::store::writer::Revocation;
use crate::transport::frame_streams::OutgoingMessage;

/// How often a joiner that waits for an admin asks again: soon at first, when the admin may be in the
/// same room, and twice a minute in the end.
const WAITING: BackoffPolicy = BackoffPolicy {
    base_ms: 1_000,
    factor: 2,
    cap_ms: 30_000,
};

/// What to ask for when joining.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JoinOptions {
    /// The requested role; `None` asks to read the tree.
    pub role: Option<Role>,
    /// Tells the admins who is asking, in at most [`eidetica_proto::message::NOTE_BYTES_MAX`] bytes.
    pub note: String,
}

/// The outcome of joining.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joined {
    /// The tree was fetched. A requested role beyond reading may still wait for an admin.
    Synced(Report),
    /// An admin must approve this node's key, if the peer has the tree at all: it does not say.
    Pending,
    /// An admin has rejected the request.
    Rejected,
}

/// What an invite grants, how often and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InviteTerms {
    /// The role that it grants.
    pub role: Role,
    /// How long it is valid.
    pub valid_for: Duration,
    /// How many keys can use it; at most [`INVITE_USES_MAX`].
    pub uses: u32,
}

impl Node {
    /// Joins the tree of a ticket and fetches it.
    ///
    /// This uses the ticket's invite, if it has one. Otherwise, if this node may not read the tree, it
    /// asks to join. On [`Joined::Pending`], call this again later, or use [`Node::join_and_wait`] or
    /// [`Node::follow`], to fetch the tree once an admin has approved.
    ///
    /// # Errors
    /// See [`Node::sync`]. An invalid invite is refused with
    /// [`ErrorCode::NotFound`](eidetica_proto::ErrorCode::NotFound): the peer does not say whether it has
    /// expired, was used up or withdrawn, or whether the tree is absent.
    pub async fn join(
        &self,
        ticket: &Ticket,
        options: JoinOptions,
    ) -> Result<Joined, Arc<SyncError>> {
        let reply = if ticket.invite.is_some() || options.role.is_some() {
            self.ask_to_join(ticket, &options).await?
        } else {
            match self.sync(ticket.tree, ticket).await {
                Err(error) if error.is_not_found() => self.ask_to_join(ticket, &options).await?,
                result => return result.map(Joined::Synced),
            }
        };
        match reply {
            JoinReply::Granted(_) => self.sync(ticket.tree, ticket).await.map(Joined::Synced),
            // The node may have been granted a lower role, or the tree may be open to anyone.
            JoinReply::Pending | JoinReply::Unknown(_) => {
                match self.sync(ticket.tree, ticket).await {
                    Err(error) if error.is_not_found() => Ok(Joined::Pending),
                    result => result.map(Joined::Synced),
                }
            }
            JoinReply::Rejected => Ok(Joined::Rejected),
        }
    }

    /// Joins like [`Node::join`], and retries until an admin has decided.
    ///
    /// The wait between attempts grows from a second to half a minute. Transient errors are retried as
    /// well. Drop the future to stop waiting.
    ///
    /// # Errors
    /// See [`Node::join`]; transient errors are never returned.
    pub async fn join_and_wait(
        &self,
        ticket: &Ticket,
        options: JoinOptions,
    ) -> Result<Joined, Arc<SyncError>> {
        let seed = u64::from_le_bytes(self.0.random.bytes());
        let mut waiting = Backoff::new(WAITING, seed);
        let begun = Instant::now();
        loop {
            match self.join(ticket, options.clone()).await {
                Ok(Joined::Pending) => {}
                Err(error) if error.is_transient() => {
                    tracing::debug!(%error, "a join attempt failed and will be retried");
                }
                result => return result,
            }
            let elapsed = || u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            waiting.handle_failure(elapsed());
            while let Err(until_ms) = waiting.poll_ready(elapsed()) {
                tokio::time::sleep_until(begun + Duration::from_millis(until_ms)).await;
            }
        }
    }

    /// Asks for a role at the first of the ticket's addresses that answers.
    async fn ask_to_join(
        &self,
        ticket: &Ticket,
        options: &JoinOptions,
    ) -> Result<JoinReply, Arc<SyncError>> {
        let invite = ticket.invite.as_ref().map(InviteSecret::key);
        let join = Join {
            tree: ticket.tree,
            role: options.role.unwrap_or(Role::Read),
            note: options.note.clone(),
            invite: invite.map(|invite| InviteProof::new(&invite, ticket.tree, &self.key())),
        };
        let header = RequestHeader::new(Request::Join(join)).encode();
        let request = OutgoingMessage::header_only(header);
        let dialer = self.0.shared.dialer.at(&ticket.addresses);
        let reply = async {
            let (peer, _) = dialer.meet(&Peer::from(ticket)).await?;
            let reached = dialer.exchange(peer, &request).await?;
            let address = reached.address.clone();
            let header = reached.only_frame().await?;
            join_reply(&header).map_err(|source| SyncError::peer(&address, source))
        };
        reply.await.map_err(Arc::new)
    }

    /// Returns the requests to join one tree or any tree, including rejected ones.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub async fn join_requests(
        &self,
        tree: Option<TreeId>,
    ) -> Result<Vec<JoinRequest>, StoreError> {
        let membership = self.0.membership.clone();
        blocking::run(move || membership.requests(tree)).await
    }

    /// Approves a request to join with `role`, and returns the granted role.
    ///
    /// Without `role`, the requested role is granted, but at most [`Role::Write`]. The grant is an entry
    /// of the tree, so it reaches the joiner through any peer.
    ///
    /// # Errors
    /// Returns [`TreeError::NoSuchRequest`] if there is no such request; see also
    /// [`Node::change_access`].
    pub async fn approve(
        &self,
        tree: TreeId,
        key: PublicKey,
        role: Option<Role>,
    ) -> Result<Role, TreeError> {
        let membership = self.0.membership.clone();
        blocking::run(move || membership.approve(tree, &key, role)).await
    }

    /// Rejects a request to join. The requester learns of it until the request expires.
    ///
    /// # Errors
    /// Returns [`TreeError::NoSuchRequest`] if there is no such request, or an error of the store.
    pub async fn reject(&self, tree: TreeId, key: PublicKey) -> Result<(), TreeError> {
        let membership = self.0.membership.clone();
        blocking::run(move || membership.reject(tree, &key)).await
    }

    /// Rejects every request to join a tree, and returns how many those were.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub async fn reject_all(&self, tree: TreeId) -> Result<usize, StoreError> {
        let membership = self.0.membership.clone();
        blocking::run(move || membership.reject_all(tree)).await
    }

    /// Grants a role, which replaces the subject's previous one.
    ///
    /// # Errors
    /// See [`Node::change_access`].
    pub async fn grant(
        &self,
        tree: TreeId,
        subject: Subject,
        role: Role,
    ) -> Result<EntryId, TreeError> {
        let grant = AccessChange::grant(subject, role);
        self.change_access(tree, vec![grant]).await
    }

    /// Revokes the subject's role.
    ///
    /// The subject keeps what it has fetched, and what it has written stays in the tree. Entries that
    /// it writes concurrently with the revocation are still valid. This node's invites refuse the key
    /// from now on; their holders can use them under other keys, so consider [`Node::withdraw_invite`].
    ///
    /// An admin can be removed by those who are senior: the author of the root, and the admin
    /// that appointed it.
    ///
    /// # Errors
    /// Fails with [`TreeError::NoEffect`] on a senior admin; see also [`Node::change_access`].
    pub async fn revoke(&self, tree: TreeId, subject: Subject) -> Result<Revocation, TreeError> {
        let membership = self.0.membership.clone();
        blocking::run(move || membership.revoke(tree, subject)).await
    }

    /// Returns the roles of a tree.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub async fn access(&self, tree: TreeId) -> Result<Vec<(Subject, Role)>, StoreError> {
        let store = self.0.store.clone();
        blocking::run(move || {
            let access = current_access(&*store.snapshot(tree)?)?;
            Ok(access.roles().collect())
        })
        .await
    }

    /// Returns a ticket whose holder may join at once while this node serves.
    ///
    /// The secret in the ticket is random and is not stored; its public half names the invite.
    ///
    /// # Errors
    /// Returns [`TreeError::NotAdmin`] if this node is not an admin of the tree,
    /// [`TreeError::TooManyInvites`] at the limit, or an error of the store.
    pub async fn invite(&self, tree: TreeId, terms: InviteTerms) -> Result<Ticket, TreeError> {
        let valid_ms = u64::try_from(terms.valid_for.as_millis()).unwrap_or(u64::MAX);
        let made_ms = self.0.shared.clock.now_ms();
        let invite = Invite {
            role: terms.role,
            made_ms,
            expires_ms: made_ms.saturating_add(valid_ms),
            uses_left: terms.uses.min(INVITE_USES_MAX),
            used_by: Vec::new(),
        };
        let secret = InviteSecret::from_bytes(self.0.random.bytes());
        let (membership, key) = (self.0.membership.clone(), secret.key().public());
        blocking::run(move || membership.invite(tree, &key, &invite)).await?;
        let mut ticket = self.ticket(tree).await;
        ticket.invite = Some(secret);
        Ok(ticket)
    }

    /// Returns the open invites that this node has made for a tree.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub async fn invites(&self, tree: TreeId) -> Result<Vec<InviteInfo>, StoreError> {
        let membership = self.0.membership.clone();
        blocking::run(move || membership.invites(tree)).await
    }

    /// Withdraws an invite, so that it grants nothing.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub async fn withdraw_invite(&self, tree: TreeId, invite: PublicKey) -> Result<(), StoreError> {
        let membership = self.0.membership.clone();
        blocking::run(move || membership.withdraw(tree, &invite)).await
    }
}

fn join_reply(header: &[u8]) -> Result<JoinReply, SyncFault> {
    match ResponseHeader::decode(header)?.reply? {
        Reply::Join(reply) => Ok(reply),
        _ => Err(PeerFault::OutOfPlace {
            got: "another answer",
            wanted: "an answer to a request to join",
        }
        .into()),
    }
}
