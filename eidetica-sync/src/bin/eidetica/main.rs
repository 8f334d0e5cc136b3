//! The `eidetica` program: trees on a command line.
//!
//! Data goes to stdout; notes, progress and errors go to stderr. The exit code is 0 when all went
//! well, 1 when something failed, 2 when the command line makes no sense, 3 when an admin has to
//! approve a request to join, and 4 when one has rejected it.
//!
//! While a server has the store open, it carries out the commands that others start: see `control`.

mod access;
mod args;
mod console;
mod control;
mod failure;
mod import;
mod invites;
mod join;
mod output;
mod peers;
mod progress;
mod serve;
mod session;
mod signals;
mod store_dir;
mod sync;
mod tls;
mod transports;
mod tree;
mod verify;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::args::{Args, Command, Import};
use crate::console::Console;
use crate::failure::{Context, Failure, Result, Stop};
use crate::session::Session;
use crate::store_dir::StoreDir;

/// What is logged unless `EIDETICA_LOG` or `RUST_LOG` says otherwise: our own warnings, and only
/// what is serious from everybody else. iroh calls it an error when its own parts stop in order.
const LOG_DEFAULT: &str = "error,eidetica=warn,iroh=off";

/// How many threads do what blocks, unless the command serves many at once: one unpacks what arrives
/// while the other stores. Each thread has a heap of its own with holes of its own; with as many as
/// there is work for, a join of 82,000 entries took 85 MiB instead of 64, and no less time.
const BLOCKING_THREADS_MAX: usize = 2;

fn main() -> ExitCode {
    let args = Args::parse();
    start_log();
    ExitCode::from(match run(args) {
        Ok(code) => code,
        Err(stop) => conclude(&Console::Own, Err(stop)),
    })
}

/// Says why a command failed, if it did, and returns the exit code.
fn conclude(console: &Console, result: Result<()>) -> u8 {
    match result {
        // Whoever read our output has seen enough.
        Ok(()) | Err(Stop::OutputClosed) => 0,
        Err(Stop::Failed(failure)) => {
            console.note(&failure);
            failure.code()
        }
    }
}

fn start_log() {
    let chosen = ["EIDETICA_LOG", "RUST_LOG"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(chosen.as_deref().unwrap_or(LOG_DEFAULT)))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

fn run(args: Args) -> Result<u8> {
    let dir = StoreDir::choose(args.store)?;
    let is_server = matches!(args.command, Command::Serve(_));
    #[cfg(unix)]
    if !is_server && let Some(served) = control::client::run(&dir, &args.command) {
        return served;
    }
    let mut runtime = match is_server {
        true => tokio::runtime::Builder::new_multi_thread(),
        false => {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.max_blocking_threads(BLOCKING_THREADS_MAX);
            runtime
        }
    };
    let runtime = runtime.enable_all().build();
    let runtime = runtime.context("could not start the program's threads")?;
    let session = Session::own(dir);
    let result = runtime.block_on(async {
        match args.command {
            Command::Serve(args) => serve::serve(&session, args).await,
            command => dispatch(&session, command).await,
        }
    });
    Ok(conclude(&session.console, result))
}

/// Carries out a command, in its own process or in the server's.
async fn dispatch(session: &Session, command: Command) -> Result<()> {
    match command {
        Command::Init => tree::init(session),
        Command::New(args) => tree::new(session, args).await,
        Command::Import(Import::Git(args)) => import::git(session, args).await,
        Command::Import(Import::Dag(args)) => import::dag::run(session, args).await,
        Command::Append(args) => tree::append::run(session, args).await,
        Command::Ls(args) => tree::ls(session, args),
        Command::Tips(args) => tree::tips(session, &args.tree),
        Command::Log(args) => tree::log::run(session, args).await,
        Command::Serve(_) => Err(Failure::new("a server does not start another").into()),
        Command::Ticket(args) => serve::ticket(session, &args.tree).await,
        Command::Join(args) => join::join(session, args).await,
        Command::Sync(args) => sync::sync(session, args).await,
        Command::Requests(args) => access::requests(session, args).await,
        Command::Approve(args) => access::approve(session, args).await,
        Command::Reject(args) => access::reject(session, args).await,
        Command::Grant(args) => access::grant(session, args).await,
        Command::Revoke(args) => access::revoke(session, args).await,
        Command::Access(args) => access::list(session, args).await,
        Command::Invite(args) => invites::invite(session, args).await,
        Command::Invites(args) => invites::list(session, args).await,
        Command::Withdraw(args) => invites::withdraw(session, args).await,
        Command::Forget(args) => sync::forget(session, args).await,
        Command::Verify(args) => verify::verify(session, args),
    }
}
