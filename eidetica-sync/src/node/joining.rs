//! Joining trees, and letting others join.

use std::sync::Arc;
use std::time::Duration;

use eidetica_dag::{AccessChange, EntryId, PublicKey, Role, Subject, TreeId, current_access};
use eidetica_proto::joining::{INVITE_USES_MAX, Invite};
use eidetica_proto::message::{
    InviteProof, Join, JoinReply, Reply, Request, RequestHeader, ResponseHeader,
};
use eidetica_proto::{
    Backoff, BackoffPolicy, ErrorCode, InviteSecret, PeerFault, Report, SyncFault, Ticket,
    WireError,
};
use futures::StreamExt;
use tokio::time::Instant;

use super::Node;
use crate::client::error::SyncError;
use crate::client::peer::Peer;
use crate::client::peer_client::Target;
use crate::membership::{InviteInfo, JoinRequest};
use crate::node::error::TreeError;
use crate::platform::blocking;
use crate::platform::clock::wall_clock_ms;
use crate::store::StoreError;
use crate::transport::frame_streams::OutgoingMessage;

/// How often a joiner that waits for an admin asks again: soon at first, when the admin may be
/// sitting beside it, and twice a minute in the end.
const WAITING: BackoffPolicy = BackoffPolicy {
    base_ms: 1_000,
    factor: 2,
    cap_ms: 30_000,
};

/// What a joiner asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JoinOptions {
    /// The role. `None`: to read the tree, and whatever else anyone may do.
    pub role: Option<Role>,
    /// Says to an admin who asks, in at most [`eidetica_proto::message::NOTE_BYTES_MAX`] bytes.
    pub note: String,
}

/// How joining went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joined {
    /// The tree is here, and this is how the sync went. A role beyond reading it may still wait for
    /// an admin.
    Synced(Report),
    /// If the peer has the tree, an admin of it has to approve this node's key first. The peer does
    /// not say whether it has the tree.
    Pending,
    /// An admin has rejected the request.
    Rejected,
}

/// What an invite grants, to whom and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InviteTerms {
    /// The role.
    pub role: Role,
    /// For how long.
    pub valid_for: Duration,
    /// How many keys may use it; at most [`INVITE_USES_MAX`].
    pub uses: u32,
}

impl Node {
    /// JoinLimit the tree of a ticket and fetches it; or syncs it, if it is here.
    ///
    /// A ticket's invite is used. Where this node may not read the tree, it asks to be let in; then
    /// the answer can be [`Joined::Pending`], and the same call later, [`Node::join_and_wait`], or
    /// [`Node::follow`] fetches the tree once an admin has approved.
    ///
    /// # Errors
    /// As [`Node::sync`]. An invite that is not good is refused with [`ErrorCode::NotFound`]: the
    /// peer does not say whether it expired, was used up or withdrawn, or the tree is not there.
    pub async fn join(
        &self,
        ticket: &Ticket,
        options: JoinOptions,
    ) -> Result<Joined, Arc<SyncError>> {
        let reply = if ticket.invite.is_some() || options.role.is_some() {
            self.ask_to_join(ticket, &options).await?
        } else {
            match self.sync(ticket.tree, ticket).await {
                Err(error) if is_not_found(&error) => self.ask_to_join(ticket, &options).await?,
                result => return result.map(Joined::Synced),
            }
        };
        match reply {
            JoinReply::Granted(_) => self.sync(ticket.tree, ticket).await.map(Joined::Synced),
            // It may have been let in with less, or the tree may be open to anyone.
            JoinReply::Pending => match self.sync(ticket.tree, ticket).await {
                Err(error) if is_not_found(&error) => Ok(Joined::Pending),
                result => result.map(Joined::Synced),
            },
            JoinReply::Rejected => Ok(Joined::Rejected),
        }
    }

