//! Looks for damage: reads a whole tree and returns every problem that it finds.
//!
//! Admission lets nothing in that breaks a rule, so a problem means that something outside wrote to
//! the store, that the disk lost something, or that a store has a bug. A problem in one entry's node
//! can show once more at its children, which are judged by it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::access::{AccessId, AccessState, Ledger, Role};
use crate::admit::{changes_of, role_needed};
use crate::arrival::Arrival;
use crate::entry::{Body, EntryError};
use crate::id::{EntryId, TreeId};
use crate::key::PublicKey;
use crate::set::ArrivalSet;
use crate::signed::SignedEntry;
use crate::verify;
use crate::view::{EntryView, LANDMARK_INTERVAL, Node, is_checkpoint};

/// How many entries are held to check their signatures together: long enough that most runs of one
/// author lie within, and a few megabytes at usual sizes.
const CHUNK_ENTRIES_MAX: usize = 4_096;

/// How many bytes of entries are held to check their signatures together: large entries must not
/// make the check take more memory than writing them did.
const CHUNK_BYTES_MAX: usize = 8 << 20;

/// One broken rule of a stored tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The stored bytes are no entry.
    #[error("entry {id} (number {}): its bytes are damaged: {error}", at.0)]
    NotAnEntry {
        /// Its number.
        at: Arrival,
        /// The id that its node has.
        id: EntryId,
        /// The rule that the bytes break.
        error: EntryError,
    },
    /// The id of the node is not the hash of the bytes.
    #[error("entry {id} (number {}): its bytes are those of {actual}", at.0)]
    WrongId {
        /// Its number.
        at: Arrival,
        /// The id that its node has.
        id: EntryId,
        /// The hash of its bytes.
        actual: EntryId,
    },
    /// The index of ids does not lead to the entry.
    #[error("entry {id} (number {}): the index leads to {found:?}", at.0)]
    NotInIndex {
        /// Its number.
        at: Arrival,
        /// The entry.
        id: EntryId,
        /// Where the index leads instead, if anywhere.
        found: Option<Arrival>,
    },
    /// The signature is not the author's, and no later entry of the author proves the entry.
    #[error("entry {id} (number {}): its signature is not its author's", at.0)]
    Forged {
        /// Its number.
        at: Arrival,
        /// The entry.
        id: EntryId,
    },
    /// The entry belongs to another tree.
    #[error("entry {id} (number {}): it belongs to the tree {actual}", at.0)]
    OtherTree {
        /// Its number.
        at: Arrival,
        /// The entry.
        id: EntryId,
        /// The tree that it names.
        actual: TreeId,
    },
    /// The first entry is not the root that names the tree.
    #[error("entry {id} (number 0): it is not the root of the tree")]
    NoRoot {
        /// The first entry.
        id: EntryId,
    },
    /// An entry after the first is a root.
    #[error("entry {id} (number {}): it is a second root", at.0)]
    SecondRoot {
        /// Its number.
        at: Arrival,
        /// The entry.
        id: EntryId,
    },
    /// The node's parents differ from the ones that the entry names, or do not ascend.
    #[error("entry {id} (number {}): its node has other parents than it names", at.0)]
    WrongParents {
        /// Its number.
        at: Arrival,
        /// The entry.
        id: EntryId,
    },
    /// A parent has no lower number than its child.
    #[error("entry {id} (number {}): its parent has the number {}", at.0, parent.0)]
    ParentNotBelow {
        /// Its number.
        at: Arrival,
        /// The entry.
        id: EntryId,
        /// The parent's number.
        parent: Arrival,
    },
    /// The height of the node or of the entry is not one more than the highest parent's.
    #[error(
        "entry {id} (number {}): its height is {actual}, it claims {claimed}, its node has {stored}",
        at.0
    )]
    WrongHeight {
        /// Its number.
        at: Arrival,
        /// The entry.
        id: EntryId,
        /// What the entry says.
        claimed: u32,
        /// What its node says.
        stored: u32,
        /// What its parents say.
        actual: u32,
    },
    /// The author lacks the required role in the entry's causal past.
    #[error("entry {id} (number {}): the author {author} lacks the role {needed:?}", at.0)]
    NotAllowed {
        /// Its number.
        at: Arrival,
        /// The entry.
        id: EntryId,
        /// The author.
        author: PublicKey,
        /// The role that the entry needs.
        needed: Role,
    },
    /// The access state of the node is not the one that holds after the entry.
    #[error("entry {id} (number {}): the access state {} does not follow from its parents'", at.0, stored.0)]
    WrongAccess {
        /// Its number.
        at: Arrival,
        /// The entry.
        id: EntryId,
        /// The state that its node has.
        stored: AccessId,
    },
    /// The recorded tips are not the entries without children.
    #[error("the tips are recorded as {stored:?}, they are {actual:?}")]
    WrongTips {
        /// What the view says.
        stored: Vec<Arrival>,
        /// What the nodes say.
        actual: Vec<Arrival>,
    },
    /// A checkpoint is not what the tips were, is missing, or should not be there.
    #[error("the checkpoint at {stored} entries is not what the tips were")]
    WrongCheckpoint {
        /// How many entries there were.
        stored: u32,
    },
    /// An entry that the index of landmarks must have is not in it.
    #[error("entry {id} (number {}): it is missing from the landmarks", at.0)]
    LandmarkMissing {
        /// Its number.
        at: Arrival,
        /// The entry.
        id: EntryId,
    },
    /// The index of landmarks has something that does not belong there: an unknown entry, one of
    /// another height, one twice, or one out of the order of arrival.
    #[error("the landmarks of height {height} have {id}, which has no place there")]
    LandmarkExtra {
        /// The height that was asked for.
        height: u32,
        /// What does not belong there.
        id: EntryId,
    },
}

