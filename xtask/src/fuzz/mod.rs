//! `cargo xtask fuzz`: lets a fuzzer look for bytes that break a promise.
//!
//! What must hold stands in the crates, where ordinary tests reach it; `xtask/fuzz` only wraps it
//! for cargo-fuzz. It is built by cargo-fuzz, for its flags, and run here, for the figures.
//!
//! Without a sanitizer: there is no unsafe code here for one to watch, the checks are assertions,
//! and so the pinned stable toolchain does.

mod corpus;
mod cover;
mod figures;
mod run;

use crate::cli::{Command, Failure};
use crate::workspace;

/// The command's entry in the list of commands.
pub const COMMAND: Command = Command {
    name: "fuzz",
    summary: "Looks for bytes that break a promise.",
    help: HELP,
    run,
};

const HELP: &str = "\
Feeds made-up bytes to everything that reads what a peer sends or a person pastes.

Usage: cargo xtask fuzz [target…] [options]
       cargo xtask fuzz list
       cargo xtask fuzz seeds
       cargo xtask fuzz cmin [target…]

Without a target, all of them run, one after the other.

list:   the targets, each with the folder of its kept inputs
seeds:  make the inputs to begin with anew; to be done when a format has changed
cmin:   choose few of the inputs that earlier runs found, and keep those with the sources; after it,
        look at what git shows

Options:
  --seconds <n>  How long each target runs [default: 600]
  --jobs <n>     How many targets run at the same time [default: 1]
  -h, --help     Print this help

What runs find goes to fuzz/corpus in the target folder, and what breaks a promise to fuzz/artifacts.
Needs cargo-fuzz and a C++ compiler, on Linux or macOS.
Exit codes: 0 if every promise was kept, 1 if not or if anything failed, 2 for a wrong command line.
";

/// Where the crate for cargo-fuzz lies, from the workspace's root.
const FUZZ_DIR: &str = "xtask/fuzz";

/// How long each target runs unless told otherwise: most find nothing new after that.
const SECONDS: u64 = 600;

/// A week.
const SECONDS_MAX: u64 = 7 * 24 * 3_600;

const JOBS_MAX: u64 = 64;

/// What is to be done.
#[derive(Debug, PartialEq)]
enum Task {
    List,
    Seeds,
    Cmin { targets: Vec<String> },
    Run(run::Options),
}

fn run(args: &[String]) -> Result<(), Failure> {
    let known = corpus::targets().map_err(Failure::Failed)?;
    let done = match parse(args, &known)? {
        Task::List => list(&known),
        Task::Seeds => seeds(),
        Task::Cmin { targets } => run::build().and_then(|built| corpus::minimise(&built, &targets)),
        Task::Run(options) => run::build().and_then(|built| run::run(&built, &options)),
    };
    done.map_err(Failure::Failed)
}

fn list(known: &[String]) -> Result<(), String> {
    let width = known.iter().map(String::len).max().unwrap_or(0);
    for target in known {
        println!("{target:<width$}  {}", corpus::kept(target)?.display());
    }
    Ok(())
}

/// Has the crates write what they make their seeds from.
fn seeds() -> Result<(), String> {
    let mut cargo = workspace::cargo();
    cargo.args(["run", "--locked", "--quiet", "--package", "eidetica-proto"]);
    run::succeed(cargo.args(["--example", "fuzz_seeds"]))?;
    println!("the seeds are new: see git status");
    Ok(())
}

fn parse(args: &[String], known: &[String]) -> Result<Task, Failure> {
    let mut words: Vec<&str> = vec![];
    let (mut seconds, mut jobs) = (SECONDS, 1);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let (name, inline) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (arg.as_str(), None),
        };
        let mut number = |max: u64| {
            let value = inline.clone().or_else(|| args.next().cloned());
            let value = value.ok_or_else(|| Failure::Usage(format!("{name} needs a value")))?;
            let number = value.parse().ok().filter(|n| (1..=max).contains(n));
            let wrong = || Failure::Usage(format!("{name} is from 1 to {max}, not {value:?}"));
            number.ok_or_else(wrong)
        };
        match name {
            "--seconds" => seconds = number(SECONDS_MAX)?,
            "--jobs" => jobs = number(JOBS_MAX)? as usize,
            _ if name.starts_with('-') => {
                return Err(Failure::Usage(format!("fuzz does not know {arg:?}")));
            }
            _ => words.push(arg),
        }
    }
    let chosen = |words: &[&str]| {
        let lost = words
            .iter()
            .find(|word| !known.iter().any(|it| it == *word));
        match (lost, words) {
            (Some(lost), _) => Err(Failure::Usage(format!(
                "there is no target {lost:?}; see cargo xtask fuzz list"
            ))),
            (None, []) => Ok(known.to_vec()),
            (None, words) => Ok(words.iter().map(|word| word.to_string()).collect()),
        }
    };
    match words.as_slice() {
        ["list"] => Ok(Task::List),
        ["seeds"] => Ok(Task::Seeds),
        ["cmin", words @ ..] => chosen(words).map(|targets| Task::Cmin { targets }),
        words => chosen(words).map(|targets| {
            Task::Run(run::Options {
                targets,
                seconds,
                jobs,
            })
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(args: &[&str]) -> Result<Task, Failure> {
        let strings = |words: &[&str]| words.iter().map(|it| it.to_string()).collect::<Vec<_>>();
        parse(&strings(args), &strings(&["batch", "entry"]))
    }

    fn running(targets: &[&str], seconds: u64, jobs: usize) -> Result<Task, Failure> {
        let targets = targets.iter().map(|it| it.to_string()).collect();
        Ok(Task::Run(run::Options {
            targets,
            seconds,
            jobs,
        }))
    }

    #[test]
    fn options_are_understood_or_refused() {
        assert_eq!(task(&[]), running(&["batch", "entry"], 600, 1));
        let some = task(&["--seconds", "5", "entry", "--jobs=2"]);
        assert_eq!(some, running(&["entry"], 5, 2));
        assert_eq!(task(&["list"]), Ok(Task::List));
        assert_eq!(task(&["seeds"]), Ok(Task::Seeds));
        let targets = vec!["batch".to_owned()];
        assert_eq!(task(&["cmin", "batch"]), Ok(Task::Cmin { targets }));
        for wrong in [
            &["bacth"][..],
            &["list", "batch"],
            &["--seconds"],
            &["--seconds", "0"],
            &["--jobs", "many"],
            &["--fast"],
        ] {
            assert!(matches!(task(wrong), Err(Failure::Usage(_))), "{wrong:?}");
        }
    }
}
