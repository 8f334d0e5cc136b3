//! What a transport calls for each request: authenticates the caller and dispatches the request.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use eidetica_dag::Role;
use eidetica_proto::answer::check_access;
use eidetica_proto::check::trees_of;
use eidetica_proto::joining::unproven_join;
use eidetica_proto::message::{Alive, Hello, Peers, Reply, Request, RequestHeader, ResponseHeader};
use eidetica_proto::proof::PROOF_BYTES_MAX;
use eidetica_proto::tips::TipSet;
use eidetica_proto::transport::{Caller, Service};
use eidetica_proto::turns::Asker;
use eidetica_proto::{
    Address, ErrorCode, FrameStream, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN, TransportErrorKind,
    WireError,
};
use futures::StreamExt;

use crate::membership::Membership;
use crate::membership::readers::ReaderIndex;
use crate::membership::records::Records;
use crate::news::News;
use crate::server::checks::check_trees;
use crate::server::greeting::{addresses_for, learn, place_of};
use crate::server::push::PushAcceptor;
use crate::server::refused::Refused;
use crate::server::request_auth::RequestAuth;
use crate::server::sync_answer::{get_entries, sync_tree};
use crate::server::trees::list_trees;
use crate::server::watch::WatchAnswerer;
use crate::server::work_limit::WorkLimit;
use crate::store::Store;
use crate::transport::frame_streams::single_frame;
use crate::transport::manager::TransportManager;
use crate::transport::packing::Answers;

/// Answers the requests of peers.
pub(crate) struct Server {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) auth: Arc<RequestAuth>,
    /// Weak, because the servers of the manager hold this service.
    pub(crate) manager: Weak<TransportManager>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) records: Arc<Records>,
    pub(crate) news: News,
    pub(crate) readers: Arc<ReaderIndex>,
    pub(crate) joins: WorkLimit,
    pub(crate) questions: WorkLimit,
    pub(crate) reads: Arc<WorkLimit>,
    pub(crate) answers: Arc<Answers>,
    pub(crate) pushes: PushAcceptor,
    pub(crate) watches: WatchAnswerer,
}

