//! A PostgreSQL server for tests, of the installed programs.
//!
//! It keeps its data in a temporary folder, listens on a socket there, and is stopped and removed when
//! its owner ends, however that happens. Started as root, it runs as an ordinary user, as PostgreSQL
//! demands.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, io};

/// The ordinary role, and the database that it owns.
const ROLE: &str = "eidetica";

/// The port names the socket; no port of the network is used.
const PORT: &str = "5432";

/// The same for the pooler.
const POOLER_PORT: &str = "6432";

/// How often a start is tried.
const START_ATTEMPTS_MAX: usize = 25;

/// A running server. Dropping it stops it and removes its data.
#[derive(Debug)]
pub struct Server {
    programs: PathBuf,
    folder: PathBuf,
    /// Whether commits are flushed to the disk.
    is_durable: bool,
    /// Stops the server when its input ends.
    watcher: Child,
}

/// A running PgBouncer, which lends a connection to its server for one transaction at a time.
#[derive(Debug)]
pub struct Pooler {
    folder: PathBuf,
    process: Child,
}

/// Returns the folder with PostgreSQL's programs, if it is installed.
pub fn programs() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .collect();
    found.sort();
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path);
    let mut all = found.into_iter().rev().chain(in_path);
    all.find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
}

/// Returns PgBouncer's program, if it is installed.
pub fn pooler() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let mut programs = folders.map(|folder| folder.join("pgbouncer"));
    programs.find(|program| program.is_file())
}

impl Server {
    /// Makes a database and starts its server.
    ///
    /// # Panics
    /// If PostgreSQL is not installed or does not start.
    pub fn start() -> Self {
        Self::start_with(false)
    }

    /// The same for measurements: commits wait for the disk.
    ///
    /// # Panics
    /// If PostgreSQL is not installed or does not start.
    pub fn durable() -> Self {
        Self::start_with(true)
    }

    fn start_with(is_durable: bool) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let programs = programs().expect(
            "PostgreSQL is not installed: tests with it need its server programs, \
             in Debian those of the package postgresql",
        );
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("eidetica-pg-{}-{number}", std::process::id());
        let folder = env::temp_dir().join(name);
        fs::create_dir(&folder).expect("there is room for a temporary folder");
        if let Some(user) = ordinary_user() {
            let own = Command::new("chown").arg(user).arg(&folder).output();
            succeeded("chown", own);
        }
        let data = folder.join("data");
        let mut init = command(programs.join("initdb"));
        init.args(["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"])
            .args(["--username=postgres", "-D"])
            .arg(&data);
        succeeded("initdb", init.output());

        // It outlives neither this process nor the folder.
        let mut watcher = command("sh");
        watcher
            .arg("-c")
            .arg(r#"cat >/dev/null; "$0" -D "$1/data" -m immediate stop; rm -rf "$1"/*"#)
            .arg(programs.join("pg_ctl"))
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let watcher = watcher.spawn().expect("a shell starts");
        let server = Self {
            programs,
            folder,
            is_durable,
            watcher,
        };
        server.run();
        server.sql(&format!("CREATE ROLE {ROLE} LOGIN"));
        server.sql(&format!("CREATE DATABASE {ROLE} OWNER {ROLE}"));
        server
    }

    /// Returns the URL of the database for its ordinary role.
    pub fn url(&self) -> String {
        url(&self.folder, PORT)
    }

    /// Returns the folder of the server, in which it may write files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts the server after [`Self::stop`], and waits until it takes connections.
    ///
    /// # Panics
    /// If it does not start.
    pub fn run(&self) {
        let mut start = command(self.programs.join("pg_ctl"));
        let folder = self.folder.display();
        // What is acknowledged must survive the end of the server, and here not that of the machine.
        let options = format!(
            "-c listen_addresses= -c unix_socket_directories={folder} -c port={PORT} \
             -c fsync={} -c max_connections=100 -c shared_buffers=64MB -c max_wal_size=2GB",
            if self.is_durable { "on" } else { "off" }
        );
        start
            .args(["--silent", "--wait", "--timeout=60", "-o", &options, "-D"])
            .arg(self.folder.join("data"))
            .arg("-l")
            .arg(self.folder.join("log"))
            .arg("start");
        // After a crash, what is left of the server before may keep its memory for a moment.
        for _ in 1..START_ATTEMPTS_MAX {
            if start.output().is_ok_and(|output| output.status.success()) {
                return;
            }
            succeeded("sleep", Command::new("sleep").arg("0.2").output());
        }
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let end = log.lines().rev().take(5).collect::<Vec<_>>().join("\n");
        succeeded(&format!("pg_ctl start ({end})"), start.output());
    }

