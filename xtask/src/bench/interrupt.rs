//! Killing one side in the middle of a bootstrap, and continuing.

use std::path::Path;
use std::rc::Rc;

use super::bootstrap::{Measured, Origin};
use crate::node::{Node, Serving};
use crate::process::{Running, Warden};
use crate::table::{self, grouped};

/// When to kill, in parts of the time that an undisturbed bootstrap took. The next is tried when
/// nothing or everything was stored by then.
const MOMENTS: [f64; 7] = [0.5, 0.35, 0.65, 0.25, 0.8, 0.15, 0.9];

/// Most entries that may come twice: those of one batch of 256 KiB, of which each has at least the
/// 100 bytes of a signature and a hash.
const REDUNDANT_MAX: u64 = 2_621;

/// How long the client may take to see that its server is gone.
const FAIL_SECONDS_MAX: u64 = 120;

/// Who is killed.
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

/// What was stored before and after each interruption.
pub struct Table(table::Table);

impl Table {
    pub fn new() -> Self {
        Self(table::Table::new(
            2,
            &[
                "over",
                "killed",
                "stored before",
                "stored after",
                "sum",
                "of",
                "redundant",
            ],
        ))
    }

    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Interrupts either side over the transport of `whole`, and returns the promises that were
    /// broken.
    pub fn add(
        &mut self,
        origin: &Origin,
        program: &Path,
        warden: &Rc<Warden>,
        whole: &Measured,
    ) -> Result<Vec<String>, String> {
        let mut broken = Vec::new();
        for side in [Side::Client, Side::Server] {
            let who = match side {
                Side::Client => "client",
                Side::Server => "server",
            };
            let what = format!("{}, {who} killed", whole.via);
            let mut cut_off = None;
            for (number, moment) in MOMENTS.iter().enumerate() {
                let name = format!("{}-without-{who}-{number}", whole.via);
                let client = Node::new(&name, program, warden);
                let cut = cut(origin, &client, whole, *moment, side)?;
                if (1..origin.entries).contains(&cut.stored) {
                    cut_off = Some((client, cut));
                    break;
                }
                if let Some(serving) = cut.serving {
                    serving.stop()?;
                }
            }
            let Some((client, cut)) = cut_off else {
                let tries = MOMENTS.len();
                broken.push(format!(
                    "{what}: in {tries} tries nothing or everything was stored; take more entries"
                ));
                continue;
            };
            let serving = match cut.serving {
                Some(serving) => serving,
                None => origin.node.serve()?,
            };
            let report = client.sync("sync", serving.ticket(&origin.tree)?, whole.via)?;
            serving.stop()?;
            let sum = cut.stored + report.stored;
            self.0.row(vec![
                whole.via.into(),
                who.into(),
                grouped(cut.stored),
                grouped(report.stored),
                grouped(sum),
                grouped(origin.entries),
                grouped(report.redundant),
            ]);
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
}

fn cut(
    origin: &Origin,
    client: &Node,
    whole: &Measured,
    moment: f64,
    side: Side,
) -> Result<CutOff, String> {
    let serving = origin.node.serve()?;
    let mut joining = client.begin_sync("join", serving.ticket(&origin.tree)?, whole.via)?;
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
