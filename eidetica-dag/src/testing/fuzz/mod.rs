//! What must hold for any bytes: the bodies of the fuzz targets.
//!
//! Each target is a function of bytes that panics where a promise is broken, and tells whether the
//! bytes were understood, that is, whether there was anything to check beyond the refusal. A fuzzer
//! makes up bytes without end, `cargo xtask fuzz` runs it; ordinary tests run the committed ones.

mod corpus;
mod entries;
mod input;
mod names;
mod target;

pub use corpus::{CorpusFile, SEED_PREFIX, replay};
pub use entries::{assert_entry, entry, entry_edit, genuine};
pub use input::Input;
pub use names::name;
pub use target::Target;

/// Every target of this crate.
pub const TARGETS: &[Target] = &[
    Target {
        name: "entry",
        check: entry,
        seeds: entries::entry_seeds,
    },
    Target {
        name: "entry_edit",
        check: entry_edit,
        seeds: entries::entry_edit_seeds,
    },
    Target {
        name: "name",
        check: name,
        seeds: names::seeds,
    },
];
