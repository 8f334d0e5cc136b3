//! Carries out what a [`WatchClient`] says, for as long as a watch lives.

use std::sync::Arc;
use std::time::Duration;

use eidetica_dag::{AppendOutcome, TreeId, VerifiedEntry};
use eidetica_proto::coordinator::PeerId;
use eidetica_proto::watch::{ReceivedNews, WatchClient, WatchEvent};
use eidetica_proto::{Address, Cursor, FrameStream, PeerFault, TransportError};
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};
use tokio::time::Instant;

use crate::client::dialer::{Dialer, Reached};
use crate::client::error::SyncError;
use crate::event::{Origin, Transfer};
use crate::news::News;
use crate::platform::blocking;
use crate::store::append_worker::append_and_tell;
use crate::store::{Store, StoreError};
use crate::transport::frame_streams::OutgoingMessage;

/// How many frames are unpacked at a time, as for any other transfer.
const UNPACKING_MAX: usize = 2;

/// One watch of one peer.
pub(crate) struct WatchDriver<'a> {
    pub(crate) store: &'a Arc<dyn Store>,
    pub(crate) dialer: &'a Dialer,
    pub(crate) news: &'a News,
    pub(crate) peer: PeerId,
}

/// What a watch reports while it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WatchReport {
    /// The peer watches over the trees from here on.
    Opened,
    /// Everything of the tree before this place of the peer is durable here.
    Reached(TreeId, Cursor),
    /// The tree is to be compared in full.
    CompareFirst(TreeId),
    /// The tree is gone from the peer, or may not be read.
    Gone(TreeId),
}

/// Entries that are being stored. There is no thread for a watch as there is for a transfer, for a
/// watch is silent most of the time.
type Storing = BoxFuture<'static, Result<(TreeId, AppendOutcome), StoreError>>;

impl WatchDriver<'_> {
    /// Watches trees, each from a place in the peer's log on, until the peer ends the watch.
    ///
    /// # Errors
    /// The watch cannot be opened, breaks, or falls silent.
    pub(crate) async fn run(
        &self,
        trees: Vec<(TreeId, Cursor)>,
        report: impl Fn(WatchReport),
    ) -> Result<(), SyncError> {
        let clock = Instant::now();
        let mut client = WatchClient::new(trees, 0);
        let request = OutgoingMessage::header_only(client.header());
        let mut reached = self.dialer.exchange(self.peer, &request).await?;
        let header = reached.header().await?;
        client
            .handle_header(&header, now_ms(clock))
            .map_err(|fault| SyncError::peer(&reached.address, fault))?;
        report(WatchReport::Opened);
        let Reached { answer, address } = reached;
        let origin = Origin::Peer {
            key: answer.peer,
            how: Transfer::Watched,
            at: address.to_string(),
        };
        let frames = unpacked(client.trees(), answer.frames);
        let mut open = Open {
            store: self.store,
            news: self.news,
            client,
            origin,
            address,
            storing: None,
            clock,
        };
        let result = open.receive(frames, &report).await;
        open.drain(&report).await;
        result
    }
}

/// A watch that the peer has opened.
struct Open<'a> {
    store: &'a Arc<dyn Store>,
    news: &'a News,
    client: WatchClient,
    origin: Origin,
    address: Address,
    storing: Option<Storing>,
    /// The zero of the client's clock.
    clock: Instant,
}

impl Open<'_> {
    async fn receive(
        &mut self,
        mut frames: impl Stream<Item = Arrived> + Unpin,
        report: &impl Fn(WatchReport),
    ) -> Result<(), SyncError> {
        loop {
            self.take_events(report);
            let dead = self.clock + Duration::from_millis(self.client.timeout_ms());
            let wants_frame = self.client.wants_frame();
            let storing = &mut self.storing;
            let is_storing = storing.is_some();
            let stored = async {
                match storing {
                    Some(storing) => storing.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                stored = stored, if is_storing => {
                    self.storing = None;
                    let (tree, outcome) = stored?;
                    let taken = self.client.handle_appended(tree, outcome);
                    taken.map_err(|fault| SyncError::peer(&self.address, fault))?;
                }
                frame = frames.next(), if wants_frame => match frame {
                    Some(frame) => self.take_frame(frame)?,
                    None => return Ok(()),
                },
                () = tokio::time::sleep_until(dead), if wants_frame => {
                    let text = format!("{}: the watch fell silent", self.address);
                    let error = TransportError::timed_out(text);
                    return Err(SyncError::transport(&self.address, error));
                }
            }
        }
    }

    fn take_frame(&mut self, frame: Arrived) -> Result<(), SyncError> {
        let news = frame.map_err(|error| SyncError::transport(&self.address, error))?;
        let news = news.map_err(|fault| SyncError::peer(&self.address, fault))?;
        let taken = self.client.handle_news(news, now_ms(self.clock));
        taken.map_err(|fault| SyncError::peer(&self.address, fault))
    }

    /// Reports what happened and begins to store the next entries.
    fn take_events(&mut self, report: &impl Fn(WatchReport)) {
        while self.storing.is_none()
            && let Some(event) = self.client.poll_event()
        {
            match event {
                WatchEvent::Store { tree, entries } => {
                    self.storing = Some(self.store(tree, entries));
                }
                WatchEvent::Reached { tree, cursor } => report(WatchReport::Reached(tree, cursor)),
                WatchEvent::CompareFirst { tree } => report(WatchReport::CompareFirst(tree)),
                WatchEvent::Gone { tree } => report(WatchReport::Gone(tree)),
            }
        }
    }

    /// Stores what arrived before the end.
    async fn drain(&mut self, report: &impl Fn(WatchReport)) {
        loop {
            self.take_events(report);
            let Some(storing) = self.storing.take() else {
                return;
            };
            match storing.await {
                Ok((tree, outcome)) => {
                    let _further_faults_tell_nothing = self.client.handle_appended(tree, outcome);
                }
                Err(error) => {
                    tracing::error!(%error, "cannot store what arrived before a watch ended");
                    return;
                }
            }
        }
    }

    fn store(&self, tree: TreeId, entries: Vec<VerifiedEntry>) -> Storing {
        let (store, news) = (self.store.clone(), self.news.clone());
        let origin = self.origin.clone();
        let append = move || append_and_tell(&*store, &news, &origin, tree, entries);
        blocking::run(append)
            .map(move |stored| stored.map(|outcome| (tree, outcome)))
            .boxed()
    }
}

fn now_ms(clock: Instant) -> u64 {
    clock.elapsed().as_millis() as u64
}

/// A frame that arrived, unpacked.
type Arrived = Result<Result<ReceivedNews, PeerFault>, TransportError>;

/// Unpacks the frames of a watch of these trees, in order, several at a time.
fn unpacked(
    trees: Arc<[TreeId]>,
    frames: FrameStream,
) -> impl Stream<Item = Arrived> + Send + Unpin {
    let unpack = move |frame: Result<bytes::Bytes, TransportError>| {
        let trees = trees.clone();
        async move {
            let frame = frame?;
            Ok(blocking::run(move || ReceivedNews::from_frame(&trees, &frame)).await)
        }
    };
    Box::pin(frames.map(unpack).buffered(UNPACKING_MAX))
}
