//! Whether the simulator notices that the code is broken.
//!
//! Each patch in `xtask/sim/mutations` breaks one thing; its first line says what. They are applied one by
//! one to a copy of the workspace, and seeds are run there until an invariant fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use xtask_support::report::Table;
use xtask_support::{failed, now, output, run as run_command};

use crate::workspace;

/// Within how many seeds a mutation must be noticed.
const SEEDS: u32 = 2_000;

/// What the table shows; the seconds include the build.
const TITLE: &str = "The first seed that notices a mutation, and the invariant that it breaks";

/// Where the patches are, from the workspace's root.
const PATCHES: &str = "xtask/sim/mutations";

/// Applies each patch whose name contains `only`.
pub fn run(only: Option<&str>) -> Result<(), String> {
    let place = workspace::target_dir().join("mutations");
    let mut unnoticed = Vec::new();
    let mut table = Table::new(TITLE, &["mutation", "seed", "invariant", "s"]);
    for patch in patches(only)? {
        let name = patch
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        println!("{name}");
        let folder = place.join("workspace");
        copy(&folder)?;
        apply(&patch, &folder)?;
        let began = now();
        let noticed = noticed(&folder, &place.join("target"))?;
        let took = format!("{:.0}", began.elapsed().as_secs_f64());
        match noticed {
            Some((seed, rule)) => {
                println!("  seed {seed}: {rule}");
                table.push(vec![name, seed, rule, took]);
            }
            None => {
                println!("  not noticed");
                table.push(vec![name.clone(), String::new(), "none".into(), took]);
                unnoticed.push(name);
            }
        }
    }
    println!("\n{table}");
    match unnoticed.is_empty() {
        true => Ok(()),
        false => Err(format!("not noticed: {}", unnoticed.join(", "))),
    }
}

fn patches(only: Option<&str>) -> Result<Vec<PathBuf>, String> {
    let folder = workspace::root().join(PATCHES);
    let found = fs::read_dir(&folder).map_err(failed)?;
    let mut patches = found
        .map(|entry| Ok(entry.map_err(failed)?.path()))
        .collect::<Result<Vec<_>, String>>()?;
    let is_wanted = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".patch") && only.is_none_or(|only| name.contains(only))
    };
    patches.retain(is_wanted);
    patches.sort();
    match patches.is_empty() {
        true => Err(format!("there is no such mutation in {PATCHES}")),
        false => Ok(patches),
    }
}

/// Makes the copy the same as the workspace. What is the same already stays as it is, so that it need not
/// be built again.
fn copy(folder: &Path) -> Result<(), String> {
    let root = workspace::root();
    let listed = output(Command::new("git").current_dir(&root).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    for name in listed.lines() {
        let (from, to) = (root.join(name), folder.join(name));
        let Ok(wanted) = fs::read(&from) else {
            continue;
        };
        if fs::read(&to).is_ok_and(|present| present == wanted) {
            continue;
        }
        let parent = to.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(failed)?;
        fs::write(&to, wanted).map_err(failed)?;
    }
    Ok(())
}

/// Applies a patch to the copy.
fn apply(patch: &Path, folder: &Path) -> Result<(), String> {
    let mut git = Command::new("git");
    // The copy is no part of the repository that the target folder may be in: git would pass over what
    // is below another root.
    git.env("GIT_CEILING_DIRECTORIES", folder.parent().unwrap_or(folder));
    run_command(git.current_dir(folder).arg("apply").arg(patch))?;
    // A patch that is applied can be taken back.
    let mut git = Command::new("git");
    git.env("GIT_CEILING_DIRECTORIES", folder.parent().unwrap_or(folder));
    run_command(
        git.current_dir(folder)
            .args(["apply", "--check", "--reverse"])
            .arg(patch),
    )
}

/// Runs seeds, and returns the one that failed and the invariant that it broke.
fn noticed(folder: &Path, target: &Path) -> Result<Option<(String, String)>, String> {
    let mut cargo = workspace::cargo();
    cargo.current_dir(folder).env("CARGO_TARGET_DIR", target);
    cargo.args(["build", "--quiet", "--locked", "--package", "eidetica-sim"]);
    run_command(&mut cargo)?;
    let mut sim = Command::new(target.join("debug/eidetica-sim"));
    sim.args(["--no-shrink", "--seeds", &SEEDS.to_string()]);
    let ended = sim.output().map_err(failed)?;
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    let told = |line: &str| {
        let (seed, rest) = line.strip_prefix("seed ")?.split_once(' ')?;
        let rule = rest
            .strip_prefix("fails: ")
            .and_then(|rest| rest.split(": ").next());
        Some((seed.to_owned(), rule.unwrap_or(rest).to_owned()))
    };
    match (ended.status.success(), said.lines().find_map(told)) {
        (true, _) => Ok(None),
        (false, Some(noticed)) => Ok(Some(noticed)),
        (false, None) => Err(format!("the simulator did not run: {said}")),
    }
}
