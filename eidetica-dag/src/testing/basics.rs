//! Keys, and the bodies of roots.

use super::random::Random;
use crate::access::{AccessChange, Role, Subject};
use crate::entry::{AccessRule, Body, Genesis};
use crate::key::SecretKey;

/// Returns a secret key that depends only on `number`.
pub fn key(number: u32) -> SecretKey {
    let mut random = Random::new(0x6b65_7900_0000_0000 | u64::from(number));
    let mut bytes = [0; 32];
    for word in bytes.chunks_exact_mut(8) {
        word.copy_from_slice(&random.next_u64().to_le_bytes());
    }
    SecretKey::from_bytes(&bytes)
}

/// Returns the body of a root where everyone may write: tests about shape need no access rules.
pub fn open_genesis(name: &str) -> Body {
    genesis(
        name,
        vec![AccessChange::grant(Subject::Anyone, Role::Write)],
    )
}

/// Returns the body of a root with these changes of access.
pub fn genesis(name: &str, access: Vec<AccessChange>) -> Body {
    Body::Genesis(Genesis {
        access_rule: AccessRule::SENIORITY,
        nonce: [7; 16],
        name: name.to_owned(),
        access,
    })
}
