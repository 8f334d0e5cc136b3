//! Fetching a whole history into an empty store.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use xtask_support::figures::milliseconds;
use xtask_support::now;
use xtask_support::process::Supervisor;
use xtask_support::report::{Cell, Table, grouped, mib};

use super::interrupt;
use crate::node::{self, Node, SyncReport};
use crate::workspace;

/// Fetches a real history into an empty store, and kills either side in the middle of it
///
/// Processes with durable stores of their own, on 127.0.0.1, fetch the shape of a real history (81,966
/// entries, a quarter of them merges) over each transport: time, bytes, and the peak memory of both
/// sides. Then the client and the server are killed in the middle, and the transfer continues from
/// what was stored. Slowness is no failure. Needs a Unix system with gzip, and Linux for the memory.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// Number of entries; may be repeated
    #[arg(long, value_name = "N", default_values_t = [10_000, HISTORY_ENTRIES],
          value_parser = clap::value_parser!(u64).range(1..=HISTORY_ENTRIES))]
    entries: Vec<u64>,
    /// Payload of each entry; a small document or a chat message by default
    #[arg(long, value_name = "N", default_value_t = 200,
          value_parser = clap::value_parser!(u64).range(1..=1 << 19))]
    payload_bytes: u64,
    /// Only this transport
    #[arg(long, default_values = TRANSPORTS, value_parser = PossibleValuesParser::new(TRANSPORTS))]
    via: Vec<String>,
    /// Keep the temporary folder with the stores and the logs
    #[arg(long)]
    keep: bool,
}

/// Entries of the real history.
const HISTORY_ENTRIES: u64 = 81_966;

/// Every transport, by the name that the program gives it.
const TRANSPORTS: [&str; 2] = ["http", "iroh"];

/// By how much the peak memory may differ between the shortest and the longest history: it must not
/// grow with the history, but caches fill up on the way.
const GROWTH_KIB_MAX: u64 = 32 << 10;

/// How often `tips` is timed; the fastest counts, because the machine also does other things.
const TIPS_RUNS: u32 = 5;

/// How long a bootstrap may take before the program must be stuck.
const BOOTSTRAP_SECONDS_MAX: u64 = 1_800;

/// A node with a history to be fetched.
pub struct Origin {
    pub node: Node,
    pub tree: String,
    /// All entries of the tree.
    pub entries: u64,
}

/// What one bootstrap cost.
pub struct Measured {
    pub via: String,
    entries: u64,
    /// From the start of the client's process to its end.
    pub elapsed: Duration,
    bytes: u64,
    server_peak_kib: u64,
    client_peak_kib: u64,
}

/// Builds the program and measures everything.
pub fn run(options: &Options) -> Result<(), String> {
    println!("Building the program, optimised");
    let program = node::build("release")?;
    let supervisor = Supervisor::start("bench", options.keep)?;
    let broken = measure(options, &program, &supervisor);
    if options.keep {
        println!("kept: {}", supervisor.folder().display());
    }
    let broken = broken?;
    if broken.is_empty() {
        println!("every target is met");
        return Ok(());
    }
    Err(format!("missed targets:\n  {}", broken.join("\n  ")))
}

/// Measures everything, prints it, and returns the targets that are missed.
fn measure(
    options: &Options,
    program: &Path,
    supervisor: &Rc<Supervisor>,
) -> Result<Vec<String>, String> {
    let shape = unpack(supervisor)?;
    let mut lengths = options.entries.clone();
    lengths.sort_unstable();
    lengths.dedup();
    let import = |entries| import(program, supervisor, &shape, entries, options.payload_bytes);
    let origins = lengths
        .into_iter()
        .map(import)
        .collect::<Result<Vec<_>, _>>()?;
    let largest = origins.last().ok_or("there is no length to measure")?;

    let mut all = Vec::new();
    for via in &options.via {
        for origin in &origins {
            all.push(bootstrap(origin, program, supervisor, via)?);
        }
    }
    println!(
        "\nbootstrap into an empty store, payloads of {} bytes\n",
        options.payload_bytes
    );
    println!("{}", table(&all));
    println!("bytes are those of frames; memory is the peak of the resident set\n");
    let mut broken = Vec::new();
    for via in &options.via {
        let of_via: Vec<&Measured> = all.iter().filter(|it| it.via == *via).collect();
        broken.extend(judge_memory(&of_via));
    }
    println!(
        "\ntips of {} entries: {:.1} ms, from the start of the process to its end\n",
        grouped(largest.entries),
        milliseconds(time_tips(largest)?)
    );
    println!("interrupted in the middle with kill -9, and continued\n");
    let mut table = interrupt::table();
    for whole in all.iter().filter(|it| it.entries == largest.entries) {
        broken.extend(interrupt::measure(
            &mut table, largest, program, supervisor, whole,
        )?);
    }
    println!("{table}");
    Ok(broken)
}

/// Unpacks the shape of the history into the temporary folder.
fn unpack(supervisor: &Supervisor) -> Result<PathBuf, String> {
    let packed = workspace::root().join("eidetica-dag/testdata/git-history.dag.gz");
    let path = supervisor.folder().join("history.dag");
    let shape = File::create(&path).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    xtask_support::run(Command::new("gzip").arg("-dc").arg(&packed).stdout(shape))?;
    Ok(path)
}

