//! Judges stores by what they print, with code that shares nothing with what wrote them.

use std::collections::{BTreeMap, BTreeSet};

use super::dump::{Dump, Id, Said, short};
use super::history::Lineage;
use super::sha256::sha256;

/// How many ids are named when two stores differ: the first ones lead to the cause.
const IDS_NAMED_MAX: usize = 5;

/// Returns what is wrong within one store.
///
/// Hashes are computed anew, and what the lines claim is compared with what the signed bytes say.
/// Every parent must stand before its children; heights and tips are computed from the parents.
pub fn check_store(dump: &Dump, tree: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut heights: BTreeMap<Id, u64> = BTreeMap::new();
    let mut has_child: BTreeSet<Id> = BTreeSet::new();
    let mut before: Option<(u64, Id)> = None;
    let root = dump.entries.first().map(|entry| entry.id);
    let mut problem = |id: &Id, text: &str| {
        problems.push(format!("{}: entry {}: {text}", dump.store, short(id)));
    };
    for entry in &dump.entries {
        let id = &entry.id;
        if sha256(&entry.encoded) != *id {
            problem(id, "its id is not the SHA-256 hash of its bytes");
        }
        match Said::read(&entry.encoded) {
            None => problem(id, "its bytes are not those of an entry"),
            Some(said) => {
                if said.parents != entry.parents {
                    problem(id, "its bytes name other parents than the log");
                }
                if said.height != entry.height {
                    problem(id, "its bytes name another height than the log");
                }
                if said.tree != root.filter(|root| root != id) {
                    problem(id, "it belongs to another tree");
                }
            }
        }
        let mut height = 0;
        for parent in &entry.parents {
            has_child.insert(*parent);
            match heights.get(parent) {
                Some(above) => height = height.max(above + 1),
                None => problem(
                    id,
                    &format!("its parent {} is not before it", short(parent)),
                ),
            }
        }
        if entry.parents.is_empty() && Some(*id) != root {
            problem(id, "it has no parents and is not the root");
        }
        if height != entry.height {
            let text = format!("its height is {height}, and it claims {}", entry.height);
            problem(id, &text);
        }
        if before.is_some_and(|before| before >= (entry.height, *id)) {
            problem(id, "it does not stand in the order of heights and ids");
        }
        before = Some((entry.height, *id));
        if heights.insert(*id, height).is_some() {
            problem(id, "it is there twice");
        }
    }
    if root.map(|root| super::dump::hex(&root)).as_deref() != Some(tree) {
        problems.push(format!(
            "{}: the first entry is not the root of {tree}",
            dump.store
        ));
    }
    let ids: BTreeSet<Id> = heights.into_keys().collect();
    let computed: BTreeSet<Id> = ids.difference(&has_child).copied().collect();
    let printed: BTreeSet<Id> = dump.tips.iter().copied().collect();
    if printed.len() != dump.tips.len() {
        problems.push(format!("{}: a tip is printed twice", dump.store));
    }
    for id in computed.difference(&printed) {
        problems.push(format!(
            "{}: {} has no child and is not among the tips",
            dump.store,
            short(id)
        ));
    }
    for id in printed.difference(&computed) {
        problems.push(format!(
            "{}: the tip {} has children or is not there",
            dump.store,
            short(id)
        ));
    }
    problems
}

/// Returns in what the other stores differ from the first one.
pub fn check_equal(dumps: &[Dump]) -> Vec<String> {
    let mut problems = Vec::new();
    let Some((first, others)) = dumps.split_first() else {
        return problems;
    };
    let parents = |dump: &Dump| -> BTreeMap<Id, Vec<Id>> {
        let entries = dump.entries.iter();
        entries
            .map(|entry| (entry.id, entry.parents.clone()))
            .collect()
    };
    let tips = |dump: &Dump| -> BTreeSet<Id> { dump.tips.iter().copied().collect() };
    let here = parents(first);
    for other in others {
        let there = parents(other);
        let names = (&first.store, &other.store);
        let lost: Vec<&Id> = here.keys().filter(|id| !there.contains_key(*id)).collect();
        problems.extend(lacks(names.1, names.0, &lost, "entries"));
        let lost: Vec<&Id> = there.keys().filter(|id| !here.contains_key(*id)).collect();
        problems.extend(lacks(names.0, names.1, &lost, "entries"));
        for (id, parents) in &here {
            if there.get(id).is_some_and(|other| other != parents) {
                let text = format!(
                    "{} and {}: entry {} has other parents",
                    names.0,
                    names.1,
                    short(id)
                );
                problems.push(text);
            }
        }
        let (here, there) = (tips(first), tips(other));
        let lost: Vec<&Id> = here.difference(&there).collect();
        problems.extend(lacks(names.1, names.0, &lost, "tips"));
        let lost: Vec<&Id> = there.difference(&here).collect();
        problems.extend(lacks(names.0, names.1, &lost, "tips"));
    }
    problems
}

fn lacks(who: &str, whose: &str, lost: &[&Id], what: &str) -> Option<String> {
    let named: Vec<String> = lost
        .iter()
        .take(IDS_NAMED_MAX)
        .map(|id| short(id))
        .collect();
    let more = if lost.len() > named.len() { " …" } else { "" };
    let (number, named) = (lost.len(), named.join(" "));
    (number > 0).then(|| format!("{who} lacks {number} {what} of {whose}: {named}{more}"))
}

/// Returns in what a store differs from the git history that was imported, and how many commits it
/// has.
///
/// Each payload says from which commit its entry was made. The parents of an entry must be the
/// entries of the commit's parents, or the root of the tree for a commit without parents.
pub fn check_git(dump: &Dump, lineage: &Lineage) -> (u64, Vec<String>) {
    let mut problems = Vec::new();
    let mut entry_of: BTreeMap<String, Id> = BTreeMap::new();
    let mut commits = Vec::new();
    for entry in &dump.entries {
        if let Some(commit) = Said::read(&entry.encoded).and_then(|said| commit_in(said.data?)) {
            if entry_of.insert(commit.clone(), entry.id).is_some() {
                problems.push(format!("{}: commit {commit} is there twice", dump.store));
            }
            commits.push((commit, entry));
        }
    }
    let root = dump.entries.first().map(|entry| entry.id);
    for (commit, entry) in &commits {
        let Some(parents) = lineage.parents.get(commit) else {
            problems.push(format!("{}: git has no commit {commit}", dump.store));
            continue;
        };
        let expected: BTreeSet<Option<Id>> = match parents.is_empty() {
            true => BTreeSet::from([root]),
            false => parents.iter().map(|it| entry_of.get(it).copied()).collect(),
        };
        let parents: BTreeSet<Option<Id>> = entry.parents.iter().copied().map(Some).collect();
        if parents != expected {
            problems.push(format!(
                "{}: commit {commit} has other parents in git",
                dump.store
            ));
        }
    }
    for commit in &lineage.expected {
        if !entry_of.contains_key(commit) {
            problems.push(format!("{}: commit {commit} is missing", dump.store));
        }
    }
    (commits.len() as u64, problems)
}

/// Returns the commit from which an entry was made, if it says that it was.
fn commit_in(payload: &[u8]) -> Option<String> {
    let line = payload.split(|byte| *byte == b'\n').next()?;
    let id = std::str::from_utf8(line).ok()?.strip_prefix("commit ")?;
    let is_id = matches!(id.len(), 40 | 64) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| id.to_owned())
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
