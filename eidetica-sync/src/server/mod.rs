//! The answering side's driver: carries out what the answering machines say.

#[cfg(feature = "http")]
pub(crate) mod json_api;
pub(crate) mod push_receiver;
pub(crate) mod request_auth;
pub(crate) mod request_limits;

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use eidetica_dag::{Arrival, Body, PublicKey, Role, TreeId, current_access};
use eidetica_proto::answer::{AnswerError, Receiver, SyncAnswer, answer_sync, check_access};
use eidetica_proto::joining::nobody_joins;
use eidetica_proto::message::{
    Hello, Reply, Request, RequestHeader, ResponseHeader, SendEntries, SyncTree, TREES_MAX,
    TreeSummary,
};
use eidetica_proto::proof::PROOF_BYTES_MAX;
use eidetica_proto::transport::{Caller, Service};
use eidetica_proto::{ErrorCode, FrameStream, PROTOCOL_VERSION, TransportErrorKind, WireError};
use futures::StreamExt;

use crate::membership::Membership;
use crate::node::event::Publisher;
use crate::platform::blocking;
use crate::server::push_receiver::PushReceiver;
use crate::server::request_auth::RequestAuth;
use crate::server::request_limits::{JoinLimit, PushLimit};
use crate::store::append_worker::AppendWorker;
use crate::store::{Snapshot, Store, StoreError};
use crate::transport::frame_streams::{Meter, incoming, single_frame, with_entries};
use crate::transport::manager::TransportManager;

/// Answers peers from a store.
pub(crate) struct Server {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) auth: Arc<RequestAuth>,
    /// Weak, for the servers of the manager hold this service.
    pub(crate) manager: Weak<TransportManager>,
    pub(crate) publisher: Publisher,
    pub(crate) membership: Arc<Membership>,
    pub(crate) joins: JoinLimit,
    pub(crate) pushes: PushLimit,
}

/// Why a peer gets no answer.
pub(crate) enum Refused {
    /// Say this.
    With(WireError),
    /// The connection broke: there is nobody to say anything to.
    Gone,
}

impl From<WireError> for Refused {
    fn from(error: WireError) -> Self {
        Self::With(error)
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the store failed while a peer was answered");
        Self::With(WireError::internal())
    }
}

impl From<AnswerError<StoreError>> for Refused {
    fn from(error: AnswerError<StoreError>) -> Self {
        match error {
            AnswerError::Refuse(error) => Self::With(error),
            AnswerError::View(error) => error.into(),
        }
    }
}

#[async_trait]
impl Service for Server {
    async fn exchange(&self, mut caller: Caller, mut request: FrameStream) -> FrameStream {
        let first = match first_frame(&mut request).await {
            Ok(first) => first,
            Err(refused) => return self.say(&caller, refused),
        };
        if caller.key.is_some() {
            return self.answer_header(&caller, &first, request).await;
        }
        if first.len() > PROOF_BYTES_MAX {
            let error = WireError::new(ErrorCode::Malformed, "the request has no proof before it");
            return self.refuse(&caller, error);
        }
        let header = match first_frame(&mut request).await {
            Ok(header) => header,
            Err(refused) => return self.say(&caller, refused),
        };
        let (proof, key) = match self.auth.read(first, header.clone()) {
            Ok(read) => read,
            Err(error) => return self.refuse(&caller, error),
        };
        let answer = match key {
            Ok(key) => {
                caller.key = key;
                self.answer_header(&caller, &header, request).await
            }
            Err(error) => self.refuse(&caller, error),
        };
        self.auth.prove(proof, answer)
    }
}

/// Reads a frame that a request begins with.
async fn first_frame(request: &mut FrameStream) -> Result<Bytes, Refused> {
    match request.next().await {
        Some(Ok(frame)) => Ok(frame),
        None => Err(WireError::new(ErrorCode::Malformed, "there is no request").into()),
        Some(Err(error)) if error.kind() == TransportErrorKind::FrameTooLarge => {
            Err(WireError::new(ErrorCode::TooLarge, error.to_string()).into())
        }
        Some(Err(_)) => Err(Refused::Gone),
    }
}

impl Server {
    fn say(&self, caller: &Caller, refused: Refused) -> FrameStream {
        match refused {
            Refused::With(error) => self.refuse(caller, error),
            Refused::Gone => Box::pin(futures::stream::empty()),
        }
    }

    fn refuse(&self, caller: &Caller, error: WireError) -> FrameStream {
        tracing::debug!(?caller, %error, "a request is refused");
        single_frame(ResponseHeader::encode(Err(error)))
    }

