//! Where the workspace is, and how to call cargo in it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{CargoOpt, Metadata, MetadataCommand};
use xtask_support::output;

/// Returns the workspace's root folder.
///
/// `cargo run` names this package's folder at run time; that comes first, because one target folder
/// can serve several checkouts.
pub fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map(Path::to_path_buf).unwrap_or(package)
}

/// Returns a call of the cargo that started this program, to be run in the workspace's root.
///
/// `cargo run` describes this package in the environment. Build scripts of dependencies watch some
/// of those variables and would run again each time they come or go, so they are removed.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    for (name, _) in env::vars_os() {
        let is_of_package = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_")
                || matches!(name, "CARGO_MANIFEST_DIR" | "CARGO_MANIFEST_PATH")
        });
        if is_of_package {
            command.env_remove(name);
        }
    }
    command
}

/// Returns `cargo metadata` with every feature enabled.
///
/// For this platform only: without the filter, cargo downloads the sources of every other
/// platform's dependencies. The declared dependencies of the workspace's crates are complete anyway.
pub fn metadata() -> Result<Metadata, String> {
    let mut metadata = MetadataCommand::new();
    metadata.current_dir(root()).features(CargoOpt::AllFeatures);
    metadata.other_options(["--locked".into(), "--filter-platform".into(), host()?]);
    metadata.exec().map_err(|error| error.to_string())
}

/// Returns a call of rustc.
fn rustc() -> Command {
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.current_dir(root());
    rustc
}

/// Returns the platform of this machine, as rustc calls it.
pub fn host() -> Result<String, String> {
    let version = output(rustc().arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.ok_or("rustc -vV names no host platform")?.to_owned())
}

/// Returns whether the standard library for a platform is installed.
pub fn has_target(platform: &str) -> bool {
    let library = output(rustc().args(["--print", "target-libdir", "--target", platform]));
    library.is_ok_and(|folder| Path::new(folder.trim()).is_dir())
}

/// Returns the target folder: `CARGO_TARGET_DIR` where set, `target` in the root otherwise.
pub fn target_dir() -> PathBuf {
    root().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}
