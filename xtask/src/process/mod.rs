//! Child processes: started, read line by line with a deadline, measured, stopped or killed.

mod warden;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

pub use warden::Warden;

/// Lines that wait to be read. A child that prints more waits.
const LINES_WAITING_MAX: usize = 1_024;

/// How often a child's memory is looked at. The kernel keeps the peak itself, so only what is
/// reached in the last moment of a process can be missed.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(20);

/// How long a process may take to stop in good order.
const STOP_SECONDS_MAX: u64 = 30;

/// How much of a failed child's complaint is shown, in lines from its end.
const COMPLAINT_LINES_MAX: usize = 20;

/// A running child. It is killed when dropped.
pub struct Running {
    /// How it is called in errors.
    what: String,
    child: Child,
    lines: Receiver<String>,
    /// Where its stderr goes.
    log: PathBuf,
    begun: Instant,
    peak_kib: u64,
    warden: Rc<Warden>,
    reaped: bool,
}

/// What became of a child.
pub struct Finished {
    pub what: String,
    pub status: ExitStatus,
    /// What it printed on stdout and was not read before.
    pub lines: Vec<String>,
    /// From its start to its end.
    pub elapsed: Duration,
    /// The most memory it had, as far as the system tells.
    pub peak_kib: u64,
    log: PathBuf,
}

/// Reads the clock, to say and to bound how long things take.
#[expect(
    clippy::disallowed_methods,
    reason = "how long things take is what is shown, and waiting for a child has a bound"
)]
pub fn clock() -> Instant {
    Instant::now()
}

impl Running {
    /// Starts a child. Its stderr goes to the file `log`.
    pub fn start(
        warden: &Rc<Warden>,
        what: String,
        command: &mut Command,
        log: PathBuf,
        input: Option<Vec<u8>>,
    ) -> Result<Self, String> {
        let complaints = File::create(&log)
            .map_err(|error| format!("cannot write {}: {error}", log.display()))?;
        let stdin = match input {
            Some(_) => Stdio::piped(),
            None => Stdio::null(),
        };
        let mut child = command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(complaints)
            .spawn()
            .map_err(|error| format!("cannot start {what}: {error}"))?;
        warden.started(child.id());
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            // A child that does not read its input says why by its exit code.
            thread::spawn(move || drop(stdin.write_all(&input)));
        }
        let stdout = child.stdout.take().expect("it was piped above");
        let (sender, lines) = sync_channel(LINES_WAITING_MAX);
        thread::spawn(move || {
            let text = BufReader::new(stdout).split(b'\n').map_while(Result::ok);
            for line in text {
                if sender
                    .send(String::from_utf8_lossy(&line).into_owned())
                    .is_err()
                {
                    return;
                }
            }
        });
        Ok(Self {
            what,
            child,
            lines,
            log,
            begun: clock(),
            peak_kib: 0,
            warden: warden.clone(),
            reaped: false,
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
            if clock() >= until {
                let waited = self.begun.elapsed().as_secs();
                let complaint = complaint(&self.log);
                return Err(format!(
                    "{} is not done after {waited} s{complaint}",
                    self.what
                ));
            }
        }
    }