    /// Answers what follows a header, for a caller that has proved its key or has none.
    async fn answer_header(
        &self,
        caller: &Caller,
        header: &[u8],
        parts: FrameStream,
    ) -> FrameStream {
        let answer = match RequestHeader::decode(header) {
            Ok(header) => self.answer(caller, header.request, parts).await,
            Err(error) => Err(error.into()),
        };
        answer.unwrap_or_else(|refused| self.say(caller, refused))
    }

    async fn answer(
        &self,
        caller: &Caller,
        request: Request,
        parts: FrameStream,
    ) -> Result<FrameStream, Refused> {
        match request {
            Request::Hello(_) => {
                let own = match self.manager.upgrade() {
                    Some(manager) => manager.get_all_server_addresses_async().await,
                    None => Vec::new(),
                };
                let hello = Hello {
                    key: self.auth.key(),
                    versions: vec![PROTOCOL_VERSION],
                    addresses: own.into_iter().map(|(_, address)| address).collect(),
                };
                Ok(single_frame(ResponseHeader::encode(Ok(Reply::Hello(
                    hello,
                )))))
            }
            Request::ListTrees(list) => {
                let (store, key) = (self.store.clone(), caller.key);
                let trees = blocking::run(move || list_trees(&*store, key, list.after)).await?;
                Ok(single_frame(ResponseHeader::encode(Ok(Reply::Trees(
                    trees,
                )))))
            }
            Request::SyncTree(sync) => self.sync_tree(caller, sync).await,
            Request::SendEntries(send) => {
                let header = self.take_entries(caller, send, parts).await?;
                Ok(single_frame(header))
            }
            Request::Join(join) => {
                let key = caller.key.ok_or_else(nobody_joins)?;
                let _turn = self.joins.turn().await?;
                let membership = self.membership.clone();
                let reply = blocking::run(move || membership.join(&key, &join)).await??;
                Ok(single_frame(ResponseHeader::encode(Ok(Reply::Join(reply)))))
            }
        }
    }

    async fn sync_tree(&self, caller: &Caller, sync: SyncTree) -> Result<FrameStream, Refused> {
        let (store, key) = (self.store.clone(), caller.key);
        let answered = blocking::run(move || {
            let snapshot = store.snapshot(sync.tree)?;
            check_access(&*snapshot, key.as_ref(), Role::Read)?;
            Ok::<_, Refused>((answer_sync(&*snapshot, &sync)?, snapshot))
        });
        let (SyncAnswer { header, entries }, snapshot) = answered.await?;
        Ok(match entries {
            Some(entries) => with_entries(header, snapshot, entries, Arc::new(Meter::default())),
            None => single_frame(header),
        })
    }

    async fn take_entries(
        &self,
        caller: &Caller,
        send: SendEntries,
        parts: FrameStream,
    ) -> Result<Bytes, Refused> {
        let tree = send.tree;
        let _turn = self.pushes.turn_of(caller)?;
        let (store, key) = (self.store.clone(), caller.key);
        let allowed = move || {
            Ok(check_access(
                &*store.snapshot(tree)?,
                key.as_ref(),
                Role::Write,
            )?)
        };
        blocking::run(allowed)
            .await
            .map_err(|error: Refused| error)?;

        let taking = PushReceiver {
            tree,
            receiver: Receiver::new(send.entries),
            storing: AppendWorker::new(self.store.clone(), tree),
            publisher: self.publisher.clone(),
            remote: caller.remote.clone(),
        };
        let receiver = taking.run(incoming(tree, parts)).await?;
        let store = self.store.clone();
        blocking::run(move || Ok(receiver.acknowledge(&*store.snapshot(tree)?)?)).await
    }
}

/// Returns the name that the root gives the tree.
pub(crate) fn tree_name(snapshot: &Snapshot) -> Result<String, StoreError> {
    match &snapshot.entry(Arrival(0))?.entry().body {
        Body::Genesis(genesis) => Ok(genesis.name.clone()),
        Body::Data(_) | Body::Access(_) => Ok(String::new()),
    }
}

fn list_trees(
    store: &dyn Store,
    key: Option<PublicKey>,
    after: Option<TreeId>,
) -> Result<Vec<TreeSummary>, Refused> {
    let mut summaries = Vec::new();
    for tree in store.trees()? {
        if Some(tree) <= after || summaries.len() == TREES_MAX {
            continue;
        }
        let snapshot = store.snapshot(tree)?;
        if current_access(&*snapshot)?.allows(key.as_ref(), Role::Read) {
            let (name, entries) = (tree_name(&snapshot)?, snapshot.entry_count());
            summaries.push(TreeSummary {
                tree,
                name,
                entries,
            });
        }
    }
    Ok(summaries)
}