/// Reads a whole tree and returns every problem, those of earlier entries mostly first.
///
/// `progress` is called now and then with the number of entries that have been looked at, and at the
/// end once more.
/// Besides a chunk of entries and the tips, it takes two bits for each entry.
///
/// Signatures are checked as on arrival, once for each author's run in a chunk. Entries that only the
/// next chunk can prove (see [`verify_batch`](crate::verify_batch)) are checked again with it.
///
/// Landmarks are looked for up to one interval above the highest entry.
///
/// # Errors
/// Those of the view. Problems are not errors.
pub fn check<V: EntryView + ?Sized>(
    view: &V,
    tree: TreeId,
    mut progress: impl FnMut(u32),
) -> Result<Vec<Problem>, V::Error> {
    let mut checker = Checker {
        view,
        tree,
        problems: Vec::new(),
        tips: BTreeSet::new(),
        landmarks: ArrivalSet::with_room_for(view.entry_count()),
        ledger: view.ledger()?,
        checkpoints: BTreeSet::new(),
        highest: 0,
        chunk: Chunk::default(),
    };
    for at in (0..view.entry_count()).map(Arrival) {
        checker.check_entry(at)?;
        if checker.chunk.is_full() {
            checker.check_signatures(false);
            progress(at.0 + 1);
        }
    }
    checker.check_signatures(true);
    checker.check_tips()?;
    checker.check_landmarks()?;
    progress(view.entry_count());
    Ok(checker.problems)
}

struct Checker<'v, V: EntryView + ?Sized> {
    view: &'v V,
    tree: TreeId,
    problems: Vec<Problem>,
    /// The tips of the entries looked at.
    tips: BTreeSet<Arrival>,
    /// The entries that must be in the index of landmarks.
    landmarks: ArrivalSet,
    ledger: Arc<Ledger>,
    /// The checkpoints that there must be.
    checkpoints: BTreeSet<u32>,
    highest: u32,
    chunk: Chunk,
}

/// Entries whose signatures are checked together.
#[derive(Default)]
struct Chunk {
    numbers: Vec<Arrival>,
    entries: Vec<SignedEntry>,
    bytes: usize,
    /// How many of them were in the chunk before, and not proved there.
    carried: usize,
}

impl Chunk {
    fn push(&mut self, at: Arrival, entry: SignedEntry) {
        self.bytes += entry.encoded().len();
        self.numbers.push(at);
        self.entries.push(entry);
    }

    fn is_full(&self) -> bool {
        self.entries.len() - self.carried >= CHUNK_ENTRIES_MAX || self.bytes >= CHUNK_BYTES_MAX
    }
}

/// Why something cannot be worked out.
enum Stop<E> {
    View(E),
    /// What it depends on is damaged, which is reported where it is.
    Damaged,
}

impl<E> From<E> for Stop<E> {
    fn from(error: E) -> Self {
        Self::View(error)
    }
}