    /// Lets the child run for a while; returns whether it still runs then.
    pub fn lives_for(&mut self, time: Duration) -> bool {
        let until = clock() + time;
        loop {
            let left = until.saturating_duration_since(clock());
            if left.is_zero() {
                return true;
            }
            match self.lines.recv_timeout(left) {
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// Returns the most memory that it has had until this moment.
    pub fn peak_kib(&mut self) -> u64 {
        self.sample();
        self.peak_kib
    }

    /// Waits for the child's end.
    pub fn finish(mut self, seconds_max: u64) -> Result<Finished, String> {
        let until = clock() + Duration::from_secs(seconds_max);
        let mut lines = Vec::new();
        while let Some(line) = self.line(until)? {
            lines.push(line);
        }
        self.reap(lines)
    }

    /// Asks the child to stop, and waits for its end.
    pub fn stop(mut self) -> Result<Finished, String> {
        self.sample();
        let pid = self.child.id().to_string();
        crate::workspace::output(Command::new("kill").args(["-TERM", &pid]))?;
        self.finish(STOP_SECONDS_MAX)
    }

    /// Ends the child at once, as a crash would.
    pub fn kill(mut self) -> Result<Finished, String> {
        let what = self.what.clone();
        self.child
            .kill()
            .map_err(|error| format!("cannot kill {what}: {error}"))?;
        self.finish(STOP_SECONDS_MAX)
    }

    fn reap(mut self, lines: Vec<String>) -> Result<Finished, String> {
        let status = self.child.wait();
        self.reaped = true;
        self.warden.ended(self.child.id());
        Ok(Finished {
            status: status.map_err(|error| format!("cannot wait for {}: {error}", self.what))?,
            what: std::mem::take(&mut self.what),
            lines,
            elapsed: self.begun.elapsed(),
            peak_kib: self.peak_kib,
            log: std::mem::take(&mut self.log),
        })
    }

    fn sample(&mut self) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        if let Some(kib) = status.ok().as_deref().and_then(peak_in_status) {
            self.peak_kib = self.peak_kib.max(kib);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            // It may have ended by itself.
            let _ended = self.child.kill();
            let _status = self.child.wait();
            self.warden.ended(self.child.id());
        }
    }
}

impl Finished {
    /// Returns the lines of a child that succeeded, or its complaint.
    pub fn success(self) -> Result<Vec<String>, String> {
        match self.status.success() {
            true => Ok(self.lines),
            false => Err(self.failure()),
        }
    }

    /// Returns how it ended, and what it said about that.
    pub fn failure(&self) -> String {
        format!("{}: {}{}", self.what, self.status, complaint(&self.log))
    }
}

/// Returns the end of what a child wrote to stderr, each line indented, beginning on a new line.
fn complaint(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(COMPLAINT_LINES_MAX)..];
    shown.iter().map(|line| format!("\n  {line}")).collect()
}

/// Reads the peak of resident memory out of Linux's `/proc/<pid>/status`.
fn peak_in_status(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(warden: &Rc<Warden>, script: &str, input: Option<&str>) -> Running {
        let log = warden.folder().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let input = input.map(|text| text.as_bytes().to_vec());
        Running::start(warden, "the script".into(), &mut command, log, input).unwrap()
    }

    #[test]
    fn lines_input_and_complaints_arrive() {
        let warden = Warden::start("test-lines", false).unwrap();
        let fine = shell(&warden, "cat; echo done", Some("a\nb\n"))
            .finish(60)
            .unwrap();
        assert_eq!(fine.success().unwrap(), ["a", "b", "done"]);
        let failed = shell(&warden, "echo why >&2; exit 3", None)
            .finish(60)
            .unwrap();
        let text = failed.success().unwrap_err();
        assert!(
            text.contains("the script") && text.ends_with("\n  why"),
            "{text}"
        );
    }

    #[test]
    fn a_child_that_hangs_is_given_up_and_killed() {
        let warden = Warden::start("test-hang", false).unwrap();
        // `read` waits for input that never comes; the pipe is kept open by the outer shell.
        let mut hanging = shell(&warden, "echo up; exec tail -f /dev/null", None);
        assert_eq!(
            hanging
                .line(clock() + Duration::from_secs(60))
                .unwrap()
                .as_deref(),
            Some("up")
        );
        assert!(hanging.line(clock()).is_err());
        assert!(!hanging.stop().unwrap().status.success());
    }

    #[test]
    fn the_peak_is_read_from_the_status_of_a_process() {
        let status = "Name:\tx\nVmPeak:\t  900 kB\nVmHWM:\t   1234 kB\nVmRSS:\t 12 kB\n";
        assert_eq!(peak_in_status(status), Some(1_234));
        assert_eq!(peak_in_status("Name:\tx\n"), None);
    }
}
