//! Builds the targets, runs them, and reads what libFuzzer writes.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use xtask_support::report::{Table, grouped};
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

/// How many lines of a panic are shown.
const PANIC_LINES_MAX: usize = 6;

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
    cargo.args([
        "fuzz",
        "build",
        "--sanitizer",
        "none",
        "--fuzz-dir",
        FUZZ_DIR,
        "--target-dir",
    ]);
    succeed(cargo.arg(folder("build")?))
}

/// Returns a call of a target's program.
pub fn program(target: &str) -> Result<Command, String> {
    let programs = folder("build")?.join(workspace::host()?).join("release");
    let mut command = Command::new(programs.join(target));
    command.current_dir(workspace::root()).stdin(Stdio::null());
    Ok(command)
}

/// Runs targets and shows how it went.
pub fn run(targets: &[String], seconds: u64) -> Result<(), String> {
    println!("{} targets, {seconds} s each", targets.len());
    let headings = &["target", "executions", "per second", "corpus", "coverage"];
    let mut table = Table::new("", headings);
    let mut broken = Vec::new();
    for target in targets {
        let (log, success) = run_target(target, seconds)?;
        let executions = last_number(&log, "stat::number_of_executed_units:");
        let wrong = match finding(&log) {
            Some(file) => Some(explain(target, &log, file)?),
            // Silence must not look like success.
            None if !success || executions == 0 => Some(format!(
                "{target} failed; see fuzz/log in the target folder"
            )),
            None => None,
        };
        println!(
            "  {target}: {}",
            if wrong.is_some() { "BROKEN" } else { "kept" }
        );
        broken.extend(wrong);
        let figures = ["stat::average_exec_per_sec:", " corp: ", " cov: "];
        let mut row = vec![target.clone(), grouped(executions)];
        row.extend(figures.map(|name| grouped(last_number(&log, name))));
        table.push(row);
    }
    println!("{table}");
    match broken.is_empty() {
        true => {
            println!("every promise was kept");
            Ok(())
        }
        false => Err(broken.join("\n")),
    }
}

/// Runs a target, and returns its log and whether it succeeded.
fn run_target(target: &str, seconds: u64) -> Result<(String, bool), String> {
    let artifacts = folder(&format!("artifacts/{target}"))?;
    let log = folder("log")?.join(format!("{target}.log"));
    let wrong = |error: std::io::Error| format!("{}: {error}", log.display());
    let mut command = program(target)?;
    command
        .args([folder(&format!("corpus/{target}"))?, corpus::kept(target)?])
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
        .arg("-print_final_stats=1")
        .stdout(Stdio::null())
        .stderr(File::create(&log).map_err(wrong)?);
    let status = command.status();
    let status = status.map_err(|error| format!("cannot start the target {target}: {error}"))?;
    let text = fs::read(&log).map_err(wrong)?;
    Ok((
        String::from_utf8_lossy(&text).into_owned(),
        status.success(),
    ))
}

/// Returns the number after the last place of a name in a log; 0 without one.
fn last_number(log: &str, name: &str) -> u64 {
    let number = log.rsplit_once(name).and_then(|(_, rest)| {
        let digits = rest
            .trim_start()
            .split(|c: char| !c.is_ascii_digit())
            .next()?;
        digits.parse().ok()
    });
    number.unwrap_or(0)
}

/// Returns the file with the input that broke a promise.
fn finding(log: &str) -> Option<&str> {
    log.lines()
        .find_map(|line| Some(line.split_once("Test unit written to ")?.1))
}

/// Says what to do about a finding.
fn explain(target: &str, log: &str, finding: &str) -> Result<String, String> {
    let root = format!("{}/", workspace::root().display());
    let finding = finding.trim_start_matches(&root);
    let build = folder("build")?.display().to_string();
    let build = build.trim_start_matches(&root);
    let panicked = log.lines().skip_while(|line| !line.contains("panicked at"));
    let panicked = panicked
        .take_while(|line| !line.starts_with("note:"))
        .take(PANIC_LINES_MAX);
    let panicked: String = panicked.map(|line| format!("\n    {line:.160}")).collect();
    let kept = corpus::kept(target)?.display().to_string();
    let package = kept.split('/').next().unwrap_or_default();
    Ok(format!(
        "{target} breaks a promise.{panicked}\n  \
         the input:     {finding}\n  \
         to shrink it:  cargo fuzz tmin --fuzz-dir {FUZZ_DIR} --target-dir {build} \
         --sanitizer none {target} {finding}\n  \
         to keep it:    cp {finding} {kept}/regression-NAME\n  \
         to replay it:  cargo test --package {package} corpus"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
#34\tINITED cov: 140 ft: 300 corp: 20/3000b exec/s: 0 rss: 28Mb
thread '<unnamed>' (7) panicked at eidetica-proto/src/x.rs:3:1:
assertion failed: a forgery
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
#99\tDONE   cov: 1004 ft: 2373 corp: 370/185Kb lim: 65536 exec/s: 154590 rss: 29Mb
artifact_prefix='a/'; Test unit written to a/crash-0f
stat::number_of_executed_units: 1414165
";

    #[test]
    fn the_last_figures_count_and_a_finding_is_explained() {
        assert_eq!(
            last_number(LOG, "stat::number_of_executed_units:"),
            1_414_165
        );
        assert_eq!(
            (last_number(LOG, " cov: "), last_number(LOG, " corp: ")),
            (1_004, 370)
        );
        assert_eq!(last_number("", " cov: "), 0);
        assert_eq!(finding(LOG), Some("a/crash-0f"));
        let text = explain("batch", LOG, "a/crash-0f").unwrap();
        for part in [
            ":3:1:\n    assertion failed: a forgery\n",
            "cp a/crash-0f eidetica-proto/tests/corpus/batch/regression-",
            "cargo test --package eidetica-proto corpus",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
