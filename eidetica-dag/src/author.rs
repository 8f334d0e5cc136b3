//! Writing entries: signed, on top of everything that a view shows.

use std::collections::BTreeSet;

use crate::arrival::Arrival;
use crate::entry::{Body, Entry, EntryError, Genesis, PARENTS_MAX};
use crate::id::{EntryId, TreeId};
use crate::key::SecretKey;
use crate::verify::VerifiedEntry;
use crate::view::DagView;

/// Why entries cannot be written on top of a view.
#[derive(Debug, thiserror::Error)]
pub enum AuthorError<E> {
    /// The view is empty: the tree is not here.
    #[error("the tree is not here, so nothing can be written on top of it")]
    NoTree,
    /// A body is not well formed; the message says which limit it exceeds.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The view failed.
    #[error("the store failed: {0}")]
    View(#[source] E),
}

/// Signs the root of a new tree, whose admin is the author.
///
/// `timestamp_ms` is the wall clock in milliseconds since 1970. The tree is named by
/// [`SignedEntry::tree`](crate::SignedEntry::tree) of the root.
///
/// # Errors
/// The genesis exceeds a limit.
pub fn sign_root(
    key: &SecretKey,
    timestamp_ms: u64,
    genesis: Genesis,
) -> Result<VerifiedEntry, EntryError> {
    let root = Entry {
        tree: None,
        parents: Vec::new(),
        height: 0,
        timestamp_ms,
        author: key.public(),
        body: Body::Genesis(genesis),
    };
    VerifiedEntry::sign(root, key)
}

/// Signs entries to append to a tree, one for each body: the parents of the first are those of
/// [`parents_above_tips`], and each entry is the parent of the next.
///
/// It is not checked here whether the author may write: [`admit()`](crate::admit()) judges the entries
/// when they are stored.
///
/// ```
/// use eidetica_dag::testing::{draw, key};
/// use eidetica_dag::{Body, DagView, sign_above_tips};
///
/// // Two tips, which the first entry merges.
/// let mut dag = draw("A-B    A-C").dag;
/// let bodies = ["one", "two"].map(|text| Body::Data(text.into()));
/// let entries = sign_above_tips(&dag, &key(0), 1_790_000_000_000, bodies)?;
/// dag.append(entries);
/// assert_eq!((dag.entry_count(), dag.tip_count()), (5, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The tree is not here, a body exceeds a limit, or the view failed.
pub fn sign_above_tips<V: DagView + ?Sized>(
    view: &V,
    key: &SecretKey,
    timestamp_ms: u64,
    bodies: impl IntoIterator<Item = Body>,
) -> Result<Vec<VerifiedEntry>, AuthorError<V::Error>> {
    if view.entry_count() == 0 {
        return Err(AuthorError::NoTree);
    }
    let root = view.node(Arrival(0)).map_err(AuthorError::View)?;
    let (mut parents, mut height) = parents_above_tips(view).map_err(AuthorError::View)?;
    let mut entries = Vec::new();
    for body in bodies {
        let entry = Entry {
            tree: Some(TreeId::from_root(root.id)),
            parents,
            height,
            timestamp_ms,
            author: key.public(),
            body,
        };
        let entry = VerifiedEntry::sign(entry, key)?;
        parents = vec![entry.get().id()];
        height += 1;
        entries.push(entry);
    }
    Ok(entries)
}

/// Returns the parents, ascending, and the height of an entry above all tips.
///
/// If there are more tips than an entry can have parents, the latest changes of access come first,
/// so that a flood of tips hides no change from the entry; then the oldest tips. The next entry
/// takes the rest.
///
/// # Errors
/// Those of the view.
pub fn parents_above_tips<V: DagView + ?Sized>(view: &V) -> Result<(Vec<EntryId>, u32), V::Error> {
    let mut numbers = BTreeSet::new();
    if view.tip_count() as usize > PARENTS_MAX {
        let ledger = view.ledger()?;
        let current = ledger.current();
        // The root is below every tip.
        let latest = current.heads().iter().filter(|head| **head > 0);
        let latest = latest.filter_map(|head| ledger.get(*head));
        numbers.extend(latest.take(PARENTS_MAX / 2).map(|entry| entry.at));
    }
    numbers.extend(view.tips_from(Arrival(0), PARENTS_MAX - numbers.len())?);
    let mut parents = Vec::with_capacity(numbers.len());
    let mut highest = 0;
    for at in numbers {
        let node = view.node(at)?;
        parents.push(node.id);
        highest = highest.max(node.height);
    }
    parents.sort_unstable();
    Ok((parents, highest + 1))
}
