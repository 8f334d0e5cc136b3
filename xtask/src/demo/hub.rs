//! `cargo xtask demo hub`: three servers on one PostgreSQL behind a balancer, of which one is killed while
//! clients write and the database restarts.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use xtask_support::process::{Running, Supervisor};
use xtask_support::{failed, now};

use crate::node;

const SERVERS: usize = 3;
const CLIENTS: usize = 20;

/// How often each client writes and syncs, and how much.
const ROUNDS: usize = 4;
const LINES: usize = 5;

/// How often PostgreSQL is started until it runs again.
const STARTS_MAX: usize = 100;

/// How long a client tries to sync before the demo fails.
const SYNC_SECONDS_MAX: u64 = 90;

/// Runs the demo.
pub fn run(keep: bool) -> Result<(), String> {
    let programs = programs().ok_or(
        "PostgreSQL is not installed: its server programs are needed, in Debian those of the package \
         postgresql",
    )?;
    println!("Building the program (the first time takes minutes, later ones seconds)");
    let program = node::build("dev")?;
    let started = now();
    let supervisor = Supervisor::start("demo-hub", keep)?;
    let mut database = Database::create(&supervisor, &programs)?;
    let place = Place {
        program,
        folder: supervisor.folder().to_owned(),
        url: database.url(),
    };
    println!(
        "PostgreSQL, {SERVERS} servers and {CLIENTS} clients in {}",
        place.folder.display()
    );

    place.ask("server-0", &["init", "--postgres", &place.url])?;
    place.ask(
        "server-0",
        &["new", "hub", "--anyone", "write", "--postgres", &place.url],
    )?;
    for server in 1..SERVERS {
        let name = format!("server-{server}");
        let key = |name: &str| place.folder.join(name).join("key");
        std::fs::create_dir(place.folder.join(&name)).map_err(failed)?;
        std::fs::copy(key("server-0"), key(&name)).map_err(failed)?;
    }
    let ports: Vec<SocketAddr> = (0..SERVERS).map(|_| free()).collect::<Result<_, _>>()?;
    let balancer = balance(ports.clone())?;
    let mut servers = Vec::new();
    let mut ticket = None;
    for (number, port) in ports.iter().enumerate() {
        let (server, printed) = serve(&supervisor, &place, number, *port, balancer)?;
        servers.push(server);
        ticket = printed.or(ticket);
    }
    let ticket = ticket.ok_or("no server prints a ticket")?;

    let turn = AtomicUsize::new(0);
    thread::scope(|scope| -> Result<(), String> {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (place, ticket, turn) = (&place, &ticket, &turn);
                scope.spawn(move || work(place, client, ticket, turn))
            })
            .collect();
        // In the middle: half of the rounds are over.
        while turn.load(Ordering::Relaxed) < CLIENTS * ROUNDS / 2
            && !clients.iter().all(|it| it.is_finished())
        {
            thread::yield_now();
            database.lives_for(Duration::from_millis(20));
        }
        println!("kills a server, and restarts PostgreSQL");
        servers.remove(1).kill()?;
        database.restart(&supervisor)?;
        for client in clients {
            client.join().map_err(|_| "a client panicked")??;
        }
        Ok(())
    })?;

    let expected = 1 + CLIENTS * ROUNDS * LINES;
    let mut seen = BTreeSet::new();
    for client in 0..CLIENTS {
        let name = format!("client-{client}");
        sync(
            &place,
            &name,
            &["sync", "hub", "--via", "http", "--loopback"],
        )?;
        seen.insert(place.ask(&name, &["log", "hub", "--json", "--raw"])?);
    }
    for server in servers {
        server.stop()?.success()?;
    }
    let url = place.url.clone();
    seen.insert(place.ask(
        "server-0",
        &["log", "hub", "--json", "--raw", "--postgres", &url],
    )?);
    let entries = seen.first().map_or(0, |log| log.lines().count());
    database.stop()?;
    match (seen.len(), entries == expected) {
        (1, true) => {
            println!(
                "took {:.1} s without the build",
                started.elapsed().as_secs_f64()
            );
            println!("all {CLIENTS} clients and the database have the same {entries} entries");
            Ok(())
        }
        (1, false) => Err(format!("{entries} entries instead of {expected}")),
        (copies, _) => Err(format!("there are {copies} different copies")),
    }
}