#[async_trait]
impl Service for Server {
    async fn exchange(&self, mut caller: Caller, mut request: FrameStream) -> FrameStream {
        let first = match first_frame(&mut request).await {
            Ok(first) => first,
            Err(refused) => return self.refused(&caller, refused),
        };
        if caller.key.is_some() {
            return self.answer_header(&caller, &first, request).await;
        }
        if first.len() > PROOF_BYTES_MAX {
            let error = WireError::new(
                ErrorCode::Malformed,
                "the request has no proof before its header",
            );
            return self.refuse(&caller, error);
        }
        let header = match first_frame(&mut request).await {
            Ok(header) => header,
            Err(refused) => return self.refused(&caller, refused),
        };
        let (proof, key) = match self.auth.read(first, header.clone()).await {
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

/// Reads one of the first frames of a request.
async fn first_frame(request: &mut FrameStream) -> Result<Bytes, Refused> {
    match request.next().await {
        Some(Ok(frame)) => Ok(frame),
        None => Err(WireError::new(ErrorCode::Malformed, "the request is empty").into()),
        Some(Err(error)) if error.kind() == TransportErrorKind::FrameTooLarge => {
            Err(WireError::new(ErrorCode::TooLarge, error.to_string()).into())
        }
        Some(Err(_)) => Err(Refused::Gone),
    }
}

impl Server {
    fn refused(&self, caller: &Caller, refused: Refused) -> FrameStream {
        match refused {
            Refused::With(error) => self.refuse(caller, error),
            Refused::Gone => Box::pin(futures::stream::empty()),
        }
    }

    fn refuse(&self, caller: &Caller, error: WireError) -> FrameStream {
        tracing::debug!(?caller, %error, "refused a request");
        #[cfg(feature = "metrics")]
        crate::metrics::refused(error.code);
        single_frame(ResponseHeader::encode(Err(error)))
    }

    /// Answers a request whose caller is authenticated or anonymous.
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
        answer.unwrap_or_else(|refused| self.refused(caller, refused))
    }

    async fn answer(
        &self,
        caller: &Caller,
        request: Request,
        parts: FrameStream,
    ) -> Result<FrameStream, Refused> {
        self.note_contact(caller, &request);
        #[cfg(feature = "metrics")]
        crate::metrics::requested(&request);
        let asker = Asker::of(caller);
        match request {
            Request::Hello(hello) => {
                learn(&self.news, caller, hello);
                let hello = Hello {
                    key: self.auth.key(),
                    versions: (PROTOCOL_VERSION_MIN, PROTOCOL_VERSION),
                    addresses: addresses_for(caller, self.own_addresses().await),
                };
                Ok(reply(Reply::Hello(hello)))
            }
            Request::ListTrees(list) => {
                let (store, readers) = (self.store.clone(), self.readers.clone());
                let key = caller.key;
                let list = move || list_trees(&*store, &readers, key, list.after);
                let trees = self.questions.run(&asker, list).await??;
                Ok(reply(Reply::Trees(trees)))
            }
            Request::SyncTree(sync) => {
                sync_tree(self.store.clone(), &self.reads, &self.answers, caller, sync).await
            }
            Request::GetEntries(get) => {
                get_entries(self.store.clone(), &self.reads, &self.answers, caller, get).await
            }
            Request::SendEntries(send) => {
                let header = self.pushes.accept(caller, send, parts).await?;
                Ok(single_frame(header))
            }
            Request::Watch(watch) => {
                let Some(manager) = self.manager.upgrade() else {
                    return Err(Refused::Gone);
                };
                Ok(self.watches.answer(caller, watch, manager.stops()).await)
            }
            Request::CheckTrees(check) => {
                let (store, news) = (self.store.clone(), self.news.clone());
                let key = caller.key;
                let check = move || check_trees(&store, &news, key, &check);
                let checked = self.questions.run(&asker, check).await??;
                Ok(reply(Reply::Checked(checked)))
            }
            Request::Peers(peers) => Ok(reply(self.swap_records(caller, peers).await?)),
            Request::Alive(Alive { epoch }) => {
                if let Some(key) = caller.key {
                    self.news.inbound().alive(key, epoch);
                }
                let epoch = self.auth.epoch();
                Ok(reply(Reply::Alive(Alive { epoch })))
            }
            Request::Unknown(kind) => Err(WireError::unsupported("a request of kind", kind).into()),
            Request::Join(join) => {
                let key = caller.key.ok_or_else(unproven_join)?;
                let (membership, from) = (self.membership.clone(), asker.network.clone());
                let join = move || membership.join(&key, &from, &join);
                let joined = self.joins.run(&asker, join).await???;
                Ok(reply(Reply::Join(joined)))
            }
        }
    }
}

impl Server {
    async fn own_addresses(&self) -> Vec<Address> {
        let own = match self.manager.upgrade() {
            Some(manager) => manager.get_all_server_addresses_async().await,
            None => Vec::new(),
        };
        own.into_iter().map(|(_, address)| address).collect()
    }

    /// Takes the address records that a caller tells of a tree that it may read, and returns those
    /// that are known here.
    async fn swap_records(&self, caller: &Caller, peers: Peers) -> Result<Reply, Refused> {
        let own = self.own_addresses().await;
        let (store, records) = (self.store.clone(), self.records.clone());
        let (key, place) = (caller.key, place_of(caller));
        let swap = move || {
            let Peers {
                tree,
                records: told,
            } = peers;
            check_access(&*store.snapshot(tree)?, key.as_ref(), Role::Read)?;
            records.take(tree, told, place)?;
            let known = records.tell(tree, key.as_ref(), place, &own)?;
            Ok::<_, Refused>(Reply::Peers(known))
        };
        self.questions.run(&Asker::of(caller), swap).await?
    }

    /// Tells the engine which peer makes contact, about which trees, and whether it may have them: a
    /// tree that the peer lacked may have come to it. That a tree is absent here makes no difference.
    fn note_contact(&self, caller: &Caller, request: &Request) {
        let Some(key) = caller.key else {
            return;
        };
        let inbound = self.news.inbound();
        inbound.heard(key);
        match request {
            Request::SyncTree(sync) => {
                let lacks = matches!(&sync.tips, TipSet::Listed(tips) if tips.is_empty());
                inbound.heard_about(key, [(sync.tree, !lacks)]);
            }
            Request::SendEntries(send) => inbound.heard_about(key, [(send.tree, true)]),
            Request::Join(join) => inbound.heard_about(key, [(join.tree, false)]),
            Request::GetEntries(get) => inbound.heard_about(key, [(get.tree, true)]),
            Request::Peers(peers) => inbound.heard_about(key, [(peers.tree, true)]),
            Request::Watch(watch) => {
                inbound.heard_about(key, watch.trees.iter().map(|(tree, _)| (*tree, true)));
            }
            Request::CheckTrees(check) => inbound.heard_about(key, trees_of(check)),
            Request::Hello(_) | Request::ListTrees(_) | Request::Alive(_) | Request::Unknown(_) => {
            }
        }
    }
}

fn reply(reply: Reply) -> FrameStream {
    single_frame(ResponseHeader::encode(Ok(reply)))
}
