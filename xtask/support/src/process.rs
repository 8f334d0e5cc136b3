//! Child processes: started, read line by line with a deadline, measured, stopped or killed, and
//! cleaned up however this process ends.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::{failed, now, output};

/// Lines that wait to be read. A child that prints more waits.
const LINES_WAITING_MAX: usize = 1_024;

/// How often a child's memory is sampled. The kernel keeps the peak, so only what a process reaches
/// in its last moment can be missed.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(20);

/// How long a process may take to stop after it is asked to.
const STOP_SECONDS_MAX: u64 = 30;

/// Lines of a failed child's stderr that are shown, from its end.
const STDERR_LINES_MAX: usize = 20;

/// The supervising shell: it reads which children there are, and acts when its input ends. That
/// happens in whatever way this process ends: an interruption, a panic or a kill.
const SUPERVISOR_SCRIPT: &str = r#"
trap '' INT TERM HUP
pids=
while read -r what pid; do
    case $what in
    started) pids="$pids $pid" ;;
    ended)
        left=
        for it in $pids; do [ "$it" = "$pid" ] || left="$left $it"; done
        pids=$left
        ;;
    esac
done
[ -z "$pids" ] || kill -KILL $pids
[ "$2" = keep ] || rm -rf -- "$1"
"#;

/// A temporary folder and the children that work in it. When it is dropped, or when this process
/// ends in any other way, the children are killed and the folder is removed.
pub struct Supervisor {
    folder: PathBuf,
    shell: Child,
    stdin: RefCell<Option<ChildStdin>>,
}

impl Supervisor {
    /// Creates the folder, which stays at the end if `keep`, and starts to supervise.
    pub fn start(purpose: &str, keep: bool) -> Result<Rc<Self>, String> {
        let name = format!("eidetica-{purpose}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let shown = folder.display();
        fs::create_dir(&folder).map_err(|error| format!("cannot create {shown}: {error}"))?;
        let mut shell = Command::new("sh");
        shell
            .args(["-c", SUPERVISOR_SCRIPT, "supervisor"])
            .arg(&folder);
        shell.arg(if keep { "keep" } else { "remove" });
        let shell = shell.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let mut shell =
            shell.map_err(|error| format!("cannot start sh, which cleans up: {error}"))?;
        let stdin = RefCell::new(shell.stdin.take());
        Ok(Rc::new(Self {
            folder,
            shell,
            stdin,
        }))
    }

    /// Returns the temporary folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn report(&self, what: &str, pid: u32) {
        if let Some(stdin) = self.stdin.borrow_mut().as_mut() {
            // Without the shell, the children are still killed on the usual ways out.
            let _gone = stdin.write_all(format!("{what} {pid}\n").as_bytes());
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // A failure shows as a folder that stays.
        let _status = self.shell.wait();
    }
}

/// A running child. It is killed when dropped.
pub struct Running {
    /// Its name in errors.
    what: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    /// The file that gets its stderr.
    log: PathBuf,
    started: Instant,
    peak_kib: u64,
    supervisor: Rc<Supervisor>,
}

/// How a child ended.
pub struct Finished {
    what: String,
    pub status: ExitStatus,
    /// The lines of its stdout that were not read before.
    pub lines: Vec<String>,
    /// From its start to its end.
    pub elapsed: Duration,
    /// Its peak memory, as far as the system tells.
    pub peak_kib: u64,
    log: PathBuf,
}

impl Running {
    /// Starts a child. Its stderr goes to the file `log` in the supervisor's folder. It reads `input`,
    /// or without one the lines that [`Running::send`] writes.
    pub fn start(
        supervisor: &Rc<Supervisor>,
        what: String,
        command: &mut Command,
        log: &str,
        input: Option<Vec<u8>>,
    ) -> Result<Self, String> {
        let log = supervisor.folder().join(log);
        let stderr = File::create(&log).map_err(failed)?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr);
        let mut child = command
            .spawn()
            .map_err(|error| format!("cannot start {what}: {error}"))?;
        supervisor.report("started", child.id());
        let mut stdin = child.stdin.take();
        if let Some(bytes) = input
            && let Some(mut stdin) = stdin.take()
        {
            // A child that does not read its input says why by its exit code.
            thread::spawn(move || drop(stdin.write_all(&bytes)));
        }
        let stdout = child.stdout.take().expect("it was piped above");
        let (sender, lines) = sync_channel(LINES_WAITING_MAX);
        thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            what,
            child,
            stdin,
            lines,
            log,
            started: now(),
            peak_kib: 0,
            supervisor: supervisor.clone(),
        })
    }

    /// Returns the next line of stdout, or `None` at its end.
    pub fn line(&mut self, until: Instant) -> Result<Option<String>, String> {
        loop {
            match self.lines.recv_timeout(SAMPLE_INTERVAL) {
                Ok(line) => return Ok(Some(line)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => self.sample(),
            }
            if now() >= until {
                let (what, waited) = (&self.what, self.started.elapsed().as_secs());
                let log = last_lines(&self.log);
                return Err(format!("{what} is not done after {waited} s{log}"));
            }
        }
    }

    /// Writes a line to the child.
    pub fn send(&mut self, line: &str) -> Result<(), String> {
        let stdin = self.stdin.as_mut().ok_or("it reads no lines")?;
        writeln!(stdin, "{line}").map_err(|error| format!("{} reads no more: {error}", self.what))
    }

    /// Ends the child's input.
    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Lets the child run for a while; returns whether it still runs then.
    pub fn lives_for(&mut self, time: Duration) -> bool {
        let until = now() + time;
        loop {
            match self.line(until) {
                Ok(Some(_)) => {}
                Ok(None) => return false,
                Err(_) => return true,
            }
        }
    }

    /// Returns its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns its peak memory so far.
    pub fn peak_kib(&mut self) -> u64 {
        self.sample();
        self.peak_kib
    }

    /// Waits for the child's end.
    pub fn finish(mut self, seconds_max: u64) -> Result<Finished, String> {
        let until = now() + Duration::from_secs(seconds_max);
        let mut lines = Vec::new();
        while let Some(line) = self.line(until)? {
            lines.push(line);
        }
        let status = self.child.wait();
        Ok(Finished {
            status: status.map_err(|error| format!("cannot wait for {}: {error}", self.what))?,
            what: std::mem::take(&mut self.what),
            lines,
            elapsed: self.started.elapsed(),
            peak_kib: self.peak_kib,
            log: std::mem::take(&mut self.log),
        })
    }

    /// Asks the child to stop, and waits for its end.
    pub fn stop(mut self) -> Result<Finished, String> {
        self.sample();
        output(Command::new("kill").args(["-TERM", &self.child.id().to_string()]))?;
        self.finish(STOP_SECONDS_MAX)
    }

    /// Ends the child at once, as a crash would.
    pub fn kill(mut self) -> Result<Finished, String> {
        self.child.kill().map_err(failed)?;
        self.finish(STOP_SECONDS_MAX)
    }

    fn sample(&mut self) {
        let peak = memory_kib(&self.child.id().to_string(), "VmHWM:");
        self.peak_kib = self.peak_kib.max(peak.unwrap_or(0));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _status = self.child.wait();
        self.supervisor.report("ended", self.child.id());
    }
}

