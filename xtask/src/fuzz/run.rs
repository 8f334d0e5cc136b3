//! Builds the targets and runs them. libFuzzer prints its own figures.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use xtask_support::{output, run as succeed};

use super::{FUZZ_DIR, corpus};
use crate::workspace;

/// Longest input in bytes. The fuzzer starts with short ones; longer ones reach nothing new, because
/// every limit that can be reached at all is lower.
const INPUT_BYTES_MAX: u32 = 64 << 10;

/// How long one input may take. They take microseconds; this is for a machine with other work.
const INPUT_SECONDS_MAX: u32 = 30;

/// How much memory a target may take, in MiB. They take thirty: a sender must not be able to make
/// much of few bytes.
const MEMORY_MIB_MAX: u32 = 512;

/// Returns a folder for what belongs to the fuzzer, and creates it.
pub fn folder(name: &str) -> Result<PathBuf, String> {
    let folder = workspace::target_dir().join("fuzz").join(name);
    let created = fs::create_dir_all(&folder);
    created.map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

/// Builds every target.
pub fn build() -> Result<(), String> {
    if output(workspace::cargo().args(["fuzz", "--version"])).is_err() {
        return Err("cargo-fuzz is not installed; run `cargo install --locked cargo-fuzz`".into());
    }
    // cargo-fuzz would mend a stale lock file without a word.
    let manifest = format!("{FUZZ_DIR}/Cargo.toml");
    let mut fetch = workspace::cargo();
    fetch.args(["fetch", "--locked", "--quiet", "--manifest-path", &manifest]);
    succeed(&mut fetch)?;
    println!("Building the targets");
    let mut cargo = workspace::cargo();
    cargo.args(["fuzz", "build", "--sanitizer", "none"]);
    cargo.args(["--fuzz-dir", FUZZ_DIR, "--target-dir"]);
    succeed(cargo.arg(folder("build")?))
}

/// Returns a call of a target's program.
pub fn program(target: &str) -> Result<Command, String> {
    let programs = folder("build")?.join(workspace::host()?).join("release");
    let mut command = Command::new(programs.join(target));
    command.current_dir(workspace::root()).stdin(Stdio::null());
    Ok(command)
}

/// Runs targets, and says which of them broke a promise.
pub fn run(targets: &[String], seconds: u64) -> Result<(), String> {
    let mut broken = Vec::new();
    for target in targets {
        println!("\n{target}, {seconds} s");
        let (artifacts, kept) = (
            folder(&format!("artifacts/{target}"))?,
            corpus::kept(target)?,
        );
        let mut command = program(target)?;
        command
            .args([&folder(&format!("corpus/{target}"))?, &kept])
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-max_len={INPUT_BYTES_MAX}"))
            .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
            .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
            .arg("-print_final_stats=1");
        if let Err(error) = succeed(&mut command) {
            broken.push(format!(
                "{target} failed: {error}\n  \
                 the input is in {}; copy it to {}/regression-NAME to replay it in the tests",
                artifacts.display(),
                kept.display()
            ));
        }
    }
    match broken.is_empty() {
        true => {
            println!("\nevery promise was kept");
            Ok(())
        }
        false => Err(broken.join("\n")),
    }
}
