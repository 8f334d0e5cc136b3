//! The answering side of a watch.

use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};

use bytes::Bytes;
use eidetica_dag::{DagView, EntryView, PublicKey, Role, TreeId};

use super::{HEARTBEAT_MS, TREES_PER_STEP_MAX, WATCH_BEHIND_MAX};
use crate::answer::{AnswerError, check_access};
use crate::batch::Packer;
use crate::cursor::{Cursor, LogId};
use crate::message::{Reply, ResponseHeader, Watch, WatchFrame};
use crate::origins::Origins;
use crate::source::{ViewError, ViewSource};

/// What a server does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchStep {
    /// Send this frame, and poll again when there is room for another one.
    Frame(Bytes),
    /// Poll again: nothing to send was found yet, and other work may go first.
    Continue,
    /// Poll again when a tree has changed, or at this time in milliseconds.
    WaitUntil(u64),
}

/// Answers one watch.
///
/// Send [`WatchServer::header`] and then what [`WatchServer::poll`] says. Call
/// [`WatchServer::handle_changed`] whenever entries of a tree may be passed on, as
/// [`Origins::passable`] counts them.
pub struct WatchServer {
    watcher: Option<PublicKey>,
    log: LogId,
    /// Ascending by tree.
    trees: Vec<Watched>,
    /// Indexes of trees to look at, each at most once, so that no tree keeps others waiting.
    queue: VecDeque<u16>,
    /// How many trees are not over.
    live: usize,
    /// Places that the watcher has reached by its cursors, until they are taken.
    shown: Vec<(TreeId, u32)>,
    last_frame_ms: u64,
}

struct Watched {
    tree: TreeId,
    place: Place,
    is_queued: bool,
}

/// How far a watcher has been sent the log of a tree.
#[derive(Clone, Copy)]
enum Place {
    /// As far as its cursor says, which has not been checked. With [`Cursor::NONE`], the watcher
    /// waits for the tree to be there and readable.
    Asked(Cursor),
    /// Before this position.
    At(u32),
    /// It was told that the watch of this tree is over.
    Over,
}

impl WatchServer {
    /// Answers a request of the client of this key; `log` is the store's. The request was read by
    /// [`RequestHeader::decode`](crate::message::RequestHeader::decode), so its trees ascend.
    pub fn new(request: Watch, watcher: Option<PublicKey>, log: LogId, now_ms: u64) -> Self {
        let watched = |(tree, cursor)| Watched {
            tree,
            place: Place::Asked(cursor),
            is_queued: true,
        };
        let trees: Vec<Watched> = request.trees.into_iter().map(watched).collect();
        Self {
            watcher,
            log,
            queue: (0..trees.len() as u16).collect(),
            live: trees.len(),
            shown: Vec::new(),
            trees,
            last_frame_ms: now_ms,
        }
    }

    /// Returns the first frame of the response.
    pub fn header(&self) -> Bytes {
        ResponseHeader::encode(Ok(Reply::Watching))
    }

    /// Takes that more entries of a tree may be passed on. Trees that are not watched are passed over.
    pub fn handle_changed(&mut self, tree: TreeId) {
        if let Ok(index) = (self.trees).binary_search_by_key(&tree, |watched| watched.tree) {
            self.enqueue(index as u16);
        }
    }

    /// Lists the trees whose entries the watch brings, ascending: those that the watcher has a place
    /// in and that are not over.
    pub fn brought_trees(&self) -> impl Iterator<Item = TreeId> {
        let brought = |watched: &&Watched| match watched.place {
            Place::Asked(cursor) => !cursor.is_none(),
            Place::At(_) => true,
            Place::Over => false,
        };
        let brought = self.trees.iter().filter(brought);
        brought.map(|watched| watched.tree)
    }

    /// Takes what the cursors of the request tell of the watcher: it has every entry of a tree that
    /// arrived here before the number. Each is told once, after the first look at its tree.
    pub fn take_shown(&mut self) -> Vec<(TreeId, u32)> {
        std::mem::take(&mut self.shown)
    }

    /// Returns how many trees there may be more to say of.
    pub fn live_count(&self) -> usize {
        self.live
    }

    /// Lists the trees of which there may be more to say, ascending.
    pub fn live_trees(&self) -> impl Iterator<Item = TreeId> {
        let live = |watched: &&Watched| !matches!(watched.place, Place::Over);
        self.trees.iter().filter(live).map(|watched| watched.tree)
    }

    fn enqueue(&mut self, index: u16) {
        let watched = &mut self.trees[usize::from(index)];
        if !watched.is_queued && !matches!(watched.place, Place::Over) {
            watched.is_queued = true;
            self.queue.push_back(index);
        }
    }

