//! What the three nodes do, step by step.

use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;

use xtask_support::now;
use xtask_support::process::Supervisor;
use xtask_support::report::{Table, count, decimals, grouped};

use super::check::{check_equal, check_git, check_store};
use super::history::{self, Lineage, SYNTHETIC_ENTRIES, Source};
use super::live;
use super::store::{Dump, Said};
use crate::node::{Node, Serving, SyncReport};

/// How many entries each node writes while it is apart from the others.
const APPENDED_ENTRIES: usize = 3;

/// After two rounds everyone must have everything, and the third must find nothing to do.
const ROUNDS_MAX: u32 = 3;

/// The result.
pub struct Verdict {
    pub problems: Vec<String>,
    /// The last line if there are none.
    pub line: String,
}

/// The nodes, and what their syncs cost.
struct Stage {
    /// A, B and C.
    nodes: [Node; 3],
    tree: String,
    table: Table,
    steps: u32,
}

/// Lets three nodes write apart and sync, and judges what they have in the end.
pub fn play(
    program: &Path,
    supervisor: &Rc<Supervisor>,
    source: &Source,
) -> Result<Verdict, String> {
    let headings = &[
        "sync",
        "who",
        "over",
        "received",
        "sent",
        "bytes",
        "trips",
        "seconds",
        "redundant",
    ];
    let mut stage = Stage {
        nodes: ["A", "B", "C"].map(|name| Node::new(name, program, supervisor)),
        tree: String::new(),
        table: Table::new("what the syncs cost", headings),
        steps: 0,
    };
    let lineage = stage.begin(source)?;
    stage.join()?;
    stage.write_apart()?;
    stage.sync_until_equal()?;
    print!("\n{}", stage.table);
    stage.say("All three serve, and stay equal without a sync by hand");
    let table = live::stay_equal(&stage.nodes, &stage.tree)?;
    print!("\n{table}");
    stage.judge(lineage.as_ref())
}

impl Stage {
    /// Prints the next step.
    fn say(&mut self, what: &str) {
        self.steps += 1;
        println!("\n{}. {what}", self.steps);
    }

    fn begin(&mut self, source: &Source) -> Result<Option<Lineage>, String> {
        let repo = match source {
            Source::Git(repo) => repo,
            Source::Synthetic { why } => {
                self.say(&format!(
                    "A writes a MADE-UP history, because there is no real one: {why}"
                ));
                note("name one with --repo <path of a git repository>");
                self.tree = self.nodes[0].make_tree(&["new", "demo", "--anyone", "write"])?;
                let lines: Vec<String> = (1..=SYNTHETIC_ENTRIES)
                    .map(|n| format!("line {n}"))
                    .collect();
                self.nodes[0].append(&self.tree, &lines)?;
                note(&format!(
                    "{} and a root",
                    count(SYNTHETIC_ENTRIES, "entry", "entries")
                ));
                return Ok(None);
            }
        };
        let shown = std::fs::canonicalize(repo).unwrap_or_else(|_| repo.clone());
        self.say(&format!("A imports the git history of {}", shown.display()));
        let before = history::parents(repo)?;
        let path = repo.to_str().ok_or("the repository's path is not UTF-8")?;
        let args = ["import", "git", path, "--name", "demo", "--anyone", "write"];
        let begun = now();
        self.tree = self.nodes[0].make_tree(&args)?;
        let seconds = begun.elapsed().as_secs_f64();
        let entries = self.nodes[0].count(&self.tree)?;
        let entries = count(entries, "signed entry", "signed entries");
        note(&format!(
            "{entries} in {seconds:.1} s: a root, and one for each commit on its parents"
        ));
        Ok(Some(Lineage {
            parents: history::parents(repo)?,
            expected: before.into_keys().collect(),
        }))
    }

    fn serve(&self) -> Result<(Serving, String), String> {
        let serving = self.nodes[0].serve()?;
        for address in &serving.addresses {
            // An iroh address holds a key.
            note(&format!("listening {address:.60}"));
        }
        let ticket = serving.ticket(&self.tree)?.to_owned();
        Ok((serving, ticket))
    }

    fn join(&mut self) -> Result<(), String> {
        self.say("A serves it over HTTP and iroh at once; B and C join with the ticket");
        let (serving, ticket) = self.serve()?;
        self.sync_both("join", "join", &ticket)?;
        serving.stop()
    }

    fn write_apart(&mut self) -> Result<(), String> {
        self.say("A does not serve; each of the three writes on its own");
        for node in &self.nodes {
            let line = |n| format!("{} writes entry {n} while apart", node.name);
            let lines: Vec<String> = (1..=APPENDED_ENTRIES).map(line).collect();
            node.append(&self.tree, &lines)?;
            let tips = node.ask(&["tips", &self.tree])?.len() as u64;
            let tips = count(tips, "tip", "tips");
            note(&format!(
                "{} wrote {APPENDED_ENTRIES} entries and has {tips}",
                node.name
            ));
        }
        Ok(())
    }

