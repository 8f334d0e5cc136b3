//! Writes the seeds of every fuzz target anew, in this crate and in `eidetica-dag`. It is what
//! `cargo xtask fuzz seeds` runs, to be done whenever a format has changed.

use std::path::Path;
use std::{fs, io};

use eidetica_dag::testing::fuzz::{SEED_PREFIX, Target};
use eidetica_proto::testing::fuzz;

fn main() -> io::Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (package, targets) in [
        ("eidetica-dag", eidetica_dag::testing::fuzz::TARGETS),
        ("eidetica-proto", fuzz::TARGETS),
    ] {
        let corpus = workspace.join(package).join("tests/corpus");
        for target in targets {
            write_seeds(target, &corpus.join(target.name))?;
        }
    }
    Ok(())
}

/// Puts the seeds of a target in the place of those of an older format.
#[expect(clippy::disallowed_methods, reason = "the corpus is a folder of files")]
fn write_seeds(target: &Target, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for file in fs::read_dir(folder)? {
        let file = file?;
        if file.file_name().to_string_lossy().starts_with(SEED_PREFIX) {
            fs::remove_file(file.path())?;
        }
    }
    for (number, seed) in (target.seeds)().into_iter().enumerate() {
        fs::write(folder.join(format!("{SEED_PREFIX}{number:02}")), seed)?;
    }
    Ok(())
}
