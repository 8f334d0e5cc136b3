//! `cargo xtask demo`: three nodes that write apart, sync, and are equal in the end.

mod check;
mod dump;
mod history;
mod play;
mod sha256;

use std::path::PathBuf;

use crate::cli::{Command, Failure};
use crate::node::{self, Profile};
use crate::process::{Warden, clock};
use history::Source;

/// The command's entry in the list of commands.
pub const COMMAND: Command = Command {
    name: "demo",
    summary: "Makes three copies of a real history equal, over HTTP and over iroh.",
    help: HELP,
    run,
};

const HELP: &str = "\
Makes three copies of a real history equal, each in its own store and worked on by its own
processes. Node A imports a git history and serves it over HTTP and iroh at once, node B joins over
HTTP, node C over iroh; all three write while they are apart, and sync until nothing moves. Then the
three stores are compared with code that shares nothing with the library.

Usage: cargo xtask demo [options]

Options:
  --repo <path>   The git repository to import [default: this project's own]
  --entries <n>   Import only so many commits
  --release       Optimise the program fully: builds longer, pays from 10,000 entries on
  --keep          Leave the temporary folder with the stores and the logs in place
  -h, --help      Print this help

All is on 127.0.0.1 and in a temporary folder. Needs a Unix system with git.
Exit codes: 0 if the stores are equal, 1 if not or if anything failed, 2 for a wrong command line.
";

/// How many problems are listed: the first ones lead to the cause.
const PROBLEMS_LISTED_MAX: usize = 20;

#[derive(Debug, Default, PartialEq)]
struct Options {
    repo: Option<PathBuf>,
    entries: Option<u64>,
    release: bool,
    keep: bool,
}

fn run(args: &[String]) -> Result<(), Failure> {
    let options = parse(args)?;
    demo(&options).map_err(Failure::Failed)
}

fn demo(options: &Options) -> Result<(), String> {
    let source = Source::choose(options.repo.as_deref(), options.entries)?;
    let profile = match options.release {
        true => Profile::Release,
        false => Profile::Dev,
    };
    println!("Building the program (the first time takes minutes, later ones seconds)");
    let program = node::build(profile)?;

    let begun = clock();
    let warden = Warden::start("demo", options.keep)?;
    println!("Three nodes in {}", warden.folder().display());
    let outcome = play::play(&program, &warden, &source);
    if options.keep {
        println!("\nkept: {}", warden.folder().display());
    }
    let verdict = outcome?;
    if verdict.problems.is_empty() {
        println!(
            "\ntook {:.1} s without the build",
            begun.elapsed().as_secs_f64()
        );
        println!("{}", verdict.line);
        return Ok(());
    }
    let listed = verdict.problems.iter().take(PROBLEMS_LISTED_MAX);
    let mut text = String::from("the stores are not as they should be");
    for problem in listed {
        text.push_str(&format!("\n  {problem}"));
    }
    let unlisted = verdict.problems.len().saturating_sub(PROBLEMS_LISTED_MAX);
    if unlisted > 0 {
        text.push_str(&format!("\n  and {unlisted} more"));
    }
    Err(text)
}

fn parse(args: &[String]) -> Result<Options, Failure> {
    let mut options = Options::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let (name, inline) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (arg.as_str(), None),
        };
        let mut value = || {
            let next = inline.clone().or_else(|| args.next().cloned());
            next.ok_or_else(|| Failure::Usage(format!("{name} needs a value")))
        };
        match name {
            "--repo" => options.repo = Some(value()?.into()),
            "--entries" => options.entries = Some(number(name, &value()?)?),
            "--release" if inline.is_none() => options.release = true,
            "--keep" if inline.is_none() => options.keep = true,
            _ => return Err(Failure::Usage(format!("demo does not know {arg:?}"))),
        }
    }
    Ok(options)
}

fn number(name: &str, text: &str) -> Result<u64, Failure> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| Failure::Usage(format!("{name} needs a number from 1 on, not {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(args: &[&str]) -> Result<Options, Failure> {
        parse(&args.iter().map(|arg| arg.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_understood_or_refused() {
        let all = options(&["--repo", "x", "--entries=30", "--keep", "--release"]).unwrap();
        let expected = Options {
            repo: Some("x".into()),
            entries: Some(30),
            release: true,
            keep: true,
        };
        assert_eq!(all, expected);
        for wrong in [
            &["--repo"][..],
            &["--entries", "0"],
            &["--entries=many"],
            &["--keep=yes"],
            &["now"],
        ] {
            assert!(
                matches!(options(wrong), Err(Failure::Usage(_))),
                "{wrong:?}"
            );
        }
    }
}
