//! Which repositories were imported into which trees, as the store remembers them: a repeated import
//! goes on where the last one ended.

use std::path::Path;

use data_encoding::HEXLOWER;
use eidetica_sync::dag::TreeId;
use eidetica_sync::store::Store;
use sha2::{Digest, Sha256};

use crate::output::failure::{Context, Result};

/// A path may be longer than a key of the metadata. Other refs are another import: who chooses refs
/// does not want them in a tree with others.
fn meta_key(repo: &Path, refs: &[String]) -> String {
    let full = repo.canonicalize().unwrap_or_else(|_| repo.to_owned());
    let mut digest = Sha256::new_with_prefix(full.as_os_str().as_encoded_bytes());
    for name in refs {
        digest.update([0]);
        digest.update(name);
    }
    format!("import/git/{}", HEXLOWER.encode(&digest.finalize()[..16]))
}

/// Returns the tree into which these refs of a repository, or all, were imported last, which need not be here any more.
pub(crate) fn load(store: &dyn Store, repo: &Path, refs: &[String]) -> Result<Option<TreeId>> {
    let tree = store.get(&meta_key(repo, refs));
    let tree = tree.context("could not read what was imported")?;
    let tree = tree.and_then(|tree| String::from_utf8(tree).ok());
    Ok(tree.and_then(|tree| tree.parse().ok()))
}

/// Remembers that a repository is imported into a tree.
pub(crate) fn remember(
    store: &dyn Store,
    repo: &Path,
    refs: &[String],
    tree: TreeId,
) -> Result<()> {
    let remembered = store.put(&meta_key(repo, refs), Some(tree.to_string().as_bytes()));
    Ok(remembered.context("could not remember the import")?)
}
