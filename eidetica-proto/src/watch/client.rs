//! The asking side of a watch.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use eidetica_dag::{
    AppendOutcome, TreeId, UNPROVEN_BYTES_MAX, Verification, VerifiedEntry, verify_batch,
};

use super::SILENCE_MAX_MS;
use crate::batch::unpack;
use crate::cursor::Cursor;
use crate::error::{PeerFault, WireError};
use crate::message::{
    Reply, Request, RequestHeader, ResponseHeader, WATCHED_TREES_MAX, Watch, WatchFrame,
};
use crate::received::Received;
use crate::receiver::{APPEND_BYTES_TARGET, EntryReceiver, ReceiveStep};
use crate::sync_fault::SyncFault;

/// A frame of a watch, unpacked, its ids computed and its signatures checked.
///
/// Unpacking is the expensive half of receiving and needs only the frame, so a driver does it on any
/// thread, several at a time, and hands the results over in order.
#[derive(Debug)]
pub enum ReceivedNews {
    /// Entries of the tree with this index, parents first.
    Entries {
        /// The index in the request.
        index: u16,
        /// The place after them.
        cursor: Cursor,
        /// The entries.
        batch: Verification,
    },
    /// The tree with this index has to be compared.
    CompareFirst(u16),
    /// The tree with this index is absent or may not be read.
    Gone(u16),
    /// A sign of life.
    Heartbeat,
    /// The peer cannot go on.
    Failed(WireError),
}

impl ReceivedNews {
    /// Unpacks a frame of a watch of these trees.
    ///
    /// # Errors
    /// The peer's fault.
    pub fn from_frame(trees: &[TreeId], frame: &[u8]) -> Result<Self, PeerFault> {
        let tree_of = |index: u16| {
            let tree = trees.get(usize::from(index)).copied();
            tree.ok_or(PeerFault::BadList("a tree that is not watched"))
        };
        match WatchFrame::decode(frame)? {
            WatchFrame::Entries {
                tree: index,
                cursor,
                batch,
            } => {
                let batch = verify_batch(unpack(tree_of(index)?, batch)?);
                Ok(Self::Entries {
                    index,
                    cursor,
                    batch,
                })
            }
            WatchFrame::CompareFirst { tree } => tree_of(tree).map(|_| Self::CompareFirst(tree)),
            WatchFrame::Gone { tree } => tree_of(tree).map(|_| Self::Gone(tree)),
            // Whatever a later version says, it is a sign of life.
            WatchFrame::Heartbeat | WatchFrame::Unknown(_) => Ok(Self::Heartbeat),
            WatchFrame::Failed(error) => Ok(Self::Failed(error)),
        }
    }
}

/// What a watcher has to do or to know.
#[derive(Debug)]
pub enum WatchEvent {
    /// Store these durably, and hand what became of them to [`WatchClient::handle_appended`].
    Store {
        /// The tree.
        tree: TreeId,
        /// The entries, parents first.
        entries: Vec<VerifiedEntry>,
    },
    /// Everything before this cursor is durable here: a later watch can begin with it.
    Reached {
        /// The tree.
        tree: TreeId,
        /// The cursor.
        cursor: Cursor,
    },
    /// The peer cannot name the new entries, sent entries whose parents are missing here, or has a
    /// tree of which nothing was known: compare. The watch of this tree is over.
    CompareFirst {
        /// The tree.
        tree: TreeId,
    },
    /// The peer does not have the tree, or does not let this side read it. The watch of this tree is
    /// over.
    Gone {
        /// The tree.
        tree: TreeId,
    },
}

/// Takes what a watch brings.
///
/// Send [`WatchClient::header`]. Hand the first frame of the response to
/// [`WatchClient::handle_header`], each further one to [`WatchClient::handle_news`]; read none while
/// [`WatchClient::wants_frame`] says no. After each call take all of [`WatchClient::poll_event`].
/// When [`WatchClient::timeout_ms`] has come without a frame, the watch is dead. After a fault too,
/// [`WatchClient::poll_event`] still gives what can be stored.
pub struct WatchClient {
    names: Arc<[TreeId]>,
    trees: Vec<Watched>,
    header: Bytes,
    events: VecDeque<WatchEvent>,
    /// Indexes of trees with entries that are ready to be stored, each at most once.
    ready: VecDeque<u16>,
    ready_bytes: usize,
    unproven_bytes: usize,
    heard_ms: u64,
    is_answered: bool,
}

