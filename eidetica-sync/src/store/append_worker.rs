//! Stores what arrives in one transfer, while more arrives.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use eidetica_dag::{
    AppendOutcome, Arrival, Contests, PublicKey, Role, TreeId, VerifiedEntry, current_access,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::event::Origin;
use crate::news::News;
use crate::platform::blocking;
use crate::store::{Store, StoreError};

/// Stores one step after the other, all on one thread, which starts with the first.
///
/// Call [`AppendWorker::begin`], then [`AppendWorker::outcome`]. The thread stays the same because
/// allocators keep for each thread what it once needed: where threads take turns, each comes to
/// hold what the store needs at most. Measured with the durable store and 400,000 entries, several
/// threads took 135 MiB and one thread 70.
///
/// The thread itself tells the [`News`], so that they are told even if the transfer is dropped.
pub(crate) struct AppendWorker {
    store: Arc<dyn Store>,
    news: News,
    origin: Origin,
    thread: Option<Thread>,
    is_busy: bool,
}

struct Step {
    tree: TreeId,
    entries: Vec<VerifiedEntry>,
}

type Outcome = Result<(TreeId, AppendOutcome), StoreError>;

struct Thread {
    steps: mpsc::Sender<Step>,
    outcomes: mpsc::Receiver<Outcome>,
    handle: JoinHandle<()>,
}

impl AppendWorker {
    /// Makes a worker that tells what it stores as coming from `origin`.
    pub(crate) fn new(store: Arc<dyn Store>, news: News, origin: Origin) -> Self {
        Self {
            store,
            news,
            origin,
            thread: None,
            is_busy: false,
        }
    }

    /// Begins to store entries of a tree. The step before must have ended.
    pub(crate) fn begin(&mut self, tree: TreeId, entries: Vec<VerifiedEntry>) {
        debug_assert!(!self.is_busy, "one step at a time");
        self.is_busy = true;
        let start = || Thread::start(self.store.clone(), self.news.clone(), self.origin.clone());
        let thread = self.thread.get_or_insert_with(start);
        // There is room, unless the thread has panicked, which shows in the outcome.
        let _ = thread.steps.try_send(Step { tree, entries });
    }

    /// Tells whether a step is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Waits for the end of the step under way, and returns its tree and its outcome. Nothing is
    /// lost if the future is dropped. Without a step under way it waits for ever.
    ///
    /// # Panics
    /// If the store panicked.
    pub(crate) async fn outcome(&mut self) -> Outcome {
        let Some(thread) = self.thread.as_mut().filter(|_| self.is_busy) else {
            return std::future::pending().await;
        };
        let Some(outcome) = thread.outcomes.recv().await else {
            blocking::join(&mut thread.handle).await;
            unreachable!("the thread ends before its steps do only by a panic");
        };
        self.is_busy = false;
        outcome
    }
}

impl Thread {
    fn start(store: Arc<dyn Store>, news: News, origin: Origin) -> Self {
        let (steps, next) = mpsc::channel(1);
        let (ended, outcomes) = mpsc::channel(1);
        let handle = blocking::for_each(next, move |Step { tree, entries }| {
            let outcome = append_and_tell(&*store, &news, &origin, tree, entries);
            let outcome = outcome.map(|outcome| (tree, outcome));
            // There is room, for the next step begins after this outcome was taken. A dropped transfer
            // does not listen; what is stored stays stored all the same.
            match ended.try_send(outcome) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        });
        Self {
            steps,
            outcomes,
            handle,
        }
    }
}

/// Stores entries and tells the news. Blocks. Every append to a node's store goes through here.
pub(crate) fn append_and_tell(
    store: &dyn Store,
    news: &News,
    origin: &Origin,
    tree: TreeId,
    entries: Vec<VerifiedEntry>,
) -> Result<AppendOutcome, StoreError> {
    let authors = authors_of(origin, &entries);
    let appending = news.begin_append(store, tree)?;
    let outcome = store.append(tree, entries)?;
    appending.stored(outcome.stored.clone(), origin.clone());
    if let Err(error) = tell_contested(store, news, tree, outcome.stored.clone(), authors) {
        // The entries are stored, and a log tells the same.
        tracing::warn!(%tree, %error, "could not tell whether entries are contested");
    }
    Ok(outcome)
}

/// Returns the authors of entries that came from elsewhere.
fn authors_of(origin: &Origin, entries: &[VerifiedEntry]) -> BTreeSet<PublicKey> {
    let mut authors = BTreeSet::new();
    let mut last = None;
    for entry in entries.iter().filter(|_| *origin != Origin::Local) {
        let author = entry.get().entry().author;
        // Most often one author has many in a row.
        if last.replace(author) != Some(author) {
            authors.insert(author);
        }
    }
    authors
}

/// Tells of stored entries whose authors have lost the role to write.
fn tell_contested(
    store: &dyn Store,
    news: &News,
    tree: TreeId,
    stored: Range<u32>,
    mut authors: BTreeSet<PublicKey>,
) -> Result<(), StoreError> {
    if stored.is_empty() || authors.is_empty() {
        return Ok(());
    }
    let snapshot = store.snapshot(tree)?;
    let access = current_access(&*snapshot)?;
    authors.retain(|author| !access.allows(Some(author), Role::Write));
    if authors.is_empty() {
        return Ok(());
    }
    let mut contests = Contests::of(&*snapshot)?;
    let mut found = BTreeMap::<_, u32>::new();
    for at in stored.map(Arrival) {
        let entry = snapshot.entry(at)?;
        let author = entry.entry().author;
        if authors.contains(&author)
            && let Some(removal) = contests.contested_by(&*snapshot, at, &entry)?
        {
            *found.entry((author, removal)).or_default() += 1;
        }
    }
    for ((author, removal), entries) in found {
        let publisher = news.publisher();
        publisher.contested(tree, author, removal, entries);
    }
    Ok(())
}
