//! What tests are made of: drawn trees, trees of every shape, a real history, and slow oracles.
//!
//! Everything is deterministic: keys come from numbers and shapes from seeds, so a failure repeats.
//! These are helpers for tests, and they panic where a test is wrong.

pub mod draw;
pub mod fuzz;
pub mod history;
pub mod oracle;
pub mod quarrel;
pub mod random;
pub mod seniority;
pub mod shapes;
pub mod skeleton;

pub use draw::{Drawing, Drawn, draw, draw_with};
pub use history::git_history;
pub use oracle::Oracle;
pub use quarrel::Quarrel;
pub use random::Random;
pub use shapes::{Shape, build, build_with, dag_of};
pub use skeleton::Skeleton;

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
