//! The inputs that are kept with the sources.
//!
//! Each target has a folder. Code makes `seed-*`; a fuzzer found `found-*`, and they were chosen here.
//! Files with other names, such as `regression-*`, are left alone.

use std::fs;
use std::path::{Path, PathBuf};

use xtask_support::output;

use super::FUZZ_DIR;
use super::run::{Built, folder, make_folder};
use crate::workspace;

/// The crates with targets.
const PACKAGES: [&str; 2] = ["eidetica-dag", "eidetica-proto"];

const FOUND_PREFIX: &str = "found-";

/// Most found inputs that are kept for one target. The first dozens reach nearly all that thousands
/// do.
const FOUND_MAX: usize = 24;

/// Most bytes of found inputs that are kept for one target: a clone stays small.
const FOUND_BYTES_MAX: u64 = 16 << 10;

/// How many digits of the hash that libFuzzer names an input by tell it from the others.
const NAME_DIGITS: usize = 12;

/// Returns every target, ascending.
pub fn targets() -> Result<Vec<String>, String> {
    let files = list(&workspace::root().join(FUZZ_DIR).join("fuzz_targets"))?;
    let stems = files.iter().filter_map(|file| file.file_stem()?.to_str());
    Ok(stems.map(str::to_owned).collect())
}

/// Returns the folder of a target's inputs, from the workspace's root.
pub fn kept(target: &str) -> Result<PathBuf, String> {
    let folders = PACKAGES.map(|package| Path::new(package).join("tests/corpus").join(target));
    let kept = folders
        .into_iter()
        .find(|folder| workspace::root().join(folder).is_dir());
    kept.ok_or_else(|| format!("{target} has no corpus; cargo xtask fuzz seeds makes it"))
}

/// Returns the package that a folder of inputs belongs to.
pub fn package(kept: &Path) -> String {
    let first = kept.components().next();
    first
        .map(|first| first.as_os_str().to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Chooses a few of the inputs that were found: those that reach what the others do not.
pub fn minimise(built: &Built, targets: &[String]) -> Result<(), String> {
    for target in targets {
        let kept = workspace::root().join(kept(target)?);
        let (found, bytes) = minimise_target(built, target, &kept)?;
        println!("  {target}: {found} inputs, {bytes} bytes");
    }
    Ok(())
}

fn minimise_target(built: &Built, target: &str, kept: &Path) -> Result<(usize, u64), String> {
    let (found, fixed): (Vec<PathBuf>, Vec<PathBuf>) = list(kept)?
        .into_iter()
        .partition(|file| name(file).starts_with(FOUND_PREFIX));
    // libFuzzer adds to the first folder a near-minimal set of what the others reach beyond it.
    let merged = folder("cmin").join(target);
    if merged.exists() {
        fs::remove_dir_all(&merged).map_err(wrong(&merged))?;
    }
    let earlier = folder("corpus").join(target);
    make_folder(&merged)?;
    make_folder(&earlier)?;
    for file in &fixed {
        fs::copy(file, merged.join(name(file))).map_err(wrong(file))?;
    }
    let before = list(&merged)?;
    let mut program = built.program(target);
    // How often something is reached does not count, or there would be ten times as much.
    program.args(["-set_cover_merge=1", "-use_counters=0"]);
    output(program.args([merged.as_path(), &earlier, kept]))?;

    let added = list(&merged)?
        .into_iter()
        .filter(|file| !before.contains(file));
    let mut chosen = added
        .map(|file| Ok((name(&file), fs::read(&file).map_err(wrong(&file))?)))
        .collect::<Result<Vec<_>, String>>()?;
    chosen.sort_by_key(|(name, bytes)| (bytes.len(), name.clone()));
    chosen.truncate(FOUND_MAX);
    let mut sum = 0;
    chosen.retain(|(_, bytes)| {
        sum += bytes.len() as u64;
        sum <= FOUND_BYTES_MAX
    });
    for file in &found {
        fs::remove_file(file).map_err(wrong(file))?;
    }
    for (name, bytes) in &chosen {
        let hash = name.strip_prefix(FOUND_PREFIX).unwrap_or(name);
        let short = hash.get(..NAME_DIGITS).unwrap_or(hash);
        let to = kept.join(format!("{FOUND_PREFIX}{short}"));
        fs::write(&to, bytes).map_err(wrong(&to))?;
    }
    let bytes = chosen.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    Ok((chosen.len(), bytes))
}

/// Returns the files in a folder, by name.
fn list(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(wrong(folder))?;
    let files = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut files = files
        .collect::<Result<Vec<_>, _>>()
        .map_err(wrong(folder))?;
    files.sort();
    Ok(files)
}

fn name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn wrong(path: &Path) -> impl FnOnce(std::io::Error) -> String {
    let path = path.to_path_buf();
    move |error| format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED_PREFIX: &str = "seed-";

    /// Most bytes of all kept inputs together.
    const KEPT_BYTES_MAX: u64 = 400 << 10;

    /// cargo-fuzz runs what its manifest lists, tests replay what the folders hold, and the functions
    /// are in two crates: a target must be complete.
    #[test]
    fn every_target_has_a_program_a_function_and_a_corpus() {
        let targets = targets().unwrap();
        let fuzz = workspace::root().join(FUZZ_DIR);
        let mut programs = String::new();
        let mut folders: Vec<String> = vec![];
        for target in &targets {
            programs += &format!(
                "\n[[bin]]\nname = \"{target}\"\npath = \"fuzz_targets/{target}.rs\"\n\
                 test = false\ndoc = false\nbench = false\n"
            );
            let package = package(&kept(target).unwrap()).replace('-', "_");
            let expected = format!(
                "#![no_main]\n\nlibfuzzer_sys::fuzz_target!(|data: &[u8]| {{\n    \
                 {package}::testing::fuzz::{target}(data);\n}});\n"
            );
            let file = fuzz.join("fuzz_targets").join(format!("{target}.rs"));
            assert_eq!(fs::read_to_string(file).unwrap(), expected);
        }
        let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
        assert!(manifest.ends_with(&programs), "expected{programs}");
        for package in PACKAGES {
            let corpora = workspace::root().join(package).join("tests/corpus");
            folders.extend(list(&corpora).unwrap().iter().map(|folder| name(folder)));
        }
        folders.sort();
        assert_eq!(folders, targets);
    }

    #[test]
    fn corpora_stay_small_and_have_seeds() {
        let mut bytes = 0;
        for target in targets().unwrap() {
            let files = list(&workspace::root().join(kept(&target).unwrap())).unwrap();
            assert!(
                files.iter().any(|file| name(file).starts_with(SEED_PREFIX)),
                "{target}"
            );
            let sizes = files.iter().map(|file| fs::metadata(file).unwrap().len());
            bytes += sizes.sum::<u64>();
        }
        assert!(bytes <= KEPT_BYTES_MAX, "{bytes} bytes");
    }
}
