//! Fetching a whole history into an empty store.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use super::{Options, interrupt};
use crate::node::{Node, SyncReport};
use crate::process::{Warden, clock};
use crate::table::{Table, grouped};
use crate::workspace;

/// By how much the peak memory may differ between the shortest and the longest history: it must
/// not grow with the history, and the caches fill up on the way.
const GROWTH_KIB_MAX: u64 = 32 << 10;

/// How often `tips` is timed; the fastest counts, for the machine does other things as well.
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
    pub via: &'static str,
    entries: u64,
    /// From the start of the client's process to its end.
    pub elapsed: Duration,
    bytes: u64,
    server_peak_kib: u64,
    client_peak_kib: u64,
}

/// Measures everything, prints it, and returns the promises that were broken.
pub fn run(options: &Options, program: &Path, warden: &Rc<Warden>) -> Result<Vec<String>, String> {
    let shape = unpack(warden)?;
    let mut origins = Vec::new();
    for &entries in &options.entries {
        origins.push(import(
            program,
            warden,
            &shape,
            entries,
            options.payload_bytes,
        )?);
    }
    let largest = origins.last().expect("there is at least one length");

    let mut broken = Vec::new();
    let mut all = Vec::new();
    for &via in &options.transports {
        for origin in &origins {
            all.push(bootstrap(origin, program, warden, via)?);
        }
    }
    println!(
        "\nbootstrap into an empty store, payloads of {} bytes\n",
        options.payload_bytes
    );
    println!("{}", table(&all).render());
    println!("  bytes are those of frames; memory is the peak of the resident set\n");
    for &via in &options.transports {
        let of_via: Vec<&Measured> = all.iter().filter(|it| it.via == via).collect();
        broken.extend(judge_memory(&of_via));
    }

    let tips = time_tips(largest)?;
    println!(
        "\ntips of {} entries: {:.1} ms, from the start of the process to its end\n",
        grouped(largest.entries),
        tips.as_secs_f64() * 1_000.0
    );

    println!("interrupted in the middle with kill -9, and continued\n");
    let mut interrupted = interrupt::Table::new();
    for measured in all.iter().filter(|it| it.entries == largest.entries) {
        broken.extend(interrupted.add(largest, program, warden, measured)?);
    }
    println!("{}", interrupted.render());
    Ok(broken)
}

/// Unpacks the shape of the history into the temporary folder.
fn unpack(warden: &Warden) -> Result<PathBuf, String> {
    let packed = workspace::root().join("eidetica-dag/testdata/git-history.dag.gz");
    let path = warden.folder().join("history.dag");
    let shape = File::create(&path).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    let status = Command::new("gzip")
        .arg("-dc")
        .arg(&packed)
        .stdin(Stdio::null())
        .stdout(shape)
        .status()
        .map_err(|error| format!("cannot start gzip: {error}"))?;
    match status.success() {
        true => Ok(path),
        false => Err(format!("gzip cannot unpack {}: {status}", packed.display())),
    }
}

fn import(
    program: &Path,
    warden: &Rc<Warden>,
    shape: &Path,
    entries: u64,
    payload_bytes: u64,
) -> Result<Origin, String> {
    let node = Node::new(&format!("origin-{entries}"), program, warden);
    let shape = shape
        .to_str()
        .ok_or("the temporary folder's path is not UTF-8")?;
    let (limit, payload) = (entries.to_string(), payload_bytes.to_string());
    let begun = clock();
    let tree = node.make_tree(&[
        "import",
        "dag",
        shape,
        "--name",
        "bench",
        "--anyone",
        "read",
        "--payload-bytes",
        &payload,
        "--limit",
        &limit,
    ])?;
    let seconds = begun.elapsed().as_secs_f64();
    let stored = node.count(&tree)?;
    if stored < entries {
        return Err(format!(
            "{entries} entries were imported, and {stored} are there"
        ));
    }
    println!(
        "imported {} entries in {seconds:.1} s, each signed: {:.0}/s",
        grouped(stored),
        stored as f64 / seconds
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
    warden: &Rc<Warden>,
    via: &'static str,
) -> Result<Measured, String> {
    let client = Node::new(&format!("{via}-{}", origin.entries), program, warden);
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
        via,
        entries: origin.entries,
        elapsed,
        bytes: report.bytes,
        server_peak_kib,
        client_peak_kib,
    })
}

fn table(all: &[Measured]) -> Table {
    let mut table = Table::new(
        1,
        &[
            "over",
            "entries",
            "seconds",
            "entries/s",
            "bytes/entry",
            "server MiB",
            "client MiB",
        ],
    );
    for it in all {
        let seconds = it.elapsed.as_secs_f64();
        table.row(vec![
            it.via.into(),
            grouped(it.entries),
            format!("{seconds:.2}"),
            grouped((it.entries as f64 / seconds) as u64),
            format!("{:.1}", it.bytes as f64 / it.entries as f64),
            mib(it.server_peak_kib),
            mib(it.client_peak_kib),
        ]);
    }
    table
}

fn mib(kib: u64) -> String {
    format!("{:.1}", kib as f64 / 1_024.0)
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
            mib(many.saturating_sub(few)),
            grouped(long.entries),
            grouped(short.entries),
            GROWTH_KIB_MAX >> 10
        );
        let known = few > 0 && many > 0;
        let fine = known && many.saturating_sub(few) <= GROWTH_KIB_MAX;
        println!("  {} {text}", if fine { "✓" } else { "✗" });
        match (known, fine) {
            (false, _) => broken.push(format!(
                "{} {side}: the system tells no peak memory",
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
            via: "http",
            entries,
            elapsed: Duration::from_secs(1),
            bytes: 1,
            server_peak_kib,
            client_peak_kib,
        }
    }

    #[test]
    fn memory_that_grows_with_the_history_breaks_the_promise() {
        let short = measured(10, 50_000, 60_000);
        let fine = measured(80, 50_000 + GROWTH_KIB_MAX, 1_000);
        assert!(judge_memory(&[&short, &fine]).is_empty());
        let grown = measured(80, 50_001 + GROWTH_KIB_MAX, 60_000);
        assert_eq!(judge_memory(&[&short, &grown]).len(), 1);
        let unknown = measured(80, 0, 60_000);
        assert!(judge_memory(&[&short, &unknown])[0].contains("tells no"));
        assert!(judge_memory(&[&short]).is_empty());
    }
}
