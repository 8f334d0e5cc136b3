//! Stores in a temporary folder, and the program on them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A temporary folder with stores in it.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Begins a command on one of the stores.
    pub(crate) fn command(&self, store: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eidetica"));
        command.arg("--store").arg(self.path(store)).args(args);
        for name in [
            "EIDETICA_STORE",
            "EIDETICA_POSTGRES",
            "EIDETICA_LOG",
            "RUST_LOG",
        ] {
            command.env_remove(name);
        }
        command
    }

    pub(crate) fn run_with(&self, store: &str, args: &[&str], stdin: &[u8]) -> Output {
        let mut command = self.command(store, args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut to = child.stdin.take().expect("it is piped");
        std::thread::scope(|scope| {
            // A command that refuses its input closes the pipe before all is written.
            scope.spawn(move || to.write_all(stdin).is_ok());
            child.wait_with_output().expect("the program ends")
        })
    }

    /// Begins a command that goes on for a while.
    pub(crate) fn begin(&self, store: &str, args: &[&str]) -> Started {
        let mut command = self.command(store, args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Started(Some(command.spawn().expect("the program starts")))
    }

    pub(crate) fn run(&self, store: &str, args: &[&str]) -> Output {
        self.run_with(store, args, b"")
    }

    /// Runs a command that must do, and returns the lines on stdout.
    pub(crate) fn lines(&self, store: &str, args: &[&str]) -> Vec<String> {
        lines(&self.run(store, args))
    }

    /// Runs a command that must do and say one thing.
    pub(crate) fn line(&self, store: &str, args: &[&str]) -> String {
        let mut lines = self.lines(store, args);
        assert_eq!(lines.len(), 1, "{args:?} says {lines:?}");
        lines.remove(0)
    }

    pub(crate) fn json(&self, store: &str, args: &[&str]) -> Value {
        serde_json::from_str(&self.line(store, args)).expect("JSON")
    }

    pub(crate) fn serve(&self, store: &str) -> Server {
        self.serve_with(store, &[])
    }

    /// Serves over HTTP at a certain address.
    pub(crate) fn serve_at(&self, store: &str, http: &str) -> Server {
        self.serve_with(store, &["--http", http])
    }

    pub(crate) fn serve_with(&self, store: &str, args: &[&str]) -> Server {
        let log = self.path(&format!("{store}.log"));
        let mut command = self.command(store, &[&["serve", "--loopback"], args].concat());
        command.stderr(File::create(&log).expect("a log"));
        Self::start(command, || fs::read_to_string(&log).unwrap_or_default())
    }

    /// Serves, and gives what the server says on stderr as it says it.
    pub(crate) fn serve_heard(&self, store: &str) -> (Server, BufReader<ChildStderr>) {
        let mut command = self.command(store, &["serve", "--loopback"]);
        command.stderr(Stdio::piped());
        let mut server = Self::start(command, String::new);
        let stderr = server.child.stderr.take().expect("it is piped");
        (server, BufReader::new(stderr))
    }

    /// Serves over HTTP alone, in a process that may have so many files open.
    #[cfg(unix)]
    pub(crate) fn serve_with_few_files(&self, store: &str, files: u32) -> Server {
        let serve = self.command(store, &["serve", "--loopback", "--no-iroh"]);
        let mut command = Command::new("sh");
        let limited = format!("ulimit -n {files} && exec \"$0\" \"$@\"");
        command.args(["-c", &limited]).arg(serve.get_program());
        command.args(serve.get_args());
        for (name, value) in serve.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let log = self.path(&format!("{store}.log"));
        command.stderr(File::create(&log).expect("a log"));
        Self::start(command, || fs::read_to_string(&log).unwrap_or_default())
    }

    fn start(mut command: Command, log: impl Fn() -> String) -> Server {
        command.stdout(Stdio::piped());
        let mut server = Server {
            child: command.spawn().expect("the program starts"),
            addresses: Vec::new(),
            tickets: Vec::new(),
            certificate: None,
            metrics: None,
        };
        let stdout = server.child.stdout.take().expect("it is piped");
        for line in BufReader::new(stdout).lines() {
            let line = line.expect("text");
            match line.split_once(' ') {
                Some(("listening", address)) => server.addresses.push(address.to_owned()),
                Some(("ticket", ticket)) => server.tickets.push(ticket.to_owned()),
                Some(("certificate", file)) => server.certificate = Some(file.to_owned()),
                Some(("metrics", url)) => server.metrics = Some(url.to_owned()),
                _ if line == "ready" => return server,
                _ => panic!("the server says {line:?}"),
            }
        }
        panic!("no server: {}", log());
    }
}

/// A server that ends with the test, however that ends.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) addresses: Vec<String>,
    pub(crate) tickets: Vec<String>,
    pub(crate) certificate: Option<String>,
    pub(crate) metrics: Option<String>,
}

impl Server {
    /// Ends it as a person would.
    pub(crate) fn stop(mut self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status();
        assert!(sent.expect("kill is there").success());
        let status = self.child.wait().expect("it ends");
        assert_eq!(status.code(), Some(0));
    }

    /// Returns the first address of a kind.
    pub(crate) fn address(&self, kind: &str) -> &str {
        let mut addresses = self.addresses.iter();
        addresses
            .find(|it| it.starts_with(kind))
            .expect("it listens")
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _has_ended = self.child.kill();
        let _has_ended = self.child.wait();
    }
}

/// A command under way, which ends with the test, however that ends.
pub(crate) struct Started(Option<Child>);

impl Started {
    /// Returns what it says on stderr, as it says it.
    pub(crate) fn stderr(&mut self) -> BufReader<ChildStderr> {
        let child = self.0.as_mut().expect("it runs until it is finished");
        BufReader::new(child.stderr.take().expect("it is piped"))
    }

    /// Returns what it prints, as it prints it.
    pub(crate) fn stdout(&mut self) -> BufReader<ChildStdout> {
        let child = self.0.as_mut().expect("it runs until it is finished");
        BufReader::new(child.stdout.take().expect("it is piped"))
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Output {
        let child = self.0.take().expect("it runs until it is finished");
        child.wait_with_output().expect("it ends")
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _has_ended = child.kill();
            let _has_ended = child.wait();
        }
    }
}

/// Reads lines until one has this in it.
pub(crate) fn hear(from: &mut impl BufRead, wanted: &str) -> String {
    let mut heard = String::new();
    loop {
        let mut line = String::new();
        let n = from.read_line(&mut line).expect("text");
        assert_ne!(n, 0, "it only says {heard}");
        heard.push_str(&line);
        if line.contains(wanted) {
            return heard;
        }
    }
}

pub(crate) fn lines(output: &Output) -> Vec<String> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {stderr}", output.status);
    let stdout = std::str::from_utf8(&output.stdout).expect("text");
    stdout.lines().map(str::to_owned).collect()
}

/// Returns what a command that must fail says of it.
#[track_caller]
pub(crate) fn refusal(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(output.stdout.is_empty(), "data despite an error");
    let kind = match code {
        3 => "pending: ",
        4 => "rejected: ",
        _ => "error: ",
    };
    assert!(stderr.contains(kind), "{stderr}");
    stderr
}
