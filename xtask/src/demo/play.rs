//! What the three nodes do, step by step.

use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;

use xtask_support::now;
use xtask_support::process::Supervisor;
use xtask_support::report::{Cell, Table, count, grouped};

use super::check::{check_equal, check_git, check_store};
use super::dump::Dump;
use super::history::{self, Lineage, Source};
use crate::node::{Node, Serving, SyncReport};

/// How many entries each node writes while it is apart from the others.
const APPENDED_ENTRIES: usize = 3;

/// After two rounds everyone must have everything, and the third must find nothing to do.
const ROUNDS_MAX: u32 = 3;

/// How many tips are shown: a repository with old branches has hundreds.
const TIPS_SHOWN_MAX: usize = 3;

/// The result.
pub struct Verdict {
    pub problems: Vec<String>,
    /// The last line if there are none.
    pub line: String,
}

/// The nodes, and what their syncs cost.
struct Stage {
    a: Node,
    b: Node,
    c: Node,
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
    let node = |name| Node::new(name, program, supervisor);
    let mut stage = Stage {
        a: node("A"),
        b: node("B"),
        c: node("C"),
        tree: String::new(),
        table: Table::new(
            "syncs",
            &[
                ("sync", "sync"),
                ("who", "who"),
                ("over", "transport"),
                ("received", "received_entries"),
                ("sent", "sent_entries"),
                ("bytes", "bytes"),
                ("trips", "round_trips"),
                ("seconds", "seconds"),
                ("redundant", "redundant_entries"),
            ],
        ),
        steps: 0,
    };
    let lineage = stage.begin(source)?;
    let served = stage.join()?;
    stage.write_apart(served)?;
    stage.sync_until_equal()?;
    print!("\n{}", stage.table);
    stage.judge(lineage.as_ref())
}

impl Stage {
    /// Prints the next step.
    fn say(&mut self, what: &str) {
        self.steps += 1;
        println!("\n{}. {what}", self.steps);
    }

    fn begin(&mut self, source: &Source) -> Result<Option<Lineage>, String> {
        match source {
            Source::Git { repo, limit } => {
                let shown = std::fs::canonicalize(repo).unwrap_or_else(|_| repo.clone());
                self.say(&format!("A imports the git history of {}", shown.display()));
                let before = history::parents(repo)?;
                let total = before.len() as u64;
                let repo_text = repo.to_str().ok_or("the repository's path is not UTF-8")?;
                let limit_text = limit.unwrap_or(total).max(1).to_string();
                let mut args = vec!["import", "git", repo_text, "--name", "demo"];
                args.extend(["--anyone", "write"]);
                if limit.is_some() {
                    args.extend(["--limit", &limit_text]);
                }
                let begun = now();
                self.tree = self.a.make_tree(&args)?;
                let seconds = begun.elapsed().as_secs_f64();
                let entries = self.a.count(&self.tree)?;
                let wanted = limit.unwrap_or(total).min(total);
                // Someone may commit meanwhile.
                if entries <= wanted {
                    return Err(format!(
                        "{entries} entries were made of {wanted} commits and a root"
                    ));
                }
                note(&format!(
                    "{} in {seconds:.1} s: one for each commit, with the commit's parents, and a root",
                    count(entries, "signed entry", "signed entries")
                ));
                let expected = match limit {
                    None => before.into_keys().collect(),
                    Some(_) => Default::default(),
                };
                let parents = history::parents(repo)?;
                Ok(Some(Lineage { parents, expected }))
            }
            Source::Synthetic { entries, why } => {
                self.say(&format!(
                    "A writes a MADE-UP history, because there is no real one: {why}"
                ));
                note("name one with --repo <path of a git repository>");
                self.tree = self.a.make_tree(&["new", "demo", "--anyone", "write"])?;
                let lines: Vec<String> = (1..=*entries).map(|n| format!("line {n}")).collect();
                self.a.append(&self.tree, &lines)?;
                note(&format!(
                    "{} and a root",
                    count(*entries, "entry", "entries")
                ));
                Ok(None)
            }
        }
    }

    fn serve(&self) -> Result<(Serving, String), String> {
        let serving = self.a.serve()?;
        for address in &serving.addresses {
            note(&format!("listening {}", clipped(address)));
        }
        let ticket = serving.ticket(&self.tree)?.to_owned();
        Ok((serving, ticket))
    }

    fn join(&mut self) -> Result<Serving, String> {
        self.say("A serves it over HTTP and iroh at once; B and C join with the ticket");
        let (serving, ticket) = self.serve()?;
        self.sync("join", "B", &ticket)?;
        self.sync("join", "C", &ticket)?;
        Ok(serving)
    }

    fn write_apart(&mut self, served: Serving) -> Result<(), String> {
        self.say("A stops serving; each of the three writes on its own");
        served.stop()?;
        for node in [&self.a, &self.b, &self.c] {
            let line = |n| format!("{} writes entry {n} while apart", node.name);
            let lines: Vec<String> = (1..=APPENDED_ENTRIES).map(line).collect();
            node.append(&self.tree, &lines)?;
            let tips = node.ask(&["tips", &self.tree])?;
            let written = count(APPENDED_ENTRIES as u64, "entry", "entries");
            let text = format!("{} wrote {written}; its tips: {}", node.name, named(&tips));
            note(&text);
        }
        Ok(())
    }

