//! Which trees a key may read, without a look at the others.

use std::collections::{BTreeSet, HashMap};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use eidetica_dag::{PublicKey, Subject, TreeId, current_access};

use crate::store::{Store, StoreError};

/// An index of the subjects that have a role on each tree. Each role lets its subject read.
///
/// It is made when it is needed first, and from then on looks only at trees that have changed. It may
/// lag behind an append by a moment, so check the access of what it returns.
pub(crate) struct ReaderIndex {
    store: Arc<dyn Store>,
    changed: Mutex<Changed>,
    known: Mutex<Known>,
}

/// Which trees to look at again.
enum Changed {
    All,
    These(BTreeSet<TreeId>),
}

#[derive(Default)]
struct Known {
    subjects: HashMap<TreeId, Vec<Subject>>,
    trees: HashMap<Subject, BTreeSet<TreeId>>,
}

impl ReaderIndex {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            changed: Mutex::new(Changed::All),
            known: Mutex::default(),
        }
    }

    /// Notes that entries of a tree were stored.
    pub(crate) fn mark(&self, tree: TreeId) {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Changed::These(trees) = &mut *changed {
            trees.insert(tree);
        }
    }

    /// Returns the trees that a key may read, or that anyone may without one, ascending. Blocks.
    pub(crate) fn readable(&self, key: Option<&PublicKey>) -> Result<BTreeSet<TreeId>, StoreError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let result = self.look(&mut known);
        if result.is_err() {
            // What was not looked at would be missed from here on.
            self.replace_changed(Changed::All);
        }
        result?;
        let of = |subject| known.trees.get(&subject).cloned().unwrap_or_default();
        let mut trees = of(Subject::Anyone);
        if let Some(key) = key {
            trees.append(&mut of(Subject::Key(*key)));
        }
        Ok(trees)
    }

    fn look(&self, known: &mut Known) -> Result<(), StoreError> {
        let trees = match self.replace_changed(Changed::These(BTreeSet::new())) {
            Changed::All => self.store.trees()?.into_iter().collect(),
            Changed::These(trees) => trees,
        };
        for tree in trees {
            let access = (self.store.snapshot(tree)).and_then(|view| current_access(&*view));
            let access = match access {
                Err(error @ StoreError::Damaged { .. }) => {
                    // The other trees go on.
                    tracing::error!(%tree, %error, "a tree cannot be read");
                    known.set(tree, Vec::new());
                    continue;
                }
                access => access?,
            };
            known.set(tree, access.roles().map(|(subject, _)| subject).collect());
        }
        Ok(())
    }

    fn replace_changed(&self, next: Changed) -> Changed {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        mem::replace(&mut *changed, next)
    }
}

impl Known {
    fn set(&mut self, tree: TreeId, subjects: Vec<Subject>) {
        let before = self
            .subjects
            .insert(tree, subjects.clone())
            .unwrap_or_default();
        for subject in before {
            if let Some(trees) = self.trees.get_mut(&subject) {
                trees.remove(&tree);
                if trees.is_empty() {
                    self.trees.remove(&subject);
                }
            }
        }
        for subject in subjects {
            self.trees.entry(subject).or_default().insert(tree);
        }
    }
}

#[cfg(test)]
mod tests {
    use eidetica_dag::testing::key;
    use eidetica_dag::{AccessChange, AccessRule, Genesis, Role};

    use super::*;
    use crate::event::Publisher;
    use crate::news::News;
    use crate::platform::clock::WallClock;
    use crate::store::MemoryStore;
    use crate::store::writer::Writer;

    #[test]
    fn only_trees_that_have_changed_are_looked_at() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let index = Arc::new(ReaderIndex::new(store.clone()));
        let marked = index.clone();
        let news = News::telling(Publisher::new(), move |tree| marked.mark(tree));
        let writer = Writer::new(store.clone(), key(0), WallClock::default(), news);
        let create = |n: u8, access: Vec<AccessChange>| {
            let genesis = Genesis {
                access_rule: AccessRule::SENIORITY,
                nonce: [n; 16],
                name: "tree".into(),
                access,
            };
            writer.create(genesis).unwrap()
        };
        let (owner, friend) = (key(0).public(), key(1).public());
        let private = create(1, vec![]);
        let public = create(2, vec![AccessChange::grant(Subject::Anyone, Role::Read)]);
        let readable = |key: Option<&PublicKey>| index.readable(key).unwrap();
        let set = |trees: &[TreeId]| trees.iter().copied().collect::<BTreeSet<_>>();
        assert_eq!(readable(None), set(&[public]));
        assert_eq!(readable(Some(&friend)), set(&[public]));
        assert_eq!(readable(Some(&owner)), set(&[private, public]));

        let grant = AccessChange::grant(Subject::Key(friend), Role::Write);
        writer.change_access(private, vec![grant]).unwrap();
        assert!(
            matches!(&*index.changed.lock().unwrap(), Changed::These(trees) if trees.len() == 1)
        );
        assert_eq!(readable(Some(&friend)), set(&[private, public]));
        assert!(
            matches!(&*index.changed.lock().unwrap(), Changed::These(trees) if trees.is_empty())
        );
        writer.revoke(private, Subject::Key(friend)).unwrap();
        writer.revoke(public, Subject::Anyone).unwrap();
        assert_eq!(readable(Some(&friend)), set(&[]));
        assert_eq!(readable(None), set(&[]));
        let later = create(
            3,
            vec![AccessChange::grant(Subject::Key(friend), Role::Read)],
        );
        assert_eq!(readable(Some(&friend)), set(&[later]));
    }
}
