//! One entry, one encoding.

use bytes::Bytes;
use eidetica_dag::access::CHANGES_MAX;
use eidetica_dag::entry::{ENTRY_VERSION, NAME_BYTES_MAX};
use eidetica_dag::testing::{Random, genesis, key, open_genesis};
use eidetica_dag::{
    AccessChange, Assembler, Body, ENTRY_BYTES_MAX, Entry, EntryError, EntryId, Genesis,
    PARENTS_MAX, PublicKey, Role, Signature, SignedEntry, Subject, TreeId,
};
use proptest::prelude::*;

fn id(number: u8) -> EntryId {
    EntryId::from_bytes([number; 32])
}

/// An entry with data, two parents and nothing special.
fn plain() -> Entry {
    Entry {
        tree: Some(TreeId::from_root(id(9))),
        parents: vec![id(1), id(2)],
        height: 5,
        timestamp_ms: 100,
        author: key(1).public(),
        body: Body::Data(Bytes::from_static(b"milk")),
    }
}

fn root() -> Entry {
    Entry {
        tree: None,
        parents: vec![],
        height: 0,
        timestamp_ms: 100,
        author: key(1).public(),
        body: open_genesis("notes"),
    }
}

fn sign(entry: Entry) -> Result<SignedEntry, EntryError> {
    SignedEntry::sign(entry, &key(1))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whatever changes these bytes changes the id of every entry ever written.
#[test]
fn golden_entry() {
    let entry = Entry {
        author: eidetica_dag::SecretKey::from_bytes(&[3; 32]).public(),
        ..plain()
    };
    let signed = SignedEntry::sign(entry, &eidetica_dag::SecretKey::from_bytes(&[3; 32])).unwrap();
    let canonical = [
        "01",                                                               // version
        "01",                                                               // a tree:
        "0909090909090909090909090909090909090909090909090909090909090909", //
        "02",                                                               // two parents:
        "0101010101010101010101010101010101010101010101010101010101010101", //
        "0202020202020202020202020202020202020202020202020202020202020202", //
        "05",                                                               // height
        "64",                                                               // timestamp
        "ed4928c628d1c2c6eae90338905995612959273a5c63f93636c14614ac8737d1", // author
        "00",                                                               // data:
        "04",                                                               // four bytes
        "6d696c6b",
    ]
    .concat();
    let signature = concat!(
        "e9fe524c9c2c1053299abdaa340fba3d0423f6cf82e4e271ba42fcae8bbf25fc",
        "a76acf717ecd9193f156e2f26dc9da67349efee4d1cd25204a20e4175c2d4104"
    );
    assert_eq!(hex(signed.encoded()), canonical + signature);
    assert_eq!(
        signed.id().to_string(),
        "ae37e6827a773552349e5b0684872629aab726403ecb0c20f9acc8d77c964c7d"
    );
}

#[test]
fn golden_root() {
    let secret = eidetica_dag::SecretKey::from_bytes(&[3; 32]);
    let entry = Entry {
        author: secret.public(),
        ..root()
    };
    let signed = SignedEntry::sign(entry, &secret).unwrap();
    let canonical = [
        "01",                                                               // version
        "00",                                                               // no tree
        "00",                                                               // no parents
        "00",                                                               // height
        "64",                                                               // timestamp
        "ed4928c628d1c2c6eae90338905995612959273a5c63f93636c14614ac8737d1", // author
        "02",                                                               // a genesis:
        "07070707070707070707070707070707",                                 // nonce
        "056e6f746573",                                                     // name
        "01",                                                               // one change:
        "00",                                                               // anyone
        "0101",                                                             // may write
    ]
    .concat();
    let signature = concat!(
        "c4eb3393d5ebec28bf481fc86421166c4eba0a2c0529cf7fae153d8cec5858e7",
        "cbf831fac0b10d15a7fb517df9351756a994be47233c1bac3a06ec277906770f"
    );
    assert_eq!(hex(signed.encoded()), canonical + signature);
    assert_eq!(
        signed.id().to_string(),
        "055787406ceaa08b050de4b8e1e3e748ae5a5b867031a7f75f06e0d3555b1402"
    );
    assert_eq!(signed.tree().root(), signed.id());
}

#[test]
fn each_broken_rule_has_its_error() {
    let not_a_root = |change: fn(&mut Entry)| {
        let mut entry = plain();
        change(&mut entry);
        sign(entry).unwrap_err()
    };
    let no_root = |change: fn(&mut Entry)| {
        let mut entry = root();
        change(&mut entry);
        sign(entry).unwrap_err()
    };
    use EntryError::*;
    assert_eq!(not_a_root(|it| it.tree = None), MalformedEntry);
    assert_eq!(not_a_root(|it| it.parents.clear()), MalformedEntry);
    assert_eq!(not_a_root(|it| it.height = 0), MalformedEntry);
    assert_eq!(not_a_root(|it| it.parents.reverse()), ParentsNotAscending);
    assert_eq!(
        not_a_root(|it| it.parents = vec![id(1), id(1)]),
        ParentsNotAscending
    );
    assert_eq!(not_a_root(|it| it.body = open_genesis("")), MalformedRoot);
    assert_eq!(no_root(|it| it.height = 1), MalformedRoot);
    assert_eq!(no_root(|it| it.parents = vec![id(1)]), MalformedRoot);
    assert_eq!(
        no_root(|it| it.tree = Some(TreeId::from_root(id(1)))),
        MalformedRoot
    );
    assert_eq!(
        no_root(|it| it.body = Body::Data(Bytes::new())),
        MalformedEntry
    );
    assert_eq!(not_a_root(|it| it.author = key(2).public()), WrongSigner);
}

#[test]
fn limits_hold_to_the_last() {
    let with_parents = |count: usize| {
        let parents = (0..count).map(|number| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
            EntryId::from_bytes(bytes)
        });
        sign(Entry {
            parents: parents.collect(),
            ..plain()
        })
    };
    assert!(with_parents(PARENTS_MAX).is_ok());
    let error = with_parents(PARENTS_MAX + 1).unwrap_err();
    assert_eq!(error, EntryError::TooManyParents(PARENTS_MAX + 1));

    let with_name = |bytes: usize| {
        sign(Entry {
            body: open_genesis(&"n".repeat(bytes)),
            ..root()
        })
    };
    assert!(with_name(NAME_BYTES_MAX).is_ok());
    assert_eq!(
        with_name(NAME_BYTES_MAX + 1).unwrap_err(),
        EntryError::NameTooLong
    );

    let changes = |count| vec![AccessChange::revoke(Subject::Anyone); count];
    let access = |count| Entry {
        body: Body::Access(changes(count)),
        ..plain()
    };
    let beginning = |count| Entry {
        body: genesis("", changes(count)),
        ..root()
    };
    assert!(sign(access(CHANGES_MAX)).is_ok());
    assert!(sign(beginning(CHANGES_MAX)).is_ok());
    let error = EntryError::TooManyChanges;
    assert_eq!(sign(access(CHANGES_MAX + 1)).unwrap_err(), error);
    assert_eq!(sign(beginning(CHANGES_MAX + 1)).unwrap_err(), error);
}

