//! Accepts a push: checks access and limits, then stores what the peer sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use eidetica_dag::TreeId;
use eidetica_proto::answer::{acknowledge, refusal_of};
use eidetica_proto::message::SendEntries;
use eidetica_proto::push::check_push;
use eidetica_proto::turns::Asker;
use eidetica_proto::{Caller, EntryReceiver, FrameStream};
use futures::{StreamExt, stream};

use crate::event::{Origin, Transfer};
use crate::membership::accepted::accepts_trees_from;
use crate::news::News;
use crate::platform::blocking;
use crate::server::grants::Grants;
use crate::server::push_limit::{Push, PushLimit};
use crate::server::refused::Refused;
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
    pub(crate) grants: Grants,
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
        let (checked, mut parts) = (self.check(caller, tree).await, parts);
        let is_shown = checked.is_err();
        if let Err(refused) = checked {
            let key = caller.key.ok_or(refused.clone())?;
            let asker = Asker::of(caller);
            let shown = self.grants.hear(&asker, key, &send, parts, refused).await?;
            parts = Box::pin(stream::iter(shown.into_iter().map(Ok)));
        }
        // A caller that may not push takes no place from those that may.
        let mut place = self.limit.acquire(caller, tree)?;

        let receiver = self.receive(caller, send, parts, &mut place).await?;
        if is_shown {
            // What was shown may have been taken back since.
            self.check(caller, tree).await?;
        }
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

    /// Checks whether the caller may push.
    async fn check(&self, caller: &Caller, tree: TreeId) -> Result<(), Refused> {
        let (store, key) = (self.store.clone(), caller.key);
        let check = move || {
            let accepts = key
                .map(|key| accepts_trees_from(&*store, &key))
                .transpose()?;
            let accepts = |_: &_| accepts == Some(true);
            check_push(&*store.snapshot(tree)?, key.as_ref(), accepts)?;
            Ok::<_, Refused>(())
        };
        self.reads.run(&Asker::of(caller), check).await?
    }

    /// Receives and stores the entries. What arrives before a fault or a cut and can be stored is
    /// stored.
    async fn receive(
        &self,
        caller: &Caller,
        send: SendEntries,
        parts: FrameStream,
        place: &mut Push,
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
        // The end of the stream has what arrived before it stored.
        let is_lost = Arc::<AtomicBool>::default();
        let (lost, noted) = (place.lost(), is_lost.clone());
        let lost = async move {
            lost.await;
            noted.store(true, Ordering::Relaxed);
        };
        let parts = incoming(send.tree, parts).take_until(Box::pin(lost));
        let mut stored = 0;
        let observe = |receiver: &EntryReceiver| {
            let now = receiver.counts().stored;
            if now > stored {
                stored = now;
                place.note_progress();
            }
        };
        match driver.run(&mut receiver, parts, observe).await {
            _ if is_lost.load(Ordering::Relaxed) => {
                tracing::debug!(from = %caller.remote, "a push lost its place to others");
                Err(self.limit.busy().into())
            }
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

#[cfg(test)]
mod tests {
    use eidetica_dag::ArrivalSet;
    use eidetica_dag::testing::{draw, key};
    use eidetica_proto::tips::EndTips;
    use eidetica_proto::{Cursor, EntrySelection, ErrorCode, TransportError};

    use super::*;
    use crate::event::Publisher;
    use crate::store::MemoryStore;
    use crate::transport::frame_streams::{EntrySource, OutgoingMessage};

    /// The parts of a push of everything that a store has.
    fn parts_of(store: Arc<dyn Store>, tree: TreeId) -> (SendEntries, FrameStream) {
        let snapshot = store.snapshot(tree).expect("in memory");
        let count = snapshot.entry_count();
        let all = ArrivalSet::all_below(count);
        let entries = EntrySelection::new(all, EndTips::Untold, Cursor::NONE);
        let message = OutgoingMessage {
            header: Bytes::new(),
            entries: Some((entries, EntrySource { store, tree })),
        };
        let send = SendEntries {
            tree,
            entries: count,
        };
        (send, Box::pin(message.frames_after(Vec::new()).0))
    }

    /// 64 pushes that repeat one entry and never end, by many keys.
    #[tokio::test]
    async fn pushes_without_progress_keep_no_pusher_out() {
        let drawn = draw("A-B-C");
        let tree = drawn.tree();
        let filled = |entries: &[&str]| -> Arc<dyn Store> {
            let store = MemoryStore::new();
            store.append(tree, drawn.entries(entries)).expect("genuine");
            Arc::new(store)
        };
        let store = filled(&["A"]);
        let acceptor = Arc::new(PushAcceptor {
            grants: Grants::new(store.clone()),
            store,
            news: News::new(Publisher::new()),
            limit: PushLimit::default(),
            reads: Arc::new(WorkLimit::reads()),
        });
        let caller = |n: u32| Caller {
            transport: "memory",
            key: Some(key(n).public()),
            remote: format!("192.0.2.{n}:1"),
        };
        let mut flood = Vec::new();
        for n in 0..64_u32 {
            let (mut send, frames) = parts_of(filled(&["A"]), tree);
            send.entries = 1_000;
            let endless = stream::pending::<Result<Bytes, TransportError>>();
            let repeated = frames.take(1).chain(endless);
            let (acceptor, caller) = (acceptor.clone(), caller(100 + n / 8));
            flood.push(tokio::spawn(async move {
                acceptor.accept(&caller, send, Box::pin(repeated)).await
            }));
        }
        while acceptor.limit.count() < 64 {
            tokio::task::yield_now().await;
        }
        let (send, frames) = parts_of(filled(&["A", "B", "C"]), tree);
        let accepted = acceptor.accept(&caller(1), send, frames).await;
        assert!(accepted.is_ok(), "an honest push is accepted");
        let snapshot = acceptor.store.snapshot(tree).expect("in memory");
        assert_eq!(snapshot.entry_count(), 3);
        let (lost, _, rest) = futures::future::select_all(flood).await;
        let Err(Refused::With(error)) = lost.expect("no panic") else {
            panic!("it lost its place");
        };
        assert_eq!(error.code, ErrorCode::Busy);
        assert!(rest.iter().all(|push| !push.is_finished()), "one is enough");
        rest.iter().for_each(|push| push.abort());
    }
}
