//! Killing one side in the middle of a bootstrap, and continuing.

use std::path::Path;
use std::rc::Rc;

use xtask_support::process::{Running, Supervisor};
use xtask_support::report::Table;

use super::bootstrap::{Measured, Origin};
use crate::node::{Node, Serving};

/// When to kill, in parts of the time that an undisturbed bootstrap took. The next is tried when
/// nothing or everything was stored by then.
const MOMENTS: [f64; 7] = [0.5, 0.35, 0.65, 0.25, 0.8, 0.15, 0.9];

/// Most entries that may come twice: those of one batch of 256 KiB, of which each has at least the
/// 100 bytes of a signature and a hash.
const REDUNDANT_MAX: u64 = 2_621;

/// How long the client may take to see that its server is gone.
const FAIL_SECONDS_MAX: u64 = 120;

/// The side that is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

/// A bootstrap that was cut off.
struct CutOff {
    /// What the client had stored.
    stored: u64,
    /// The server, if it lives.
    serving: Option<Serving>,
}

/// Returns a table for what was stored before and after each interruption.
pub fn table() -> Table {
    Table::new(
        "interrupted",
        &[
            ("over", "transport"),
            ("killed", "killed"),
            ("stored before", "stored_before"),
            ("stored after", "stored_after"),
            ("sum", "stored"),
            ("of", "entries"),
            ("redundant", "redundant_entries"),
        ],
    )
}

/// Interrupts either side over the transport of `whole`, and returns the targets that are missed.
pub fn measure(
    table: &mut Table,
    origin: &Origin,
    program: &Path,
    supervisor: &Rc<Supervisor>,
    whole: &Measured,
) -> Result<Vec<String>, String> {
    let mut broken = Vec::new();
    for (side, who) in [(Side::Client, "client"), (Side::Server, "server")] {
        let what = format!("{}, {who} killed", whole.via);
        let mut cut_off = None;
        for (number, moment) in MOMENTS.iter().enumerate() {
            let name = format!("{}-without-{who}-{number}", whole.via);
            let client = Node::new(&name, program, supervisor);
            let cut = cut(origin, &client, whole, *moment, side)?;
            if (1..origin.entries).contains(&cut.stored) {
                cut_off = Some((client, cut));
                break;
            }
            cut.serving.map_or(Ok(()), Serving::stop)?;
        }
        let Some((client, cut)) = cut_off else {
            let tries = MOMENTS.len();
            broken.push(format!(
                "{what}: in {tries} tries nothing or everything was stored; use more entries"
            ));
            continue;
        };
        let serving = cut.serving.map_or_else(|| origin.node.serve(), Ok)?;
        let report = client.sync("sync", serving.ticket(&origin.tree)?, &whole.via)?;
        serving.stop()?;
        let sum = cut.stored + report.stored;
        let counts = [
            cut.stored,
            report.stored,
            sum,
            origin.entries,
            report.redundant,
        ];
        let names = [whole.via.as_str(), who].map(Into::into);
        table.push(names.into_iter().chain(counts.map(Into::into)).collect());
        if sum != origin.entries || client.count(&origin.tree)? != origin.entries {
            broken.push(format!("{what}: the sum is {sum}, not {}", origin.entries));
        }
        if report.redundant > REDUNDANT_MAX {
            broken.push(format!("{what}: {} entries came twice", report.redundant));
        }
        for node in [&client, &origin.node] {
            let verified = node.run(&["verify", &origin.tree], None)?;
            if !verified.status.success() {
                broken.push(format!("{what}: {}", verified.failure()));
            }
        }
    }
    Ok(broken)
}

fn cut(
    origin: &Origin,
    client: &Node,
    whole: &Measured,
    moment: f64,
    side: Side,
) -> Result<CutOff, String> {
    let serving = origin.node.serve()?;
    let mut joining = client.begin_sync("join", serving.ticket(&origin.tree)?, &whole.via)?;
    let in_time = joining.lives_for(whole.elapsed.mul_f64(moment));
    let serving = end(joining, serving, side, in_time)?;
    Ok(CutOff {
        stored: client.count(&origin.tree).or_else(|error| match in_time {
            // A client that was killed before it made its store has none.
            true if error.contains("no store") => Ok(0),
            _ => Err(error),
        })?,
        serving,
    })
}

fn end(
    joining: Running,
    serving: Serving,
    side: Side,
    in_time: bool,
) -> Result<Option<Serving>, String> {
    match side {
        Side::Client => {
            joining.kill()?;
            Ok(Some(serving))
        }
        Side::Server => {
            serving.kill()?;
            let joined = joining.finish(FAIL_SECONDS_MAX)?;
            // Else it may have been done in time.
            if in_time && joined.status.code().is_none() {
                return Err(format!(
                    "the client crashed when its server died: {}",
                    joined.failure()
                ));
            }
            Ok(None)
        }
    }
}
