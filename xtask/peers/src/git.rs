//! `git fetch` between two bare repositories, by protocol version 2.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::peer::{Cost, Peer, start};
use crate::trace::Trace;
use crate::workload::{Pair, Side};

/// The branch on which commits are imported; it is gone afterwards.
const WORK: &str = "refs/work";

/// Seconds since 1970 of the first commit, and from one to the next.
const FIRST_COMMIT_S: u64 = 1_700_000_000;
const COMMIT_INTERVAL_S: u64 = 60;

/// Nobody's id: what a branch is set to so that it is deleted.
const NOTHING: &str = "0000000000000000000000000000000000000000";

/// With the negotiator that git takes by itself, and with the one that skips.
pub struct Git;

impl Git {
    /// Returns git, or why there is none.
    pub fn find() -> Result<Self, String> {
        output(Command::new("git").arg("--version")).map(|_| Self)
    }
}

impl Peer for Git {
    fn names(&self) -> &'static [&'static str] {
        &["git fetch", "git fetch, skipping"]
    }

    fn fetch(&self, pair: &Pair) -> Result<Vec<Cost>, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let at = |name: &str| folder.path().join(name);
        for (name, side) in [("a", Side::A), ("b", Side::B)] {
            repository(&at(name), pair, side)?;
        }
        // Deltas would bring commits into the pack that were not sent.
        run(git(&at("b")).args(["config", "pack.window", "0"]))?;
        ["default", "skipping"]
            .map(|negotiator| {
                let copy = at(negotiator);
                let mut clone = git(folder.path());
                run(clone.args(["clone", "--quiet", "--bare", "a"]).arg(&copy))?;
                fetch(pair, &copy, &at("b"), negotiator)
            })
            .into_iter()
            .collect()
    }
}

fn fetch(pair: &Pair, a: &Path, b: &Path, negotiator: &str) -> Result<Cost, String> {
    let trace = a.join("packet-trace");
    let before = packed_objects(a)?;
    let mut fetch = git(a);
    fetch
        .env("GIT_TRACE_PACKET", &trace)
        .args(["-c", "protocol.version=2"])
        .args(["-c", &format!("fetch.negotiationAlgorithm={negotiator}")])
        // The pack is kept as it came, so that its objects can be counted.
        .args([
            "-c",
            "fetch.unpackLimit=1",
            "-c",
            "gc.auto=0",
            "-c",
            "maintenance.auto=false",
        ])
        .args(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head"])
        .arg(format!("file://{}", b.display()))
        .arg("+refs/heads/*:refs/remotes/b/*");
    let began = start();
    run(&mut fetch)?;
    let elapsed = began.elapsed();
    let sent = packed_objects(a)? - before;
    let missing = pair.missing();
    // Fails if anything is missing below a branch.
    run(git(a).args(["rev-list", "--quiet", "--objects", "--all"]))?;
    let trace = fs::read_to_string(trace).map_err(|error| error.to_string())?;
    let trace = Trace::of(&trace);
    Ok(Cost {
        round_trips: trace.round_trips,
        negotiation_bytes: trace.bytes,
        redundant: sent
            .checked_sub(missing)
            .ok_or("git: commits are missing")?,
        elapsed,
    })
}

/// Makes a repository of a replica's entries: empty commits, and a branch at each tip.
fn repository(at: &Path, pair: &Pair, side: Side) -> Result<(), String> {
    run(git(Path::new("."))
        .args(["init", "--quiet", "--bare"])
        .arg(at))?;
    let mut import = git(at)
        .args(["fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start git fast-import: {error}"))?;
    let stdin = import
        .stdin
        .take()
        .ok_or("git fast-import takes no input")?;
    let written = write_stream(BufWriter::new(stdin), pair, side);
    let status = import.wait().map_err(|error| error.to_string())?;
    written.map_err(|error| format!("git fast-import takes no more: {error}"))?;
    if !status.success() {
        return Err(format!("git fast-import failed ({status})"));
    }
    run(git(at).args(["pack-refs", "--all"]))?;
    run(git(at).args(["commit-graph", "write", "--reachable", "--no-progress"]))
}

fn write_stream(mut to: impl Write, pair: &Pair, side: Side) -> std::io::Result<()> {
    let order = pair.order(side);
    for entry in &order {
        let clock =
            FIRST_COMMIT_S + COMMIT_INTERVAL_S * u64::from(pair.world.clock[*entry as usize]);
        let message = entry.to_string();
        // Marks are counted from one.
        writeln!(to, "commit {WORK}\nmark :{}", entry + 1)?;
        writeln!(to, "committer peer <peer@example.com> {clock} +0000")?;
        writeln!(to, "data {}\n{message}", message.len())?;
        for (number, parent) in pair.world.parents[*entry as usize].iter().enumerate() {
            let command = if number == 0 { "from" } else { "merge" };
            writeln!(to, "{command} :{}", parent + 1)?;
        }
        writeln!(to)?;
    }
    for (number, tip) in pair.tips_of(&order).iter().enumerate() {
        writeln!(to, "reset refs/heads/{number}\nfrom :{}\n", tip + 1)?;
    }
    writeln!(to, "reset {WORK}\nfrom {NOTHING}\n")?;
    to.flush()
}

fn packed_objects(repository: &Path) -> Result<u64, String> {
    let counts = output(git(repository).args(["count-objects", "-v"]))?;
    counts
        .lines()
        .find_map(|line| line.strip_prefix("in-pack: ")?.parse().ok())
        .ok_or_else(|| "git count-objects tells no in-pack".into())
}

/// Returns a call of git that nobody's configuration changes.
fn git(folder: &Path) -> Command {
    let mut git = Command::new("git");
    git.arg("-C").arg(folder);
    git.env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", null());
    // Importing fifty thousand commits takes a seventh of the time if glibc grows the heap in
    // large steps.
    git.env("MALLOC_TOP_PAD_", (64 << 20).to_string());
    git
}

fn null() -> PathBuf {
    PathBuf::from(if cfg!(windows) { "NUL" } else { "/dev/null" })
}

fn run(command: &mut Command) -> Result<(), String> {
    output(command).map(|_| ())
}

fn output(command: &mut Command) -> Result<String, String> {
    let shown = format!("{command:?}");
    let output = command
        .output()
        .map_err(|error| format!("cannot start {shown}: {error}"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{shown} failed ({}):\n{complaint}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
