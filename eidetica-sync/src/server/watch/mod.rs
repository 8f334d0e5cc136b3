//! Answers watches: a peer follows the arrival logs of trees, and what arrives here is sent to it.
//!
//! What to send is decided by [`WatchServer`]. Here each frame is made when the transport asks for
//! it, on a blocking thread, from a snapshot that is given back with it. Nothing is queued: a watch
//! keeps one number for each tree, and a reader that is slow gets larger batches later.

mod places;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use eidetica_dag::{PublicKey, TreeId};
use eidetica_proto::message::{Watch, WatchFrame};
use eidetica_proto::watch::{WatchServer, WatchStep};
use eidetica_proto::{Caller, ErrorCode, FrameStream, WireError};
use futures::{StreamExt, stream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Duration, Instant, sleep_until};

use self::places::{WatchPlace, WatchPlaces};
use crate::news::{InboundWatch, News, WatchNews};
use crate::platform::blocking;
use crate::server::views::StoreViews;
use crate::store::{Store, StoreError};

/// How many watches read from the store at a time. One write wakes all watches of its tree, and more
/// threads than this only take turns.
const READS_MAX: usize = 8;

/// When to watch again after a watch has lost its place, in milliseconds. Checks bring the news
/// meanwhile.
const LOST_RETRY_MS: u32 = 60_000;

/// Answers the watches of peers.
pub(crate) struct WatchAnswerer {
    store: Arc<dyn Store>,
    news: News,
    places: WatchPlaces,
    reads: Arc<Semaphore>,
}

/// A watch that is being answered.
struct Watching {
    /// Absent while it is polled on a blocking thread.
    server: Option<WatchServer>,
    watcher: Option<PublicKey>,
    store: Arc<dyn Store>,
    news: News,
    reads: Arc<Semaphore>,
    place: WatchPlace,
    marks: WatchNews,
    /// Tells the engine which trees the watch brings the news of.
    inbound: Option<InboundWatch>,
    /// How many trees `marks` covers: those brought and those awaited.
    covered: usize,
    stops: watch::Receiver<u64>,
    /// The zero of the machine's clock.
    began: Instant,
    is_over: bool,
}

impl WatchAnswerer {
    pub(crate) fn new(store: Arc<dyn Store>, news: News) -> Self {
        Self {
            store,
            news,
            places: WatchPlaces::default(),
            reads: Arc::new(Semaphore::new(READS_MAX)),
        }
    }

    /// Returns the frames of the answer. They end when `stops` changes.
    pub(super) async fn answer(
        &self,
        caller: &Caller,
        request: Watch,
        stops: watch::Receiver<u64>,
    ) -> FrameStream {
        let place = self.places.take(caller, request.trees.len());
        let (store, news, watcher) = (self.store.clone(), self.news.clone(), caller.key);
        let reads = self.reads.clone();
        // With many trees it takes some milliseconds.
        let watching = blocking::run(move || {
            let trees: Arc<[TreeId]> = request.trees.iter().map(|(tree, _)| *tree).collect();
            Box::new(Watching {
                // Before the first look at the store, so that nothing is stored unnoticed.
                marks: news.register_watch(trees.clone()),
                covered: trees.len(),
                inbound: watcher.map(|key| {
                    // A tree without a cursor is awaited: the watch does not bring its entries.
                    let brought = request.trees.iter().filter(|(_, cursor)| !cursor.is_none());
                    let brought = brought.map(|(tree, _)| *tree).collect();
                    news.inbound().open(key, brought)
                }),
                server: Some(WatchServer::new(request, watcher, store.log_id(), 0)),
                watcher,
                store,
                news,
                reads,
                place,
                stops,
                began: Instant::now(),
                is_over: false,
            })
        });
        let watching = watching.await;
        let header = watching.server.as_ref().map(WatchServer::header);
        let news = stream::unfold(watching, |mut watching| async move {
            let frame = watching.next_frame().await?;
            Some((Ok(frame), watching))
        });
        Box::pin(stream::iter(header.map(Ok)).chain(news))
    }
}

impl Watching {
    /// Makes the next frame, or returns `None` at the end.
    async fn next_frame(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        // A reader that asks for a frame has taken the one before.
        if !self.place.note_progress() {
            return Some(self.fail(place_lost()));
        }
        loop {
            // An error means that no server is left.
            if self.stops.has_changed().unwrap_or(true) {
                return None;
            }
            match self.poll().await? {
                Ok(WatchStep::Frame(frame)) => return Some(frame),
                Ok(WatchStep::Continue) => {}
                Ok(WatchStep::WaitUntil(_)) if self.cover_live_trees() => {}
                Ok(WatchStep::WaitUntil(at_ms)) => {
                    let wake = sleep_until(self.began + Duration::from_millis(at_ms));
                    tokio::select! {
                        biased;
                        () = self.marks.changed() => {}
                        // A watch without trees lasts as long as the wait for a heartbeat, so that
                        // its reader can open another one in its place.
                        () = wake => if self.covered == 0 {
                            return None;
                        },
                        () = self.place.lost() => return Some(self.fail(place_lost())),
                        _ = self.stops.changed() => return None,
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "the store failed while a watch was answered");
                    return Some(self.fail(WireError::internal()));
                }
            }
        }
    }

    /// Polls the machine on a blocking thread. Returns `None` if a panic there took it away.
    async fn poll(&mut self) -> Option<Result<WatchStep, StoreError>> {
        let mut server = self.server.take()?;
        for tree in self.marks.take_changed() {
            server.handle_changed(tree);
        }
        let _permit = self.reads.acquire().await;
        let now_ms = self.began.elapsed().as_millis() as u64;
        let (store, news) = (self.store.clone(), self.news.clone());
        let watcher = self.watcher;
        let polled = blocking::run(move || {
            let step = server.poll(&StoreViews(&*store), &news.origins(), now_ms);
            let shown = server.take_shown();
            if let Some(key) = watcher
                && !shown.is_empty()
            {
                news.inbound().peer_has(key, shown);
            }
            (server, step)
        });
        let (server, step) = polled.await;
        self.server = Some(server);
        Some(step)
    }

    /// Stops covering trees about which nothing more is said: they cost a watch nothing more, and
    /// the engine may push them. Returns whether there were any, and the machine is to be polled.
    fn cover_live_trees(&mut self) -> bool {
        let Some(server) = &mut self.server else {
            return false;
        };
        if server.live_count() == self.covered {
            return false;
        }
        let trees: Arc<[TreeId]> = server.live_trees().collect();
        self.covered = trees.len();
        let marks = self.news.register_watch(trees.clone());
        // What was stored meanwhile is marked in one of them.
        for tree in self.marks.take_changed() {
            server.handle_changed(tree);
        }
        self.marks = marks;
        let inbound = self.news.inbound();
        let brought = server.brought_trees().collect();
        self.inbound = self.watcher.map(|key| inbound.open(key, brought));
        true
    }

    /// Makes the last frame of a watch that cannot go on.
    fn fail(&mut self, error: WireError) -> Bytes {
        self.is_over = true;
        self.inbound = None;
        WatchFrame::Failed(error).encode()
    }
}

/// Says that others have the place.
fn place_lost() -> WireError {
    WireError {
        retry_after_ms: Some(LOST_RETRY_MS),
        ..WireError::new(ErrorCode::Busy, "too many watches; check now and then")
    }
}
