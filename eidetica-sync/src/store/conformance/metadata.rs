//! Cases about metadata.

use std::thread;

use super::Subject;
use crate::store::{META_KEY_BYTES_MAX, META_VALUE_BYTES_MAX, StoreError};

/// Metadata is set, replaced, listed in order and removed.
pub fn metadata_is_kept(subject: impl Subject) {
    let store = subject.store();
    assert_eq!(store.get("peer/a").unwrap(), None);
    store.put("peer/b", Some(b"2")).unwrap();
    store.put("peer/a", Some(b"1")).unwrap();
    store.put("peer", Some(b"")).unwrap();
    store.put("peers", Some(b"other")).unwrap();
    store.put("peer/a", Some(b"3")).unwrap();
    assert_eq!(store.get("peer/a").unwrap(), Some(b"3".to_vec()));
    assert_eq!(store.get("peer").unwrap(), Some(Vec::new()));
    let listed = |key: &str, value: &[u8]| (key.to_owned(), value.to_owned());
    let of_peers = [listed("peer/a", b"3"), listed("peer/b", b"2")];
    assert_eq!(store.list("peer/").unwrap(), of_peers);
    assert_eq!(store.list("").unwrap().len(), 4);
    store.put("peer/a", None).unwrap();
    store.put("never there", None).unwrap();
    assert_eq!(store.list("peer/").unwrap(), of_peers[1..]);
}

/// What is too large is refused by its own error, and the limit itself is allowed.
pub fn metadata_has_limits(subject: impl Subject) {
    let store = subject.store();
    let key = "k".repeat(META_KEY_BYTES_MAX);
    let value = vec![0; META_VALUE_BYTES_MAX];
    store.put(&key, Some(&value)).unwrap();
    assert_eq!(store.get(&key).unwrap(), Some(value.clone()));
    let refused = [
        store.put(&"k".repeat(META_KEY_BYTES_MAX + 1), Some(b"")),
        store.put("k", Some(&vec![0; META_VALUE_BYTES_MAX + 1])),
    ];
    for refused in refused {
        let error = refused.unwrap_err();
        assert!(matches!(error, StoreError::LimitExceeded { .. }), "{error}");
    }
    assert_eq!(store.list("").unwrap(), [(key, value)]);
}

/// An update gets the present value, and sets, keeps or removes it.
pub fn updates_see_the_present_value(subject: impl Subject) {
    let store = subject.store();
    let update = |key: &str, expected: Option<&[u8]>, next: Option<&[u8]>| {
        store.update(key, &mut |value| {
            assert_eq!(value, expected);
            next.map(<[u8]>::to_vec)
        })
    };
    update("a", None, None).unwrap();
    assert_eq!(store.get("a").unwrap(), None);
    update("a", None, Some(b"1")).unwrap();
    update("a", Some(b"1"), Some(b"1")).unwrap();
    update("a", Some(b"1"), Some(b"2")).unwrap();
    update("b", None, Some(b"")).unwrap();
    update("b", Some(b""), Some(b"3")).unwrap();
    update("a", Some(b"2"), None).unwrap();
    assert_eq!(store.list("").unwrap(), [("b".into(), b"3".to_vec())]);

    let large = vec![0; META_VALUE_BYTES_MAX + 1];
    let long = "k".repeat(META_KEY_BYTES_MAX + 1);
    let refused = [
        update("b", Some(b"3"), Some(&large)),
        update(&long, None, Some(b"")),
    ];
    for refused in refused {
        let error = refused.unwrap_err();
        assert!(matches!(error, StoreError::LimitExceeded { .. }), "{error}");
    }
    assert_eq!(store.list("").unwrap(), [("b".into(), b"3".to_vec())]);
}

/// Several threads count in one value, and no count is lost.
pub fn threads_update_one_value(subject: impl Subject) {
    const THREADS: u8 = 4;
    const COUNTS: u8 = 10;
    let store = subject.store();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..COUNTS {
                    let mut count = |value: Option<&[u8]>| {
                        let before = value.map_or(0, |value| value[0]);
                        Some(vec![before + 1])
                    };
                    store.update("count", &mut count).unwrap();
                }
            });
        }
    });
    let count = store.get("count").unwrap().unwrap();
    assert_eq!(count, [THREADS * COUNTS]);
}
