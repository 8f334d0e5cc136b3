//! The inputs that are kept with the sources.
//!
//! Each target has a folder. Code makes `seed-*`; a fuzzer found `found-*`, and they were chosen here.
//! Files with other names, such as `regression-*`, are left alone.

use std::fs;
use std::path::{Path, PathBuf};

use xtask_support::{failed, output};

use super::FUZZ_DIR;
use super::run::{folder, program};
use crate::workspace;

/// The crates with targets.
const PACKAGES: [&str; 2] = ["eidetica-dag", "eidetica-proto"];

const FOUND_PREFIX: &str = "found-";

/// Most found inputs that are kept for one target. The first dozens reach nearly all that thousands
/// do.
const FOUND_MAX: usize = 24;

/// Most bytes of found inputs that are kept for one target: a clone stays small.
const FOUND_BYTES_MAX: usize = 16 << 10;

/// How many digits of the hash that libFuzzer names an input by distinguish it from the others.
const NAME_DIGITS: usize = 12;

/// Returns every target, ascending.
pub fn targets() -> Result<Vec<String>, String> {
    let files = list(&workspace::root().join(FUZZ_DIR).join("fuzz_targets"))?;
    Ok(files
        .iter()
        .map(|file| name(file).trim_end_matches(".rs").to_owned())
        .collect())
}

/// Returns the folder of a target's inputs, from the workspace's root.
pub fn kept(target: &str) -> Result<PathBuf, String> {
    let folders = PACKAGES.map(|package| Path::new(package).join("tests/corpus").join(target));
    let mut folders = folders.into_iter();
    let kept = folders.find(|folder| workspace::root().join(folder).is_dir());
    kept.ok_or_else(|| format!("{target} has no corpus; cargo xtask fuzz seeds makes it"))
}

/// Chooses a few of the inputs that were found: those that reach what the others do not.
pub fn minimise(target: &str) -> Result<(), String> {
    let kept = workspace::root().join(kept(target)?);
    let (found, fixed): (Vec<PathBuf>, Vec<PathBuf>) = list(&kept)?
        .into_iter()
        .partition(|file| name(file).starts_with(FOUND_PREFIX));
    // libFuzzer adds to the first folder a near-minimal set of what the others reach beyond it.
    let merged = folder(&format!("cmin/{target}"))?;
    for file in list(&merged)? {
        fs::remove_file(file).map_err(failed)?;
    }
    for file in &fixed {
        fs::copy(file, merged.join(name(file))).map_err(failed)?;
    }
    let mut command = program(target)?;
    // How often something is reached does not count, or there would be ten times as much.
    command.args(["-set_cover_merge=1", "-use_counters=0"]);
    output(command.args([&merged, &folder(&format!("corpus/{target}"))?, &kept]))?;

    let mut chosen = Vec::new();
    for file in list(&merged)? {
        if !fixed.iter().any(|it| name(it) == name(&file)) {
            chosen.push((fs::read(&file).map_err(failed)?, name(&file)));
        }
    }
    chosen.sort_by_key(|(bytes, name)| (bytes.len(), name.clone()));
    for file in found {
        fs::remove_file(file).map_err(failed)?;
    }
    let (mut files, mut sum) = (0, 0);
    for (bytes, name) in chosen.into_iter().take(FOUND_MAX) {
        sum += bytes.len();
        if sum > FOUND_BYTES_MAX {
            break;
        }
        let hash: String = name
            .trim_start_matches(FOUND_PREFIX)
            .chars()
            .take(NAME_DIGITS)
            .collect();
        fs::write(kept.join(format!("{FOUND_PREFIX}{hash}")), bytes).map_err(failed)?;
        files += 1;
    }
    println!("  {target}: {files} inputs");
    Ok(())
}

/// Returns the files in a folder, by name.
fn list(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let wrong = |error| format!("{}: {error}", folder.display());
    let entries = fs::read_dir(folder).map_err(wrong)?;
    let files = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut files = files.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    files.sort();
    Ok(files)
}

fn name(file: &Path) -> String {
    file.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Most bytes of all kept inputs together.
    const KEPT_BYTES_MAX: u64 = 400 << 10;

    /// cargo-fuzz runs what its manifest lists, tests replay what the folders hold, and the functions
    /// are in two crates: a target must be complete.
    #[test]
    fn every_target_has_a_program_a_function_and_a_small_corpus_with_seeds() {
        let fuzz = workspace::root().join(FUZZ_DIR);
        let mut programs = String::new();
        let mut bytes = 0;
        for target in targets().unwrap() {
            programs += &format!(
                "\n[[bin]]\nname = \"{target}\"\npath = \"fuzz_targets/{target}.rs\"\n\
                 test = false\ndoc = false\nbench = false\n"
            );
            let kept = kept(&target).unwrap();
            let package = kept.to_string_lossy().replace('-', "_");
            let package = package.split('/').next().unwrap();
            let expected = format!(
                "#![no_main]\nlibfuzzer_sys::fuzz_target!(|data: &[u8]| \
                 {package}::testing::fuzz::{target}(data));\n"
            );
            let file = fuzz.join(format!("fuzz_targets/{target}.rs"));
            assert_eq!(fs::read_to_string(file).unwrap(), expected);
            let files = list(&workspace::root().join(kept)).unwrap();
            assert!(
                files.iter().any(|file| name(file).starts_with("seed-")),
                "{target}"
            );
            bytes += files
                .iter()
                .map(|file| fs::metadata(file).unwrap().len())
                .sum::<u64>();
        }
        assert!(bytes <= KEPT_BYTES_MAX, "{bytes} bytes");
        let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
        assert!(manifest.ends_with(&programs), "expected{programs}");
        let corpora = PACKAGES.map(|package| workspace::root().join(package).join("tests/corpus"));
        let folders = corpora.iter().flat_map(|corpora| list(corpora).unwrap());
        let mut folders: Vec<String> = folders.map(|folder| name(&folder)).collect();
        folders.sort();
        assert_eq!(folders, targets().unwrap());
    }
}
