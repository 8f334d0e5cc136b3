//! PushReceiver the entries that a peer sends: storing one step while the next arrives.

use eidetica_dag::{AppendOutcome, TreeId};
use eidetica_proto::PeerFault;
use eidetica_proto::answer::{Receiver, refusal_of};
use eidetica_proto::session::STORE_BYTES_TARGET;
use futures::{Stream, StreamExt};

use crate::event::{Origin, Publisher};
use crate::server::refused::Refused;
use crate::store::StoreError;
use crate::store::append_worker::AppendWorker;
use crate::transport::frame_streams::Arrived;

/// The entries of one request.
pub(crate) struct PushReceiver {
    pub(crate) tree: TreeId,
    pub(crate) receiver: Receiver,
    pub(crate) storing: AppendWorker,
    pub(crate) publisher: Publisher,
    /// Where they come from.
    pub(crate) remote: String,
}

impl PushReceiver {
    /// Takes all parts. Whatever comes before a fault or a cut and can be stored is stored.
    pub(crate) async fn run(
        mut self,
        mut parts: impl Stream<Item = Arrived> + Unpin,
    ) -> Result<Receiver, Refused> {
        let taken = self.take(&mut parts).await;
        let settled = self.settle().await;
        taken.and(settled).map(|()| self.receiver)
    }

    async fn take(
        &mut self,
        parts: &mut (impl Stream<Item = Arrived> + Unpin),
    ) -> Result<(), Refused> {
        loop {
            let is_full = self.receiver.ready_bytes() >= STORE_BYTES_TARGET;
            if is_full && !self.storing.is_busy() {
                self.begin();
            } else if is_full {
                self.end_step().await?;
                continue;
            }
            let part = if self.storing.is_busy() {
                tokio::select! {
                    part = parts.next() => part,
                    outcome = self.storing.outcome() => {
                        self.take_outcome(outcome)?;
                        continue;
                    }
                }
            } else {
                parts.next().await
            };
            let Some(part) = part else {
                return self.receiver.handle_end().map_err(said);
            };
            let (part, _) = part.map_err(|error| {
                let from = &self.remote;
                tracing::debug!(%from, %error, "a peer broke off while it sent entries");
                Refused::Gone
            })?;
            part.and_then(|part| self.receiver.handle_part(part))
                .map_err(said)?;
        }
    }

    /// Stores what is left.
    async fn settle(&mut self) -> Result<(), Refused> {
        if self.storing.is_busy() {
            self.end_step().await?;
        }
        if self.begin() {
            self.end_step().await?;
        }
        Ok(())
    }

    fn begin(&mut self) -> bool {
        let entries = self.receiver.poll_store();
        let is_any = entries.is_some();
        if let Some(entries) = entries {
            self.storing.begin(entries);
        }
        is_any
    }

    async fn end_step(&mut self) -> Result<(), Refused> {
        let outcome = self.storing.outcome().await;
        self.take_outcome(outcome)
    }

    fn take_outcome(&mut self, outcome: Result<AppendOutcome, StoreError>) -> Result<(), Refused> {
        let outcome = outcome?;
        let origin = Origin::Pushed(self.remote.clone());
        self.publisher
            .stored(self.tree, outcome.stored.clone(), origin);
        self.receiver.handle_appended(outcome).map_err(said)
    }
}

fn said(fault: PeerFault) -> Refused {
    refusal_of(&fault).into()
}