    /// Ends the server as a crash would: it recovers when it is started again.
    ///
    /// # Panics
    /// If it cannot be stopped.
    pub fn stop(&self) {
        let mut stop = command(self.programs.join("pg_ctl"));
        stop.args(["--silent", "--mode=immediate", "-D"])
            .arg(self.folder.join("data"))
            .arg("stop");
        succeeded("pg_ctl stop", stop.output());
    }

    /// Ends every connection of the ordinary role.
    pub fn cut_connections(&self) {
        self.sql(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'"
        ));
    }

    /// Carries out a statement as administrator of the database and returns what it prints.
    ///
    /// # Panics
    /// If it fails.
    pub fn sql(&self, statement: &str) -> String {
        let mut psql = command(self.programs.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"])
            .args(["-U", "postgres", "-p", PORT, "-h"])
            .arg(&self.folder)
            .args(["-c", statement]);
        let is_about_database = !statement.starts_with("CREATE");
        psql.arg(if is_about_database { ROLE } else { "postgres" });
        let output = succeeded(statement, psql.output());
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Starts a pooler in front of the server.
    ///
    /// # Panics
    /// If PgBouncer is not installed or does not start.
    pub fn pooler(&self) -> Pooler {
        let program =
            pooler().expect("PgBouncer is not installed: in Debian, the package pgbouncer");
        let folder = self.folder.join("pooler");
        let mut make = command("mkdir");
        succeeded("mkdir", make.arg(&folder).output());
        let (sockets, server) = (folder.display(), self.folder.display());
        let settings = format!(
            "[databases]\n{ROLE} = host={server} port={PORT} dbname={ROLE}\n\
             [pgbouncer]\npool_mode = transaction\nauth_type = trust\nauth_file = {sockets}/users\n\
             unix_socket_dir = {sockets}\nlisten_port = {POOLER_PORT}\ndefault_pool_size = 3\n\
             max_client_conn = 200\n"
        );
        let write = |name: &str, text: &str| {
            // As the pooler's user, who owns the folder.
            let mut write = command("sh");
            write
                .args(["-c", r#"printf %s "$1" >"$0""#])
                .arg(folder.join(name))
                .arg(text);
            succeeded("sh", write.output());
        };
        write("settings", &settings);
        write("users", &format!("\"{ROLE}\" \"\"\n"));
        let mut start = command("sh");
        start
            .args([
                "-c",
                r#""$0" -q "$1" & cat >/dev/null; kill -KILL $!; wait"#,
            ])
            .arg(program)
            .arg(folder.join("settings"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = start.spawn().expect("a shell starts");
        Pooler { folder, process }
    }
}

impl Pooler {
    /// Returns the URL of the database by way of the pooler. It may take a moment to answer.
    pub fn url(&self) -> String {
        url(&self.folder, POOLER_PORT)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn url(sockets: &Path, port: &str) -> String {
    let host = sockets.display().to_string().replace('/', "%2F");
    format!("postgres://{ROLE}@{host}:{port}/{ROLE}")
}

/// Returns the user to run as, if this is root.
fn ordinary_user() -> Option<&'static str> {
    let id = |arguments: &[&str]| {
        let output = Command::new("id").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    if id(&["-u"]).as_deref() != Some("0") {
        return None;
    }
    ["postgres", "nobody"]
        .into_iter()
        .find(|user| id(&["-u", user]).is_some())
}

/// Makes a command that runs as an ordinary user.
fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = match ordinary_user() {
        None => Command::new(program),
        Some(user) => {
            let mut command = Command::new("runuser");
            command.args(["-u", user, "--"]).arg(program);
            command
        }
    };
    command
        .current_dir("/")
        .env("LC_ALL", "C")
        .env_remove("PGHOST")
        .env_remove("PGDATABASE")
        .stdin(Stdio::null());
    command
}

/// Takes the output of a command that must succeed.
fn succeeded(what: &str, output: io::Result<Output>) -> Output {
    let output = output.unwrap_or_else(|error| panic!("{what}: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {text}");
    output
}
