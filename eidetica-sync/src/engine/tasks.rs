//! What the actions of the coordinator do: one function for each kind.

use std::sync::Arc;

use eidetica_dag::TreeId;
use eidetica_proto::check::{CheckOutcome, CheckSession};
use eidetica_proto::coordinator::{CheckAnswer, ExchangeId, Outcome, PeerCursor, PeerId};
use eidetica_proto::message::{Request, RequestHeader};
use eidetica_proto::push::{PushOutcome, PushSession, PushStart};
use eidetica_proto::tips::TipDigest;
use eidetica_proto::{Cursor, ErrorCode, Progress, SyncOptions, SyncOutcome, SyncSession};
use tokio::sync::watch;

use super::outcome::peer_cursor;
use super::shared::Shared;
use crate::client::dialer::Dialer;
use crate::client::error::SyncError;
use crate::client::grant::show_grant;
use crate::client::session_driver::{SessionDriver, Synced};
use crate::client::watch_driver::{WatchDriver, WatchReport};
use crate::platform::blocking;
use crate::store::StoreError;
use crate::transport::frame_streams::{EntrySource, OutgoingMessage};

/// One exchange with one peer.
#[derive(Clone)]
pub(super) struct Exchange {
    pub(super) shared: Arc<Shared>,
    pub(super) id: ExchangeId,
    pub(super) peer: PeerId,
}

/// How an exchange ended.
pub(super) type Ended = Result<Outcome, Arc<SyncError>>;

impl Exchange {
    fn answered(&self) {
        self.shared
            .input(|core, now_ms| core.coordinator.handle_answered(self.id, now_ms));
    }

    /// Compares the tip digests of many trees.
    pub(super) async fn check(self, trees: Arc<[TreeId]>) -> Ended {
        let store = self.shared.store.clone();
        let read = move || {
            let digest = |tree: &TreeId| {
                let snapshot = store.snapshot(*tree)?;
                let digest = TipDigest::of_view(&*snapshot)?;
                Ok((*tree, digest, snapshot.entry_count()))
            };
            trees
                .iter()
                .map(digest)
                .collect::<Result<Vec<_>, StoreError>>()
        };
        let read = blocking::run(read).await.map_err(SyncError::from)?;
        let settled = read.iter().map(|(.., count)| *count).collect::<Vec<u32>>();
        let tips = read.into_iter().map(|(tree, tips, _)| (tree, tips));
        let seed = self.shared.random.bytes();
        let mut session = CheckSession::new(tips.collect(), seed);
        let mut answers = Vec::with_capacity(settled.len());
        while let Some(request) = session.poll_request() {
            let header = RequestHeader::new(Request::CheckTrees(request)).encode();
            let request = OutgoingMessage::header_only(header);
            let reached = self.shared.dialer.exchange(self.peer, &request).await?;
            self.answered();
            let address = reached.address.clone();
            let outcomes = session
                .handle_header(&reached.only_frame().await?)
                .map_err(|fault| SyncError::peer(&address, fault))?;
            for (_, outcome) in outcomes {
                let settled = settled.get(answers.len()).copied().unwrap_or(0);
                answers.push(check_answer(outcome, settled));
            }
        }
        Ok(Outcome::Checked(answers))
    }

    /// Compares one tree in full.
    pub(super) async fn sync(self, tree: TreeId, pull: bool, push: bool) -> Ended {
        // There is no comparison that only pushes: what it pulls is welcome all the same.
        let _ = pull;
        let options = SyncOptions {
            push,
            filter_at_once: true,
        };
        let (progress, _) = watch::channel(Progress::default());
        let synced = self.shared.sync(
            &self.shared.dialer,
            self.peer,
            (tree, options),
            progress,
            || self.answered(),
        );
        let Synced { report, settled } = synced.await?;
        let cursor = peer_cursor(report.cursor);
        Ok(match report.outcome {
            SyncOutcome::Equal | SyncOutcome::MovedOn | SyncOutcome::Pulled => {
                Outcome::Success { settled, cursor }
            }
            SyncOutcome::PeerIsReadOnly => Outcome::Refused {
                code: ErrorCode::ReadOnly,
                cursor,
            },
            SyncOutcome::PeerMayNotRead => Outcome::Refused {
                code: ErrorCode::NotFound,
                cursor,
            },
            SyncOutcome::PeerLacksParents => Outcome::CompareFirst,
        })
    }

    /// Sends what arrived here, without asking first.
    pub(super) async fn push(self, tree: TreeId, from: u32) -> Ended {
        let (store, news) = (self.shared.store.clone(), self.shared.news.clone());
        let peer = self.peer;
        let begin = move || {
            // Before the view, so that they cover all of it.
            let origins = news.origins();
            let view = store.snapshot(tree)?;
            PushSession::begin(&*view, tree, from, Some(&peer), &origins)
        };
        let start = blocking::run(begin).await.map_err(SyncError::from)?;
        self.send(tree, start).await
    }

