//! Fetching a whole history into an empty store, undisturbed and interrupted.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use xtask_support::figures::milliseconds;
use xtask_support::now;
use xtask_support::process::Supervisor;
use xtask_support::report::{Report, Table, Target, decimals, grouped, mib};

use crate::node::{self, COMMAND_SECONDS_MAX, Node, SyncReport};
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
}

/// Entries of the real history.
const HISTORY_ENTRIES: u64 = 81_966;

/// Payload of each entry: a small document or a chat message.
const PAYLOAD_BYTES: u64 = 200;

/// Every transport, by the name that the program gives it.
const TRANSPORTS: [&str; 2] = ["http", "iroh"];

/// By how much the peak memory may differ between the shortest and the longest history: it must not
/// grow with the history, but caches fill up on the way.
const GROWTH_BYTES_MAX: u64 = 32 << 20;

/// How often `tips` is timed; the fastest counts, because the machine also does other things.
const TIPS_RUNS: u32 = 5;

/// When to kill, in parts of the time that an undisturbed bootstrap took. The next is tried if
/// nothing or everything was stored by then.
const MOMENTS: [f64; 7] = [0.5, 0.35, 0.65, 0.25, 0.8, 0.15, 0.9];

/// Most entries that may come twice: those of one batch of 256 KiB, of which each has at least the
/// 100 bytes of a signature and a hash.
const REDUNDANT_MAX: u64 = 2_621;

/// How long the client may take to see that its server is gone.
const FAIL_SECONDS_MAX: u64 = 120;

/// Places of the targets in the report.
const MEMORY: usize = 0;
const CONTINUED: usize = 1;
const TWICE: usize = 2;

/// Builds the program and measures everything.
pub fn run(options: &Options) -> Result<(), String> {
    println!("Building the program");
    let program = node::build("release")?;
    let supervisor = Supervisor::start("bench", false)?;
    let report = Bench {
        program,
        supervisor,
    }
    .measure(options)?;
    println!("\n{report}");
    match report.targets_met() {
        true => Ok(()),
        false => Err("a target is missed".into()),
    }
}

/// A node with a history to be fetched.
struct Origin {
    node: Node,
    tree: String,
    /// All entries of the tree.
    entries: u64,
}

/// What one bootstrap took.
struct Bootstrap {
    /// From the start of the client's process to its end.
    elapsed: Duration,
    bytes: u64,
    /// The peak memory of the server and of the client.
    peaks: [u64; 2],
}

struct Bench {
    program: PathBuf,
    supervisor: Rc<Supervisor>,
}

impl Bench {
    fn measure(&self, options: &Options) -> Result<Report, String> {
        let shape = self.unpack()?;
        let mut lengths = options.entries.clone();
        lengths.sort_unstable();
        let import = |entries| self.import(&shape, entries);
        let origins = lengths
            .into_iter()
            .map(import)
            .collect::<Result<Vec<_>, _>>()?;
        let headings = &[
            "over",
            "entries",
            "entries/s",
            "bytes an entry",
            "server MiB",
            "client MiB",
        ];
        let mut whole = Table::new("bootstrap into an empty store", headings);
        let headings = &[
            "over",
            "killed",
            "stored before",
            "after",
            "entries",
            "redundant",
        ];
        let mut continued = Table::new("killed in the middle, and continued", headings);
        let targets = [
            "the peak memory of a process that reports it grows by at most 32 MiB with the history",
            "after a kill, what was stored is not lost, the rest arrives, and both stores verify",
            "after a kill, at most one batch comes twice",
        ];
        let mut targets = targets.map(Target::new);
        for via in TRANSPORTS {
            let mut all = Vec::new();
            for origin in &origins {
                let it = self.bootstrap(origin, via)?;
                whole.push(vec![
                    via.into(),
                    grouped(origin.entries),
                    decimals(origin.entries as f64 / it.elapsed.as_secs_f64(), 0),
                    decimals(it.bytes as f64 / origin.entries as f64, 1),
                    mib(it.peaks[0]),
                    mib(it.peaks[1]),
                ]);
                all.push(it);
            }
            let (Some(first), Some(last)) = (all.first(), all.last()) else {
                continue;
            };
            for (side, (few, many)) in ["server", "client"]
                .iter()
                .zip(first.peaks.iter().zip(&last.peaks))
            {
                let grown = many.saturating_sub(*few);
                targets[MEMORY].check(*few > 0 && grown <= GROWTH_BYTES_MAX, || {
                    format!("{via}, {side}: from {} to {} MiB", mib(*few), mib(*many))
                });
            }
            let largest = &origins[origins.len() - 1];
            for side in ["client", "server"] {
                let row = self.interrupt(largest, via, side, last.elapsed, &mut targets)?;
                continued.push(row);
            }
        }
        let largest = &origins[origins.len() - 1];
        let tips = milliseconds(time_tips(largest)?);
        println!(
            "tips of {} entries, start of the process included: {tips:.1} ms",
            largest.entries
        );
        Ok(Report {
            tables: vec![whole, continued],
            targets: targets.into(),
        })
    }

    /// Unpacks the shape of the history into the temporary folder.
    fn unpack(&self) -> Result<PathBuf, String> {
        let packed = workspace::root().join("eidetica-dag/testdata/git-history.dag.gz");
        let path = self.supervisor.folder().join("history.dag");
        let file = File::create(&path);
        let file = file.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        xtask_support::run(Command::new("gzip").arg("-dc").arg(&packed).stdout(file))?;
        Ok(path)
    }

