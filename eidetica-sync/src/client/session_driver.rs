//! The asking side's driver: carries out what a [`SyncSession`] says.

use std::sync::Arc;

use eidetica_dag::PublicKey;
use eidetica_proto::{
    Address, EntryReceiver, FrameStream, PeerFault, Progress, Received, Report, Step, SyncFault,
    SyncSession, SyncTransport, TransportError,
};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::watch;

use crate::client::error::SyncError;
use crate::client::peer_client::{PeerClient, Target};
use crate::event::{Origin, Transfer};
use crate::news::News;
use crate::platform::blocking;
use crate::store::append_worker::AppendWorker;
use crate::store::{Snapshot, Store, StoreError};
use crate::transport::frame_streams::{Arrived, Meter, OutgoingMessage, incoming};
use crate::transport::receive::{ReceiveDriver, ReceiveError};

/// One sync of one tree with the peer at one address.
pub(crate) struct SessionDriver {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) client: Arc<PeerClient>,
    pub(crate) transport: Arc<dyn SyncTransport>,
    pub(crate) address: Address,
    /// Whom the address must lead to, if that is known.
    pub(crate) peer: Option<PublicKey>,
    pub(crate) news: News,
    pub(crate) progress: watch::Sender<Progress>,
}

type Parts = BoxStream<'static, Arrived<Received>>;

impl SessionDriver {
    /// Runs the session to its end. What arrives before an error and can be stored is stored.
    pub(crate) async fn run(self, mut session: SyncSession) -> Result<Report, SyncError> {
        let tree = session.tree();
        // It begins when the peer has proved its key.
        let mut receiving = None;
        // What is open between two steps.
        let mut snapshot = None;
        let mut response: Option<(FrameStream, Arc<Meter>)> = None;
        let mut parts: Option<Parts> = None;
        loop {
            self.progress.send_replace(session.progress());
            match session.poll_step() {
                Step::View => {
                    self.receive(&mut receiving, &mut session, parts.take())
                        .await?;
                    let store = self.store.clone();
                    let viewed;
                    (session, viewed) = blocking::run(move || view(&*store, session)).await;
                    let (taken, verdict) = viewed?;
                    snapshot = Some(taken);
                    verdict.map_err(|fault| self.peer_error(fault))?;
                }
                Step::Exchange { header, entries } => {
                    let entries = entries.zip(snapshot.take());
                    let request = OutgoingMessage { header, entries };
                    let at = Target {
                        transport: &*self.transport,
                        address: &self.address,
                        peer: self.peer,
                    };
                    let answer = self.client.exchange(at, &request).await;
                    let answer = answer.map_err(|error| self.transport_error(error))?;
                    session.handle_peer(Some(answer.peer));
                    receiving.get_or_insert_with(|| self.begin_receiving(answer.peer));
                    response = Some((answer.frames, answer.sent));
                }
                Step::ReceiveHeader => {
                    let response = response.take();
                    let (mut frames, sent) = response.ok_or_else(|| self.incomplete())?;
                    let header = frames.next().await.ok_or_else(|| self.incomplete())?;
                    let header = header.map_err(|error| self.transport_error(error))?;
                    let (entries, bytes) = sent.read();
                    session.handle_sent(entries, bytes);
                    session
                        .handle_header(&header)
                        .map_err(|fault| self.peer_error(fault))?;
                    parts = Some(Box::pin(incoming(tree, frames)));
                }
                Step::Receive => {
                    self.receive(&mut receiving, &mut session, parts.take())
                        .await?;
                }
                Step::Done(report) => {
                    self.receive(&mut receiving, &mut session, parts.take())
                        .await?;
                    return Ok(report);
                }
            }
        }
    }

    fn begin_receiving(&self, peer: PublicKey) -> ReceiveDriver {
        let origin = Origin::Peer {
            key: peer,
            how: Transfer::Pulled,
            at: self.address.to_string(),
        };
        let worker = AppendWorker::new(self.store.clone());
        ReceiveDriver::new(worker, self.news.clone(), origin)
    }

    /// Reads a response to its end and stores what it brings, if anything.
    async fn receive(
        &self,
        receiving: &mut Option<ReceiveDriver>,
        session: &mut SyncSession,
        parts: Option<Parts>,
    ) -> Result<(), SyncError> {
        let Some(receiving) = receiving else {
            return Ok(());
        };
        let parts = parts.unwrap_or_else(|| Box::pin(stream::empty()));
        let to_send = session.progress().to_send;
        let observe = |receiver: &EntryReceiver| {
            self.progress
                .send_replace(Progress::of(receiver.counts(), to_send));
        };
        let received = receiving.run(session.receiver(), parts, observe);
        received.await.map_err(|error| match error {
            ReceiveError::Transport(error) => self.transport_error(error),
            ReceiveError::Fault(fault) => self.peer_error(fault),
            ReceiveError::Store(error) => error.into(),
        })
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
