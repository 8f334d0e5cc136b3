//! The asking side's driver: carries out what a [`SyncSession`] says.

use std::sync::Arc;
use std::time::Duration;

use eidetica_dag::{AppendOutcome, PublicKey, TreeId};
use eidetica_proto::{
    Address, FrameStream, PeerFault, Progress, Report, Step, SyncFault, SyncSession, SyncTransport,
    TransportError,
};
use futures::{Stream, StreamExt};
use tokio::sync::watch;

use crate::client::error::SyncError;
use crate::client::peer_client::{PeerClient, Target};
use crate::event::{Origin, Publisher};
use crate::platform::blocking;
use crate::store::append_worker::AppendWorker;
use crate::store::{Snapshot, Store, StoreError};
use crate::transport::frame_streams::{Arrived, Meter, incoming, outgoing};

/// How long entries that arrived wait for more, to be stored in one step with them, while nothing
/// arrives. It bounds what a dying process loses on a slow connection.
const STORE_AFTER_IDLE: Duration = Duration::from_millis(250);

/// One sync of one tree with the peer at one address.
pub(crate) struct SessionDriver {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) client: Arc<PeerClient>,
    pub(crate) transport: Arc<dyn SyncTransport>,
    pub(crate) address: Address,
    /// Whom the address must lead to, if that is known.
    pub(crate) peer: Option<PublicKey>,
    pub(crate) publisher: Publisher,
    pub(crate) progress: watch::Sender<Progress>,
}

type Parts = std::pin::Pin<Box<dyn Stream<Item = Arrived> + Send>>;

/// What is open while a session runs.
struct Open {
    snapshot: Option<Snapshot>,
    frames: Option<FrameStream>,
    parts: Option<Parts>,
    storing: AppendWorker,
    sent: Arc<Meter>,
}

impl SessionDriver {
    /// Runs the session to its end. Whatever arrived before an error and can be stored is stored.
    pub(crate) async fn run(self, session: SyncSession) -> Result<Report, SyncError> {
        let tree = session.tree();
        let mut session = Some(session);
        let mut open = Open {
            snapshot: None,
            frames: None,
            parts: None,
            storing: AppendWorker::new(self.store.clone(), tree),
            sent: Arc::default(),
        };
        let result = self.run_steps(&mut session, &mut open).await;
        if let (Err(_), Some(mut session)) = (&result, session) {
            // Parents come first: what is here is worth keeping, whatever came behind it.
            if open.storing.is_busy()
                && let Ok(outcome) = open.storing.outcome().await
            {
                self.publish(tree, &outcome);
                let _known_already = session.handle_appended(outcome);
            }
            if let Some(entries) = session.poll_store() {
                open.storing.begin(entries);
                if let Ok(outcome) = open.storing.outcome().await {
                    self.publish(tree, &outcome);
                }
            }
        }
        result
    }

    /// `session` is `None` only while a blocking thread has it.
    async fn run_steps(
        &self,
        session: &mut Option<SyncSession>,
        open: &mut Open,
    ) -> Result<Report, SyncError> {
        loop {
            let machine = session.as_mut().expect("every step gives the session back");
            let tree = machine.tree();
            self.progress.send_replace(machine.progress());
            match machine.poll_step() {
                Step::View => {
                    self.finish_response(machine, open).await?;
                    let machine = session.take().expect("it was there above");
                    let store = self.store.clone();
                    let (machine, viewed) = blocking::run(move || view(&*store, machine)).await;
                    *session = Some(machine);
                    let (snapshot, verdict) = viewed?;
                    open.snapshot = Some(snapshot);
                    verdict.map_err(|fault| self.peer_error(fault))?;
                }
                Step::Exchange { header, entries } => {
                    let parts: Option<FrameStream> = match (entries, open.snapshot.take()) {
                        (Some(entries), Some(snapshot)) => {
                            Some(Box::pin(outgoing(snapshot, entries, open.sent.clone())))
                        }
                        _ => None,
                    };
                    let at = Target {
                        transport: &*self.transport,
                        address: &self.address,
                        peer: self.peer,
                    };
                    let answer = self.client.exchange(at, header, parts).await;
                    let answer = answer.map_err(|error| self.transport_error(error))?;
                    machine.handle_peer(answer.peer);
                    open.frames = Some(answer.frames);
                }
                Step::ReceiveHeader => {
                    let mut frames = open.frames.take().ok_or_else(|| self.incomplete())?;
                    let header = frames.next().await.ok_or_else(|| self.incomplete())?;
                    let header = header.map_err(|error| self.transport_error(error))?;
                    let (entries, bytes) = std::mem::take(&mut open.sent).read();
                    machine.handle_sent(entries, bytes);
                    machine
                        .handle_header(&header)
                        .map_err(|fault| self.peer_error(fault))?;
                    open.parts = Some(Box::pin(incoming(tree, frames)));
                }
                Step::ReceivePart => self.receive_part(machine, open).await?,
                Step::Store(entries) => open.storing.begin(entries),
                Step::AwaitAppend => {
                    let outcome = open.storing.outcome().await;
                    self.take_outcome(machine, outcome)?;
                }
                Step::Done(report) => {
                    self.finish_response(machine, open).await?;
                    return Ok(report);
                }
            }
        }
    }

