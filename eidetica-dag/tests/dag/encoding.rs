//! One entry, one encoding.

use bytes::Bytes;
use data_encoding::HEXLOWER;
use eidetica_dag::access::CHANGES_MAX;
use eidetica_dag::testing::{Random, genesis, key, open_genesis};
use eidetica_dag::{
    AccessChange, AccessRule, Assembler, Body, ENTRY_BYTES_MAX, ENTRY_VERSION, Entry, EntryError,
    EntryId, Genesis, NAME_BYTES_MAX, PARENTS_MAX, PublicKey, Role, Signature, SignedEntry,
    Subject, TreeId,
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
    HEXLOWER.encode(bytes)
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
        "02",                                                               // version
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
        "2c9733b13368f4035c64f2b6651ab032017a830bf18bd355d91552bc88d779e1",
        "26bb3008ca845d24ac3f1ded274f3fcd6673242c46e21aa812ed38fb2b27da02"
    );
    assert_eq!(hex(signed.encoded()), canonical + signature);
    assert_eq!(
        signed.id().to_string(),
        "3c557ef1a424db60c21f1a80037e2633ba3ab2ed3d1046a75dcf99bb0ae6a593"
    );
}

#[test]
fn golden_extension() {
    let secret = eidetica_dag::SecretKey::from_bytes(&[3; 32]);
    let entry = Entry {
        author: secret.public(),
        body: Body::Extension {
            kind: 300,
            bytes: Bytes::from_static(b"milk"),
        },
        ..plain()
    };
    let signed = SignedEntry::sign(entry, &secret).unwrap();
    let canonical = [
        "02",                                                               // version
        "01",                                                               // a tree:
        "0909090909090909090909090909090909090909090909090909090909090909", //
        "02",                                                               // two parents:
        "0101010101010101010101010101010101010101010101010101010101010101", //
        "0202020202020202020202020202020202020202020202020202020202020202", //
        "05",                                                               // height
        "64",                                                               // timestamp
        "ed4928c628d1c2c6eae90338905995612959273a5c63f93636c14614ac8737d1", // author
        "03",                                                               // an extension:
        "ac02",                                                             // kind
        "04",                                                               // four bytes
        "6d696c6b",
    ]
    .concat();
    let signature = concat!(
        "8867c00b911045fbf83239bbfe4462906e81e161731c034335c5e50e1f14ab27",
        "e948aa0845cd46ec04351cfcc453afc2ceb7f8fe6cd3f4458f735bbd84ad4c06"
    );
    assert_eq!(hex(signed.encoded()), canonical + signature);
    assert_eq!(
        signed.id().to_string(),
        "787366db3412ef838fd911325610bae1c5b08a76739c7d3e23b8be5d95fd7222"
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
        "02",                                                               // version
        "00",                                                               // no tree
        "00",                                                               // no parents
        "00",                                                               // height
        "64",                                                               // timestamp
        "ed4928c628d1c2c6eae90338905995612959273a5c63f93636c14614ac8737d1", // author
        "02",                                                               // a genesis:
        "01",                                                               // access rule
        "07070707070707070707070707070707",                                 // nonce
        "056e6f746573",                                                     // name
        "01",                                                               // one change:
        "00",                                                               // anyone
        "0101",                                                             // may write
    ]
    .concat();
    let signature = concat!(
        "b09bb38342aaa796414ac39b1d1511e973c5001a80ee90c82f4c5fd3bdbc2b1f",
        "e04e4106e7579e057d569577ce02b9e76ef66831c72f6dcf972001babf5a6205"
    );
    assert_eq!(hex(signed.encoded()), canonical + signature);
    assert_eq!(
        signed.id().to_string(),
        "85d6e303e3d31f140a2aee7d28f97b6189758dd4475f66b6dc16fb7540a7b768"
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

    let extension = Body::Extension {
        kind: 0,
        bytes: Bytes::new(),
    };
    let misplaced = Entry {
        body: extension,
        ..root()
    };
    assert_eq!(sign(misplaced).unwrap_err(), MalformedEntry);

    let admin = vec![AccessChange::grant(Subject::Anyone, Role::Admin)];
    let access = Entry {
        body: Body::Access(admin.clone()),
        ..plain()
    };
    let beginning = Entry {
        body: genesis("", admin),
        ..root()
    };
    assert_eq!(sign(access).unwrap_err(), AnyoneAdmin);
    assert_eq!(sign(beginning).unwrap_err(), AnyoneAdmin);
}

/// Returns the body of a root with this access rule.
fn genesis_with_rule(rule: u16) -> Body {
    Body::Genesis(Genesis {
        access_rule: AccessRule(rule),
        nonce: [7; 16],
        name: "notes".to_owned(),
        access: vec![],
    })
}

#[test]
fn other_access_rules_are_named() {
    for rule in [0, 2, u16::MAX] {
        let body = genesis_with_rule(rule);
        let error = sign(Entry { body, ..root() }).unwrap_err();
        assert_eq!(error, EntryError::UnknownAccessRule(rule));
    }

    // The rule is the first byte of a genesis: after version, tree, parents, height, time, author
    // and kind. Whatever another rule puts after it, the rule is wrong.
    let bytes = sign(root()).unwrap().encoded().to_vec();
    assert_eq!(bytes[37..40], [2, 1, 7]);
    for rest in [&bytes[39..], &[0xff; 100]] {
        let other = [&bytes[..38], &[2], rest].concat();
        let error = SignedEntry::decode(other.into()).unwrap_err();
        assert_eq!(error, EntryError::UnknownAccessRule(2));
    }
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
    // The parents' bytes follow version, tree and count: swapped, they descend.
    let mut bytes = sign(plain()).unwrap().encoded().to_vec();
    let (first, second) = bytes[35..99].split_at_mut(32);
    first.swap_with_slice(second);
    let error = SignedEntry::decode(bytes.into()).unwrap_err();
    assert_eq!(error, EntryError::ParentsNotAscending);
}

#[test]
fn other_versions_are_named() {
    for version in [0, 1, ENTRY_VERSION + 1] {
        let mut bytes = sign(plain()).unwrap().encoded().to_vec();
        bytes[0] = version;
        let error = SignedEntry::decode(bytes.into()).unwrap_err();
        assert_eq!(error, EntryError::UnknownVersion(version));
    }
}

#[test]
fn an_extension_has_a_kind_of_32_bits_and_nothing_after_its_bytes() {
    let body = |kind: u64, length: u8, bytes: &[u8]| {
        let plain = sign(plain()).unwrap().encoded().to_vec();
        let kind = postcard::to_stdvec(&kind).unwrap();
        let parts = [&plain[..133], &[3], &kind, &[length], bytes, &[0; 64]];
        SignedEntry::decode(parts.concat().into())
    };
    let largest = body(u32::MAX.into(), 2, b"hi").unwrap();
    let bytes = Bytes::from_static(b"hi");
    let kind = u32::MAX;
    assert_eq!(largest.entry().body, Body::Extension { kind, bytes });
    let error = Err(EntryError::NotCanonical);
    assert_eq!(body(u64::from(u32::MAX) + 1, 2, b"hi"), error);
    assert_eq!(body(1, 1, b"hi"), error);
    assert_eq!(body(1, 3, b"hi"), error);
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
    let admin = AccessChange::grant(Subject::Anyone, Role::Admin);
    let change = change.prop_filter("anyone cannot be an admin", move |it| *it != admin);
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
            (any::<u32>(), prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(kind, bytes)| {
                let bytes = bytes.into();
                Body::Extension { kind, bytes }
            }),
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
    Extension {
        kind: u32,
        bytes: &'a serde_bytes::Bytes,
    },
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
            Body::Extension { kind, bytes } => CanonicalBody::Extension {
                kind: *kind,
                bytes: serde_bytes::Bytes::new(bytes),
            },
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