    fn sync_until_equal(&mut self) -> Result<(), String> {
        self.say("A serves again; B and C sync with it until nothing moves");
        let (serving, ticket) = self.serve()?;
        for round in 1..=ROUNDS_MAX {
            let label = format!("round {round}");
            let b = self.sync(&label, "B", &ticket)?;
            let c = self.sync(&label, "C", &ticket)?;
            if !b.moved() && !c.moved() {
                return serving.stop();
            }
        }
        Err(format!("entries still move in round {ROUNDS_MAX}"))
    }

    fn sync(&mut self, label: &str, who: &str, ticket: &str) -> Result<SyncReport, String> {
        let (node, via, over) = match who {
            "B" => (&self.b, "http", "HTTP"),
            _ => (&self.c, "iroh", "iroh"),
        };
        let verb = if label == "join" { "join" } else { "sync" };
        let report = node.sync(verb, ticket, via)?;
        if report.transport != via {
            return Err(format!(
                "{who} should use {via} and used {}",
                report.transport
            ));
        }
        if report.outcome != "equal" {
            return Err(format!("{who}'s sync ended with {:?}", report.outcome));
        }
        note(&format!(
            "{who} over {over}: {} received, {} sent, {} bytes in {:.2} s",
            grouped(report.received),
            grouped(report.sent),
            grouped(report.bytes),
            report.seconds
        ));
        self.table.push(vec![
            label.into(),
            format!("{who} ⇄ A").into(),
            over.into(),
            report.received.into(),
            report.sent.into(),
            report.bytes.into(),
            report.round_trips.into(),
            Cell::Number(report.seconds, 3),
            report.redundant.into(),
        ]);
        Ok(report)
    }

    fn judge(&mut self, lineage: Option<&Lineage>) -> Result<Verdict, String> {
        self.say("All three are dumped and compared, by code that shares nothing with the library");
        let mut dumps = Vec::new();
        for node in [&self.a, &self.b, &self.c] {
            node.ask(&["verify", &self.tree])?;
            let log = node.ask(&["log", &self.tree, "--json", "--raw"])?;
            let tips = node.ask(&["tips", &self.tree])?;
            dumps.push(Dump::parse(&node.name, &log, &tips)?);
        }
        note("`eidetica verify` passes for each: signatures and access rules included");

        let mut problems = Vec::new();
        for dump in &dumps {
            problems.extend(check_store(dump, &self.tree));
        }
        say_result(
            &problems,
            "ids are the hashes of the bytes; parents come first; heights, order and tips are right",
        );
        let within = problems.len();
        problems.extend(check_equal(&dumps));
        say_result(
            &problems[within..],
            "entries, parents and tips are the same in all three",
        );
        if let Some(lineage) = lineage {
            let within = problems.len();
            let mut commits = 0;
            for dump in &dumps {
                let (found, different) = check_git(dump, lineage);
                commits = found;
                problems.extend(different);
            }
            let text = format!(
                "the parents of {} are those that git names",
                count(commits, "commit", "commits")
            );
            say_result(&problems[within..], &text);
        }
        let (entries, tips) = (dumps[0].entries.len() as u64, dumps[0].tips.len() as u64);
        let written = 3 * APPENDED_ENTRIES as u64;
        let ours = dumps[0]
            .entries
            .iter()
            .filter(|entry| written_apart(&entry.encoded));
        let ours = ours.count() as u64;
        if ours != written {
            problems.push(format!(
                "of {written} entries that were written apart, {ours} are there"
            ));
        }
        Ok(Verdict {
            problems,
            line: format!(
                "equal: {} stores, {}, {}",
                dumps.len(),
                count(entries, "entry", "entries"),
                count(tips, "tip", "tips")
            ),
        })
    }
}

/// Returns whether an entry is one of those that the nodes wrote while apart.
fn written_apart(encoded: &[u8]) -> bool {
    let data = super::dump::Said::read(encoded).and_then(|said| said.data);
    let text = data.and_then(|data| std::str::from_utf8(data).ok());
    text.is_some_and(|text| text.ends_with(" while apart") && !text.contains('\n'))
}

fn say_result(problems: &[String], fine: &str) {
    match problems.len() as u64 {
        0 => note(&format!("✓ {fine}")),
        n => note(&format!(
            "✗ not true: {fine} ({})",
            count(n, "problem", "problems")
        )),
    }
}

fn note(text: &str) {
    println!("   {text}");
    // Only the display suffers if the terminal does not take it.
    let _ = io::stdout().flush();
}

/// Names the first of some ids.
fn named(ids: &[String]) -> String {
    let short = |id: &String| id.get(..10).unwrap_or(id).to_owned();
    let shown: Vec<String> = ids.iter().take(TIPS_SHOWN_MAX).map(short).collect();
    match ids.len() - shown.len() {
        0 => shown.join(" "),
        more => format!("{} and {} more", shown.join(" "), grouped(more as u64)),
    }
}

/// Cuts what is longer than a line: an iroh address holds a key.
fn clipped(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}