    /// Returns what to do next. Makes at most one frame and looks at no more than
    /// [`TREES_PER_STEP_MAX`] trees.
    ///
    /// # Errors
    /// Those of the store. The watch is to be ended with [`WatchFrame::Failed`].
    pub fn poll<S: ViewSource + ?Sized>(
        &mut self,
        source: &S,
        origins: &Origins,
        now_ms: u64,
    ) -> Result<WatchStep, ViewError<S>> {
        for _ in 0..TREES_PER_STEP_MAX {
            let Some(index) = self.queue.pop_front() else {
                break;
            };
            self.trees[usize::from(index)].is_queued = false;
            if let Some(frame) = self.look(source, origins, index)? {
                self.last_frame_ms = now_ms;
                return Ok(WatchStep::Frame(frame));
            }
        }
        if now_ms >= self.last_frame_ms.saturating_add(HEARTBEAT_MS) {
            self.last_frame_ms = now_ms;
            return Ok(WatchStep::Frame(WatchFrame::Heartbeat.encode()));
        }
        match self.queue.is_empty() {
            true => Ok(WatchStep::WaitUntil(self.last_frame_ms + HEARTBEAT_MS)),
            false => Ok(WatchStep::Continue),
        }
    }

    /// Looks at a tree and returns what there is to say.
    fn look<S: ViewSource + ?Sized>(
        &mut self,
        source: &S,
        origins: &Origins,
        index: u16,
    ) -> Result<Option<Bytes>, ViewError<S>> {
        let watched = &self.trees[usize::from(index)];
        let (tree, place) = (watched.tree, watched.place);
        if matches!(place, Place::Over) {
            return Ok(None);
        }
        let view = source.view(tree)?;
        match check_access(&*view, self.watcher.as_ref(), Role::Read) {
            Ok(()) => {}
            // The watcher expects nothing of it yet: a frame would tell nothing, and what comes later
            // may let it read.
            Err(AnswerError::Refuse(_)) if matches!(place, Place::Asked(cursor) if cursor.is_none()) =>
            {
                return Ok(None);
            }
            Err(AnswerError::Refuse(_)) => {
                return Ok(self.over(index, &WatchFrame::Gone { tree: index }));
            }
            Err(AnswerError::View(error)) => return Err(error),
        }
        let count = view.entry_count();
        let position = match place {
            Place::Asked(cursor) => (cursor.position(self.log, &*view)?)
                .filter(|position| count - position <= WATCH_BEHIND_MAX),
            // Logs only grow; one that did not is not the log that was watched.
            Place::At(position) => Some(position).filter(|position| *position <= count),
            Place::Over => return Ok(None),
        };
        let Some(position) = position else {
            return Ok(self.over(index, &WatchFrame::CompareFirst { tree: index }));
        };
        if let Place::Asked(_) = place {
            self.shown.push((tree, position));
        }
        // Not kept for the next frame: a packer keeps the memory of its largest batch, and watches
        // are many and mostly silent.
        let mut packer = Packer::new();
        // The origin of what follows is not noted yet. When it is, the tree counts as changed.
        let passable = origins.passable(tree, count).max(position);
        let end = self.pack(&mut packer, &*view, tree, position..passable, origins)?;
        self.trees[usize::from(index)].place = Place::At(end);
        if end < passable {
            self.enqueue(index);
        }
        if packer.is_empty() {
            return Ok(None);
        }
        let frame = WatchFrame::Entries {
            tree: index,
            cursor: Cursor::at(self.log, &*view, end)?,
            batch: &packer.finish(),
        };
        Ok(Some(frame.encode()))
    }

    /// Says a last thing about a tree.
    fn over(&mut self, index: u16, frame: &WatchFrame<'_>) -> Option<Bytes> {
        self.trees[usize::from(index)].place = Place::Over;
        self.live -= 1;
        Some(frame.encode())
    }

    /// Packs one batch of those arrivals that the watcher did not bring. Returns the position before
    /// which the watcher then has everything.
    fn pack<V: EntryView + ?Sized>(
        &self,
        packer: &mut Packer,
        view: &V,
        tree: TreeId,
        arrivals: Range<u32>,
        origins: &Origins,
    ) -> Result<u32, V::Error> {
        let Range { start: mut at, end } = arrivals;
        while let Some(range) = origins.next_for(tree, at..end, self.watcher.as_ref()) {
            at = range.start;
            view.visit_encoded(range.clone(), &mut |id, entry| {
                if !packer.has_room_for(entry.bytes.len()) {
                    return ControlFlow::Break(());
                }
                packer.push_encoded(id, entry);
                at += 1;
                ControlFlow::Continue(())
            })?;
            if at < range.end {
                return Ok(at);
            }
        }
        Ok(end)
    }
}
