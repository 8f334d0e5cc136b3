//! Accepts a push: checks access and limits, then stores what the peer sends.

use std::sync::Arc;

use bytes::Bytes;
use eidetica_dag::Role;
use eidetica_proto::answer::{Receiver, check_access};
use eidetica_proto::message::SendEntries;
use eidetica_proto::{Caller, FrameStream};

use crate::event::Publisher;
use crate::platform::blocking;
use crate::server::push_receiver::PushReceiver;
use crate::server::refused::Refused;
use crate::server::request_limits::PushLimit;
use crate::store::Store;
use crate::store::append_worker::AppendWorker;
use crate::transport::frame_streams::incoming;

/// Accepts entries for the trees of a store.
pub(crate) struct PushAcceptor {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) publisher: Publisher,
    pub(crate) limit: PushLimit,
}

impl PushAcceptor {
    /// Receives one push and returns the acknowledgement, which says what is durable.
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
        let _permit = self.limit.acquire(caller)?;
        let (store, key) = (self.store.clone(), caller.key);
        let checked = blocking::run(move || {
            check_access(&*store.snapshot(tree)?, key.as_ref(), Role::Write)?;
            Ok::<_, Refused>(())
        });
        checked.await?;

        let receiver = PushReceiver {
            tree,
            receiver: Receiver::new(send.entries),
            storing: AppendWorker::new(self.store.clone(), tree),
            publisher: self.publisher.clone(),
            remote: caller.remote.clone(),
        };
        let receiver = receiver.run(incoming(tree, parts)).await?;
        let store = self.store.clone();
        blocking::run(move || Ok(receiver.acknowledge(&*store.snapshot(tree)?)?)).await
    }
}
