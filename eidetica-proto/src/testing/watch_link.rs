//! Two stores and a watch between them, in one thread and in virtual time.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use eidetica_dag::{AppendOutcome, EntryId, MemoryDag, PublicKey, TreeId, VerifiedEntry};

use super::transcript::in_order;
use crate::batch::unpack;
use crate::cursor::{Cursor, LogId};
use crate::message::{Request, RequestHeader, WatchFrame};
use crate::origins::Origins;
use crate::source::ViewSource;
use crate::sync_fault::SyncFault;
use crate::watch::{ReceivedNews, WatchClient, WatchEvent, WatchServer, WatchStep};

/// Any number of trees in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryTrees {
    trees: BTreeMap<TreeId, Arc<MemoryDag>>,
}

impl MemoryTrees {
    /// Holds these trees.
    pub fn new(trees: impl IntoIterator<Item = MemoryDag>) -> Self {
        let named = |dag: MemoryDag| (dag.tree(), Arc::new(dag));
        let trees = trees.into_iter().map(named).collect();
        Self { trees }
    }

    /// Stores what can be stored.
    ///
    /// # Panics
    /// If an entry would be stored before its parents.
    pub fn append(&mut self, tree: TreeId, entries: Vec<VerifiedEntry>) -> AppendOutcome {
        let dag = self
            .trees
            .entry(tree)
            .or_insert_with(|| Arc::new(MemoryDag::new(tree)));
        super::link::append(Arc::make_mut(dag), entries)
    }

    /// Puts a tree in the place of the one of the same name, as restoring a backup does.
    pub fn replace(&mut self, dag: MemoryDag) {
        self.trees.insert(dag.tree(), Arc::new(dag));
    }

    /// Removes a tree.
    pub fn remove(&mut self, tree: TreeId) {
        self.trees.remove(&tree);
    }

    /// Returns a tree, which is empty if it is not here.
    pub fn dag(&self, tree: TreeId) -> Arc<MemoryDag> {
        let empty = || Arc::new(MemoryDag::new(tree));
        self.trees.get(&tree).cloned().unwrap_or_else(empty)
    }
}

impl ViewSource for MemoryTrees {
    type View = MemoryDag;

    fn view(&self, tree: TreeId) -> Result<Arc<MemoryDag>, Infallible> {
        Ok(self.dag(tree))
    }
}

type Names = dyn Fn(&EntryId) -> String;

/// A watch that A asked for and B answers.
pub struct WatchLink {
    /// The asking side.
    pub client: WatchClient,
    /// The answering side.
    pub server: WatchServer,
    /// What B remembers of who brought what.
    pub origins: Origins,
    /// The time on both sides.
    pub now_ms: u64,
    /// One line for each frame and for what A makes of it.
    pub transcript: Vec<String>,
    /// The cursors that A reached, and those that it began with.
    pub cursors: BTreeMap<TreeId, Cursor>,
    /// How many entries A received that it had already.
    pub redundant: usize,
    names: Box<Names>,
}

impl WatchLink {
    /// Opens a watch of these trees. `log` names B's log, `client` is the key that A proved.
    ///
    /// # Panics
    /// If A and B do not understand each other.
    pub fn open(
        cursors: impl IntoIterator<Item = (TreeId, Cursor)>,
        client_key: Option<PublicKey>,
        log: LogId,
        now_ms: u64,
    ) -> Self {
        let cursors: BTreeMap<TreeId, Cursor> = cursors.into_iter().collect();
        let mut client = WatchClient::new(cursors.clone().into_iter().collect(), now_ms);
        let request = RequestHeader::decode(&client.header()).expect("a request");
        let Request::Watch(request) = request.request else {
            panic!("a watch asks for a watch");
        };
        let server = WatchServer::new(request, client_key, log, now_ms);
        let answered = client.handle_header(&server.header(), now_ms);
        answered.expect("the watch is granted");
        Self {
            client,
            server,
            origins: Origins::new(),
            now_ms,
            transcript: Vec::new(),
            cursors,
            redundant: 0,
            names: Box::new(|id| id.short()),
        }
    }

    /// Names entries in the transcript.
    #[must_use]
    pub fn names(mut self, names: impl Fn(&EntryId) -> String + 'static) -> Self {
        self.names = Box::new(names);
        self
    }