/// What a client does: it joins, then writes and syncs, whatever fails meanwhile.
fn work(place: &Place, client: usize, ticket: &str, turn: &AtomicUsize) -> Result<(), String> {
    let name = format!("client-{client}");
    sync(
        place,
        &name,
        &["join", ticket, "--via", "http", "--loopback"],
    )?;
    for round in 0..ROUNDS {
        for line in 0..LINES {
            let text = format!("client {client}, round {round}, line {line}");
            place.ask(&name, &["append", "hub", &text])?;
        }
        sync(
            place,
            &name,
            &["sync", "hub", "--via", "http", "--loopback"],
        )?;
        turn.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Runs a command that needs a server until it succeeds.
fn sync(place: &Place, name: &str, args: &[&str]) -> Result<(), String> {
    let until = now() + Duration::from_secs(SYNC_SECONDS_MAX);
    loop {
        match place.ask(name, args) {
            Ok(_) => return Ok(()),
            Err(error) if now() > until => return Err(error),
            Err(_) => {}
        }
    }
}

/// Where the stores are, and the program.
struct Place {
    program: PathBuf,
    folder: PathBuf,
    url: String,
}

impl Place {
    fn command(&self, store: &str, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--store")
            .arg(self.folder.join(store))
            .args(args);
        command
    }

    fn ask(&self, store: &str, args: &[&str]) -> Result<String, String> {
        let what = format!("{store}: eidetica {}", args[0]);
        checked(&what, self.command(store, args).output())
    }
}

/// Returns what a command prints, which must succeed.
fn checked(what: &str, output: io::Result<Output>) -> Result<String, String> {
    let output = output.map_err(|error| format!("{what}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!(
            "{what}: {}",
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

/// Starts a server, and returns it with the ticket that it prints.
fn serve(
    supervisor: &Rc<Supervisor>,
    place: &Place,
    number: usize,
    at: SocketAddr,
    balancer: SocketAddr,
) -> Result<(Running, Option<String>), String> {
    let name = format!("server-{number}");
    let (at, advertised) = (at.to_string(), format!("http://{balancer}"));
    let args = [
        "serve",
        "--no-iroh",
        "--http",
        &at,
        "--advertise",
        &advertised,
    ];
    let mut command = place.command(&name, &args);
    command.args(["--postgres", &place.url]);
    let log = format!("{name}.log");
    let mut running = Running::start(supervisor, name, &mut command, &log, Some(vec![]))?;
    let until = now() + Duration::from_secs(60);
    let mut ticket = None;
    while let Some(line) = running.line(until)? {
        match line.split_once(' ') {
            Some(("ticket", printed)) => ticket = Some(printed.to_owned()),
            _ if line == "ready" => return Ok((running, ticket)),
            _ => {}
        }
    }
    Err(running.finish(60)?.failure())
}

/// Returns an address of this machine that is free now.
fn free() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    listener.local_addr().map_err(failed)
}

/// Starts to lend each connection to the next server that takes it.
fn balance(servers: Vec<SocketAddr>) -> Result<SocketAddr, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    thread::spawn(move || {
        for (number, client) in listener.incoming().enumerate() {
            let order = servers.iter().cycle().skip(number).take(servers.len());
            let server = order.filter_map(|it| TcpStream::connect(it).ok()).next();
            if let (Ok(client), Some(server)) = (client, server) {
                copy(client.try_clone(), server.try_clone());
                copy(Ok(server), Ok(client));
            }
        }
    });
    Ok(address)
}

/// Copies one direction of a connection on a thread of its own.
fn copy(from: io::Result<TcpStream>, to: io::Result<TcpStream>) {
    if let (Ok(mut from), Ok(mut to)) = (from, to) {
        thread::spawn(move || {
            let _ends_somehow = io::copy(&mut from, &mut to);
            let _ends_somehow = to.shutdown(Shutdown::Write);
        });
    }
}

/// Returns the folder of PostgreSQL's programs.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let folders = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    folders
        .filter(|folder| folder.join("postgres").is_file())
        .max()
}

/// A PostgreSQL server on a socket in the demo's folder.
struct Database {
    /// `None` only while it restarts.
    server: Option<Running>,
    programs: PathBuf,
    folder: PathBuf,
    /// How often it was started.
    starts: usize,
}

impl Database {
    fn create(supervisor: &Rc<Supervisor>, programs: &Path) -> Result<Self, String> {
        let folder = std::env::temp_dir().join(format!("eidetica-demo-{}", std::process::id()));
        std::fs::create_dir(&folder).map_err(failed)?;
        if is_root() {
            checked(
                "chown",
                Command::new("chown").arg("postgres").arg(&folder).output(),
            )?;
        }
        let mut init = as_ordinary_user(&programs.join("initdb"));
        init.args([
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--username=eidetica",
            "-D",
        ]);
        checked("initdb", init.arg(folder.join("data")).output())?;
        let server = start(supervisor, programs, &folder, 0)?;
        let mut create = as_ordinary_user(&programs.join("createdb"));
        create
            .args(["-U", "eidetica", "-h"])
            .arg(&folder)
            .arg("eidetica");
        checked("createdb", create.output())?;
        Ok(Self {
            server: Some(server),
            programs: programs.to_owned(),
            folder,
            starts: 1,
        })
    }

    fn url(&self) -> String {
        let host = self.folder.display().to_string().replace('/', "%2F");
        format!("postgres://eidetica@{host}/eidetica")
    }

    fn lives_for(&mut self, time: Duration) {
        if let Some(server) = &mut self.server {
            server.lives_for(time);
        }
    }

    /// Ends it as a crash would: it does not wait for its clients.
    fn stop(&mut self) -> Result<(), String> {
        self.server.take().map_or(Ok(()), |it| it.kill().map(drop))
    }

    fn restart(&mut self, supervisor: &Rc<Supervisor>) -> Result<(), String> {
        self.stop()?;
        // What is left of the one before keeps its memory for a moment.
        loop {
            let started = start(supervisor, &self.programs, &self.folder, self.starts);
            self.starts += 1;
            match started {
                Ok(server) => {
                    self.server = Some(server);
                    return Ok(());
                }
                Err(error) if self.starts > STARTS_MAX => return Err(error),
                Err(_) => {}
            }
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _has_ended = self.stop();
        let _is_of_no_use = std::fs::remove_dir_all(&self.folder);
    }
}

/// Starts the server and waits until it takes connections.
fn start(
    supervisor: &Rc<Supervisor>,
    programs: &Path,
    folder: &Path,
    number: usize,
) -> Result<Running, String> {
    let mut command = as_ordinary_user(&programs.join("postgres"));
    command
        .arg("-D")
        .arg(folder.join("data"))
        .arg("-k")
        .arg(folder);
    command.args(["-c", "listen_addresses="]);
    let log = format!("postgres-{number}.log");
    let mut server = Running::start(
        supervisor,
        "PostgreSQL".into(),
        &mut command,
        &log,
        Some(vec![]),
    )?;
    loop {
        let mut ready = Command::new(programs.join("pg_isready"));
        if checked("pg_isready", ready.arg("-h").arg(folder).output()).is_ok() {
            return Ok(server);
        }
        if !server.lives_for(Duration::from_millis(100)) {
            return Err(server.finish(10)?.failure());
        }
    }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// PostgreSQL refuses to run as root.
fn as_ordinary_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=postgres",
        "--regid=postgres",
        "--clear-groups",
        "--",
    ]);
    command.arg(program).current_dir("/");
    command
}
