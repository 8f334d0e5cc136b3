//! What a transport calls for each request: authenticates the caller and dispatches the request.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use eidetica_proto::joining::nobody_joins;
use eidetica_proto::message::{Hello, Reply, Request, RequestHeader, ResponseHeader};
use eidetica_proto::proof::PROOF_BYTES_MAX;
use eidetica_proto::transport::{Caller, Service};
use eidetica_proto::{
    ErrorCode, FrameStream, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN, TransportErrorKind, WireError,
};
use futures::StreamExt;

use crate::membership::Membership;
use crate::platform::blocking;
use crate::server::push::PushAcceptor;
use crate::server::refused::Refused;
use crate::server::request_auth::RequestAuth;
use crate::server::request_limits::JoinLimit;
use crate::server::sync_answer::sync_tree;
use crate::server::trees::list_trees;
use crate::store::Store;
use crate::transport::frame_streams::single_frame;
use crate::transport::manager::TransportManager;

/// Answers the requests of peers.
pub(crate) struct Server {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) auth: Arc<RequestAuth>,
    /// Weak, because the servers of the manager hold this service.
    pub(crate) manager: Weak<TransportManager>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) joins: JoinLimit,
    pub(crate) pushes: PushAcceptor,
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
        match request {
            Request::Hello(_) => {
                let own = match self.manager.upgrade() {
                    Some(manager) => manager.get_all_server_addresses_async().await,
                    None => Vec::new(),
                };
                let hello = Hello {
                    key: self.auth.key(),
                    versions: (PROTOCOL_VERSION_MIN, PROTOCOL_VERSION),
                    addresses: own.into_iter().map(|(_, address)| address).collect(),
                };
                Ok(reply(Reply::Hello(hello)))
            }
            Request::ListTrees(list) => {
                let (store, key) = (self.store.clone(), caller.key);
                let trees = blocking::run(move || list_trees(&*store, key, list.after)).await?;
                Ok(reply(Reply::Trees(trees)))
            }
            Request::SyncTree(sync) => sync_tree(self.store.clone(), caller, sync).await,
            Request::SendEntries(send) => {
                let header = self.pushes.accept(caller, send, parts).await?;
                Ok(single_frame(header))
            }
            request @ (Request::Watch(_)
            | Request::CheckTrees(_)
            | Request::Peers(_)
            | Request::Unknown(_)) => {
                Err(WireError::unsupported("a request of kind", request.kind()).into())
            }
            Request::Join(join) => {
                let key = caller.key.ok_or_else(nobody_joins)?;
                let _permit = self.joins.acquire().await?;
                let membership = self.membership.clone();
                let joined = blocking::run(move || membership.join(&key, &join)).await??;
                Ok(reply(Reply::Join(joined)))
            }
        }
    }
}

fn reply(reply: Reply) -> FrameStream {
    single_frame(ResponseHeader::encode(Ok(reply)))
}
