//! The requests to join that this device has made and that are undecided, as the store remembers
//! them: a repeated request asks for the same.

use eidetica_sync::JoinOptions;
use eidetica_sync::dag::{Role, TreeId};
use eidetica_sync::store::Store;
use serde::{Deserialize, Serialize};

use crate::output::failure::{Context, Result};
use crate::store::trees::Named;

/// A request as it is stored.
#[derive(Serialize, Deserialize)]
struct Asked {
    role: Option<Role>,
    note: String,
}

const ASKED: &str = "asked/";

fn meta_key(tree: TreeId) -> String {
    format!("{ASKED}{tree}")
}

/// Returns the undecided request for a tree, if there is one.
pub(crate) fn load(store: &dyn Store, tree: TreeId) -> Result<Option<JoinOptions>> {
    let json = store.get(&meta_key(tree));
    let json = json.context("could not read the pending request")?;
    // A request that cannot be read is made again.
    let asked = json.and_then(|json| serde_json::from_slice(&json).ok());
    Ok(asked.map(|Asked { role, note }| JoinOptions { role, note }))
}

/// Lists the requested trees that are not in the store.
pub(crate) fn absent(store: &dyn Store, here: &[Named]) -> Result<Vec<Named>> {
    let asked = store
        .list(ASKED)
        .context("could not read the pending request")?;
    let trees = asked
        .iter()
        .filter_map(|(key, _)| key.strip_prefix(ASKED)?.parse().ok());
    let absent = trees.filter(|tree| here.iter().all(|it| it.tree != *tree));
    let named = |tree| Named {
        tree,
        name: String::new(),
    };
    Ok(absent.map(named).collect())
}

/// Remembers a request.
pub(crate) fn remember(store: &dyn Store, tree: TreeId, ask: &JoinOptions) -> Result<()> {
    let asked = Asked {
        role: ask.role,
        note: ask.note.clone(),
    };
    let failed = "could not remember the request";
    let json = serde_json::to_vec(&asked).context(failed)?;
    let key = meta_key(tree);
    Ok(store.put(&key, Some(&json)).context(failed)?)
}

/// Forgets a request that was decided.
pub(crate) fn forget(store: &dyn Store, tree: TreeId) -> Result<()> {
    let key = meta_key(tree);
    let failed = "could not forget the request";
    match store.get(&key).context(failed)? {
        Some(_) => Ok(store.put(&key, None).context(failed)?),
        None => Ok(()),
    }
}