impl<V: EntryView + ?Sized> Checker<'_, V> {
    fn check_entry(&mut self, at: Arrival) -> Result<(), V::Error> {
        let node = self.view.node(at)?;
        let id = node.id;
        let found = self.view.arrival(&id)?;
        if found != Some(at) {
            self.problems.push(Problem::NotInIndex { at, id, found });
        }
        let decoded = SignedEntry::decode(self.view.encoded(at)?);
        let actual = decoded.as_ref().map_or(id, SignedEntry::id);
        if at.0 == 0 && actual != self.tree.root() {
            self.problems.push(Problem::NoRoot { id: actual });
        }
        if actual != id {
            self.problems.push(Problem::WrongId { at, id, actual });
        }
        let height = decoded.as_ref().map_or(node.height, |it| it.entry().height);
        let parents = self.parent_nodes(at, &node)?;
        match decoded {
            Ok(entry) => {
                self.check_place(at, &node, &entry, parents.as_deref())?;
                self.chunk.push(at, entry);
            }
            Err(error) => self.problems.push(Problem::NotAnEntry { at, id, error }),
        }
        self.count_in(at, &node, height)
    }

    /// Returns the nodes of the parents, or `None` if some cannot be its parents.
    fn parent_nodes(&mut self, at: Arrival, node: &Node) -> Result<Option<Vec<Node>>, V::Error> {
        let mut nodes = Some(Vec::with_capacity(node.parents.len()));
        for parent in node.parents.iter().copied() {
            if parent >= at {
                let id = node.id;
                self.problems
                    .push(Problem::ParentNotBelow { at, id, parent });
                nodes = None;
            } else if let Some(nodes) = &mut nodes {
                nodes.push(self.view.node(parent)?);
            }
        }
        Ok(nodes)
    }

    /// Checks what depends on the tree and on the parents.
    fn check_place(
        &mut self,
        at: Arrival,
        node: &Node,
        entry: &SignedEntry,
        parents: Option<&[Node]>,
    ) -> Result<(), V::Error> {
        let id = node.id;
        let said = entry.entry();
        if matches!(said.body, Body::Genesis(_)) {
            if at.0 > 0 {
                self.problems.push(Problem::SecondRoot { at, id });
            }
        } else if entry.tree() != self.tree {
            let actual = entry.tree();
            self.problems.push(Problem::OtherTree { at, id, actual });
        }

        let Some(parents) = parents else {
            return Ok(());
        };
        let mut ids: Vec<EntryId> = parents.iter().map(|parent| parent.id).collect();
        ids.sort_unstable();
        if ids != said.parents || !node.parents.is_sorted() {
            self.problems.push(Problem::WrongParents { at, id });
            return Ok(());
        }
        let above = parents.iter().map(|it| it.height.saturating_add(1)).max();
        let (claimed, stored, actual) = (said.height, node.height, above.unwrap_or(0));
        if claimed != actual || stored != actual {
            self.problems.push(Problem::WrongHeight {
                at,
                id,
                claimed,
                stored,
                actual,
            });
        }
        match self.check_access(at, node, entry, parents) {
            Ok(()) | Err(Stop::Damaged) => Ok(()),
            Err(Stop::View(error)) => Err(error),
        }
    }

    fn check_access(
        &mut self,
        at: Arrival,
        node: &Node,
        entry: &SignedEntry,
        parents: &[Node],
    ) -> Result<(), Stop<V::Error>> {
        let id = node.id;
        let stored = node.access;
        let said = entry.entry();
        let mut ids: Vec<AccessId> = parents.iter().map(|parent| parent.access).collect();
        ids.sort_unstable();
        ids.dedup();
        let states = ids
            .iter()
            .map(|id| self.state(*id))
            .collect::<Result<Vec<_>, _>>()?;
        // A root is allowed what it does: it names the tree.
        let is_root = said.tree.is_none();
        let before = AccessState::join(&self.ledger, &states);
        let needed = role_needed(&said.body);
        if !is_root && !before.allows(Some(&said.author), needed) {
            let author = said.author;
            self.problems.push(Problem::NotAllowed {
                at,
                id,
                author,
                needed,
            });
        }
        let after = self.state(stored);
        let holds = match after {
            Err(Stop::View(error)) => return Err(Stop::View(error)),
            Err(Stop::Damaged) => false,
            Ok(after) if matches!(said.body, Body::Access(_) | Body::Genesis(_)) => {
                self.is_change(&after, &before, at, entry)
            }
            Ok(after) => after == before,
        };
        if !holds {
            self.problems.push(Problem::WrongAccess { at, id, stored });
        }
        Ok(())
    }

    /// Tells whether a state is that of an entry which changes access on top of another state.
    fn is_change(
        &self,
        after: &AccessState,
        before: &AccessState,
        at: Arrival,
        entry: &SignedEntry,
    ) -> bool {
        let [head] = after.heads() else {
            return false;
        };
        let said = entry.entry();
        self.ledger.get(*head).is_some_and(|kept| {
            kept.at == at
                && kept.id == entry.id()
                && kept.height == said.height
                && kept.author == said.author
                && *kept.changes == *changes_of(&said.body)
                && *kept.follows == *before.heads()
        })
    }

    /// Returns a state that can be worked with: one that is there and has changes.
    fn state(&self, id: AccessId) -> Result<AccessState, Stop<V::Error>> {
        if id.0 >= self.view.access_count() {
            return Err(Stop::Damaged);
        }
        let state = self.view.access(id)?;
        if state.heads().is_empty() {
            return Err(Stop::Damaged);
        }
        Ok(state)
    }

    /// Moves the tips past an entry and checks the checkpoint there.
    fn count_in(&mut self, at: Arrival, node: &Node, height: u32) -> Result<(), V::Error> {
        for parent in &node.parents {
            self.tips.remove(parent);
        }
        self.tips.insert(at);
        self.highest = self.highest.max(height);
        if height.is_multiple_of(LANDMARK_INTERVAL) {
            self.landmarks.insert(at);
        }
        let stored = at.0 + 1;
        let last = self.checkpoints.last().copied().unwrap_or(0);
        if is_checkpoint(stored, last, self.tips.len() as u32) {
            self.checkpoints.insert(stored);
            let is_there = self.view.last_checkpoint(stored)? == Some(stored);
            if !is_there || !self.tips.iter().eq(&self.view.checkpoint(stored)?) {
                self.problems.push(Problem::WrongCheckpoint { stored });
            }
        }
        Ok(())
    }

    fn check_signatures(&mut self, is_last: bool) {
        let mut chunk = std::mem::take(&mut self.chunk);
        let mut forged = verify::scan(&chunk.entries).forged;
        let is_new = |index: &&usize| !is_last && **index >= chunk.carried;
        if let Some(first) = forged.iter().rev().find(is_new).copied() {
            // The next chunk may prove them.
            forged.retain(|index| *index < first);
            self.chunk.numbers = chunk.numbers.split_off(first);
            self.chunk.entries = chunk.entries.split_off(first);
            self.chunk.carried = self.chunk.entries.len();
        }
        let found = forged.into_iter().rev().map(|index| Problem::Forged {
            at: chunk.numbers[index],
            id: chunk.entries[index].id(),
        });
        self.problems.extend(found);
    }

    fn check_tips(&mut self) -> Result<(), V::Error> {
        let stored = self.view.tips()?;
        if !self.tips.iter().eq(&stored) || self.view.tip_count() as usize != stored.len() {
            let actual = self.tips.iter().copied().collect();
            self.problems.push(Problem::WrongTips { stored, actual });
        }
        let mut below = self.view.entry_count();
        while let Some(stored) = self.view.last_checkpoint(below)? {
            if !self.checkpoints.contains(&stored) {
                self.problems.push(Problem::WrongCheckpoint { stored });
            }
            let Some(next) = stored.checked_sub(1) else {
                break;
            };
            below = next.min(below);
        }
        Ok(())
    }

    fn check_landmarks(&mut self) -> Result<(), V::Error> {
        let mut seen = ArrivalSet::with_room_for(self.view.entry_count());
        // No height is above the number of entries, whatever a damaged one claims.
        let highest = self.highest.min(self.view.entry_count());
        let end = highest.saturating_add(LANDMARK_INTERVAL);
        for height in (0..=end).step_by(LANDMARK_INTERVAL as usize) {
            let mut last = None;
            for id in self.view.landmarks(height, usize::MAX)? {
                let place = self.view.arrival(&id)?.filter(|at| Some(*at) > last);
                match place {
                    Some(at) if self.height(at)? == height => {
                        seen.insert(at);
                        last = Some(at);
                    }
                    _ => self.problems.push(Problem::LandmarkExtra { height, id }),
                }
            }
        }
        for at in self.landmarks.iter().filter(|at| !seen.contains(*at)) {
            let id = self.view.node(at)?.id;
            self.problems.push(Problem::LandmarkMissing { at, id });
        }
        Ok(())
    }

    /// Returns the height that an entry claims, or its node if its bytes are damaged.
    fn height(&self, at: Arrival) -> Result<u32, V::Error> {
        match SignedEntry::decode(self.view.encoded(at)?) {
            Ok(entry) => Ok(entry.entry().height),
            Err(_) => self.view.node(at).map(|node| node.height),
        }
    }
}
