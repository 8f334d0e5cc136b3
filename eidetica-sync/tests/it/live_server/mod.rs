//! A node answers peers that stay: watches, checks of many trees, swaps of address records, and
//! trees that are given to it. The peers ask by hand.

mod checks;
mod given;
mod limits;
mod many;
mod peers;
mod restarts;
mod watches;

use std::time::Duration;

use bytes::Bytes;
use eidetica_dag::{Body, SecretKey, SignedEntry, TreeId};
use eidetica_proto::batch::unpack;
use eidetica_proto::message::{Reply, Request, RequestHeader, ResponseHeader, Watch, WatchFrame};
use eidetica_proto::{Cursor, ErrorCode, FrameStream, SyncTransport};
use eidetica_sync::Node;
use eidetica_sync::store::Store;
use futures::StreamExt;

use crate::common::raw::{As, Way, begin};

/// What a watcher sees next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The texts of entries, in the order in which they came.
    News(TreeId, Vec<String>),
    CompareFirst(TreeId),
    Gone(TreeId),
    Heartbeat,
    Failed(ErrorCode, Option<u32>),
    /// The answer ended in good order.
    End,
}

/// A peer that watches.
pub(crate) struct Watcher<T> {
    trees: Vec<TreeId>,
    /// Which it reached last.
    cursor: Cursor,
    frames: FrameStream,
    /// Held, because connections end with it.
    _transport: T,
}

/// Opens a watch of trees, ascending, each from a cursor.
pub(crate) async fn watch<W: Way>(
    way: &W,
    server: &Node,
    key: &SecretKey,
    trees: Vec<(TreeId, Cursor)>,
) -> Watcher<W::Transport> {
    let names = trees.iter().map(|(tree, _)| *tree).collect();
    let request = RequestHeader::new(Request::Watch(Watch { trees })).encode();
    let mut asked = begin(way, server, As::Key(key), &[request]).await;
    let header = ResponseHeader::decode(&asked.next().await).expect("an answer");
    assert_eq!(header.reply, Ok(Reply::Watching));
    Watcher {
        trees: names,
        cursor: Cursor::NONE,
        frames: asked.frames,
        _transport: asked.transport,
    }
}

impl<T: SyncTransport> Watcher<T> {
    /// Waits for the next frame.
    pub(crate) async fn next(&mut self) -> Seen {
        let Some(frame) = self.frames.next().await else {
            return Seen::End;
        };
        let frame = frame.expect("the connection lasts");
        let tree = |index: u16| self.trees[usize::from(index)];
        match WatchFrame::decode(&frame).expect("a frame of a watch") {
            WatchFrame::Entries {
                tree: index,
                cursor,
                batch,
            } => {
                self.cursor = cursor;
                let entries = unpack(tree(index), batch).expect("a batch");
                Seen::News(tree(index), entries.iter().map(text).collect())
            }
            WatchFrame::CompareFirst { tree: index } => Seen::CompareFirst(tree(index)),
            WatchFrame::Gone { tree: index } => Seen::Gone(tree(index)),
            WatchFrame::Heartbeat => Seen::Heartbeat,
            WatchFrame::Failed(error) => Seen::Failed(error.code, error.retry_after_ms),
            WatchFrame::Unknown(kind) => panic!("kind {kind}"),
        }
    }

    /// Tells whether nothing comes within this time.
    pub(crate) async fn is_silent(&mut self, time: Duration) -> bool {
        let next = tokio::time::timeout(time, self.frames.next()).await;
        next.is_err()
    }
}

fn text(entry: &SignedEntry) -> String {
    match &entry.entry().body {
        Body::Data(data) => String::from_utf8_lossy(data).into_owned(),
        Body::Access(_) => "access".to_owned(),
        Body::Genesis(_) => "genesis".to_owned(),
        Body::Extension { .. } => "extension".to_owned(),
    }
}

/// Texts of news.
pub(crate) fn news(tree: TreeId, texts: &[&str]) -> Seen {
    Seen::News(tree, texts.iter().map(|text| (*text).to_owned()).collect())
}

/// The place after everything that a store has of a tree.
pub(crate) fn end_of(store: &dyn Store, tree: TreeId) -> Cursor {
    let snapshot = store.snapshot(tree).expect("the store works");
    Cursor::at_end(store.log_id(), &*snapshot).expect("the store works")
}

pub(crate) fn header(request: Request) -> Vec<Bytes> {
    vec![RequestHeader::new(request).encode()]
}
