//! Replays inputs that are kept, without a fuzzer.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::target::Target;

/// The beginning of the names of files that hold [`Target::seeds`]. Other files were found by a
/// fuzzer: they need not be understood, only do no harm.
pub const SEED_PREFIX: &str = "seed-";

/// One input that is kept.
#[derive(Debug, Clone)]
pub struct CorpusFile {
    /// Its folder: the name of its target.
    pub target: String,
    /// The name of the file.
    pub name: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// Runs every file through its target.
///
/// # Panics
/// If a promise is broken, a seed is not understood, a target has no seed, or a file has no target.
pub fn replay(targets: &[Target], files: &[CorpusFile]) {
    let mut seeded = BTreeSet::new();
    for CorpusFile {
        target,
        name,
        bytes,
    } in files
    {
        let known = targets.iter().find(|known| known.name == target);
        let known = known.unwrap_or_else(|| panic!("there is no target {target}, but a corpus"));
        let checked = catch_unwind(AssertUnwindSafe(|| (known.check)(bytes)));
        let Ok(understood) = checked else {
            panic!("{target}/{name} breaks a promise: see above");
        };
        if name.starts_with(SEED_PREFIX) {
            assert!(
                understood,
                "{target}/{name} is of another format: run cargo xtask fuzz seeds"
            );
            seeded.insert(target.as_str());
        }
    }
    for Target { name, .. } in targets {
        assert!(
            seeded.contains(name),
            "the target {name} has no seed: run cargo xtask fuzz seeds"
        );
    }
}