impl Finished {
    /// Returns the lines of a child that succeeded, or why it failed.
    pub fn success(self) -> Result<Vec<String>, String> {
        match self.status.success() {
            true => Ok(self.lines),
            false => Err(self.failure()),
        }
    }

    /// Returns how it ended, with the end of its stderr.
    pub fn failure(&self) -> String {
        format!("{}: {}{}", self.what, self.status, last_lines(&self.log))
    }
}

/// Returns the last lines of a log, each indented on a line of its own.
fn last_lines(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(STDERR_LINES_MAX)..];
    shown.iter().map(|line| format!("\n  {line}")).collect()
}

/// Returns a figure of a process's memory, such as `VmRSS:`, from Linux's `/proc/<pid>/status`.
pub fn memory_kib(pid: &str, key: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(supervisor: &Rc<Supervisor>, script: &str, input: Option<&str>) -> Running {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Running::start(
            supervisor,
            "the script".into(),
            &mut command,
            "log",
            input.map(Into::into),
        )
        .unwrap()
    }

    fn minute() -> Instant {
        now() + Duration::from_secs(60)
    }

    #[test]
    fn lines_input_and_errors_arrive() {
        let supervisor = Supervisor::start("test-lines", false).unwrap();
        let fine = shell(&supervisor, "cat; echo done", Some("a\nb\n"));
        assert_eq!(
            fine.finish(60).unwrap().success().unwrap(),
            ["a", "b", "done"]
        );
        let failed = shell(&supervisor, "echo why >&2; exit 3", Some(""));
        let text = failed.finish(60).unwrap().success().unwrap_err();
        assert!(
            text.contains("the script") && text.ends_with("\n  why"),
            "{text}"
        );
        let mut echo = shell(&supervisor, "cat", None);
        echo.send("hello").unwrap();
        assert_eq!(echo.line(minute()).unwrap().as_deref(), Some("hello"));
        echo.close_input();
        assert!(echo.finish(60).unwrap().status.success());
    }

    #[test]
    fn a_child_that_hangs_is_given_up_and_killed() {
        let supervisor = Supervisor::start("test-hang", false).unwrap();
        let mut hanging = shell(&supervisor, "echo up; exec tail -f /dev/null", Some(""));
        assert_eq!(hanging.line(minute()).unwrap().as_deref(), Some("up"));
        assert!(hanging.line(now()).is_err());
        assert!(!hanging.stop().unwrap().status.success());
    }

    /// The shell alone must end children: that is what happens after a kill of this process.
    #[test]
    fn the_supervisor_kills_children_and_removes_its_folder() {
        let supervisor = Supervisor::start("test-supervisor", false).unwrap();
        let folder = supervisor.folder().to_owned();
        fs::write(folder.join("file"), "x").unwrap();
        let cat = || Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let (mut left, mut ended) = (cat(), cat());
        supervisor.report("started", ended.id());
        supervisor.report("started", left.id());
        supervisor.report("ended", ended.id());
        drop(supervisor);
        // Waiting closes the child's input, and would let it end well.
        let stdin = left.stdin.take();
        assert!(!left.wait().unwrap().success());
        drop(stdin);
        assert!(ended.wait().unwrap().success());
        assert!(!folder.exists());
    }
}
