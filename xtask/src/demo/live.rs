//! The three nodes serve, and stay equal without a sync by hand.

use std::time::{Duration, Instant};

use xtask_support::now;
use xtask_support::process::Running;
use xtask_support::report::{Table, decimals};

use super::play::note;
use crate::node::{Node, Serving};

/// How many entries each node writes while all are there.
const ROUNDS: usize = 3;

/// How long an entry may be on its way before the demo fails: long after a check would have found it.
const ARRIVAL_SECONDS_MAX: u64 = 180;

/// The node that is killed and started again.
const KILLED: usize = 2;

/// A node that serves, and a command that prints each entry as it arrives there.
struct Live<'a> {
    node: &'a Node,
    serving: Serving,
    log: Running,
}

impl<'a> Live<'a> {
    fn start(node: &'a Node, tree: &str) -> Result<Self, String> {
        let serving = node.serve()?;
        let log = node.follow_log(tree)?;
        Ok(Self { node, serving, log })
    }

    /// Waits until an entry of this text is there.
    fn await_entry(&mut self, text: &str) -> Result<Instant, String> {
        let until = now() + Duration::from_secs(ARRIVAL_SECONDS_MAX);
        while let Some(line) = self.log.line(until)? {
            if line.contains(text) {
                return Ok(now());
            }
        }
        let name = &self.node.name;
        Err(format!("{name} stops printing entries before {text:?}"))
    }

    fn stop(self) -> Result<(), String> {
        drop(self.log);
        self.serving.stop()
    }
}

/// Lets the nodes serve and write, and returns how long each entry took to be everywhere.
pub fn stay_equal(nodes: &[Node; 3], tree: &str) -> Result<Table, String> {
    let headings = &["written by", "entry", "everywhere after ms"];
    let mut table = Table::new("how soon each entry was everywhere", headings);
    let mut row = |node: &Node, what: &str, took: Duration| {
        let milliseconds = decimals(took.as_secs_f64() * 1_000.0, 1);
        table.push(vec![node.name.clone(), what.into(), milliseconds]);
    };
    let mut live = Vec::new();
    for node in nodes {
        live.push(Live::start(node, tree)?);
    }
    let ticket = live[0].serving.ticket(tree)?.to_owned();
    for node in &nodes[1..] {
        node.ask(&["follow", tree, &ticket])?;
    }
    // What is here already is printed first, and connections are made.
    for node in nodes {
        write(node, tree, "begins", &mut live)?;
    }
    note("B and C follow A with its ticket");

    for round in 1..=ROUNDS {
        for node in nodes {
            let what = format!("number {round}");
            row(node, &what, write(node, tree, &what, &mut live)?);
        }
    }
    note("each has appended, and each entry has reached the other two");

    let killed = live.remove(KILLED);
    drop(killed.log);
    killed.serving.kill()?;
    let away = &nodes[KILLED];
    let what = format!("while {} is down", away.name);
    for node in &nodes[..KILLED] {
        write(node, tree, &what, &mut live)?;
    }
    live.push(Live::start(away, tree)?);
    let began = now();
    for node in &nodes[..KILLED] {
        live[KILLED].await_entry(&text(node, &what))?;
        let what = format!("{what}; after its return");
        row(node, &what, began.elapsed());
    }
    note(&format!(
        "{} was killed and started again, and has what it missed",
        away.name
    ));
    for node in nodes {
        let what = "after all";
        row(node, what, write(node, tree, what, &mut live)?);
    }
    for node in live {
        node.stop()?;
    }
    Ok(table)
}

fn text(node: &Node, what: &str) -> String {
    format!("live entry of {}, {what}", node.name)
}

/// Appends an entry. Returns how long after its own node the last of the others had it.
fn write(node: &Node, tree: &str, what: &str, live: &mut [Live<'_>]) -> Result<Duration, String> {
    let text = text(node, what);
    let append = node.begin_append(tree, &text)?;
    let (own, others): (Vec<_>, Vec<_>) = live
        .iter_mut()
        .partition(|live| live.node.name == node.name);
    let mut began = None;
    for live in own {
        began = Some(live.await_entry(&text)?);
    }
    let mut last = began;
    for live in others {
        last = last.max(Some(live.await_entry(&text)?));
    }
    append.finish(ARRIVAL_SECONDS_MAX)?.success()?;
    let took = last.zip(began).map(|(last, began)| last - began);
    took.ok_or_else(|| format!("{} does not serve", node.name))
}
