//! What must always hold. Each function returns what is wrong.

use std::collections::BTreeSet;
use std::ops::Range;

use eidetica_dag::testing::Oracle;
use eidetica_dag::{
    Arrival, Body, EntryId, PublicKey, Role, Subject, TreeId, current_access, tip_ids,
};
use eidetica_proto::Cursor;
use eidetica_sync::store::{Snapshot, Store, StoreError, TreeSnapshot};

use crate::store::SimStore;

type Holds = Result<(), String>;

/// Most entries whose authors' roles are checked with the slow rule.
const ORACLE_ENTRIES_MAX: u32 = 40;

fn unreadable(error: StoreError) -> String {
    format!("the store cannot be read: {error}")
}

/// Entries that have just been stored have their parents before them. Returns their ids.
pub fn ancestors_are_there(
    view: &dyn TreeSnapshot,
    stored: Range<u32>,
) -> Result<Vec<EntryId>, String> {
    let mut ids = Vec::with_capacity(stored.len());
    for at in stored.map(Arrival) {
        let node = view.node(at).map_err(unreadable)?;
        let is_root = node.parents.is_empty();
        if is_root != (at.0 == 0) || node.parents.iter().any(|parent| *parent >= at) {
            return Err(format!("entry {} has the parents {:?}", at.0, node.parents));
        }
        let entry = view.entry(at).map_err(unreadable)?;
        let mut there = Vec::with_capacity(node.parents.len());
        for parent in &node.parents {
            there.push(view.node(*parent).map_err(unreadable)?.id);
        }
        there.sort_unstable();
        if there != entry.entry().parents {
            return Err(format!("entry {} does not lead to its parents", at.0));
        }
        ids.push(node.id);
    }
    Ok(ids)
}

/// What was acknowledged is there.
pub fn acknowledged_is_kept(
    store: &dyn Store,
    acknowledged: &BTreeSet<(TreeId, EntryId)>,
) -> Holds {
    let mut last: Option<(TreeId, Snapshot)> = None;
    for (tree, id) in acknowledged {
        let (_, view) = match last.take() {
            Some((of, view)) if of == *tree => last.insert((of, view)),
            _ => last.insert((*tree, store.snapshot(*tree).map_err(unreadable)?)),
        };
        if view.arrival(id).map_err(unreadable)?.is_none() {
            return Err(format!("{} of {} is lost", id.short(), tree.root().short()));
        }
    }
    Ok(())
}

/// Entries that an answer acknowledges are in the store of who answers.
pub fn acknowledged_is_durable(store: &SimStore, tree: TreeId, sent: &[EntryId]) -> Holds {
    let view = store.inner().snapshot(tree).map_err(unreadable)?;
    for id in sent {
        if view.arrival(id).map_err(unreadable)?.is_none() {
            return Err(format!("{} is acknowledged and not there", id.short()));
        }
    }
    Ok(())
}

/// Who gets entries may read the tree, as far as the sender knows.
pub fn reader_may_read(sender: &SimStore, tree: TreeId, reader: &PublicKey) -> Holds {
    let view = sender.inner().snapshot(tree).map_err(unreadable)?;
    let access = current_access(&*view).map_err(unreadable)?;
    match access.allows(Some(reader), Role::Read) {
        true => Ok(()),
        false => Err(format!("{} may not read", reader.short())),
    }
}

/// What a peer is said to have, it has.
pub fn peer_has_it(store: &SimStore, peer: &SimStore, tree: TreeId, peer_has: u32) -> Holds {
    let own = store.inner().snapshot(tree).map_err(unreadable)?;
    let theirs = peer.inner().snapshot(tree).map_err(unreadable)?;
    match first_lacking(&*theirs, &*own, peer_has)? {
        None => Ok(()),
        Some(id) => Err(format!(
            "it is said to have {peer_has} and lacks {}",
            id.short()
        )),
    }
}

/// Whoever holds a cursor has everything before it.
pub fn cursor_skips_nothing(
    holder: &SimStore,
    answerer: &SimStore,
    tree: TreeId,
    cursor: &Cursor,
) -> Holds {
    let theirs = answerer.inner().snapshot(tree).map_err(unreadable)?;
    let position = cursor.position(eidetica_sync::store::Store::log_id(answerer), &*theirs);
    let Some(position) = position.map_err(unreadable)? else {
        return Ok(());
    };
    let own = holder.inner().snapshot(tree).map_err(unreadable)?;
    match first_lacking(&*own, &*theirs, position)? {
        None => Ok(()),
        Some(id) => Err(format!(
            "the cursor names {position} and {} is not here",
            id.short()
        )),
    }
}

/// Returns the first of the first `count` entries of `theirs` that `own` lacks.
pub fn first_lacking(
    own: &dyn TreeSnapshot,
    theirs: &dyn TreeSnapshot,
    count: u32,
) -> Result<Option<EntryId>, String> {
    for at in (0..count).map(Arrival) {
        let id = theirs.node(at).map_err(unreadable)?.id;
        if own.arrival(&id).map_err(unreadable)?.is_none() {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// Two copies with the same entries say the same about access.
pub fn verdicts_agree(one: &dyn TreeSnapshot, other: &dyn TreeSnapshot) -> Holds {
    if tip_ids(one).map_err(unreadable)? != tip_ids(other).map_err(unreadable)? {
        return Ok(());
    }
    let roles = |view| -> Result<Vec<(Subject, Role)>, String> {
        let access = current_access(view).map_err(unreadable)?;
        let mut roles: Vec<_> = access.roles().collect();
        roles.sort_unstable();
        Ok(roles)
    };
    let (here, there) = (roles(one)?, roles(other)?);
    match here == there {
        true => Ok(()),
        false => Err(format!("{here:?} here and {there:?} there")),
    }
}

/// The access of a tree is that of the slow rule, and every entry is by an author who had the role for
/// it in the entry's own past.
pub fn access_is_that_of_the_rule(view: &dyn TreeSnapshot) -> Holds {
    let oracle = Oracle::of(view);
    let by_rule = oracle.access(view, &tip_ids(view).map_err(unreadable)?);
    let access = current_access(view).map_err(unreadable)?;
    let stored: std::collections::BTreeMap<_, _> = access.roles().collect();
    if stored != by_rule {
        return Err(format!("{stored:?}, and by the rule {by_rule:?}"));
    }
    let count = view.entry_count();
    let step = (count / ORACLE_ENTRIES_MAX).max(1);
    for at in (1..count).step_by(step as usize).map(Arrival) {
        let entry = view.entry(at).map_err(unreadable)?;
        let said = entry.entry();
        let needed = match said.body {
            Body::Access(_) => Role::Admin,
            _ => Role::Write,
        };
        let roles = oracle.access(view, &said.parents);
        let role_of = |subject| roles.get(&subject).copied();
        let role = role_of(Subject::Key(said.author)).max(role_of(Subject::Anyone));
        if role < Some(needed) {
            return Err(format!(
                "{} is by an author with {role:?}",
                entry.id().short()
            ));
        }
    }
    Ok(())
}

/// A stored tree has no damage.
pub fn tree_is_sound(view: &dyn TreeSnapshot, tree: TreeId) -> Holds {
    let problems = eidetica_dag::check(view, tree, |_| ()).map_err(unreadable)?;
    match problems.first() {
        None => Ok(()),
        Some(problem) => Err(problem.to_string()),
    }
}
