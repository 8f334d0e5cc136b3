//! `cargo xtask demo`: three nodes that write apart, sync, stay in sync, and are equal in the end.

mod check;
mod history;
mod hub;
mod live;
mod play;
mod store;

use std::path::PathBuf;

use history::Source;
use xtask_support::now;
use xtask_support::process::Supervisor;

use crate::node;

/// Makes three copies of a real history equal, over HTTP and over iroh
///
/// Each copy is in a store of its own, used by its own processes. Node A imports a git history and
/// serves it over HTTP and iroh at once, node B joins over HTTP, node C over iroh; all three write
/// while they are apart, and sync until nothing moves. Then all three serve and write, and a table shows
/// how soon each entry is everywhere; one of them is killed and started again in between. In the end,
/// the three stores are compared with code that shares nothing with the library.
///
/// Everything is on 127.0.0.1 and in a temporary folder. Needs a Unix system with git. Exit codes: 0
/// if the stores are equal, 1 if they are not or anything failed, 2 for a wrong command line.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// The git repository to import [default: this project's own]
    #[arg(long, value_name = "PATH")]
    repo: Option<PathBuf>,
    /// Keep the temporary folder with the stores and the logs
    #[arg(long, global = true)]
    keep: bool,
    #[command(subcommand)]
    other: Option<Other>,
}

/// Other demos.
#[derive(clap::Subcommand)]
enum Other {
    /// Kills one of three servers on one PostgreSQL, and restarts that, while twenty clients write
    Hub,
}

/// How many problems are listed: the first ones lead to the cause.
const PROBLEMS_LISTED_MAX: usize = 20;

/// Runs the demo.
pub fn run(options: &Options) -> Result<(), String> {
    if let Some(Other::Hub) = options.other {
        return hub::run(options.keep);
    }
    let source = Source::choose(options.repo.as_deref())?;
    println!("Building the program (the first time takes minutes, later ones seconds)");
    let program = node::build("dev")?;

    let started = now();
    let supervisor = Supervisor::start("demo", options.keep)?;
    println!("Three nodes in {}", supervisor.folder().display());
    let outcome = play::play(&program, &supervisor, &source);
    if options.keep {
        println!("\nkept: {}", supervisor.folder().display());
    }
    let verdict = outcome?;
    if verdict.problems.is_empty() {
        println!(
            "\ntook {:.1} s without the build",
            started.elapsed().as_secs_f64()
        );
        println!("{}", verdict.line);
        return Ok(());
    }
    let number = verdict.problems.len();
    let listed: Vec<_> = verdict
        .problems
        .into_iter()
        .take(PROBLEMS_LISTED_MAX)
        .collect();
    Err(format!(
        "{number} problems in the stores; the first are\n  {}",
        listed.join("\n  ")
    ))
}
