//! Builds the targets and runs them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use xtask_support::report::{Table, grouped};
use xtask_support::{output, run as succeed};

use super::figures::{Figures, read};
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

/// Where the programs of the targets are.
pub struct Built {
    programs: PathBuf,
}

impl Built {
    /// Returns a call of a target's program.
    pub fn program(&self, target: &str) -> Command {
        let mut command = Command::new(self.programs.join(target));
        command.current_dir(workspace::root()).stdin(Stdio::null());
        command
    }
}

/// Builds every target.
pub fn build() -> Result<Built, String> {
    let version = output(workspace::cargo().args(["fuzz", "--version"]));
    if version.is_err() {
        return Err(
            "cargo-fuzz is not installed. This installs it:\n  cargo install cargo-fuzz --locked"
                .into(),
        );
    }
    // cargo-fuzz would mend a stale lock file without a word.
    let manifest = format!("{FUZZ_DIR}/Cargo.toml");
    let mut fetch = workspace::cargo();
    fetch.args(["fetch", "--locked", "--quiet", "--manifest-path", &manifest]);
    succeed(&mut fetch)?;

    println!("Building the targets");
    let folder = folder("build");
    let mut cargo = workspace::cargo();
    cargo.args(["fuzz", "build", "--sanitizer", "none"]);
    cargo.args(["--fuzz-dir", FUZZ_DIR, "--target-dir"]);
    succeed(cargo.arg(&folder))?;
    let programs = folder.join(workspace::host()?).join("release");
    Ok(Built { programs })
}

/// Returns a folder for what belongs to the fuzzer.
pub fn folder(name: &str) -> PathBuf {
    workspace::target_dir().join("fuzz").join(name)
}

/// Runs targets and shows how it went.
pub fn run(built: &Built, targets: &[String], seconds: u64, jobs: usize) -> Result<(), String> {
    println!(
        "{} targets, {seconds} s each, {jobs} at a time",
        targets.len()
    );
    let waiting = Mutex::new(targets.iter());
    let done: Mutex<Vec<(String, Result<Figures, String>)>> = Mutex::new(vec![]);
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().expect("no thread panics").next();
                    let Some(target) = next else { return };
                    let outcome = run_target(built, target, seconds);
                    println!("  {target}: {}", summary(&outcome));
                    let mut done = done.lock().expect("no thread panics");
                    done.push((target.clone(), outcome));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no thread panics");
    done.sort_by_key(|(target, _)| targets.iter().position(|it| it == target));
    println!("\n{}", table(&done));
    let broken: Vec<String> = done
        .iter()
        .filter_map(|(target, outcome)| explain(target, outcome))
        .collect();
    if broken.is_empty() {
        println!("every promise was kept");
        return Ok(());
    }
    Err(broken.join("\n"))
}

fn run_target(built: &Built, target: &str, seconds: u64) -> Result<Figures, String> {
    let found = folder("corpus").join(target);
    let artifacts = folder("artifacts").join(target);
    let logs = folder("log");
    for folder in [&found, &artifacts, &logs] {
        make_folder(folder)?;
    }
    let log = logs.join(format!("{target}.log"));
    let file = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    let kept = workspace::root().join(corpus::kept(target)?);
    let status = built
        .program(target)
        .args([&found, &kept])
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
        .arg("-print_final_stats=1")
        .stdout(Stdio::null())
        .stderr(file)
        .status()
        .map_err(|error| format!("cannot start the program of {target}: {error}"))?;
    let text = fs::read(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    let mut figures = read(&String::from_utf8_lossy(&text));
    figures.finding = figures.finding.map(|file| shown(&file));
    // Silence must not look like success.
    match figures.finding {
        Some(_) => Ok(figures),
        None if !status.success() => Err(format!("{status}; see {}", log.display())),
        None if figures.executions == 0 => Err(format!("it did nothing; see {}", log.display())),
        None => Ok(figures),
    }
}

/// Shortens the path of a file in the workspace, from where all commands are shown.
fn shown(file: &str) -> String {
    let path = Path::new(file);
    let below = path.strip_prefix(workspace::root()).unwrap_or(path);
    below.display().to_string()
}

pub fn make_folder(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))
}

fn summary(outcome: &Result<Figures, String>) -> String {
    match outcome {
        Ok(Figures {
            finding: Some(finding),
            ..
        }) => format!("BROKEN by {finding}"),
        Ok(figures) => format!("kept, {} executions", grouped(figures.executions)),
        Err(error) => format!("FAILED, {error}"),
    }
}

fn table(done: &[(String, Result<Figures, String>)]) -> Table {
    let mut table = Table::new(
        "fuzz",
        &[
            ("target", "target"),
            ("executions", "executions"),
            ("per second", "executions_per_second"),
            ("corpus", "corpus"),
            ("coverage", "coverage"),
            ("features", "features"),
            ("findings", "findings"),
        ],
    );
    for (target, outcome) in done {
        let mut row = vec![target.as_str().into()];
        if let Ok(figures) = outcome {
            let numbers = [
                figures.executions,
                figures.executions_per_second,
                figures.corpus,
                figures.coverage,
                figures.features,
                u64::from(figures.finding.is_some()),
            ];
            row.extend(numbers.map(Into::into));
        }
        table.push(row);
    }
    table
}

/// Says what to do about a target that did not end well.
fn explain(target: &str, outcome: &Result<Figures, String>) -> Option<String> {
    let figures = match outcome {
        Ok(figures) => figures,
        Err(error) => return Some(format!("{target}: {error}")),
    };
    let finding = figures.finding.as_deref()?;
    let complaint: String = figures
        .complaint
        .iter()
        .map(|line| format!("\n    {line}"))
        .collect();
    let (package, kept) = match corpus::kept(target) {
        Ok(kept) => (corpus::package(&kept), kept.display().to_string()),
        Err(error) => return Some(error),
    };
    let build = shown(&folder("build").display().to_string());
    Some(format!(
        "{target} breaks a promise.{complaint}\n  \
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

    #[test]
    fn a_finding_tells_how_to_keep_it() {
        let figures = Figures {
            finding: Some("target/fuzz/artifacts/batch/crash-0f".into()),
            complaint: vec!["panicked at x".into()],
            ..Figures::default()
        };
        let text = explain("batch", &Ok(figures)).unwrap();
        for part in [
            "\n    panicked at x\n",
            "cp target/fuzz/artifacts/batch/crash-0f eidetica-proto/tests/corpus/batch/regression-",
            "cargo test --package eidetica-proto corpus",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(explain("batch", &Ok(Figures::default())), None);
        let failed = explain("batch", &Err("it did nothing".into()));
        assert_eq!(failed.as_deref(), Some("batch: it did nothing"));
    }
}
