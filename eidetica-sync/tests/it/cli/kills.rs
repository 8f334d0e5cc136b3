//! Processes that are killed at any moment lose nothing that they acknowledged.
//!
//! `EIDETICA_KILLS` sets how many are killed.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::thread;
use std::time::Duration;

use eidetica_dag::testing::Random;
use serde_json::Value;

use super::place::{Place, Server, lines};

/// How many processes are killed by default.
const KILLS: u32 = 50;

/// A process is killed within this many milliseconds: longer than any of them takes to start.
const WITHIN_MS: u32 = 300;

/// How often a line is written.
const LINE_EVERY_MS: u32 = 2;

type Ids = BTreeSet<String>;

/// Two stores, of which one is served.
struct Pair {
    place: Place,
    random: Random,
    server: Option<Server>,
    http: String,
    /// What was acknowledged in the served store and in the other one.
    served: Ids,
    own: Ids,
    kills: [u32; 4],
}

impl Pair {
    fn new() -> Self {
        let place = Place::new();
        place.line("a", &["new", "notes", "--anyone", "write"]);
        // Its address stays over all its lives.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let http = free.local_addr().expect("it is bound").to_string();
        drop(free);
        let server = place.serve_with("a", &["--no-iroh", "--http", &http]);
        place.line("b", &["join", &server.tickets[0]]);
        Self {
            place,
            random: Random::new(1),
            server: Some(server),
            http,
            served: Ids::new(),
            own: Ids::new(),
            kills: [0; 4],
        }
    }

    fn wait(&mut self) {
        pause(self.random.below(WITHIN_MS));
    }

    /// Appends lines without an end until `end`, and returns the ids that were printed.
    fn append(&mut self, store: &str, end: impl FnOnce(&mut Self, &mut Child)) -> Ids {
        let mut command = self.place.command(store, &["append", "notes", "--lines"]);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().expect("it starts");
        let stdin = child.stdin.take().expect("it is piped");
        let stdout = child.stdout.take().expect("it is piped");
        let feeder = thread::spawn(|| feed(stdin));
        let reader = thread::spawn(|| printed(stdout));
        self.wait();
        end(self, &mut child);
        child.wait().expect("it ends");
        feeder.join().expect("it stops with its reader");
        reader.join().expect("it stops with its writer")
    }

    /// Begins a sync of the store that is not served.
    fn sync(&self) -> Child {
        let mut command = self.place.command("b", &["sync", "notes"]);
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("it starts")
    }

    fn kill_server(&mut self) {
        self.server.take().expect("it runs").kill();
    }

    fn ids(&self, store: &str) -> Ids {
        let log = self.place.lines(store, &["log", "notes", "--json"]);
        let entries = log
            .iter()
            .map(|line| serde_json::from_str(line).expect("JSON"));
        let ids = entries.map(|entry: Value| entry["id"].as_str().expect("an id").to_owned());
        ids.collect()
    }

    fn kill_one(&mut self) {
        let kind = self.random.below(4) as usize;
        self.kills[kind] += 1;
        match kind {
            0 => {
                let printed = self.append("b", |_, child| child.kill().expect("it runs"));
                self.own.extend(printed);
            }
            1 => {
                let printed = self.append("a", |pair, _| pair.kill_server());
                self.served.extend(printed);
            }
            2 => {
                let mut sync = self.sync();
                self.wait();
                // It may have ended.
                let _has_ended = sync.kill();
                sync.wait().expect("it ends");
            }
            _ => {
                let sent = self.ids("b");
                let mut sync = self.sync();
                self.wait();
                self.kill_server();
                if sync.wait().expect("it ends").success() {
                    self.served.extend(sent);
                }
            }
        }
        if self.server.is_none() {
            let sound = self.place.line("a", &["verify", "--all"]);
            assert!(sound.starts_with("ok"), "{sound}");
            let args = ["--no-iroh", "--http", &self.http];
            self.server = Some(self.place.serve_with("a", &args));
        }
        let sound = self.place.line("b", &["verify", "--all"]);
        assert!(sound.starts_with("ok"), "{sound}");
        for (store, acknowledged) in [("a", &self.served), ("b", &self.own)] {
            let ids = self.ids(store);
            let lost: Vec<_> = acknowledged.difference(&ids).collect();
            assert!(lost.is_empty(), "{store} has lost {lost:?}");
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the moment of a kill is not to be an event"
)]
fn pause(ms: u32) {
    thread::sleep(Duration::from_millis(ms.into()));
}

/// Writes lines until no one reads them, slowly, so that each is acknowledged by itself.
fn feed(mut stdin: ChildStdin) {
    let mut number = 0;
    while writeln!(stdin, "note {number}").is_ok() {
        number += 1;
        pause(LINE_EVERY_MS);
    }
}

/// Returns the lines that were printed whole.
fn printed(stdout: ChildStdout) -> Ids {
    let (mut stdout, mut ids, mut line) = (BufReader::new(stdout), Ids::new(), String::new());
    while let Ok(1..) = stdout.read_line(&mut line) {
        if line.ends_with('\n') {
            ids.insert(line.trim_end().to_owned());
        }
        line.clear();
    }
    ids
}

#[test]
fn killed_processes_lose_nothing_that_they_acknowledged() {
    let kills = match std::env::var("EIDETICA_KILLS") {
        Ok(text) => text.parse().expect("EIDETICA_KILLS is a number"),
        Err(_) => KILLS,
    };
    let mut pair = Pair::new();
    for _ in 0..kills {
        pair.kill_one();
    }
    assert!(
        pair.kills.iter().all(|count| *count > 0),
        "{:?}",
        pair.kills
    );
    assert!(pair.own.len() + pair.served.len() > kills as usize);
    lines(&pair.place.run("b", &["sync", "notes"]));
    assert_eq!(pair.ids("a"), pair.ids("b"));
}