#[test]
fn the_largest_entry_fits_exactly() {
    let with_payload = |bytes: usize| {
        sign(Entry {
            body: Body::Data(vec![0; bytes].into()),
            ..plain()
        })
    };
    let overhead = with_payload(1 << 19).unwrap().encoded().len() - (1 << 19);
    let largest = with_payload(ENTRY_BYTES_MAX - overhead).unwrap();
    assert_eq!(largest.encoded().len(), ENTRY_BYTES_MAX);
    assert_eq!(SignedEntry::decode(largest.encoded().clone()), Ok(largest));
    let bytes = ENTRY_BYTES_MAX + 1;
    let error = EntryError::TooLarge { bytes };
    assert_eq!(with_payload(bytes - overhead).unwrap_err(), error);
    assert_eq!(
        SignedEntry::decode(vec![0; bytes].into()).unwrap_err(),
        error
    );
}

#[test]
fn rules_of_form_hold_for_received_bytes_too() {
    // The parents' bytes stand behind version, tree and count: swapped, they descend.
    let mut bytes = sign(plain()).unwrap().encoded().to_vec();
    let (first, second) = bytes[35..99].split_at_mut(32);
    first.swap_with_slice(second);
    let error = SignedEntry::decode(bytes.into()).unwrap_err();
    assert_eq!(error, EntryError::ParentsNotAscending);
}

#[test]
fn other_versions_are_named() {
    let mut bytes = sign(plain()).unwrap().encoded().to_vec();
    bytes[0] = ENTRY_VERSION + 1;
    let error = SignedEntry::decode(bytes.into()).unwrap_err();
    assert_eq!(error, EntryError::UnknownVersion(ENTRY_VERSION + 1));
}

