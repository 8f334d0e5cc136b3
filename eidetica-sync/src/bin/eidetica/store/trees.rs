//! The trees of the store, and finding the one that a command line names.

use eidetica_sync::TreeInfo;
use eidetica_sync::dag::{Arrival, Body, TreeId};
use eidetica_sync::store::{Store, StoreError};

use crate::output::failure::{Context, Failure, Result};

/// The least number of leading digits that identify an id or a key: fewer are likely a name.
pub(crate) const PREFIX_DIGITS_MIN: usize = 4;

/// A tree and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) tree: TreeId,
    pub(crate) name: String,
}

/// Lists the trees of the store.
pub(crate) fn all(store: &dyn Store) -> Result<Vec<Named>> {
    let named = |tree| {
        let name = name(store, tree)?;
        Ok(Named { tree, name })
    };
    let trees = store.trees();
    let trees = trees.and_then(|trees| trees.into_iter().map(named).collect());
    Ok(trees.context("could not list the trees")?)
}

/// Finds the tree that `text` names.
pub(crate) fn find(store: &dyn Store, text: &str) -> Result<Named> {
    choose(all(store)?, text)
}

/// Finds the tree that `text` names among `trees`.
pub(crate) fn choose(trees: Vec<Named>, text: &str) -> Result<Named> {
    let digits = text.to_ascii_lowercase();
    // Nothing is as certain as the whole id, and a tree of another may have it as its name.
    if let Some(at) = trees.iter().position(|it| it.tree.to_string() == digits) {
        return Ok(trees.into_iter().nth(at).expect("it was found there"));
    }
    let is_prefix = digits.len() >= PREFIX_DIGITS_MIN;
    let means =
        |it: &Named| it.name == text || is_prefix && it.tree.to_string().starts_with(&digits);
    let mut found: Vec<Named> = trees.into_iter().filter(means).collect();
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(unknown(text).into()),
        _ => {
            let list: Vec<String> = found
                .iter()
                .map(|it| format!("{} {:?}", it.tree.short(), it.name))
                .collect();
            let text = format!("{text:?} is ambiguous: {}", list.join(", "));
            Err(Failure::new(text)
                .hint("write more digits of the tree's id")
                .into())
        }
    }
}

fn unknown(text: &str) -> Failure {
    let failure = Failure::new(format!("there is no tree {text:?} in the store"));
    if text.starts_with("eidetica:") {
        return failure.hint("run `eidetica join` with this ticket first");
    }
    failure.hint("`eidetica ls` lists the trees; `eidetica join` fetches one from a peer")
}

/// Returns the name of a tree: an empty one if it cannot be read, so that a damaged tree does not hide the
/// others.
fn name(store: &dyn Store, tree: TreeId) -> Result<String, StoreError> {
    let root = match store.snapshot(tree).and_then(|view| view.entry(Arrival(0))) {
        Err(StoreError::Damaged { .. }) => return Ok(String::new()),
        root => root?,
    };
    Ok(match &root.entry().body {
        Body::Genesis(genesis) => genesis.name.clone(),
        Body::Data(_) | Body::Access(_) | Body::Extension { .. } => String::new(),
    })
}

/// Describes a tree.
pub(crate) fn info(store: &dyn Store, tree: TreeId) -> Result<TreeInfo, StoreError> {
    let snapshot = store.snapshot(tree)?;
    Ok(TreeInfo {
        tree,
        name: name(store, tree)?,
        entries: snapshot.entry_count(),
        tip_count: snapshot.tip_count(),
    })
}

#[cfg(test)]
mod tests {
    use eidetica_sync::dag::EntryId;

    use super::*;

    fn trees() -> Vec<Named> {
        let named = |byte, name: &str| Named {
            tree: TreeId::from_root(EntryId::from_bytes([byte; 32])),
            name: name.to_owned(),
        };
        vec![
            named(0xaa, "notes"),
            named(0xbb, "twice"),
            named(0xcc, "twice"),
            named(0xdd, "aaaa"),
        ]
    }

    #[test]
    fn trees_are_found_by_name_and_by_id() {
        for (text, byte) in [("notes", 0xaa), ("BBBB", 0xbb), ("ccccc", 0xcc)] {
            let found = choose(trees(), text).expect("one fits");
            assert_eq!(found.tree.as_bytes(), &[byte; 32]);
        }
    }

    #[test]
    fn a_whole_id_wins_over_a_name_that_imitates_it() {
        let mut trees = trees();
        let id = trees[0].tree.to_string();
        trees[3].name.clone_from(&id);
        let found = choose(trees.clone(), &id).expect("the id is here");
        assert_eq!(found.tree, trees[0].tree);
        let id = id.to_ascii_uppercase();
        assert_eq!(choose(trees, &id).expect("the id is here").name, "notes");
    }

    #[test]
    fn ambiguous_and_unknown_trees_are_refused() {
        // "aaaa" is the beginning of one id and the name of another tree.
        for text in ["twice", "aaaa", "bbb", "nothing", ""] {
            assert!(choose(trees(), text).is_err(), "{text}");
        }
    }
}