fn import(
    program: &Path,
    supervisor: &Rc<Supervisor>,
    shape: &Path,
    entries: u64,
    payload_bytes: u64,
) -> Result<Origin, String> {
    let node = Node::new(&format!("origin-{entries}"), program, supervisor);
    let shape = shape
        .to_str()
        .ok_or("the temporary folder's path is not UTF-8")?;
    let (limit, payload) = (entries.to_string(), payload_bytes.to_string());
    let started = now();
    let mut args = vec![
        "import", "dag", shape, "--name", "bench", "--anyone", "read",
    ];
    args.extend(["--payload-bytes", &payload, "--limit", &limit]);
    let tree = node.make_tree(&args)?;
    let seconds = started.elapsed().as_secs_f64();
    let stored = node.count(&tree)?;
    if stored < entries {
        return Err(format!(
            "{entries} entries were imported, and {stored} are there"
        ));
    }
    let rate = stored as f64 / seconds;
    println!(
        "imported {} entries in {seconds:.1} s, each signed: {rate:.0}/s",
        grouped(stored)
    );
    Ok(Origin {
        node,
        tree,
        entries: stored,
    })
}

fn bootstrap(
    origin: &Origin,
    program: &Path,
    supervisor: &Rc<Supervisor>,
    via: &str,
) -> Result<Measured, String> {
    let client = Node::new(&format!("{via}-{}", origin.entries), program, supervisor);
    let mut serving = origin.node.serve()?;
    let ticket = serving.ticket(&origin.tree)?.to_owned();
    let finished = client
        .begin_sync("join", &ticket, via)?
        .finish(BOOTSTRAP_SECONDS_MAX)?;
    let (elapsed, client_peak_kib) = (finished.elapsed, finished.peak_kib);
    let report = SyncReport::parse(&finished.success()?)?;
    let server_peak_kib = serving.peak_kib();
    serving.stop()?;
    if report.stored != origin.entries || client.count(&origin.tree)? != origin.entries {
        return Err(format!(
            "{via}: of {} entries, {} were stored",
            origin.entries, report.stored
        ));
    }
    Ok(Measured {
        via: via.into(),
        entries: origin.entries,
        elapsed,
        bytes: report.bytes,
        server_peak_kib,
        client_peak_kib,
    })
}

fn table(all: &[Measured]) -> Table {
    let mut table = Table::new(
        "bootstrap",
        &[
            ("over", "transport"),
            ("entries", "entries"),
            ("seconds", "seconds"),
            ("entries/s", "entries_per_second"),
            ("bytes/entry", "bytes_per_entry"),
            ("server MiB", "server_peak_mib"),
            ("client MiB", "client_peak_mib"),
        ],
    );
    for it in all {
        let seconds = it.elapsed.as_secs_f64();
        table.push(vec![
            it.via.as_str().into(),
            it.entries.into(),
            Cell::Number(seconds, 2),
            Cell::Number(it.entries as f64 / seconds, 0),
            Cell::Number(it.bytes as f64 / it.entries as f64, 1),
            kib(it.server_peak_kib),
            kib(it.client_peak_kib),
        ]);
    }
    table
}

fn kib(kib: u64) -> Cell {
    mib(Some(kib << 10))
}

/// Prints by how much the peaks grow with the history, and returns what grows too much. Takes the
/// measurements over one transport, the shortest history first.
fn judge_memory(measured: &[&Measured]) -> Vec<String> {
    let mut broken = Vec::new();
    let (Some(short), Some(long)) = (measured.first(), measured.last()) else {
        return broken;
    };
    if short.entries == long.entries {
        return broken;
    }
    let sides = [
        ("server", short.server_peak_kib, long.server_peak_kib),
        ("client", short.client_peak_kib, long.client_peak_kib),
    ];
    for (side, few, many) in sides {
        let text = format!(
            "{} {side}: {} MiB more at {} entries than at {}, at most {} MiB",
            long.via,
            kib(many.saturating_sub(few)),
            grouped(long.entries),
            grouped(short.entries),
            GROWTH_KIB_MAX >> 10
        );
        let known = few > 0 && many > 0;
        let fine = known && many.saturating_sub(few) <= GROWTH_KIB_MAX;
        println!("  {} {text}", if fine { "✓" } else { "✗" });
        match (known, fine) {
            (false, _) => broken.push(format!(
                "{} {side}: the system reports no peak memory",
                long.via
            )),
            (true, false) => broken.push(text),
            (true, true) => {}
        }
    }
    broken
}

fn time_tips(origin: &Origin) -> Result<Duration, String> {
    let mut fastest = Duration::MAX;
    for _ in 0..TIPS_RUNS {
        let finished = origin.node.run(&["tips", &origin.tree], None)?;
        fastest = fastest.min(finished.elapsed);
        finished.success()?;
    }
    Ok(fastest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(entries: u64, server_peak_kib: u64, client_peak_kib: u64) -> Measured {
        Measured {
            via: "http".into(),
            entries,
            elapsed: Duration::from_secs(1),
            bytes: 1,
            server_peak_kib,
            client_peak_kib,
        }
    }

    #[test]
    fn memory_that_grows_with_the_history_misses_the_target() {
        let short = measured(10, 50_000, 60_000);
        let fine = measured(80, 50_000 + GROWTH_KIB_MAX, 1_000);
        assert!(judge_memory(&[&short, &fine]).is_empty());
        let grown = measured(80, 50_001 + GROWTH_KIB_MAX, 60_000);
        assert_eq!(judge_memory(&[&short, &grown]).len(), 1);
        let unknown = measured(80, 0, 60_000);
        assert!(judge_memory(&[&short, &unknown])[0].contains("reports no"));
        assert!(judge_memory(&[&short]).is_empty());
    }
}
