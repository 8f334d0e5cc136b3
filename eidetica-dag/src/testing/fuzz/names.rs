//! Names as text: ids and keys.

use std::fmt::Display;
use std::str::FromStr;

use crate::id::{EntryId, TreeId};
use crate::key::PublicKey;
use crate::testing::key;

/// Reads text as ids and as a key: all take the same texts, and write them back in lower case.
pub fn name(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else {
        return false;
    };
    let is_name = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert_name::<EntryId>(text, is_name);
    assert_name::<TreeId>(text, is_name);
    assert_name::<PublicKey>(text, is_name);
    is_name
}

fn assert_name<T: FromStr + Display>(text: &str, is_name: bool) {
    let written = text.parse::<T>().ok().map(|name| name.to_string());
    assert_eq!(written, is_name.then(|| text.to_ascii_lowercase()));
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let name = key(0).public().to_string();
    vec![name.to_uppercase().into_bytes(), name.into_bytes()]
}
