//! The inputs that are kept with the sources.
//!
//! Each target has a folder. `seed-*` are made by code, `found-*` were found by a fuzzer and chosen
//! here; whatever has another name, as `regression-*`, is left alone.

use std::fs;
use std::path::{Path, PathBuf};

use super::FUZZ_DIR;
use super::run::{Built, folder, make_folder};
use crate::workspace;

/// The crates with targets.
const PACKAGES: [&str; 2] = ["eidetica-dag", "eidetica-proto"];

const FOUND_PREFIX: &str = "found-";

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

/// Chooses few of the inputs that were found: those that reach what the kept ones do not.
pub fn minimise(built: &Built, targets: &[String]) -> Result<(), String> {
    for target in targets {
        let kept = workspace::root().join(kept(target)?);
        let (found, bytes) = minimise_target(built, target, &kept)?;
        println!("  {target}: {found} inputs, {bytes} bytes");
    }
    Ok(())
}

fn minimise_target(built: &Built, target: &str, kept: &Path) -> Result<(u64, u64), String> {
    // libFuzzer adds to the first folder what the others have beyond it.
    let chosen = folder("cmin").join(target);
    if chosen.exists() {
        fs::remove_dir_all(&chosen).map_err(wrong(&chosen))?;
    }
    make_folder(&chosen)?;
    let (found_before, fixed): (Vec<PathBuf>, Vec<PathBuf>) = list(kept)?
        .into_iter()
        .partition(|file| name(file).starts_with(FOUND_PREFIX));
    for file in &fixed {
        fs::copy(file, chosen.join(name(file))).map_err(wrong(file))?;
    }
    let earlier = folder("corpus").join(target);
    make_folder(&earlier)?;
    // How often something was reached does not count, or there would be ten times as many.
    let flags = ["-merge=1", "-set_cover_merge=1", "-use_counters=0"];
    let mut program = built.program(target);
    workspace::output(program.args(flags).args([&chosen, &earlier, kept]))?;

    for file in &found_before {
        fs::remove_file(file).map_err(wrong(file))?;
    }
    let is_fixed = |file: &PathBuf| fixed.iter().any(|fixed| name(fixed) == name(file));
    let mut found: Vec<(u64, PathBuf)> = list(&chosen)?
        .into_iter()
        .filter(|file| !is_fixed(file))
        .map(|file| Ok((fs::metadata(&file).map_err(wrong(&file))?.len(), file)))
        .collect::<Result<_, String>>()?;
    found.sort();
    let (mut count, mut sum) = (0, 0);
    for (bytes, file) in found {
        if sum + bytes > FOUND_BYTES_MAX {
            break;
        }
        let hash = name(&file);
        let short = hash.get(..NAME_DIGITS).unwrap_or(&hash);
        let to = kept.join(format!("{FOUND_PREFIX}{short}"));
        fs::copy(&file, &to).map_err(wrong(&to))?;
        (count, sum) = (count + 1, sum + bytes);
    }
    Ok((count, sum))
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

    /// cargo-fuzz runs what its manifest lists, tests replay what lies in folders, and the functions
    /// stand in two crates: a target is complete or it is no target.
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