/// A number below 128 takes one byte; written as `1xxxxxxx 0`, it would be a second encoding.
#[test]
fn longer_forms_of_numbers_are_refused() {
    let bytes = sign(plain()).unwrap().encoded().to_vec();
    let (count, height, timestamp, body, length) = (34, 99, 100, 133, 134);
    assert_eq!(
        [count, height, timestamp, body, length].map(|at| bytes[at]),
        [2, 5, 100, 0, 4]
    );
    for at in [count, height, timestamp, body, length] {
        let mut longer = bytes.clone();
        longer[at] |= 0x80;
        longer.insert(at + 1, 0);
        let error = SignedEntry::decode(longer.into()).unwrap_err();
        assert_eq!(error, EntryError::NotCanonical, "byte {at}");
    }
}

#[test]
fn bytes_too_many_are_refused() {
    let signed = sign(plain()).unwrap();
    let mut bytes = signed.encoded().to_vec();
    let canonical = bytes.len() - 64;
    bytes.insert(canonical, 0);
    assert_eq!(
        SignedEntry::decode(bytes.into()),
        Err(EntryError::NotCanonical)
    );
}

#[test]
fn truncated_bytes_never_decode() {
    for entry in [plain(), root()] {
        let encoded = sign(entry).unwrap().encoded().clone();
        for end in 0..encoded.len() {
            assert!(
                SignedEntry::decode(encoded.slice(..end)).is_err(),
                "{end} bytes"
            );
        }
    }
}

#[test]
fn a_flipped_bit_never_keeps_the_id_nor_the_signature() {
    for entry in [plain(), root()] {
        let signed = sign(entry).unwrap();
        for bit in 0..signed.encoded().len() * 8 {
            let mut bytes = signed.encoded().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(other) = SignedEntry::decode(bytes.into()) {
                assert_ne!(other.id(), signed.id(), "bit {bit}");
                // One signature check takes long; a sample of the bits is enough.
                assert!(bit % 37 != 0 || !other.has_valid_signature(), "bit {bit}");
            }
        }
    }
}

#[test]
fn stored_bytes_are_read_back_with_their_id() {
    let signed = sign(plain()).unwrap();
    let stored = SignedEntry::decode_stored(signed.id(), signed.encoded().clone());
    assert_eq!(stored, Ok(signed));
    let error = SignedEntry::decode_stored(id(1), Bytes::from_static(b"nothing")).unwrap_err();
    assert_eq!(error, EntryError::NotCanonical);
}

#[test]
fn entries_put_together_at_once_are_those_put_together_alone() {
    let signature = Signature::from_bytes([5; 64]);
    let payloads = [0, 1, 70_000, 3, ENTRY_BYTES_MAX, 9];
    let entries = payloads.map(|bytes| Entry {
        body: Body::Data(vec![bytes as u8; bytes].into()),
        ..plain()
    });
    let mut assembler = Assembler::default();
    let mut alone = Vec::new();
    for entry in entries {
        let added = assembler.push(entry.clone(), &signature);
        let signed = SignedEntry::from_parts(entry, &signature);
        assert_eq!(added.err(), signed.as_ref().err().copied());
        alone.extend(signed);
    }
    assert_eq!(alone.len(), payloads.len() - 1, "one is too large");
    assert_eq!(assembler.id(4), Some(alone[4].id()));
    assert_eq!(assembler.id(5), None);
    assert_eq!(assembler.finish(), alone);
}

#[test]
fn a_detached_entry_is_the_same_elsewhere() {
    let mut assembler = Assembler::default();
    for _ in 0..2 {
        let pushed = assembler.push(plain(), &Signature::from_bytes([5; 64]));
        pushed.unwrap();
    }
    let entries = assembler.finish();
    let together = entries[0].encoded().as_ptr_range().end;
    assert_eq!(together, entries[1].encoded().as_ptr(), "one allocation");
    let detached = entries[1].clone().detached();
    assert_eq!(detached, entries[1]);
    let own = detached.encoded().as_ptr_range();
    assert!(!own.contains(&entries[1].encoded().as_ptr()));
    let Body::Data(data) = &detached.entry().body else {
        panic!("it has data");
    };
    assert!(own.contains(&data.as_ptr()), "the payload is a slice of it");
}

fn subjects() -> impl Strategy<Value = Subject> {
    prop_oneof![
        Just(Subject::Anyone),
        any::<[u8; 32]>().prop_map(|bytes| Subject::Key(PublicKey::from_bytes(bytes))),
    ]
}

