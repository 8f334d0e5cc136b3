//! What tests are made of: drawn trees, trees of every shape, a real history, and slow oracles.
//!
//! Everything is deterministic: keys come from numbers and shapes from seeds, so a failure repeats.
//! These are helpers for tests, and they panic where a test is wrong.

mod basics;
pub mod draw;
pub mod fuzz;
pub mod history;
pub mod oracle;
pub mod quarrel;
pub mod random;
pub mod seniority;
pub mod shapes;
pub mod skeleton;

pub use basics::{genesis, key, open_genesis};
pub use draw::{Drawing, Drawn, draw, draw_with};
pub use history::git_history;
pub use oracle::Oracle;
pub use quarrel::Quarrel;
pub use random::Random;
pub use shapes::{Shape, build, build_with, dag_of};
pub use skeleton::Skeleton;