    /// JoinLimit like [`Node::join`], and where an admin has to approve, asks again until one has
    /// decided: after a second at first, and every half a minute in the end. Peers that cannot be
    /// reached are waited for as well. Drop the future to stop.
    ///
    /// # Errors
    /// As [`Node::join`], but for what may be better later.
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
                    tracing::debug!(%error, "a peer that is to be joined is not there");
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
        let peer = Peer::from(ticket);
        let mut result = Err(SyncError::NoAddress);
        for address in peer.addresses {
            let transport_error = |source| SyncError::Transport {
                address: address.clone(),
                source,
            };
            let asked = async {
                let at = Target {
                    transport: &**self.0.manager.transport_for(&address)?,
                    address: &address,
                    peer: peer.key,
                };
                let mut answer = self.0.client.exchange(at, &request).await?;
                answer.frames.next().await.transpose()
            };
            result = match asked.await {
                Ok(header) => join_reply(header.as_deref()).map_err(|source| SyncError::Peer {
                    address: address.clone(),
                    source,
                }),
                Err(source) => Err(transport_error(source)),
            };
            if !matches!(result, Err(SyncError::Transport { .. })) {
                break;
            }
        }
        result.map_err(Arc::new)
    }

    /// Lists who wants to join, one tree or any; those that were rejected too.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn join_requests(
        &self,
        tree: Option<TreeId>,
    ) -> Result<Vec<JoinRequest>, StoreError> {
        let membership = self.0.membership.clone();
        blocking::run(move || membership.requests(tree)).await
    }

    /// Lets somebody join who has asked to, with `role`, or with the role that was asked for, but
    /// never as admin unless `role` says so. Returns the role. The grant is an entry like any other,
    /// and reaches the joiner whichever peer it asks.
    ///
    /// # Errors
    /// [`TreeError::NoSuchRequest`], and as [`Node::change_access`].
    pub async fn approve(
        &self,
        tree: TreeId,
        key: PublicKey,
        role: Option<Role>,
    ) -> Result<Role, TreeError> {
        let membership = self.0.membership.clone();
        blocking::run(move || membership.approve(tree, &key, role)).await
    }

    /// Does not let somebody join who has asked to. It is told so until its request expires.
    ///
    /// # Errors
    /// [`TreeError::NoSuchRequest`], and those of the store.
    pub async fn reject(&self, tree: TreeId, key: PublicKey) -> Result<(), TreeError> {
        let membership = self.0.membership.clone();
        blocking::run(move || membership.reject(tree, &key)).await
    }

    /// Gives somebody a role, in place of the one before.
    ///
    /// # Errors
    /// As [`Node::change_access`].
    pub async fn grant(
        &self,
        tree: TreeId,
        subject: Subject,
        role: Role,
    ) -> Result<EntryId, TreeError> {
        let grant = AccessChange::grant(subject, role);
        self.change_access(tree, vec![grant]).await
    }

    /// Takes every role from somebody. What it has written stays, and so does what it has fetched;
    /// entries that it writes without knowing of this are still accepted. This node's invites no
    /// longer let that key in, but whoever has an open one can use it under another key: see
    /// [`Node::invites`].
    ///
    /// # Errors
    /// As [`Node::change_access`].
    pub async fn revoke(&self, tree: TreeId, subject: Subject) -> Result<EntryId, TreeError> {
        let membership = self.0.membership.clone();
        blocking::run(move || membership.revoke(tree, subject)).await
    }

    /// Lists who may do what with a tree.
    ///
    /// # Errors
    /// Those of the store.
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
    /// [`TreeError::NotAdmin`], [`TreeError::TooManyInvites`], and those of the store.
    pub async fn invite(&self, tree: TreeId, terms: InviteTerms) -> Result<Ticket, TreeError> {
        let valid_ms = u64::try_from(terms.valid_for.as_millis()).unwrap_or(u64::MAX);
        let invite = Invite {
            role: terms.role,
            expires_ms: wall_clock_ms().saturating_add(valid_ms),
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

    /// Lists the invites of a tree that this node has made and that can still be used.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn invites(&self, tree: TreeId) -> Result<Vec<InviteInfo>, StoreError> {
        let membership = self.0.membership.clone();
        blocking::run(move || membership.invites(tree)).await
    }

    /// Lets an invite grant nothing from here on.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn withdraw_invite(&self, tree: TreeId, invite: PublicKey) -> Result<(), StoreError> {
        let membership = self.0.membership.clone();
        blocking::run(move || membership.withdraw(tree, &invite)).await
    }
}

fn join_reply(header: Option<&[u8]>) -> Result<JoinReply, SyncFault> {
    let header = header.ok_or(PeerFault::Incomplete)?;
    match ResponseHeader::decode(header)?.reply? {
        Reply::Join(reply) => Ok(reply),
        _ => Err(PeerFault::OutOfPlace {
            got: "another answer",
            wanted: "an answer to a request to join",
        }
        .into()),
    }
}

fn is_not_found(error: &SyncError) -> bool {
    let SyncError::Peer { source, .. } = error else {
        return false;
    };
    matches!(
        source,
        SyncFault::Refused(WireError {
            code: ErrorCode::NotFound,
            ..
        })
    )
}