    fn sync_until_equal(&mut self) -> Result<(), String> {
        self.say("A serves again; B and C sync with it until nothing moves");
        let (serving, ticket) = self.serve()?;
        for round in 1..=ROUNDS_MAX {
            let reports = self.sync_both("sync", &format!("round {round}"), &ticket)?;
            if reports
                .iter()
                .all(|report| report.received + report.sent == 0)
            {
                return serving.stop();
            }
        }
        Err(format!("entries still move in round {ROUNDS_MAX}"))
    }

    /// Syncs B over HTTP and C over iroh.
    fn sync_both(
        &mut self,
        verb: &str,
        label: &str,
        ticket: &str,
    ) -> Result<Vec<SyncReport>, String> {
        let mut reports = Vec::new();
        for (node, via) in self.nodes[1..].iter().zip(["http", "iroh"]) {
            let report = node.sync(verb, ticket, via)?;
            let who = &node.name;
            if report.transport != via || report.outcome != "equal" {
                let (over, outcome) = (&report.transport, &report.outcome);
                return Err(format!(
                    "{who} over {via}: the sync over {over} ended with {outcome:?}"
                ));
            }
            let counts = [
                report.received,
                report.sent,
                report.bytes,
                report.round_trips,
            ];
            let mut row = vec![label.into(), format!("{who} ⇄ A"), via.into()];
            row.extend(counts.map(grouped));
            row.extend([decimals(report.seconds, 3), grouped(report.redundant)]);
            note(&format!(
                "{who} over {via}: {} received, {} sent",
                row[3], row[4]
            ));
            self.table.push(row);
            reports.push(report);
        }
        Ok(reports)
    }

    fn judge(&mut self, lineage: Option<&Lineage>) -> Result<Verdict, String> {
        self.say("All three are dumped and compared, by code that shares nothing with the library");
        let mut dumps = Vec::new();
        for node in &self.nodes {
            node.ask(&["verify", &self.tree])?;
            let log = node.ask(&["log", &self.tree, "--json", "--raw"])?;
            let tips = node.ask(&["tips", &self.tree])?;
            dumps.push(Dump::parse(&node.name, &log, &tips)?);
        }
        note("✓ `eidetica verify` passes for each: signatures and access rules included");

        let mut problems = Vec::new();
        let mut judge = |fine: &str, found: Vec<String>| {
            match found.len() as u64 {
                0 => note(&format!("✓ {fine}")),
                n => note(&format!(
                    "✗ not true: {fine} ({})",
                    count(n, "problem", "problems")
                )),
            }
            problems.extend(found);
        };
        judge(
            "ids are the hashes of the bytes; parents come first; heights, order and tips are right",
            dumps
                .iter()
                .flat_map(|dump| check_store(dump, &self.tree))
                .collect(),
        );
        judge(
            "entries, parents and tips are the same in all three",
            check_equal(&dumps),
        );
        if let Some(lineage) = lineage {
            let judged: Vec<_> = dumps.iter().map(|dump| check_git(dump, lineage)).collect();
            let commits = count(judged[0].0, "commit", "commits");
            let found = judged
                .into_iter()
                .flat_map(|(_, problems)| problems)
                .collect();
            judge(
                &format!("the parents of {commits} are those that git names"),
                found,
            );
        }
        let (entries, tips) = (dumps[0].entries.len() as u64, dumps[0].tips.len() as u64);
        let (wanted, found) = (
            3 * APPENDED_ENTRIES,
            dumps[0]
                .entries
                .iter()
                .filter(|entry| is_written_apart(&entry.encoded))
                .count(),
        );
        if wanted != found {
            problems.push(format!(
                "of {wanted} entries that were written apart, {found} are there"
            ));
        }
        let (entries, tips) = (
            count(entries, "entry", "entries"),
            count(tips, "tip", "tips"),
        );
        Ok(Verdict {
            problems,
            line: format!("equal: 3 stores, {entries}, {tips}"),
        })
    }
}

/// Returns whether an entry is one of those that the nodes wrote while apart.
fn is_written_apart(encoded: &[u8]) -> bool {
    let data = Said::read(encoded).and_then(|said| said.data);
    let text = data.and_then(|data| std::str::from_utf8(data).ok());
    text.is_some_and(|text| text.ends_with(" while apart") && !text.contains('\n'))
}

pub(super) fn note(text: &str) {
    println!("   {text}");
    // Only the display suffers if the terminal does not take it.
    let _ = io::stdout().flush();
}