    /// Takes whichever comes first: the next part, what became of a store, or the end of patience.
    async fn receive_part(
        &self,
        machine: &mut SyncSession,
        open: &mut Open,
    ) -> Result<(), SyncError> {
        let parts = open.parts.as_mut().ok_or_else(|| self.incomplete())?;
        let part = if open.storing.is_busy() {
            tokio::select! {
                part = parts.next() => part,
                outcome = open.storing.outcome() => return self.take_outcome(machine, outcome),
            }
        } else {
            match tokio::time::timeout(STORE_AFTER_IDLE, parts.next()).await {
                Ok(part) => part,
                Err(_idle) => match machine.poll_store() {
                    Some(entries) => {
                        open.storing.begin(entries);
                        return Ok(());
                    }
                    None => parts.next().await,
                },
            }
        };
        let (part, bytes) = part
            .ok_or_else(|| self.incomplete())?
            .map_err(|error| self.transport_error(error))?;
        let part = part.map_err(|fault| self.peer_error(fault.into()))?;
        machine
            .handle_part(part, bytes)
            .map_err(|fault| self.peer_error(fault))
    }

    fn take_outcome(
        &self,
        machine: &mut SyncSession,
        outcome: Result<AppendOutcome, StoreError>,
    ) -> Result<(), SyncError> {
        let outcome = outcome?;
        self.publish(machine.tree(), &outcome);
        machine
            .handle_appended(outcome)
            .map_err(|fault| self.peer_error(fault))
    }

    fn publish(&self, tree: TreeId, outcome: &AppendOutcome) {
        let origin = Origin::Pulled(self.address.clone());
        self.publisher.stored(tree, outcome.stored.clone(), origin);
    }

    /// Reads the response to its end, so that the connection can be used again.
    async fn finish_response(
        &self,
        machine: &mut SyncSession,
        open: &mut Open,
    ) -> Result<(), SyncError> {
        let Some(mut parts) = open.parts.take() else {
            return Ok(());
        };
        let Some(extra) = parts.next().await else {
            return Ok(());
        };
        let (part, bytes) = extra.map_err(|error| self.transport_error(error))?;
        let part = part.map_err(|fault| self.peer_error(fault.into()))?;
        machine
            .handle_part(part, bytes)
            .map_err(|fault| self.peer_error(fault))
    }

    fn transport_error(&self, source: TransportError) -> SyncError {
        SyncError::Transport {
            address: self.address.clone(),
            source,
        }
    }

    fn peer_error(&self, source: SyncFault) -> SyncError {
        SyncError::Peer {
            address: self.address.clone(),
            source,
        }
    }

    fn incomplete(&self) -> SyncError {
        self.peer_error(PeerFault::Incomplete.into())
    }
}

type Viewed = Result<(Snapshot, Result<(), SyncFault>), StoreError>;

/// Shows the tree to the session. It may read for a while, so it runs off the async threads.
fn view(store: &dyn Store, mut session: SyncSession) -> (SyncSession, Viewed) {
    let viewed = store.snapshot(session.tree()).and_then(|snapshot| {
        let verdict = session.handle_view(&*snapshot)?;
        Ok((snapshot, verdict))
    });
    (session, viewed)
}