    fn node(&self, name: &str) -> Node {
        Node::new(name, &self.program, &self.supervisor)
    }

    fn import(&self, shape: &Path, entries: u64) -> Result<Origin, String> {
        let node = self.node(&format!("origin-{entries}"));
        let shape = shape
            .to_str()
            .ok_or("the temporary folder's path is not UTF-8")?;
        let options =
            format!("--name bench --anyone read --payload-bytes {PAYLOAD_BYTES} --limit {entries}");
        let args: Vec<&str> = ["import", "dag", shape]
            .into_iter()
            .chain(options.split(' '))
            .collect();
        let started = now();
        let tree = node.make_tree(&args)?;
        let (seconds, stored) = (started.elapsed().as_secs_f64(), node.count(&tree)?);
        if stored < entries {
            return Err(format!(
                "{entries} entries were imported, and {stored} are there"
            ));
        }
        let rate = stored as f64 / seconds;
        println!(
            "imported {} entries, each signed: {rate:.0}/s",
            grouped(stored)
        );
        Ok(Origin {
            node,
            tree,
            entries: stored,
        })
    }

    fn bootstrap(&self, origin: &Origin, via: &str) -> Result<Bootstrap, String> {
        let client = self.node(&format!("{via}-{}", origin.entries));
        let mut serving = origin.node.serve()?;
        let joining = client.begin_sync("join", serving.ticket(&origin.tree)?, via)?;
        let finished = joining.finish(COMMAND_SECONDS_MAX)?;
        let (elapsed, client_kib) = (finished.elapsed, finished.peak_kib);
        let report = SyncReport::parse(&finished.success()?)?;
        let peaks = [serving.running.peak_kib() << 10, client_kib << 10];
        serving.stop()?;
        let stored = client.count(&origin.tree)?;
        if report.stored != origin.entries || stored != origin.entries {
            return Err(format!(
                "{via}: of {} entries, {stored} are stored",
                origin.entries
            ));
        }
        Ok(Bootstrap {
            elapsed,
            bytes: report.bytes,
            peaks,
        })
    }

    /// Kills one side in the middle of a bootstrap, continues, and returns the row of the table.
    fn interrupt(
        &self,
        origin: &Origin,
        via: &str,
        side: &str,
        whole: Duration,
        targets: &mut [Target; 3],
    ) -> Result<Vec<String>, String> {
        let place = format!("{via}, {side} killed");
        let tree = &origin.tree;
        for (number, moment) in MOMENTS.iter().enumerate() {
            let client = self.node(&format!("{via}-without-{side}-{number}"));
            let before = cut(origin, &client, via, side, whole.mul_f64(*moment))?;
            if !(1..origin.entries).contains(&before) {
                continue;
            }
            let serving = origin.node.serve()?;
            let report = client.sync("sync", serving.ticket(tree)?, via)?;
            serving.stop()?;
            let sum = before + report.stored;
            let whole = sum == origin.entries && client.count(tree)? == sum;
            targets[CONTINUED].check(whole, || format!("{place}: {sum} of {}", origin.entries));
            for node in [&client, &origin.node] {
                let verified = node.run(&["verify", tree])?;
                targets[CONTINUED].check(verified.status.success(), || {
                    format!("{place}: {}", verified.failure())
                });
            }
            let twice = report.redundant;
            targets[TWICE].check(twice <= REDUNDANT_MAX, || format!("{place}: {twice}"));
            let counts = [before, report.stored, origin.entries, twice].map(grouped);
            return Ok([via.into(), side.into()]
                .into_iter()
                .chain(counts)
                .collect());
        }
        let tries = MOMENTS.len();
        Err(format!(
            "{place}: in {tries} tries nothing or everything was stored; use more entries"
        ))
    }
}

/// Begins a bootstrap, kills one side after a while, and returns how many entries the client stored.
fn cut(
    origin: &Origin,
    client: &Node,
    via: &str,
    side: &str,
    after: Duration,
) -> Result<u64, String> {
    let serving = origin.node.serve()?;
    let mut joining = client.begin_sync("join", serving.ticket(&origin.tree)?, via)?;
    let in_time = joining.lives_for(after);
    match side {
        "client" => {
            joining.kill()?;
            serving.stop()?;
        }
        _ => {
            serving.running.kill()?;
            let joined = joining.finish(FAIL_SECONDS_MAX)?;
            // Without an exit code, a signal ended it.
            if in_time && joined.status.code().is_none() {
                return Err(format!(
                    "the client crashed with its server: {}",
                    joined.failure()
                ));
            }
        }
    }
    // A client that was killed before it made its store has none.
    client
        .count(&origin.tree)
        .or_else(|error| match in_time && error.contains("no store") {
            true => Ok(0),
            false => Err(error),
        })
}

fn time_tips(origin: &Origin) -> Result<Duration, String> {
    let mut fastest = Duration::MAX;
    for _ in 0..TIPS_RUNS {
        let finished = origin.node.run(&["tips", &origin.tree])?;
        fastest = fastest.min(finished.elapsed);
        finished.success()?;
    }
    Ok(fastest)
}