struct Watched {
    state: State,
    /// What arrived and is not stored; nothing for most trees at most times.
    receiver: Option<Box<EntryReceiver>>,
    /// The place after everything that arrived.
    arrived: Cursor,
    storing: Storing,
    is_ready: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Live,
    /// The peer says when the tree can be read, and sends no entries.
    Awaited,
    /// This side wants no more; the peer does not know that.
    Left,
    /// The peer said that it is over.
    Ended,
}

#[derive(Clone, Copy)]
enum Storing {
    No,
    /// Entries are being stored; after them everything before the cursor is.
    UpTo(Option<Cursor>),
}

impl WatchClient {
    /// Watches these trees, each from a cursor of the peer on, or with [`Cursor::NONE`] until it can
    /// be read there; at most [`WATCHED_TREES_MAX`], those
    /// with the lowest ids.
    pub fn new(mut trees: Vec<(TreeId, Cursor)>, now_ms: u64) -> Self {
        trees.sort_unstable_by_key(|(tree, _)| *tree);
        trees.dedup_by_key(|(tree, _)| *tree);
        trees.truncate(WATCHED_TREES_MAX);
        let watched = |(_, cursor): &(TreeId, Cursor)| Watched {
            state: match cursor.is_none() {
                true => State::Awaited,
                false => State::Live,
            },
            receiver: None,
            arrived: *cursor,
            storing: Storing::No,
            is_ready: false,
        };
        Self {
            names: trees.iter().map(|(tree, _)| *tree).collect(),
            trees: trees.iter().map(watched).collect(),
            header: RequestHeader::new(Request::Watch(Watch { trees })).encode(),
            events: VecDeque::new(),
            ready: VecDeque::new(),
            ready_bytes: 0,
            unproven_bytes: 0,
            heard_ms: now_ms,
            is_answered: false,
        }
    }

    /// Returns the request.
    pub fn header(&self) -> Bytes {
        self.header.clone()
    }

    /// Returns the watched trees, ascending, for [`ReceivedNews::from_frame`].
    pub fn trees(&self) -> Arc<[TreeId]> {
        self.names.clone()
    }

    /// Takes the first frame of the response.
    ///
    /// # Errors
    /// The peer refuses, or breaks the protocol.
    pub fn handle_header(&mut self, frame: &[u8], now_ms: u64) -> Result<(), SyncFault> {
        self.heard_ms = now_ms;
        match ResponseHeader::decode(frame)?.reply? {
            Reply::Watching if !self.is_answered => {
                self.is_answered = true;
                Ok(())
            }
            _ => Err(PeerFault::OutOfPlace {
                got: "another answer",
                wanted: "an answer to a watch",
            }
            .into()),
        }
    }

    /// Takes the next frame of the response, unpacked.
    ///
    /// # Errors
    /// The peer gave up, or breaks the protocol.
    pub fn handle_news(&mut self, news: ReceivedNews, now_ms: u64) -> Result<(), SyncFault> {
        self.heard_ms = now_ms;
        match news {
            _ if !self.is_answered => Err(PeerFault::OutOfPlace {
                got: "news",
                wanted: "an answer to a watch",
            }
            .into()),
            ReceivedNews::Entries {
                index,
                cursor,
                batch,
            } => self.handle_entries(index, cursor, batch),
            ReceivedNews::CompareFirst(index) => {
                let tree = self.tree(index)?;
                self.end(index, WatchEvent::CompareFirst { tree })
            }
            ReceivedNews::Gone(index) => {
                let tree = self.tree(index)?;
                self.end(index, WatchEvent::Gone { tree })
            }
            ReceivedNews::Heartbeat => Ok(()),
            ReceivedNews::Failed(error) => Err(error.into()),
        }
    }

    fn tree(&self, index: u16) -> Result<TreeId, PeerFault> {
        let tree = self.names.get(usize::from(index)).copied();
        tree.ok_or(PeerFault::BadList("a tree that is not watched"))
    }

