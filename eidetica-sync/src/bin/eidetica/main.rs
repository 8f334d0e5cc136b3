//! The `eidetica` program: trees on a command line.
//!
//! Data goes to stdout; notes, progress and errors go to stderr. The exit code is 0 for success, 1 for
//! failure, 2 for an invalid command line, 3 if an admin must approve a request to join, and 4 if one
//! has rejected it.
//!
//! While a server has the store open, it runs the commands of other processes: see [`control`].

mod args;
mod commands;
mod control;
mod network;
mod output;
mod signals;
mod store;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::args::{Args, Command};
use crate::commands::session::Session;
use crate::output::console::Console;
use crate::output::failure::{Context, Result, Stop};
use crate::output::out::LogLines;
use crate::store::dir::StoreDir;
use crate::store::postgres::Database;

/// What is logged by default: our own warnings, and the errors of dependencies. iroh logs its orderly
/// shutdown as errors, so it is off.
const LOG_DEFAULT: &str = "error,eidetica=warn,iroh=off";

/// How many threads block, except in a server: one unpacks batches while the other stores. Each
/// thread has its own heap; with as many threads as there was work, a join of 82,000 entries took
/// 85 MiB instead of 64, and was no faster.
const BLOCKING_THREADS_MAX: usize = 2;

/// How long the end of the program waits for threads that block: enough to finish a commit.
const STOP_WAIT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let args = Args::parse();
    start_log();
    leave_out_caught_panics();
    ExitCode::from(match run(args) {
        Ok(code) => code,
        Err(stop) => Console::Own.conclude(Err(stop)),
    })
}

/// Keeps panics of the database off the screen: they become errors, which say more.
fn leave_out_caught_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !eidetica_sync::store::is_guarded() {
            print(panic);
        }
    }));
}

fn start_log() {
    let chosen = ["EIDETICA_LOG", "RUST_LOG"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(chosen.as_deref().unwrap_or(LOG_DEFAULT)))
        .with_writer(|| LogLines)
        // Colours are escape sequences, which are not told from a peer's.
        .with_ansi(false)
        .init();
}

fn run(args: Args) -> Result<u8> {
    let mut database = Database::choose(args.postgres.as_deref())?;
    if let Command::Serve(serve) = &args.command
        && let Some(folder) = &serve.cache
    {
        database = database.map(|it| it.with_cache(folder.clone()));
    }
    let dir = StoreDir::choose(args.store, args.wait.into())?.with_database(database);
    let dir = Arc::new(dir);
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
    let runtime = runtime.context("could not start the runtime")?;
    let session = Session::own(dir.clone());
    let result = runtime.block_on(async {
        signals::survive_large_files();
        match args.command {
            Command::Serve(args) => commands::serve::serve(&session, args).await,
            command => commands::dispatch(&session, command).await,
        }
    });
    // A command opens the store before it does anything else, so it can begin anew in the server.
    #[cfg(unix)]
    if !is_server
        && matches!(result, Err(Stop::ServerBegan))
        && let Some(served) = control::client::run(&dir, &Args::parse().command)
    {
        return served;
    }
    // What still waits for a database or a disk was not acknowledged.
    runtime.shutdown_timeout(STOP_WAIT);
    Ok(session.console.conclude(result))
}
