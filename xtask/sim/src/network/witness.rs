//! Watches what is said in one exchange, and checks it against the stores of both sides.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use eidetica_dag::{EntryId, TreeId};
use eidetica_proto::batch::unpack;
use eidetica_proto::message::{Part, Reply, Request, RequestHeader, ResponseHeader, WatchFrame};
use tokio::time::Instant;

use super::state::Network;
use crate::invariants;

/// How long an answer that has begun may go on after the reader lost its role: the server looks at
/// access when it begins an answer.
const ANSWER_GRACE: Duration = Duration::from_secs(60);

/// How long news may follow after the reader lost its role: a frame that is under way.
const WATCH_GRACE: Duration = Duration::from_secs(1);

/// A watcher of one exchange.
pub(super) struct Witness {
    network: Network,
    from: usize,
    to: usize,
    proves_keys: bool,
    began: Instant,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    request_frames: u32,
    answer_frames: u32,
    request: Option<Request>,
    sent: Vec<EntryId>,
}

impl Witness {
    pub(super) fn new(network: &Network, from: usize, to: usize, proves_keys: bool) -> Self {
        Self {
            network: network.clone(),
            from,
            to,
            proves_keys,
            began: Instant::now(),
            seen: Mutex::default(),
        }
    }

    /// Returns the place of the header among the frames.
    fn header(&self) -> u32 {
        u32::from(!self.proves_keys)
    }

    /// Sees a frame of the request as it is sent.
    pub(super) fn request(&self, frame: &Bytes) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let number = seen.request_frames;
        seen.request_frames += 1;
        if number == self.header() {
            if let Ok(header) = RequestHeader::decode(frame) {
                self.network.record.log(|| {
                    let (from, to) = (self.from, self.to);
                    format!("{from} -> {to} {}", summary(&header.request))
                });
                self.check_cursors(&header.request);
                seen.request = Some(header.request);
            }
        } else if number > self.header()
            && let Some(Request::SendEntries(send)) = &seen.request
            && let Ok(Part::Batch(batch)) = Part::decode(frame)
        {
            let tree = send.tree;
            self.check_reader(self.from, self.to, tree, ANSWER_GRACE);
            if let Ok(entries) = unpack(tree, batch) {
                seen.sent.extend(entries.iter().map(|entry| entry.id()));
            }
        }
    }

    /// Sees a frame of the answer as it is sent.
    pub(super) fn answer(&self, frame: &Bytes) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let number = seen.answer_frames;
        seen.answer_frames += 1;
        if number < self.header() {
            return;
        }
        let is_header = number == self.header();
        match &seen.request {
            Some(Request::SendEntries(send)) if is_header => {
                if let Ok(header) = ResponseHeader::decode(frame)
                    && let Ok(Reply::Stored(stored)) = header.reply
                    && stored.missing.is_empty()
                    && let Some(store) = self.network.store_of(self.to)
                {
                    self.network.record.count("acknowledgements");
                    let holds = invariants::acknowledged_is_durable(&store, send.tree, &seen.sent);
                    let rule = "what is acknowledged is stored";
                    self.network.record.check(rule, holds);
                }
            }
            Some(Request::SyncTree(sync)) if !is_header => {
                if let Ok(Part::Batch(_)) = Part::decode(frame) {
                    self.check_reader(self.to, self.from, sync.tree, ANSWER_GRACE);
                }
            }
            Some(Request::Watch(watch)) if !is_header => {
                if let Ok(WatchFrame::Entries { tree, .. }) = WatchFrame::decode(frame)
                    && let Some((tree, _)) = watch.trees.get(usize::from(tree))
                {
                    self.network.record.count("frames of news");
                    self.check_reader(self.to, self.from, *tree, WATCH_GRACE);
                }
            }
            _ => {}
        }
    }

    /// Checks that the receiver of entries may read them.
    fn check_reader(&self, sender: usize, reader: usize, tree: TreeId, grace: Duration) {
        let Some(store) = self.network.store_of(sender) else {
            return;
        };
        let since = Instant::now().checked_sub(grace).unwrap_or(self.began);
        if store.access_changed(tree).is_some_and(|at| at >= since) {
            return;
        }
        let holds = invariants::reader_may_read(&store, tree, &self.network.key_of(reader));
        let rule = "nothing is given to who may not read";
        self.network
            .record
            .check(rule, holds.map_err(|text| format!("node {sender}: {text}")));
    }

    /// Checks the cursors that a request shows.
    fn check_cursors(&self, request: &Request) {
        let Request::Watch(watch) = request else {
            return;
        };
        if self.network.has_lied(self.to) {
            return;
        }
        let stores = (
            self.network.store_of(self.from),
            self.network.store_of(self.to),
        );
        let (Some(own), Some(theirs)) = stores else {
            return;
        };
        for (tree, cursor) in &watch.trees {
            let holds = invariants::cursor_skips_nothing(&own, &theirs, *tree, cursor);
            let rule = "a cursor skips nothing";
            let (from, to) = (self.from, self.to);
            let holds = holds.map_err(|text| format!("node {from} at node {to}: {text}"));
            self.network.record.check(rule, holds);
        }
    }
}

/// Returns a line about a request.
fn summary(request: &Request) -> String {
    let short = |tree: &TreeId| tree.root().short();
    match request {
        Request::SyncTree(sync) => format!("sync {}", short(&sync.tree)),
        Request::SendEntries(send) => format!("send {} to {}", send.entries, short(&send.tree)),
        Request::Watch(watch) => format!("watch {} trees", watch.trees.len()),
        Request::Join(join) => format!("join {} as {:?}", short(&join.tree), join.role),
        other => {
            let text = format!("{other:?}");
            let name = text.split(['(', ' ', '{']).next();
            name.unwrap_or_default().to_lowercase()
        }
    }
}
