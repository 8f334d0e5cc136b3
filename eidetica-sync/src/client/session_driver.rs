//! The asking side's driver: carries out what a [`SyncSession`] says.

use std::sync::Arc;

use eidetica_proto::coordinator::PeerId;
use eidetica_proto::{
    Address, EntryReceiver, FrameStream, PeerFault, Progress, Received, Report, Step, SyncFault,
    SyncOutcome, SyncSession, TransportError,
};
use futures::stream::{self, BoxStream};
use tokio::sync::watch;

use crate::client::dialer::{Dialer, Reached};
use crate::client::error::SyncError;
use crate::event::{Origin, Transfer};
use crate::news::News;
use crate::platform::blocking;
use crate::store::append_worker::AppendWorker;
use crate::store::{Store, StoreError};
use crate::transport::frame_streams::{Arrived, EntrySource, Meter, OutgoingMessage, incoming};
use crate::transport::receive::{ReceiveDriver, ReceiveError};

/// One sync of one tree with one peer.
pub(crate) struct SessionDriver<'a> {
    pub(crate) store: &'a Arc<dyn Store>,
    pub(crate) dialer: &'a Dialer,
    pub(crate) news: &'a News,
    pub(crate) peer: PeerId,
    pub(crate) progress: watch::Sender<Progress>,
}

/// How a sync went.
pub(crate) struct Synced {
    pub(crate) report: Report,
    /// The peer has every entry that arrived here before this number.
    pub(crate) settled: u32,
}

/// What is open between two steps.
#[derive(Default)]
struct Open {
    response: Option<(Reached, Arc<Meter>)>,
    /// Where the response comes from.
    address: Option<Address>,
    parts: Option<BoxStream<'static, Arrived<Received>>>,
    /// Begins when the peer has proved its key.
    receiving: Option<ReceiveDriver>,
    /// The arrival count of the last view, and of the one whose entries were sent.
    viewed: u32,
    sent: Option<u32>,
}

impl SessionDriver<'_> {
    /// Runs the session to its end, and calls `answered` when the peer begins to answer. What arrives
    /// before an error and can be stored is stored.
    pub(crate) async fn run(
        &self,
        mut session: SyncSession,
        answered: impl Fn(),
    ) -> Result<Synced, SyncError> {
        let tree = session.tree();
        let mut open = Open::default();
        loop {
            self.progress.send_replace(session.progress());
            match session.poll_step() {
                Step::View => {
                    self.receive(&mut open, &mut session).await?;
                    let store = self.store.clone();
                    let viewed;
                    (session, viewed) = blocking::run(move || view(&*store, session)).await;
                    let (viewed, verdict) = viewed?;
                    open.viewed = viewed;
                    verdict.map_err(|fault| open.fault(fault))?;
                }
                Step::Exchange { header, entries } => {
                    open.sent = entries.is_some().then_some(open.viewed).or(open.sent);
                    let reached = match entries {
                        Some(entries) => {
                            let store = self.store.clone();
                            let source = EntrySource { store, tree };
                            let uploaded = self.dialer.upload(self.peer, entries, source);
                            let uploaded = uploaded.await?;
                            session.handle_stored_before(uploaded.stored_before);
                            let (entries, bytes) = uploaded.sent_before;
                            session.handle_sent(entries, bytes);
                            uploaded.reached
                        }
                        None => {
                            let request = OutgoingMessage::header_only(header);
                            self.dialer.exchange(self.peer, &request).await?
                        }
                    };
                    answered();
                    session.handle_peer(Some(reached.answer.peer));
                    open.address = Some(reached.address.clone());
                    let begin = || self.begin_receiving(&reached);
                    open.receiving.get_or_insert_with(begin);
                    let sent = reached.answer.sent.clone();
                    open.response = Some((reached, sent));
                }
                Step::ReceiveHeader => {
                    let Some((mut reached, sent)) = open.response.take() else {
                        return Err(open.fault(PeerFault::Incomplete.into()));
                    };
                    let header = reached.header().await?;
                    let (entries, bytes) = sent.read();
                    session.handle_sent(entries, bytes);
                    session
                        .handle_header(&header)
                        .map_err(|fault| open.fault(fault))?;
                    let frames: FrameStream = reached.answer.frames;
                    open.parts = Some(Box::pin(incoming(tree, frames)));
                }
                Step::Receive => self.receive(&mut open, &mut session).await?,
                Step::Done(report) => {
                    self.receive(&mut open, &mut session).await?;
                    let settled = match report.outcome {
                        SyncOutcome::Equal => open.viewed,
                        SyncOutcome::MovedOn => open.sent.unwrap_or(open.viewed),
                        SyncOutcome::Pulled
                        | SyncOutcome::PeerIsReadOnly
                        | SyncOutcome::PeerMayNotRead
                        | SyncOutcome::PeerLacksParents => 0,
                    };
                    return Ok(Synced { report, settled });
                }
            }
        }
    }

    fn begin_receiving(&self, reached: &Reached) -> ReceiveDriver {
        let origin = Origin::Peer {
            key: reached.answer.peer,
            how: Transfer::Pulled,
            at: reached.address.to_string(),
        };
        let (store, news) = (self.store.clone(), self.news.clone());
        ReceiveDriver::new(AppendWorker::new(store, news, origin))
    }

    /// Reads a response to its end and stores what it brings, if anything.
    async fn receive(&self, open: &mut Open, session: &mut SyncSession) -> Result<(), SyncError> {
        let parts = open.parts.take();
        let Some(receiving) = &mut open.receiving else {
            return Ok(());
        };
        let parts = parts.unwrap_or_else(|| Box::pin(stream::empty()));
        let to_send = session.progress().to_send;
        let observe = |receiver: &EntryReceiver| {
            self.progress
                .send_replace(Progress::of(receiver.counts(), to_send));
        };
        let received = receiving.run(session.receiver(), parts, observe).await;
        received.map_err(|error| match error {
            ReceiveError::Transport(error) => open.broken(error),
            ReceiveError::Fault(fault) => open.fault(fault),
            ReceiveError::Store(error) => error.into(),
        })
    }
}

impl Open {
    fn fault(&self, source: SyncFault) -> SyncError {
        match &self.address {
            Some(address) => SyncError::peer(address, source),
            None => SyncError::NoAddress,
        }
    }

    fn broken(&self, source: TransportError) -> SyncError {
        match &self.address {
            Some(address) => SyncError::transport(address, source),
            None => SyncError::NoAddress,
        }
    }
}

type Viewed = Result<(u32, Result<(), SyncFault>), StoreError>;

/// Shows the tree to the session. It may read for a while, so it runs off the async threads.
fn view(store: &dyn Store, mut session: SyncSession) -> (SyncSession, Viewed) {
    let viewed = store.snapshot(session.tree()).and_then(|snapshot| {
        let verdict = session.handle_view(&*snapshot)?;
        Ok((snapshot.entry_count(), verdict))
    });
    (session, viewed)
}
