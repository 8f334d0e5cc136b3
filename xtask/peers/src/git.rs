//! `git fetch` between two bare repositories, by protocol version 2.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use xtask_support::{failed, output, run};

use crate::pair::{Cost, Pair, Peer};

/// The branch on which commits are imported; it is gone afterwards.
const WORK: &str = "refs/work";

/// Seconds since 1970 of the first commit, and from one to the next.
const FIRST_COMMIT_S: u64 = 1_700_000_000;
const COMMIT_INTERVAL_S: u64 = 60;

/// The id that deletes a branch.
const NOTHING: &str = "0000000000000000000000000000000000000000";

/// Bytes of a packet's length, and of the packets that are nothing but that.
const LENGTH_BYTES: u64 = 4;

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

    fn fetch(&self, pair: &Pair<'_>) -> Result<Vec<Cost>, String> {
        let folder = tempfile::tempdir().map_err(failed)?;
        let at = |name: &str| folder.path().join(name);
        repository(&at("a"), pair, &pair.orders[0])?;
        repository(&at("b"), pair, &pair.orders[1])?;
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

fn fetch(pair: &Pair<'_>, a: &Path, b: &Path, negotiator: &str) -> Result<Cost, String> {
    let trace = a.join("packet-trace");
    let before = packed_objects(a)?;
    let negotiator = format!("fetch.negotiationAlgorithm={negotiator}");
    let mut fetch = git(a);
    fetch.env("GIT_TRACE_PACKET", &trace);
    // The pack is kept as it came, so that its objects can be counted.
    let options = ["fetch.unpackLimit=1", "gc.auto=0", "maintenance.auto=false"];
    for option in [&negotiator[..], "protocol.version=2"]
        .iter()
        .chain(&options)
    {
        fetch.args(["-c", option]);
    }
    fetch.args(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head"]);
    run(fetch
        .arg(format!("file://{}", b.display()))
        .arg("+refs/heads/*:refs/remotes/b/*"))?;
    let sent = packed_objects(a)? - before;
    // Fails if anything is missing below a branch.
    run(git(a).args(["rev-list", "--quiet", "--objects", "--all"]))?;
    let (round_trips, bytes) = conversation(&fs::read_to_string(trace).map_err(failed)?);
    let redundant = sent
        .checked_sub(pair.missing)
        .ok_or("git: commits are missing")?;
    Ok(Cost {
        round_trips,
        bytes,
        redundant,
    })
}

/// Counts the commands of the asking side in a trace, and the bytes of the packets both ways. The
/// handshake, which tells versions and capabilities, belongs to the connection and is left out; the
/// pack goes over another band.
fn conversation(trace: &str) -> (u64, u64) {
    let (mut commands, mut bytes) = (0, 0);
    for line in trace.lines() {
        let sent = line.split_once(" fetch> ");
        let Some((_, packet)) = sent.or_else(|| line.split_once(" fetch< ")) else {
            continue;
        };
        commands += u64::from(packet.starts_with("command="));
        if commands > 0 {
            bytes += match packet {
                "0000" | "0001" | "0002" => LENGTH_BYTES,
                // The line's end is not shown.
                text => LENGTH_BYTES + text.len() as u64 + 1,
            };
        }
    }
    (commands, bytes)
}

/// Makes a repository of a replica's entries: empty commits, and a branch at each tip.
fn repository(at: &Path, pair: &Pair<'_>, order: &[u32]) -> Result<(), String> {
    run(Command::new("git")
        .args(["init", "--quiet", "--bare"])
        .arg(at))?;
    let mut import = git(at);
    import
        .args(["fast-import", "--quiet"])
        .stdin(Stdio::piped());
    let mut import = import.spawn().map_err(failed)?;
    let stdin = import
        .stdin
        .take()
        .ok_or("git fast-import takes no input")?;
    let written = write_stream(BufWriter::new(stdin), pair, order);
    let status = import.wait().map_err(failed)?;
    written.map_err(|error| format!("git fast-import takes no more: {error}"))?;
    if !status.success() {
        return Err(format!("git fast-import failed ({status})"));
    }
    run(git(at).args(["pack-refs", "--all"]))?;
    run(git(at).args(["commit-graph", "write", "--reachable", "--no-progress"]))
}

fn write_stream(mut to: impl Write, pair: &Pair<'_>, order: &[u32]) -> std::io::Result<()> {
    for entry in order {
        let clock = u64::from(pair.world.clock[*entry as usize]);
        let seconds = FIRST_COMMIT_S + COMMIT_INTERVAL_S * clock;
        let message = entry.to_string();
        // Marks are counted from one.
        writeln!(to, "commit {WORK}\nmark :{}", entry + 1)?;
        writeln!(to, "committer peer <peer@example.com> {seconds} +0000")?;
        writeln!(to, "data {}\n{message}", message.len())?;
        for (number, parent) in pair.world.parents[*entry as usize].iter().enumerate() {
            let command = if number == 0 { "from" } else { "merge" };
            writeln!(to, "{command} :{}", parent + 1)?;
        }
        writeln!(to)?;
    }
    for (number, tip) in pair.tips_of(order).iter().enumerate() {
        writeln!(to, "reset refs/heads/{number}\nfrom :{}\n", tip + 1)?;
    }
    writeln!(to, "reset {WORK}\nfrom {NOTHING}\n")?;
    to.flush()
}

fn packed_objects(repository: &Path) -> Result<u64, String> {
    let counts = output(git(repository).args(["count-objects", "-v"]))?;
    let count = counts
        .lines()
        .find_map(|line| line.strip_prefix("in-pack: ")?.parse().ok());
    count.ok_or_else(|| "git count-objects names no in-pack".into())
}

/// Returns a call of git that no configuration changes.
fn git(folder: &Path) -> Command {
    let mut git = Command::new("git");
    git.arg("-C").arg(folder);
    git.env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null");
    // Importing fifty thousand commits takes a seventh of the time if glibc grows the heap in
    // large steps.
    git.env("MALLOC_TOP_PAD_", (64 << 20).to_string());
    git
}
