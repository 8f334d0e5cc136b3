//! Every kind of difference is planted, and must be found.

use super::super::dump::{DumpEntry, ENTRY_VERSION, hex};
use super::*;

/// The commits of the test's history, each an entry's payload.
fn commit(letter: char) -> String {
    letter.to_string().repeat(40)
}

/// Writes an entry as the program does, with a signature that nobody checks here.
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
        id: sha256(&encoded),
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
        parents: BTreeMap::from(parents),
        expected: "abcd".chars().map(commit).collect(),
    }
}

fn tree_of(dump: &Dump) -> String {
    hex(&dump.entries[0].id)
}

/// Returns the problems of a store after a change to it.
fn after(change: impl FnOnce(&mut Dump)) -> Vec<String> {
    let mut dump = diamond("A");
    let tree = tree_of(&dump);
    change(&mut dump);
    check_store(&dump, &tree)
}

#[track_caller]
fn assert_found(problems: &[String], text: &str) {
    assert!(
        problems.iter().any(|it| it.contains(text)),
        "{text:?} in {problems:?}"
    );
}

#[test]
fn what_is_right_has_no_problems() {
    assert!(after(|_| {}).is_empty());
    assert!(check_equal(&[diamond("A"), diamond("B"), diamond("C")]).is_empty());
    assert_eq!(check_git(&diamond("A"), &lineage()), (4, vec![]));
}

#[test]
fn an_altered_byte_is_found() {
    let problems = after(|dump| {
        let last = dump.entries[1].encoded.len() - 1;
        dump.entries[1].encoded[last] ^= 1;
    });
    assert_found(&problems, "not the SHA-256 hash");
    assert_eq!(problems.len(), 1);
}

#[test]
fn a_missing_entry_is_found() {
    let problems = after(|dump| drop(dump.entries.remove(1)));
    assert_found(&problems, "is not before it");
}

#[test]
fn a_parent_behind_its_child_is_found() {
    let problems = after(|dump| dump.entries.swap(1, 2));
    assert_found(&problems, "is not before it");
    assert_found(&problems, "order of heights and ids");
}

#[test]
fn siblings_in_the_wrong_order_are_found() {
    let problems = after(|dump| dump.entries.swap(2, 3));
    assert_found(&problems, "order of heights and ids");
    assert_eq!(problems.len(), 1);
}

#[test]
fn parents_that_the_bytes_do_not_name_are_found() {
    let problems = after(|dump| {
        let root = dump.entries[0].id;
        dump.entries[2].parents = vec![root];
    });
    assert_found(&problems, "name other parents");
    assert_found(&problems, "its height is 1, and it claims 2");
}

#[test]
fn a_lying_height_is_found() {
    let problems = after(|dump| {
        let root = dump.entries[0].id;
        let parent = dump.entries[1].id;
        dump.entries[2] = entry(Some(root), vec![parent], 9, "high");
    });
    assert_found(&problems, "its height is 2, and it claims 9");
}

#[test]
fn wrong_tips_are_found() {
    let lost = after(|dump| dump.tips.truncate(1));
    assert_found(&lost, "is not among the tips");
    let inner = after(|dump| dump.tips.push(dump.entries[1].id));
    assert_found(&inner, "has children or is not there");
    let twice = after(|dump| dump.tips.push(dump.tips[0]));
    assert_found(&twice, "printed twice");
}

#[test]
fn another_tree_is_found() {
    let dump = diamond("A");
    assert_found(&check_store(&dump, &"00".repeat(32)), "not the root");
    let problems = after(|dump| {
        let parent = dump.entries[1].id;
        dump.entries
            .push(entry(Some([3; 32]), vec![parent], 2, "stray"));
    });
    assert_found(&problems, "another tree");
}

#[test]
fn no_entries_are_a_problem() {
    let problems = after(|dump| {
        dump.entries.clear();
        dump.tips.clear();
    });
    assert_found(&problems, "not the root");
}

#[test]
fn an_entry_that_is_there_twice_is_found() {
    let problems = after(|dump| dump.entries.insert(2, dump.entries[1].clone()));
    assert_found(&problems, "twice");
}

#[test]
fn differences_name_the_store_and_the_ids() {
    let whole = diamond("A");
    let mut lacking = diamond("B");
    let lost = lacking.entries.pop().expect("it has entries").id;
    let expected = format!("B lacks 1 entries of A: {}", short(&lost));
    assert_found(
        &check_equal(&[whole.clone(), diamond("C"), lacking.clone()]),
        &expected,
    );
    assert_found(
        &check_equal(&[lacking, whole.clone()]),
        "B lacks 1 entries of A",
    );

    let mut other = diamond("B");
    other.entries[2].parents = vec![];
    assert_found(&check_equal(&[whole.clone(), other]), "other parents");

    let mut other = diamond("B");
    other.tips.pop();
    assert_found(&check_equal(&[whole, other]), "B lacks 1 tips of A");
}

#[test]
fn other_parents_than_in_git_are_found() {
    let mut git = lineage();
    git.parents.insert(commit('d'), vec![commit('b')]);
    assert_found(&check_git(&diamond("A"), &git).1, "other parents in git");

    let mut git = lineage();
    git.parents.insert(commit('b'), vec![]);
    assert_found(&check_git(&diamond("A"), &git).1, "other parents in git");

    let mut git = lineage();
    git.parents.remove(&commit('d'));
    assert_found(&check_git(&diamond("A"), &git).1, "git has no commit");

    let mut git = lineage();
    git.expected.insert(commit('e'));
    assert_found(&check_git(&diamond("A"), &git).1, "is missing");
}

#[test]
fn only_whole_commit_ids_name_a_commit() {
    let id = commit('a');
    assert_eq!(
        commit_in(format!("commit {id}\nx").as_bytes()),
        Some(id.clone())
    );
    assert_eq!(commit_in(format!("commit {id}1\nx").as_bytes()), None);
    assert_eq!(commit_in(b"commit message wanted"), None);
    assert_eq!(commit_in(&[0xff, 0xfe]), None);
}