    /// Offers a whole tree to a peer that lacks it.
    pub(super) async fn give(self, tree: TreeId) -> Ended {
        let (store, peer) = (self.shared.store.clone(), self.peer);
        let begin = move || PushSession::give(&*store.snapshot(tree)?, tree, Some(&peer));
        let start = blocking::run(begin).await.map_err(SyncError::from)?;
        self.send(tree, start).await
    }

    async fn send(self, tree: TreeId, start: PushStart) -> Ended {
        let session = match start {
            PushStart::Send(session) => session,
            PushStart::Done(outcome) => return Ok(push_outcome(outcome)),
        };
        let entries = session.entries().clone();
        let store = self.shared.store.clone();
        let source = EntrySource { store, tree };
        let uploaded = self.shared.dialer.upload(self.peer, entries, source);
        let reached = uploaded.await?.reached;
        self.answered();
        let address = reached.address.clone();
        let outcome = session
            .handle_header(&reached.only_frame().await?)
            .map_err(|fault| SyncError::peer(&address, fault))?;
        Ok(push_outcome(outcome))
    }

    /// Watches trees until the peer ends the watch, or it is cut.
    pub(super) async fn watch(
        self,
        trees: Vec<(TreeId, PeerCursor)>,
        replaces: Option<ExchangeId>,
    ) -> Ended {
        let place = |cursor: PeerCursor| Cursor::from_bytes(cursor.as_bytes());
        let trees = trees.into_iter();
        let trees = trees.map(|(tree, cursor)| (tree, place(cursor).unwrap_or(Cursor::NONE)));
        let driver = WatchDriver {
            store: &self.shared.store,
            dialer: &self.shared.dialer,
            news: &self.shared.news,
            peer: self.peer,
        };
        let result = driver.run(trees.collect(), |report| {
            if let (WatchReport::Opened, Some(before)) = (report, replaces) {
                self.shared.replace(before);
            }
            self.note(report);
        });
        let result = result.await;
        // One that could not be opened leaves the one before without a meaning, too.
        if let Some(before) = replaces {
            self.shared.replace(before);
        }
        result?;
        Ok(Outcome::Success {
            settled: 0,
            cursor: None,
        })
    }

    fn note(&self, report: WatchReport) {
        let id = self.id;
        self.shared.input(|core, now_ms| {
            let coordinator = &mut core.coordinator;
            match report {
                WatchReport::Opened => coordinator.handle_answered(id, now_ms),
                WatchReport::Reached(tree, cursor) => {
                    if let Some(cursor) = peer_cursor(cursor) {
                        coordinator.handle_news(id, tree, cursor, now_ms);
                    }
                }
                WatchReport::CompareFirst(tree) => {
                    coordinator.handle_compare_first(id, tree, now_ms);
                }
                WatchReport::Gone(tree) => coordinator.handle_gone(id, tree, now_ms),
            }
        });
    }
}

impl Shared {
    /// Syncs one tree with a peer, and tells programs of it. A peer that does not let this node read
    /// the tree may have lost the grant, which is shown to it then.
    pub(super) async fn sync(
        &self,
        dialer: &Dialer,
        peer: PeerId,
        (tree, options): (TreeId, SyncOptions),
        progress: watch::Sender<Progress>,
        answered: impl Fn(),
    ) -> Result<Synced, Arc<SyncError>> {
        let addresses = self.dialer.book.addresses(&peer);
        let publisher = self.news.publisher();
        let started = publisher.sync_started(tree, peer, addresses);
        let driver = SessionDriver {
            store: &self.store,
            dialer,
            news: &self.news,
            peer,
            progress,
        };
        let session = || SyncSession::new(tree, options, self.random.bytes());
        let mut synced = driver.run(session(), &answered).await;
        if let Err(error) = &synced
            && error.is_not_found()
            && show_grant(&self.store, dialer, peer, tree).await
        {
            synced = driver.run(session(), answered).await;
        }
        let synced = synced.map_err(Arc::new);
        let report = synced.as_ref().map(|synced| synced.report.clone());
        started.end(report.map_err(Clone::clone));
        synced
    }
}

fn check_answer(outcome: CheckOutcome, settled: u32) -> CheckAnswer {
    match outcome {
        CheckOutcome::Equal(cursor) => match PeerCursor::new(cursor.as_bytes()) {
            Some(cursor) => CheckAnswer::Equal { settled, cursor },
            None => CheckAnswer::Differs,
        },
        CheckOutcome::Differs => CheckAnswer::Differs,
        CheckOutcome::NotHere => CheckAnswer::Absent,
    }
}

fn push_outcome(outcome: PushOutcome) -> Outcome {
    match outcome {
        PushOutcome::Settled { up_to, cursor, .. } => Outcome::Success {
            settled: up_to,
            cursor: cursor.and_then(peer_cursor),
        },
        PushOutcome::MissingParents => Outcome::CompareFirst,
        PushOutcome::NotHere => Outcome::NotHere,
        PushOutcome::ReadOnly => Outcome::Refused {
            code: ErrorCode::ReadOnly,
            cursor: None,
        },
        PushOutcome::PeerMayNotRead => Outcome::Refused {
            code: ErrorCode::NotFound,
            cursor: None,
        },
    }
}
