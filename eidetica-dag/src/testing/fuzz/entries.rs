//! Entries: arbitrary bytes, and genuine entries that were changed.

use std::sync::OnceLock;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::Input;
use crate::access::{AccessChange, CHANGES_MAX, Role, Subject};
use crate::entry::{AccessRule, Body, ENTRY_BYTES_MAX, EntryError, NAME_BYTES_MAX, PARENTS_MAX};
use crate::id::TreeId;
use crate::signed::SignedEntry;
use crate::testing::shapes::sign_on_top;
use crate::testing::{genesis, key};
use crate::verify::{VerifiedEntry, verify_batch};

/// Reads bytes as an entry: such an entry has this one encoding, the id is the hash of the bytes,
/// and every limit holds.
pub fn entry(data: &[u8]) -> bool {
    let Ok(signed) = SignedEntry::decode(Bytes::copy_from_slice(data)) else {
        return false;
    };
    assert_eq!(signed.encoded(), data, "one entry has one encoding");
    assert_entry(&signed);
    true
}

/// Changes one of the [`genuine`] entries: what comes of it is refused, or another entry
/// without a signature, alone and among the genuine ones.
pub fn entry_edit(data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let genuine = genuine();
    let victim = input.below(genuine.len());
    let mut bytes = genuine[victim].encoded().to_vec();
    input.edit(&mut bytes);
    let Ok(edited) = SignedEntry::decode(bytes.into()) else {
        return false;
    };
    assert_entry(&edited);

    let is_genuine = |entry: &SignedEntry| genuine.contains(entry);
    let is_changed = edited.encoded() != genuine[victim].encoded();
    assert_eq!(edited.id() != genuine[victim].id(), is_changed);
    assert_eq!(edited.has_valid_signature(), is_genuine(&edited));

    let mut batch = genuine.to_vec();
    batch[victim] = edited;
    let verified = verify_batch(batch).verified;
    for (place, entry) in verified
        .into_iter()
        .map(VerifiedEntry::into_inner)
        .enumerate()
    {
        assert!(is_genuine(&entry), "a forgery in place {place}: {entry:?}");
    }
    true
}

/// Checks everything that having a [`SignedEntry`] proves.
///
/// # Panics
/// If something does not hold.
pub fn assert_entry(signed: &SignedEntry) {
    let (entry, encoded) = (signed.entry(), signed.encoded());
    assert!(encoded.len() <= ENTRY_BYTES_MAX);
    assert_eq!(signed.id().as_bytes()[..], Sha256::digest(encoded)[..]);

    let is_root = matches!(entry.body, Body::Genesis(_));
    assert_eq!(entry.tree.is_none(), is_root);
    assert_eq!(entry.parents.is_empty(), is_root);
    assert_eq!(entry.height == 0, is_root);
    assert!(entry.parents.len() <= PARENTS_MAX);
    assert!(entry.parents.is_sorted_by(|a, b| a < b));
    match &entry.body {
        Body::Data(data) | Body::Extension { bytes: data, .. } => {
            assert!(data.len() < encoded.len());
        }
        Body::Access(changes) => assert_changes(changes),
        Body::Genesis(genesis) => {
            assert_eq!(genesis.access_rule, AccessRule::SENIORITY);
            assert!(genesis.name.len() <= NAME_BYTES_MAX);
            assert_changes(&genesis.access);
            assert_eq!(signed.tree(), TreeId::from_root(signed.id()));
        }
    }

    let same = |other: Result<SignedEntry, EntryError>| assert_eq!(other.as_ref(), Ok(signed));
    same(SignedEntry::decode(encoded.clone()));
    same(SignedEntry::decode_stored(signed.id(), encoded.clone()));
    same(SignedEntry::from_parts(entry.clone(), &signed.signature()));
}

fn assert_changes(changes: &[AccessChange]) {
    assert!(changes.len() <= CHANGES_MAX);
    assert!(!changes.contains(&AccessChange::grant(Subject::Anyone, Role::Admin)));
}

/// Returns a small tree by three authors, with every kind of body, parents before children.
pub fn genuine() -> &'static [SignedEntry] {
    static GENUINE: OnceLock<Vec<SignedEntry>> = OnceLock::new();
    GENUINE.get_or_init(make_genuine)
}

fn make_genuine() -> Vec<SignedEntry> {
    let grants = vec![
        AccessChange::grant(Subject::Key(key(1).public()), Role::Write),
        AccessChange::grant(Subject::Anyone, Role::Read),
    ];
    let root = sign_on_top(
        None,
        [],
        &key(0),
        1_790_000_000_000,
        genesis("fuzz", grants),
    );
    let tree = Some(TreeId::from_root(root.get().id()));
    let data = |text: &'static str| Body::Data(Bytes::from_static(text.as_bytes()));
    let change = Body::Access(vec![
        AccessChange::grant(Subject::Key(key(2).public()), Role::Admin),
        AccessChange::revoke(Subject::Anyone),
    ]);
    let milk = sign_on_top(tree, [&root], &key(1), 0, data("milk"));
    let access = sign_on_top(tree, [&root], &key(0), u64::MAX, change);
    let nothing = sign_on_top(tree, [&access], &key(2), 300, data(""));
    let bread = sign_on_top(tree, [&milk], &key(1), 301, data("bread and more bread"));
    let merge = sign_on_top(tree, [&nothing, &bread], &key(2), 7, data("both"));
    let extension = Body::Extension {
        kind: 300,
        bytes: Bytes::from_static(b"more than text"),
    };
    let extended = sign_on_top(tree, [&merge], &key(2), 7, extension);
    let last = sign_on_top(tree, [&extended], &key(1), 8, data("the end"));
    let entries = [root, milk, access, nothing, bread, merge, extended, last];
    entries.map(VerifiedEntry::into_inner).into()
}

pub(super) fn entry_seeds() -> Vec<Vec<u8>> {
    let encoded = genuine().iter().map(|entry| entry.encoded().to_vec());
    encoded.collect()
}

/// Every entry as it is, and with its last byte changed.
pub(super) fn entry_edit_seeds() -> Vec<Vec<u8>> {
    let edits = |victim: usize| {
        let last = genuine()[victim].encoded().len() - 1;
        let [low, high] = (last as u16).to_le_bytes();
        let victim = victim as u8;
        [vec![victim, 0], vec![victim, 0, 0, low, high, 1]]
    };
    (0..genuine().len()).flat_map(edits).collect()
}
