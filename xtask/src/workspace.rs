//! Where the workspace lies, and how to call cargo and git in it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Returns the workspace's root folder.
///
/// `cargo run` names this package's folder at run time; that is asked first, because one target
/// folder can serve several checkouts.
pub fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    package.parent().map(Path::to_path_buf).unwrap_or(package)
}

/// Returns a call of the cargo that started this program, to be run in the workspace's root.
///
/// `cargo run` describes this package in the environment. Build scripts of dependencies watch
/// some of those variables and would run again each time they come or go, so they are taken away.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    for (name, _) in env::vars_os() {
        let described = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_")
                || matches!(name, "CARGO_MANIFEST_DIR" | "CARGO_MANIFEST_PATH")
        });
        if described {
            command.env_remove(name);
        }
    }
    command
}

/// Returns what a command prints, or an error that tells the command and its complaint.
pub fn output(command: &mut Command) -> Result<Vec<u8>, String> {
    let shown = format!("{command:?}");
    let output = command
        .output()
        .map_err(|error| format!("cannot start {shown}: {error}"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{shown} failed ({}):\n{complaint}", output.status));
    }
    Ok(output.stdout)
}

/// Returns `cargo metadata` with every feature on.
///
/// For this machine's platform only: without the filter, cargo downloads the sources of every
/// other platform's dependencies. What each of our own crates declares is complete all the same.
pub fn metadata() -> Result<Value, String> {
    let host = host()?;
    let json = output(
        cargo()
            .args([
                "metadata",
                "--format-version",
                "1",
                "--locked",
                "--all-features",
            ])
            .args(["--filter-platform", &host]),
    )?;
    serde_json::from_slice(&json).map_err(|error| format!("cargo metadata is not JSON: {error}"))
}

/// Returns the platform of this machine, as rustc calls it.
pub fn host() -> Result<String, String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = output(Command::new(rustc).current_dir(root()).arg("-vV"))?;
    let version = String::from_utf8_lossy(&version);
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.ok_or("rustc -vV names no host platform")?.to_owned())
}

/// Returns the target folder: `CARGO_TARGET_DIR` where set, `target` in the root otherwise.
pub fn target_dir() -> PathBuf {
    root().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// Returns the files that git tracks or would add, relative to the root.
pub fn files() -> Result<Vec<PathBuf>, String> {
    let mut git = Command::new("git");
    git.current_dir(root());
    git.args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    let listed = output(&mut git)?;
    let listed =
        String::from_utf8(listed).map_err(|_| "git lists a file whose name is not UTF-8")?;
    let mut files: Vec<PathBuf> = listed
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(PathBuf::from)
        .collect();
    files.sort();
    files.dedup();
    Ok(files)
}
