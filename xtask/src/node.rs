//! The `eidetica` program, and nodes made of it: each a store of its own, used by processes of their
//! own.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use xtask_support::now;
use xtask_support::process::{Finished, Input, Running, Supervisor};

use crate::workspace;

/// How long a command may take: the import of a very large repository, unoptimised.
const COMMAND_SECONDS_MAX: u64 = 1_800;

/// How long a server may take until it listens.
const SERVE_SECONDS_MAX: u64 = 60;

/// Builds the program in the given profile, and returns its path. Cargo's messages go to stderr.
///
/// The tests use the `dev` profile, and so the same build of the dependencies.
pub fn build(profile: &str) -> Result<PathBuf, String> {
    let mut cargo = workspace::cargo();
    cargo.args([
        "build",
        "--locked",
        "--package",
        "eidetica-sync",
        "--profile",
        profile,
    ]);
    cargo.args(["--features", "cli", "--bin", "eidetica"]);
    cargo
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit());
    let output = cargo
        .output()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("the program does not build ({})", output.status));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    executable(&messages).ok_or_else(|| "cargo does not say where it put the program".into())
}

/// Finds the program among cargo's messages.
fn executable(messages: &str) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let ours =
            message["reason"] == "compiler-artifact" && message["target"]["name"] == "eidetica";
        let path = message["executable"].as_str().filter(|_| ours)?;
        Some(PathBuf::from(path))
    })
}

/// One device: a name and a store.
pub struct Node {
    pub name: String,
    store: PathBuf,
    program: PathBuf,
    supervisor: Rc<Supervisor>,
    /// How many processes it has had, so that each has its own log.
    processes: Cell<u32>,
}

/// A server that runs on a node's store.
pub struct Serving {
    running: Running,
    pub addresses: Vec<String>,
    /// One for each tree.
    pub tickets: Vec<String>,
}

/// How a sync went, as the program reports it.
#[derive(Debug, Clone, PartialEq)]
pub struct SyncReport {
    pub transport: String,
    pub outcome: String,
    pub seconds: f64,
    pub round_trips: u64,
    pub received: u64,
    pub stored: u64,
    pub redundant: u64,
    pub sent: u64,
    /// All bytes in both directions.
    pub bytes: u64,
}

impl Node {
    /// Describes a node; the first command that needs its store creates it.
    pub fn new(name: &str, program: &Path, supervisor: &Rc<Supervisor>) -> Self {
        Self {
            name: name.into(),
            store: supervisor.folder().join(name),
            program: program.into(),
            supervisor: supervisor.clone(),
            processes: Cell::new(0),
        }
    }

    /// Starts the program on this node's store.
    pub fn start(&self, args: &[&str], input: Option<Vec<u8>>) -> Result<Running, String> {
        let number = self.processes.get();
        self.processes.set(number + 1);
        let log = format!("{}-{number}.log", self.name);
        let mut command = Command::new(&self.program);
        command.arg("--store").arg(&self.store).args(args);
        let shown = args.first().copied().unwrap_or_default();
        let what = format!("{}: eidetica {shown}", self.name);
        Running::start(
            &self.supervisor,
            what,
            &mut command,
            &log,
            input.map_or(Input::Nothing, Input::Bytes),
        )
    }

    /// Runs the program to its end, whatever its exit code.
    pub fn run(&self, args: &[&str], input: Option<Vec<u8>>) -> Result<Finished, String> {
        self.start(args, input)?.finish(COMMAND_SECONDS_MAX)
    }

    /// Runs the program, which must succeed, and returns the lines that it prints.
    pub fn ask(&self, args: &[&str]) -> Result<Vec<String>, String> {
        self.run(args, None)?.success()
    }

    /// Runs a command that prints a tree's id last.
    pub fn make_tree(&self, args: &[&str]) -> Result<String, String> {
        let lines = self.ask(args)?;
        let id = lines.last().map(|line| line.trim().to_owned());
        let is_id = |id: &String| id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
        id.filter(is_id)
            .ok_or_else(|| format!("{}: `{}` prints no tree id last", self.name, args.join(" ")))
    }