fn changes() -> impl Strategy<Value = Vec<AccessChange>> {
    let roles = prop_oneof![
        Just(None),
        Just(Some(Role::Read)),
        Just(Some(Role::Write)),
        Just(Some(Role::Admin)),
    ];
    let change = (subjects(), roles).prop_map(|(subject, role)| AccessChange { subject, role });
    prop::collection::vec(change, 0..5)
}

fn entries() -> impl Strategy<Value = Entry> {
    let placed = (
        any::<[u8; 32]>(),
        prop::collection::btree_set(any::<[u8; 32]>(), 1..5),
        1..=u32::MAX,
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300).prop_map(|data| Body::Data(data.into())),
            changes().prop_map(Body::Access),
        ],
    );
    let placed = placed.prop_map(|(tree, parents, height, body)| Entry {
        tree: Some(TreeId::from_root(EntryId::from_bytes(tree))),
        parents: parents.into_iter().map(EntryId::from_bytes).collect(),
        height,
        body,
        ..plain()
    });
    let bare = ("\\PC{0,40}", changes()).prop_map(|(name, access)| Entry {
        body: genesis(&name, access),
        ..root()
    });
    (prop_oneof![placed, bare], any::<u64>(), any::<[u8; 32]>()).prop_map(
        |(entry, timestamp_ms, author)| Entry {
            timestamp_ms,
            author: PublicKey::from_bytes(author),
            ..entry
        },
    )
}

/// The canonical form as postcard writes it, which is what the format is defined by.
#[derive(serde::Serialize)]
struct Canonical<'a> {
    version: u8,
    tree: Option<TreeId>,
    parents: &'a [EntryId],
    height: u32,
    timestamp_ms: u64,
    author: PublicKey,
    body: CanonicalBody<'a>,
}

#[derive(serde::Serialize)]
enum CanonicalBody<'a> {
    Data(&'a serde_bytes::Bytes),
    Access(&'a [AccessChange]),
    Genesis(&'a Genesis),
}

fn by_postcard(entry: &Entry) -> Vec<u8> {
    let canonical = Canonical {
        version: ENTRY_VERSION,
        tree: entry.tree,
        parents: &entry.parents,
        height: entry.height,
        timestamp_ms: entry.timestamp_ms,
        author: entry.author,
        body: match &entry.body {
            Body::Data(data) => CanonicalBody::Data(serde_bytes::Bytes::new(data)),
            Body::Access(changes) => CanonicalBody::Access(changes),
            Body::Genesis(genesis) => CanonicalBody::Genesis(genesis),
        },
    };
    postcard::to_stdvec(&canonical).unwrap()
}

proptest! {
    #[test]
    fn the_encoding_is_postcards(entry in entries()) {
        let signed = SignedEntry::from_parts(entry.clone(), &Signature::from_bytes([9; 64])).unwrap();
        prop_assert_eq!(&signed.encoded()[..], [by_postcard(&entry), vec![9; 64]].concat());
        prop_assert_eq!(signed.parts().height, entry.height);
        prop_assert_eq!(signed.parts().signature, &[9; 64]);
    }

    #[test]
    fn entries_survive_the_round_trip(entry in entries(), signature: [u8; 32]) {
        let signature = Signature::from_bytes([signature, signature].concat().try_into().unwrap());
        let signed = SignedEntry::from_parts(entry.clone(), &signature).unwrap();
        let decoded = SignedEntry::decode(signed.encoded().clone()).unwrap();
        prop_assert_eq!(decoded.entry(), &entry);
        prop_assert_eq!(decoded.id(), signed.id());
        prop_assert_eq!(decoded.signature(), signature);
    }

    #[test]
    fn what_decodes_encodes_to_the_same_bytes(entry in entries(), seed: u64) {
        let signature = Signature::from_bytes([0; 64]);
        let signed = SignedEntry::from_parts(entry, &signature).unwrap();
        let mut random = Random::new(seed);
        let mut bytes = signed.encoded().to_vec();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len() as u32) as usize;
            bytes[at] = random.below(256) as u8;
        }
        if let Ok(decoded) = SignedEntry::decode(bytes.clone().into()) {
            let again = SignedEntry::from_parts(decoded.entry().clone(), &decoded.signature());
            prop_assert_eq!(again.unwrap().encoded().to_vec(), bytes);
        }
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut versioned = bytes;
        if let Some(first) = versioned.first_mut() {
            *first = ENTRY_VERSION;
        }
        let _ = SignedEntry::decode(versioned.into());
    }
}
