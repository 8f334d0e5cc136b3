//! Judges stores by what they print, with code that shares nothing with what wrote them.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::history::Lineage;
use super::store::{Dump, Id, Said, short};

/// What is wrong with a store.
struct Problems<'a>(&'a str, Vec<String>);

impl Problems<'_> {
    fn unless(&mut self, holds: bool, what: &str, wrong: &str) {
        if !holds {
            self.1.push(format!("{}: {what} {wrong}", self.0));
        }
    }
}

/// Returns the faults within one store.
///
/// Hashes are computed anew, and what the lines claim is compared with what the signed bytes say.
/// Every parent must come before its children; heights and tips are computed from the parents.
pub fn check_store(dump: &Dump, tree: &str) -> Vec<String> {
    let mut problems = Problems(&dump.store, Vec::new());
    let mut heights: BTreeMap<Id, u64> = BTreeMap::new();
    let mut tips: BTreeSet<Id> = BTreeSet::new();
    let mut before: Option<(u64, Id)> = None;
    let root = dump.entries.first().map(|entry| entry.id);
    for entry in &dump.entries {
        let id = &entry.id;
        let said = Said::read(&entry.encoded);
        let (parents, is_root) = (&entry.parents, Some(*id) == root);
        let mut height = 0;
        let mut is_after_parents = true;
        for parent in parents {
            tips.remove(parent);
            is_after_parents &= heights.contains_key(parent);
            height = height.max(heights.get(parent).map_or(0, |height| height + 1));
        }
        let says = |check: &dyn Fn(&Said<'_>) -> bool| said.as_ref().is_some_and(check);
        let place = Some((entry.height, *id));
        for (holds, wrong) in [
            (
                Sha256::digest(&entry.encoded)[..] == id[..],
                "is not the hash of its bytes",
            ),
            (
                says(&|it| it.parents == *parents),
                "names other parents in its bytes",
            ),
            (
                says(&|it| it.height == entry.height),
                "names another height in its bytes",
            ),
            (
                says(&|it| it.tree == root.filter(|_| !is_root)),
                "belongs to another tree",
            ),
            (is_after_parents, "comes before a parent"),
            (parents.is_empty() == is_root, "is one of several roots"),
            (
                height == entry.height,
                "has a height that does not follow from its parents",
            ),
            (before < place, "is not in the order of heights and ids"),
            (heights.insert(*id, height).is_none(), "is there twice"),
        ] {
            problems.unless(holds, &short(id), wrong);
        }
        before = place;
        tips.insert(*id);
    }
    let is_root = root.map(|root| HEXLOWER.encode(&root)).as_deref() == Some(tree);
    problems.unless(is_root, "the first entry", "is not the root");
    let mut printed = dump.tips.clone();
    printed.sort_unstable();
    problems.unless(
        printed.iter().eq(&tips),
        "the tips",
        "are not the entries without children",
    );
    problems.1
}

/// Returns in what the other stores differ from the first one.
pub fn check_equal(dumps: &[Dump]) -> Vec<String> {
    type Facts = BTreeSet<(&'static str, Id, Vec<Id>)>;
    let facts = |dump: &Dump| -> Facts {
        let entries = dump
            .entries
            .iter()
            .map(|it| ("entry", it.id, it.parents.clone()));
        entries
            .chain(dump.tips.iter().map(|tip| ("tip", *tip, vec![])))
            .collect()
    };
    let mut problems = Vec::new();
    let (first, name) = (facts(&dumps[0]), &dumps[0].store);
    for other in &dumps[1..] {
        for (what, id, parents) in first.symmetric_difference(&facts(other)) {
            let (id, other, parents) = (short(id), &other.store, parents.len());
            let text = format!("only one of {name} and {other} has {what} {id}, {parents} parents");
            problems.push(text);
        }
    }
    problems
}

/// Returns in what a store differs from the git history that was imported, and how many commits it
/// has.
///
/// Each payload says from which commit its entry was made. The parents of an entry must be the
/// entries of the commit's parents, or the root of the tree for a commit without parents.
pub fn check_git(dump: &Dump, lineage: &Lineage) -> (u64, Vec<String>) {
    let mut problems = Problems(&dump.store, Vec::new());
    let mut made = BTreeMap::new();
    for entry in &dump.entries {
        if let Some(commit) = Said::read(&entry.encoded).and_then(|said| commit_in(said.data?)) {
            let is_first = made.insert(commit.clone(), entry).is_none();
            problems.unless(is_first, &commit, "is there twice");
        }
    }
    let root = dump.entries.first().map(|entry| entry.id);
    for (commit, entry) in &made {
        let Some(parents) = lineage.parents.get(commit) else {
            problems.unless(false, commit, "is unknown to git");
            continue;
        };
        let expected: BTreeSet<Option<Id>> = match parents.is_empty() {
            true => BTreeSet::from([root]),
            false => parents.iter().map(|it| Some(made.get(it)?.id)).collect(),
        };
        let parents: BTreeSet<Option<Id>> = entry.parents.iter().copied().map(Some).collect();
        problems.unless(parents == expected, commit, "has other parents in git");
    }
    for commit in &lineage.expected {
        problems.unless(made.contains_key(commit), commit, "is missing");
    }
    (made.len() as u64, problems.1)
}

/// Returns the commit from which an entry was made, if it says that it was.
fn commit_in(payload: &[u8]) -> Option<String> {
    let line = payload.split(|byte| *byte == b'\n').next()?;
    let id = std::str::from_utf8(line).ok()?.strip_prefix("commit ")?;
    let is_id = matches!(id.len(), 40 | 64) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| id.to_owned())
}

/// Every kind of difference is planted, and must be found.
#[cfg(test)]
mod tests {
    use super::super::store::{DumpEntry, ENTRY_VERSION};
    use super::*;

    /// The commits of the test's history, each an entry's payload.
    fn commit(letter: char) -> String {
        letter.to_string().repeat(40)
    }

    /// Writes an entry as the program does, with a signature that is not checked here.
    fn entry(tree: Option<Id>, mut parents: Vec<Id>, height: u64, payload: &str) -> DumpEntry {
        parents.sort_unstable();
        let mut encoded = vec![ENTRY_VERSION as u8, u8::from(tree.is_some())];
        encoded.extend(tree.iter().flatten());
        encoded.push(parents.len() as u8);
        encoded.extend(parents.iter().flatten());
        encoded.extend([height as u8, 0xac, 0x02]);
        encoded.extend([7; 32]);
        match tree {
            Some(_) => encoded.extend([0, payload.len() as u8]),
            None => encoded.push(2),
        }
        encoded.extend(payload.as_bytes());
        encoded.extend([9; 64]);
        DumpEntry {
            id: Sha256::digest(&encoded).into(),
            parents,
            height,
            encoded,
        }
    }

    /// Root, then commit a, then b and c beside each other, then d on both and a note on c.
    fn diamond(store: &str) -> Dump {
        let root = entry(None, vec![], 0, "name");
        let tree = Some(root.id);
        let said = |letter| format!("commit {}\nauthor", commit(letter));
        let a = entry(tree, vec![root.id], 1, &said('a'));
        let b = entry(tree, vec![a.id], 2, &said('b'));
        let c = entry(tree, vec![a.id], 2, &said('c'));
        let d = entry(tree, vec![b.id, c.id], 3, &said('d'));
        let note = entry(tree, vec![c.id], 3, "commit message wanted");
        let tips = vec![d.id, note.id];
        let mut entries = vec![root, a, b, c, d, note];
        entries.sort_by_key(|entry| (entry.height, entry.id));
        Dump {
            store: store.into(),
            entries,
            tips,
        }
    }

    fn lineage() -> Lineage {
        let parents = [('a', ""), ('b', "a"), ('c', "a"), ('d', "cb")];
        let parents = parents.map(|(id, above)| (commit(id), above.chars().map(commit).collect()));
        Lineage {
            parents: parents.into(),
            expected: "abcd".chars().map(commit).collect(),
        }
    }

    #[test]
    fn what_is_right_has_no_problems() {
        let dump = diamond("A");
        assert!(check_store(&dump, &HEXLOWER.encode(&dump.entries[0].id)).is_empty());
        assert!(check_equal(&[dump.clone(), diamond("B"), diamond("C")]).is_empty());
        assert_eq!(check_git(&dump, &lineage()), (4, vec![]));
    }

    #[test]
    fn what_is_wrong_within_a_store_is_found() {
        type Change = fn(&mut Dump);
        let changes: [(Change, &str); 11] = [
            (|it| it.entries[1].encoded.push(0), "is not the hash"),
            (|it| drop(it.entries.remove(1)), "comes before a parent"),
            (|it| it.entries.swap(2, 3), "order of heights and ids"),
            (
                |it| it.entries[2].parents = vec![it.entries[0].id],
                "names other parents",
            ),
            (|it| it.entries[2].height = 9, "names another height"),
            (
                |it| it.entries[2] = entry(Some(it.entries[0].id), vec![it.entries[1].id], 9, ""),
                "does not follow",
            ),
            (|it| it.tips.truncate(1), "the tips are not"),
            (|it| it.tips.push(it.entries[1].id), "the tips are not"),
            (
                |it| {
                    it.entries
                        .push(entry(Some([3; 32]), vec![it.entries[1].id], 2, "stray"))
                },
                "another tree",
            ),
            (|it| it.entries.clear(), "not the root"),
            (|it| it.entries.insert(2, it.entries[1].clone()), "twice"),
        ];
        for (change, expected) in changes {
            let mut dump = diamond("A");
            let tree = HEXLOWER.encode(&dump.entries[0].id);
            change(&mut dump);
            let problems = check_store(&dump, &tree).join("\n");
            assert!(problems.contains(expected), "{expected}: {problems}");
        }
        assert!(check_store(&diamond("A"), &"00".repeat(32))[0].contains("not the root"));
    }

    #[test]
    fn differences_between_stores_are_found() {
        let mut other = diamond("B");
        other.tips.truncate(1);
        drop(other.entries.pop());
        let problems = check_equal(&[diamond("C"), diamond("A"), other]);
        assert!(problems[0].contains("C and B has entry"), "{problems:?}");
        assert!(problems[1].contains("C and B has tip"), "{problems:?}");
    }

    #[test]
    fn differences_from_git_are_found() {
        type Change = fn(&mut Lineage);
        let changes: [(Change, &str); 3] = [
            (
                |it| it.parents.get_mut(&commit('d')).unwrap().truncate(1),
                "other parents in git",
            ),
            (|it| drop(it.parents.remove(&commit('d'))), "unknown to git"),
            (|it| it.expected.extend([commit('e')]), "is missing"),
        ];
        for (change, expected) in changes {
            let mut git = lineage();
            change(&mut git);
            let problems = check_git(&diamond("A"), &git).1.join("\n");
            assert!(problems.contains(expected), "{expected}: {problems}");
        }
    }
}
