//! Accepts a push: checks access and limits, then stores what the peer sends.

use std::sync::Arc;

use bytes::Bytes;
use eidetica_proto::answer::{acknowledge, refusal_of};
use eidetica_proto::joining::source_of;
use eidetica_proto::message::SendEntries;
use eidetica_proto::push::check_push;
use eidetica_proto::{Caller, EntryReceiver, FrameStream};

use crate::event::{Origin, Transfer};
use crate::membership::accepted::accepts_trees_from;
use crate::news::News;
use crate::platform::blocking;
use crate::server::refused::Refused;
use crate::server::request_limits::PushLimit;
use crate::server::work_limit::WorkLimit;
use crate::store::Store;
use crate::store::append_worker::AppendWorker;
use crate::transport::frame_streams::incoming;
use crate::transport::receive::{ReceiveDriver, ReceiveError};

/// Accepts pushes to the trees of a store.
pub(crate) struct PushAcceptor {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) news: News,
    pub(crate) limit: PushLimit,
    pub(crate) reads: Arc<WorkLimit>,
}

impl PushAcceptor {
    /// Receives one push and returns the acknowledgement, which lists what was stored durably.
    ///
    /// The caller's role is checked before the first entry is read. That spares work and protects
    /// nothing: every entry is judged again when it is stored.
    pub(super) async fn accept(
        &self,
        caller: &Caller,
        send: SendEntries,
        parts: FrameStream,
    ) -> Result<Bytes, Refused> {
        let tree = send.tree;
        let (store, key) = (self.store.clone(), caller.key);
        let check = move || {
            let accepts = key
                .map(|key| accepts_trees_from(&*store, &key))
                .transpose()?;
            let accepts = |_: &_| accepts == Some(true);
            check_push(&*store.snapshot(tree)?, key.as_ref(), accepts)?;
            Ok::<_, Refused>(())
        };
        let source = source_of(caller.transport, &caller.remote);
        self.reads.run(&source, check).await??;
        // A caller that may not push takes no place from those that may.
        let _permit = self.limit.acquire(caller)?;

        let receiver = self.receive(caller, send, parts).await?;
        let store = self.store.clone();
        blocking::run(move || {
            Ok(acknowledge(
                &receiver,
                &*store.snapshot(tree)?,
                store.log_id(),
            )?)
        })
        .await
    }

    /// Receives and stores the entries. What arrives before a fault or a cut and can be stored is
    /// stored.
    async fn receive(
        &self,
        caller: &Caller,
        send: SendEntries,
        parts: FrameStream,
    ) -> Result<EntryReceiver, Refused> {
        let mut receiver = EntryReceiver::new(send.tree);
        receiver.begin(send.entries);
        let at = caller.remote.clone();
        let origin = match caller.key {
            Some(key) => Origin::Peer {
                key,
                how: Transfer::Pushed,
                at,
            },
            None => Origin::Caller { at },
        };
        let worker = AppendWorker::new(self.store.clone(), self.news.clone(), origin);
        let mut driver = ReceiveDriver::new(worker);
        let parts = incoming(send.tree, parts);
        match driver.run(&mut receiver, parts, |_| ()).await {
            Ok(()) => Ok(receiver),
            Err(ReceiveError::Transport(error)) => {
                tracing::debug!(from = %caller.remote, %error, "the connection broke during a push");
                Err(Refused::Gone)
            }
            Err(ReceiveError::Fault(fault)) => Err(refusal_of(&fault).into()),
            Err(ReceiveError::Store(error)) => Err(error.into()),
        }
    }
}