    /// Appends an entry for each line.
    pub fn append(&self, tree: &str, lines: &[String]) -> Result<(), String> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let printed = self
            .run(&["append", tree, "--lines"], Some(text.into_bytes()))?
            .success()?;
        let (name, given, made) = (&self.name, lines.len(), printed.len());
        match given == made {
            true => Ok(()),
            false => Err(format!(
                "{name}: {given} lines were appended as {made} entries"
            )),
        }
    }

    /// Returns how many entries of the tree are stored; 0 without the tree.
    pub fn count(&self, tree: &str) -> Result<u64, String> {
        for line in self.ask(&["ls", "--json"])? {
            let value = json(&line)?;
            if value["tree"] == tree {
                return number(&value, "entries");
            }
        }
        Ok(0)
    }

    /// Starts a server on loopback, and waits until it listens.
    pub fn serve(&self) -> Result<Serving, String> {
        let mut running = self.start(&["serve", "--loopback"], None)?;
        let until = now() + Duration::from_secs(SERVE_SECONDS_MAX);
        let (mut addresses, mut tickets) = (Vec::new(), Vec::new());
        loop {
            let Some(line) = running.line(until)? else {
                return Err(running.finish(SERVE_SECONDS_MAX)?.failure());
            };
            match line.split_once(' ') {
                Some(("listening", address)) => addresses.push(address.to_owned()),
                Some(("ticket", ticket)) => tickets.push(ticket.to_owned()),
                _ if line == "ready" => break,
                _ => {}
            }
        }
        Ok(Serving {
            running,
            addresses,
            tickets,
        })
    }

    /// Starts to sync the tree of a ticket with its server. `verb` is `join` or `sync`.
    pub fn begin_sync(&self, verb: &str, ticket: &str, via: &str) -> Result<Running, String> {
        self.start(&[verb, ticket, "--via", via, "--json", "--loopback"], None)
    }

    /// Syncs the tree of a ticket with its server.
    pub fn sync(&self, verb: &str, ticket: &str, via: &str) -> Result<SyncReport, String> {
        let finished = self
            .begin_sync(verb, ticket, via)?
            .finish(COMMAND_SECONDS_MAX)?;
        SyncReport::parse(&finished.success()?)
    }
}

impl Serving {
    /// Returns the ticket of a tree.
    pub fn ticket(&self, tree: &str) -> Result<&str, String> {
        let prefix = format!("eidetica:{tree}");
        let ticket = self.tickets.iter().find(|it| it.starts_with(&prefix));
        let missing = || format!("the server prints no ticket for the tree {tree}");
        ticket.map(String::as_str).ok_or_else(missing)
    }

    /// Returns the server's peak memory so far.
    pub fn peak_kib(&mut self) -> u64 {
        self.running.peak_kib()
    }

    /// Stops the server.
    pub fn stop(self) -> Result<(), String> {
        self.running.stop()?.success().map(drop)
    }

    /// Ends the server at once, as a crash would.
    pub fn kill(self) -> Result<(), String> {
        self.running.kill().map(drop)
    }
}

impl SyncReport {
    /// Reads what `join --json` and `sync --json` print.
    pub fn parse(lines: &[String]) -> Result<Self, String> {
        let line = lines.iter().rfind(|line| line.starts_with('{'));
        let value = json(line.ok_or("a sync does not report how it went")?)?;
        let stats = &value["stats"];
        let text = |name: &str| value[name].as_str().unwrap_or("?").to_owned();
        let bytes = [
            "request_bytes",
            "response_bytes",
            "received_bytes",
            "sent_bytes",
        ];
        let bytes = bytes
            .iter()
            .map(|name| number(stats, name))
            .sum::<Result<u64, _>>()?;
        Ok(Self {
            transport: text("transport"),
            outcome: text("outcome"),
            seconds: value["seconds"].as_f64().unwrap_or_default(),
            round_trips: number(stats, "round_trips")?,
            received: number(stats, "received")?,
            stored: number(stats, "stored")?,
            redundant: number(stats, "redundant")?,
            sent: number(stats, "sent")?,
            bytes,
        })
    }

    /// Returns whether any entry was transferred.
    pub fn moved(&self) -> bool {
        self.received > 0 || self.sent > 0
    }
}

fn json(line: &str) -> Result<Value, String> {
    serde_json::from_str(line).map_err(|error| format!("not JSON ({error}): {line}"))
}

fn number(value: &Value, name: &str) -> Result<u64, String> {
    let missing = || format!("there is no number {name:?} in {value}");
    value[name].as_u64().ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"{"tree":"ab","transport":"iroh","address":"iroh:x","outcome":"equal","seconds":0.25,"stats":{"pull_round_trips":1,"round_trips":2,"request_bytes":100,"response_bytes":50,"received_bytes":7,"sent_bytes":3,"received":4,"stored":3,"redundant":1,"sent":2,"peer_stored":2}}"#;

    #[test]
    fn reports_are_understood() {
        let report = SyncReport::parse(&["abc".into(), REPORT.into()]).unwrap();
        assert_eq!((report.bytes, report.round_trips), (160, 2));
        assert_eq!((report.stored, report.redundant), (3, 1));
        assert_eq!(report.outcome, "equal");
        assert!(report.moved());
        assert!(SyncReport::parse(&[]).is_err());
        assert!(SyncReport::parse(&["{}".into()]).is_err());
    }

    #[test]
    fn the_program_is_found_among_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"eidetica_sync"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"eidetica"},"executable":"/t/eidetica"}"#,
            "\n",
        );
        assert_eq!(executable(messages), Some("/t/eidetica".into()));
        assert_eq!(executable(""), None);
    }
}
