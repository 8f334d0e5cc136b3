//! Files whose bytes have changed.

use std::fs;
use std::ops::ControlFlow;

use eidetica_dag::testing::{Random, key, open_genesis, shapes::sign_on_top};
use eidetica_dag::{Arrival, Body, EntryId};

use super::*;

/// How many places are damaged, one in each try.
const TRIES: u32 = 150;

/// Two trees with texts of their own.
fn write(path: &Path) -> [TreeId; 2] {
    let store = RedbStore::open(path).unwrap();
    ["one", "two"].map(|name| {
        let mut entries = vec![sign_on_top(None, [], &key(0), 0, open_genesis(name))];
        let tree = entries[0].get().tree();
        for n in 0..300 {
            let body = Body::Data(format!("text {n} of {name}").into());
            let entry = sign_on_top(Some(tree), entries.last(), &key(0), n, body);
            entries.push(entry);
        }
        store.append(tree, entries).unwrap();
        tree
    })
}

/// Everything that a store gives of a tree: decoded, and as it is sent.
type Content = Vec<(EntryId, Vec<u8>)>;

fn read(store: &RedbStore, tree: TreeId) -> Result<(Content, Content), StoreError> {
    let snapshot = store.snapshot(tree)?;
    let count = snapshot.entry_count();
    let decoded = (0..count).map(|at| {
        let entry = snapshot.entry(Arrival(at))?;
        Ok((entry.id(), entry.encoded().to_vec()))
    });
    let decoded = decoded.collect::<Result<_, StoreError>>()?;
    let mut sent = Vec::new();
    snapshot.visit_encoded(0..count, &mut |id, entry| {
        sent.push((id, entry.bytes.to_vec()));
        ControlFlow::Continue(())
    })?;
    Ok((decoded, sent))
}

#[test]
fn an_altered_entry_is_noticed_and_the_other_tree_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let [one, two] = write(&path);
    let mut bytes = fs::read(&path).unwrap();
    let text = b"text 123 of one";
    let at = bytes.windows(text.len()).position(|it| it == text).unwrap();
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();

    let store = RedbStore::open(&path).unwrap();
    let snapshot = store.snapshot(one).unwrap();
    let damaged: Vec<u32> = (0..snapshot.entry_count())
        .filter(|at| {
            matches!(
                snapshot.entry(Arrival(*at)),
                Err(StoreError::Damaged { .. })
            )
        })
        .collect();
    assert_eq!(damaged, [124], "the root is 0");
    let sent = snapshot.visit_encoded(100..200, &mut |_, _| ControlFlow::Continue(()));
    assert!(matches!(sent, Err(StoreError::Damaged { .. })));
    snapshot
        .visit_encoded(125..200, &mut |_, _| ControlFlow::Continue(()))
        .unwrap();
    assert_eq!(read(&store, two).unwrap().0.len(), 301);
}

#[test]
fn an_entry_is_put_back_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let [one, _] = write(&path);
    let sound = RedbStore::open(&path).unwrap();
    let written = read(&sound, one).unwrap();
    let entries = [123, 124].map(|at| {
        let entry = sound.snapshot(one).unwrap().entry(Arrival(at)).unwrap();
        VerifiedEntry::verify(entry).unwrap()
    });
    drop(sound);
    let mut bytes = fs::read(&path).unwrap();
    let text = b"text 123 of one";
    let at = bytes.windows(text.len()).position(|it| it == text).unwrap();
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();

    let store = RedbStore::open(&path).unwrap();
    assert!(read(&store, one).is_err());
    let [sound, damaged] = &entries;
    assert!(!store.restore(one, sound).unwrap(), "it is sound");
    assert!(store.restore(one, damaged).unwrap());
    assert!(!store.restore(one, damaged).unwrap(), "once");
    drop(store);
    let store = RedbStore::open(&path).unwrap();
    assert_eq!(read(&store, one).unwrap(), written);
    let snapshot = store.snapshot(one).unwrap();
    let problems = eidetica_dag::check(&*snapshot, one, |_| ()).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
}

/// Each call gives what was written, or an error. None panics or hangs.
#[test]
fn no_damage_gives_other_entries_or_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let trees = write(&path);
    let sound = RedbStore::open(&path).unwrap();
    let written = trees.map(|tree| read(&sound, tree).unwrap());
    drop(sound);
    let bytes = fs::read(&path).unwrap();
    let mut random = Random::new(1);
    let (mut noticed, mut sound) = (0, 0);
    for n in 0..TRIES {
        let mut bytes = bytes.clone();
        let at = random.below(bytes.len() as u32) as usize;
        match n % 5 {
            0 => bytes.truncate(at),
            1 => bytes[at / 4096 * 4096..][..4096].fill(0),
            _ => bytes[at] ^= 1 << random.below(8),
        }
        fs::write(&path, bytes).unwrap();
        let Ok(store) = RedbStore::open(&path) else {
            noticed += 1;
            continue;
        };
        for (tree, written) in trees.iter().zip(&written) {
            match read(&store, *tree) {
                // A tree that is not found is empty.
                Ok((decoded, _)) if decoded.is_empty() => noticed += 1,
                Ok(found) => {
                    let whole = (&found.0[..], &found.1[..]);
                    // An older head of the tree is a shorter one.
                    assert!(written.0.starts_with(whole.0), "{at}: other entries");
                    assert!(
                        written.1.starts_with(whole.1),
                        "{at}: other entries are sent"
                    );
                    sound += 1;
                }
                Err(_) => noticed += 1,
            }
        }
        let _written_or_not = store.put("key", Some(b"value"));
        let _found_or_not = (store.trees(), store.list(""));
    }
    assert!(
        noticed > 10 && sound > 10,
        "{noticed} noticed, {sound} sound"
    );
}
