//! The `eidetica` program, and nodes made of it: each a store of its own, used by processes of their
//! own.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use xtask_support::now;
use xtask_support::process::{Finished, Running, Supervisor};

use crate::workspace;

/// How long a command may take: the import of a very large repository, unoptimised.
pub const COMMAND_SECONDS_MAX: u64 = 1_800;

/// How long a server may take until it listens.
const SERVE_SECONDS_MAX: u64 = 60;

/// Builds the program in the given profile, and returns its path. Cargo's messages go to stderr.
pub fn build(profile: &str) -> Result<PathBuf, String> {
    let line = "build --locked --package eidetica-sync --features cli --bin eidetica \
                --message-format json-render-diagnostics --profile";
    let mut cargo = workspace::cargo();
    cargo
        .args(line.split_whitespace())
        .arg(profile)
        .stderr(Stdio::inherit());
    let output = cargo
        .output()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("the program does not build ({})", output.status));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let program = messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_ours = message["target"]["name"] == "eidetica";
        Some(PathBuf::from(
            message["executable"].as_str().filter(|_| is_ours)?,
        ))
    });
    program.ok_or_else(|| "cargo does not say where it put the program".into())
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
    pub running: Running,
    pub addresses: Vec<String>,
    /// One for each tree.
    tickets: Vec<String>,
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
    fn start(&self, args: &[&str], input: Vec<u8>) -> Result<Running, String> {
        let number = self.processes.replace(self.processes.get() + 1);
        let (log, what) = (
            format!("{}-{number}.log", self.name),
            format!("{}: eidetica {}", self.name, args[0]),
        );
        let mut command = Command::new(&self.program);
        command.arg("--store").arg(&self.store).args(args);
        Running::start(&self.supervisor, what, &mut command, &log, Some(input))
    }

    /// Runs the program to its end, whatever its exit code.
    pub fn run(&self, args: &[&str]) -> Result<Finished, String> {
        self.start(args, vec![])?.finish(COMMAND_SECONDS_MAX)
    }

    /// Runs the program, which must succeed, and returns the lines that it prints.
    pub fn ask(&self, args: &[&str]) -> Result<Vec<String>, String> {
        self.run(args)?.success()
    }

    /// Runs a command that prints a tree's id last.
    pub fn make_tree(&self, args: &[&str]) -> Result<String, String> {
        let id = self.ask(args)?.pop().unwrap_or_default();
        match id.len() == 64 && id.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            true => Ok(id),
            false => Err(format!(
                "{}: `{}` prints no tree id last",
                self.name,
                args.join(" ")
            )),
        }
    }

    /// Appends an entry for each line.
    pub fn append(&self, tree: &str, lines: &[String]) -> Result<(), String> {
        let text = (lines.join("\n") + "\n").into_bytes();
        let running = self.start(&["append", tree, "--lines"], text)?;
        let (given, made) = (
            lines.len(),
            running.finish(COMMAND_SECONDS_MAX)?.success()?.len(),
        );
        match given == made {
            true => Ok(()),
            false => Err(format!(
                "{}: {given} lines became {made} entries",
                self.name
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
        let mut running = self.start(&["serve", "--loopback"], vec![])?;
        let until = now() + Duration::from_secs(SERVE_SECONDS_MAX);
        let (mut addresses, mut tickets) = (Vec::new(), Vec::new());
        while let Some(line) = running.line(until)? {
            match line.split_once(' ') {
                Some(("listening", address)) => addresses.push(address.to_owned()),
                Some(("ticket", ticket)) => tickets.push(ticket.to_owned()),
                _ if line == "ready" => {
                    return Ok(Serving {
                        running,
                        addresses,
                        tickets,
                    });
                }
                _ => {}
            }
        }
        Err(running.finish(SERVE_SECONDS_MAX)?.failure())
    }

    /// Starts to append an entry.
    pub fn begin_append(&self, tree: &str, text: &str) -> Result<Running, String> {
        self.start(&["append", tree, text], vec![])
    }

    /// Starts to print the entries of a tree, and more as they arrive.
    pub fn follow_log(&self, tree: &str) -> Result<Running, String> {
        let args = ["log", tree, "--follow", "--json", "--loopback"];
        self.start(&args, vec![])
    }

    /// Starts to sync the tree of a ticket with its server. `verb` is `join` or `sync`.
    pub fn begin_sync(&self, verb: &str, ticket: &str, via: &str) -> Result<Running, String> {
        self.start(
            &[verb, ticket, "--via", via, "--json", "--loopback"],
            vec![],
        )
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
        ticket
            .map(String::as_str)
            .ok_or_else(|| format!("the server prints no ticket for {tree}"))
    }

    /// Ends the server at once, as a crash would.
    pub fn kill(self) -> Result<(), String> {
        self.running.kill().map(drop)
    }

    /// Stops the server.
    pub fn stop(self) -> Result<(), String> {
        self.running.stop()?.success().map(drop)
    }
}

impl SyncReport {
    /// Reads what `join --json` and `sync --json` print.
    pub fn parse(lines: &[String]) -> Result<Self, String> {
        let line = lines.iter().rfind(|line| line.starts_with('{'));
        let value = json(line.ok_or("a sync does not report how it went")?)?;
        let text = |name: &str| value[name].as_str().unwrap_or("?").to_owned();
        let number = |name: &str| number(&value["stats"], name);
        Ok(Self {
            transport: text("transport"),
            outcome: text("outcome"),
            seconds: value["seconds"].as_f64().unwrap_or_default(),
            round_trips: number("round_trips")?,
            received: number("received")?,
            stored: number("stored")?,
            redundant: number("redundant")?,
            sent: number("sent")?,
            bytes: number("request_bytes")?
                + number("response_bytes")?
                + number("received_bytes")?
                + number("sent_bytes")?,
        })
    }
}

fn json(line: &str) -> Result<Value, String> {
    serde_json::from_str(line).map_err(|error| format!("not JSON ({error}): {line}"))
}

fn number(value: &Value, name: &str) -> Result<u64, String> {
    value[name]
        .as_u64()
        .ok_or_else(|| format!("there is no number {name:?} in {value}"))
}