    /// Returns the next frame of B, or `None` if it waits.
    pub fn poll_frame(&mut self, b: &MemoryTrees) -> Option<Bytes> {
        loop {
            let Ok(step) = self.server.poll(b, &self.origins, self.now_ms);
            match step {
                WatchStep::Frame(frame) => return Some(frame),
                WatchStep::Continue => {}
                WatchStep::WaitUntil(_) => return None,
            }
        }
    }

    /// Hands a frame to A, which stores what it can.
    ///
    /// # Errors
    /// What A finds wrong with it.
    pub fn deliver(&mut self, a: &mut MemoryTrees, frame: &[u8]) -> Result<(), SyncFault> {
        self.transcript.push(self.describe(frame));
        let news = ReceivedNews::from_frame(&self.client.trees(), frame)?;
        let taken = self.client.handle_news(news, self.now_ms);
        let stored = self.store(a);
        taken.and(stored)
    }

    /// Does what A says until it has nothing more to say.
    fn store(&mut self, a: &mut MemoryTrees) -> Result<(), SyncFault> {
        while let Some(event) = self.client.poll_event() {
            match event {
                WatchEvent::Store { tree, entries } => {
                    let outcome = a.append(tree, entries);
                    self.redundant += outcome.duplicates;
                    let dag = a.dag(tree);
                    let line =
                        super::transcript::describe_outcome("A", &dag, &outcome, &self.names);
                    self.transcript.push(line);
                    self.client.handle_appended(tree, outcome)?;
                }
                WatchEvent::Reached { tree, cursor } => {
                    self.cursors.insert(tree, cursor);
                }
                WatchEvent::CompareFirst { tree } => {
                    self.cursors.remove(&tree);
                    self.transcript.push("A has to compare".to_owned());
                }
                WatchEvent::Gone { tree } => {
                    self.cursors.remove(&tree);
                    self.transcript.push("A learns that it is gone".to_owned());
                }
            }
        }
        Ok(())
    }

    /// Carries all that B has to say.
    ///
    /// # Panics
    /// If A finds something wrong with it.
    pub fn run(&mut self, a: &mut MemoryTrees, b: &MemoryTrees) {
        while let Some(frame) = self.poll_frame(b) {
            self.deliver(a, &frame).expect("B is honest");
        }
    }

    /// Stores entries at B, as if they were written there or brought by `origin`.
    pub fn append_at_b(
        &mut self,
        b: &mut MemoryTrees,
        tree: TreeId,
        entries: Vec<VerifiedEntry>,
        origin: Option<PublicKey>,
    ) {
        let stored = b.append(tree, entries).stored;
        if let Some(peer) = origin {
            self.origins.handle_stored(tree, stored, peer);
        }
        self.server.handle_changed(tree);
    }

    /// Returns the transcript since the last call.
    pub fn take_transcript(&mut self) -> Vec<String> {
        std::mem::take(&mut self.transcript)
    }

    fn describe(&self, frame: &[u8]) -> String {
        let said = match WatchFrame::decode(frame) {
            Ok(WatchFrame::Entries { tree, batch, .. }) => {
                let name = self.client.trees().get(usize::from(tree)).copied();
                match name.map(|name| unpack(name, batch)) {
                    Some(Ok(entries)) => {
                        let ids: Vec<EntryId> = entries.iter().map(|entry| entry.id()).collect();
                        format!("news of {tree}: {}", in_order(&ids, &self.names))
                    }
                    Some(Err(error)) => format!("no batch: {error}"),
                    None => format!("news of no tree: {tree}"),
                }
            }
            Ok(WatchFrame::CompareFirst { tree }) => format!("compare {tree} first"),
            Ok(WatchFrame::Gone { tree }) => format!("{tree} is gone"),
            Ok(WatchFrame::Heartbeat) => "heartbeat".to_owned(),
            Ok(WatchFrame::Failed(error)) => format!("fails: {:?}", error.code),
            Ok(WatchFrame::Unknown(kind)) => format!("kind {kind}"),
            Err(fault) => format!("no frame: {fault}"),
        };
        format!("B -> A {said}")
    }
}