    fn handle_entries(
        &mut self,
        index: u16,
        cursor: Cursor,
        batch: Verification,
    ) -> Result<(), SyncFault> {
        let tree = self.tree(index)?;
        let watched = &mut self.trees[usize::from(index)];
        match watched.state {
            State::Live => {}
            State::Left => return Ok(()),
            State::Awaited => {
                return Err(PeerFault::OutOfPlace {
                    got: "entries",
                    wanted: "a comparison of a tree of which nothing is known",
                }
                .into());
            }
            State::Ended => {
                return Err(PeerFault::OutOfPlace {
                    got: "entries",
                    wanted: "silence about a tree whose watch is over",
                }
                .into());
            }
        }
        let receiver = watched.receiver.get_or_insert_with(|| {
            let mut receiver = Box::new(EntryReceiver::new(tree));
            receiver.begin_endless();
            receiver
        });
        let before = (receiver.ready_bytes(), receiver.unproven_bytes());
        let taken = receiver.handle_part(Received::Entries(batch), 0, self.heard_ms);
        let after = (receiver.ready_bytes(), receiver.unproven_bytes());
        watched.arrived = cursor;
        self.ready_bytes = self.ready_bytes - before.0 + after.0;
        self.unproven_bytes = self.unproven_bytes - before.1 + after.1;
        if after.0 > 0 && !watched.is_ready {
            watched.is_ready = true;
            self.ready.push_back(index);
        }
        taken?;
        // What waits for an entry that vouches for it is little for each tree; of all of them
        // together a peer could make much.
        if self.unproven_bytes > UNPROVEN_BYTES_MAX {
            self.leave(index);
        }
        Ok(())
    }

    /// Takes that the peer says nothing more of a tree.
    fn end(&mut self, index: u16, event: WatchEvent) -> Result<(), SyncFault> {
        let watched = &mut self.trees[usize::from(index)];
        match watched.state {
            State::Ended => {
                return Err(PeerFault::OutOfPlace {
                    got: "the end of a watch",
                    wanted: "silence about a tree whose watch is over",
                }
                .into());
            }
            // The program was told already.
            State::Left => watched.state = State::Ended,
            State::Live | State::Awaited => {
                watched.state = State::Ended;
                self.events.push_back(event);
            }
        }
        Ok(())
    }

    /// Ends the watch of a tree on this side.
    fn leave(&mut self, index: u16) {
        let watched = &mut self.trees[usize::from(index)];
        if let Some(receiver) = watched.receiver.take() {
            self.ready_bytes -= receiver.ready_bytes();
            self.unproven_bytes -= receiver.unproven_bytes();
        }
        if watched.state == State::Live {
            watched.state = State::Left;
            let tree = self.names[usize::from(index)];
            self.events.push_back(WatchEvent::CompareFirst { tree });
        }
    }

    /// Tells whether another frame may be read. If not, entries have to be stored first.
    pub fn wants_frame(&self) -> bool {
        self.ready_bytes < APPEND_BYTES_TARGET
    }

    /// Returns the next thing to do or to know.
    pub fn poll_event(&mut self) -> Option<WatchEvent> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        for _ in 0..self.ready.len() {
            let index = self.ready.pop_front()?;
            let watched = &mut self.trees[usize::from(index)];
            if matches!(watched.storing, Storing::UpTo(_)) {
                // One step at a time for each tree.
                self.ready.push_back(index);
                continue;
            }
            watched.is_ready = false;
            let Some(receiver) = watched.receiver.as_mut() else {
                continue;
            };
            let ready_bytes = receiver.ready_bytes();
            let ReceiveStep::Append { entries, .. } = receiver.poll_step(self.heard_ms) else {
                continue;
            };
            self.ready_bytes -= ready_bytes;
            // An entry that no other vouches for yet is before the cursor and is not stored.
            let is_all = receiver.unproven_bytes() == 0;
            watched.storing = Storing::UpTo(is_all.then_some(watched.arrived));
            let tree = self.names[usize::from(index)];
            return Some(WatchEvent::Store { tree, entries });
        }
        None
    }

    /// Takes what became of the entries of [`WatchEvent::Store`].
    ///
    /// # Errors
    /// The peer sent an entry that may not be stored. What came before it is.
    pub fn handle_appended(
        &mut self,
        tree: TreeId,
        outcome: AppendOutcome,
    ) -> Result<(), PeerFault> {
        let Ok(index) = self.names.binary_search(&tree) else {
            return Ok(());
        };
        let watched = &mut self.trees[index];
        let storing = std::mem::replace(&mut watched.storing, Storing::No);
        let Some(receiver) = watched.receiver.as_mut() else {
            return Ok(());
        };
        receiver.handle_appended(outcome)?;
        if receiver.has_waiting() {
            self.leave(index as u16);
            return Ok(());
        }
        if receiver.ready_bytes() == 0 && receiver.unproven_bytes() == 0 {
            watched.receiver = None;
        }
        if let Storing::UpTo(Some(cursor)) = storing {
            self.events.push_back(WatchEvent::Reached { tree, cursor });
        }
        Ok(())
    }

    /// Returns when the watch is dead unless a frame comes, in milliseconds.
    pub fn timeout_ms(&self) -> u64 {
        self.heard_ms.saturating_add(SILENCE_MAX_MS)
    }
}
