//! Picks the benchmark, reads its options, and turns outcomes into exit codes.

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use crate::report::Report;

/// A benchmark could not be understood. The same number as most command-line programs use.
const EXIT_USAGE: u8 = 2;

/// Options that every benchmark has.
const COMMON_OPTIONS: &str =
    "  --json FILE    Also write the figures there: a list with one object for each row
  --date TEXT    Say in the report when this was measured
";

/// One benchmark.
pub struct Command {
    /// What the user types.
    pub name: &'static str,
    /// One line for the list of benchmarks.
    pub summary: &'static str,
    /// The lines that tell its own options.
    pub options: &'static str,
    /// Takes the options it knows, measures, and returns the figures.
    pub run: fn(Options) -> Result<Report, Failure>,
}

/// Why there are no figures.
#[derive(Debug, PartialEq)]
pub enum Failure {
    /// The command line makes no sense; the text says why. Exit code 2.
    Usage(String),
    /// The measurement itself failed; the text says what. Exit code 1.
    Failed(String),
}

/// The options on the command line. A benchmark takes those it knows and then calls
/// [`Options::finish`], which refuses the rest.
#[derive(Debug, Default, PartialEq)]
pub struct Options {
    rest: Vec<String>,
}

impl Options {
    /// Starts from the words behind the benchmark's name.
    pub fn new(words: Vec<String>) -> Self {
        Self { rest: words }
    }

    /// Takes an option without a value, and tells whether it was there.
    pub fn flag(&mut self, name: &str) -> bool {
        let before = self.rest.len();
        self.rest.retain(|word| word != name);
        self.rest.len() < before
    }

    /// Takes every value of an option, in order.
    ///
    /// # Errors
    /// The option stands without a value.
    pub fn texts(&mut self, name: &str) -> Result<Vec<String>, Failure> {
        let mut values = Vec::new();
        while let Some(at) = self.rest.iter().position(|word| word == name) {
            if at + 1 >= self.rest.len() {
                return Err(Failure::Usage(format!("{name} needs a value")));
            }
            values.push(self.rest.remove(at + 1));
            self.rest.remove(at);
        }
        Ok(values)
    }

    /// Takes the last value of an option.
    ///
    /// # Errors
    /// The option stands without a value, or with one that is no `T`.
    pub fn value<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, Failure> {
        let Some(text) = self.texts(name)?.pop() else {
            return Ok(None);
        };
        let wrong = |_| Failure::Usage(format!("{name} cannot be {text:?}"));
        text.parse().map(Some).map_err(wrong)
    }

    /// Refuses what nobody took.
    ///
    /// # Errors
    /// Something is left.
    pub fn finish(self) -> Result<(), Failure> {
        match self.rest.first() {
            None => Ok(()),
            Some(word) => Err(Failure::Usage(format!("there is no option {word:?}"))),
        }
    }
}

/// Runs the benchmark that `words` (without the program's name) asks for.
pub fn run(commands: &[Command], words: Vec<String>) -> ExitCode {
    match try_run(commands, words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Failure::Usage(text)) => {
            eprintln!("error: {text}\nTry: cargo xtask bench list");
            ExitCode::from(EXIT_USAGE)
        }
        Err(Failure::Failed(text)) => {
            eprintln!("error: {text}");
            ExitCode::FAILURE
        }
    }
}

/// Tells whether every target was met.
fn try_run(commands: &[Command], words: Vec<String>) -> Result<bool, Failure> {
    let mut words = words.into_iter();
    let name = words.next().unwrap_or_else(|| "list".to_owned());
    if name == "list" {
        for command in commands {
            println!("{:<14}{}", command.name, command.summary);
        }
        return Ok(true);
    }
    let command = commands
        .iter()
        .find(|command| command.name == name)
        .ok_or_else(|| Failure::Usage(format!("there is no benchmark {name:?}")))?;
    let mut options = Options::new(words.collect());
    if options.flag("help") {
        let Command {
            name,
            summary,
            options,
            ..
        } = command;
        println!(
            "{summary}\n\nUsage: cargo xtask bench {name} [options]\n\n\
             Options:\n{options}{COMMON_OPTIONS}"
        );
        return Ok(true);
    }
    let json: Option<PathBuf> = options.value("--json")?;
    let date: Option<String> = options.value("--date")?;
    let report = (command.run)(options)?;
    println!("{}\n", crate::machine::describe(date.as_deref()));
    print!("{report}");
    if let Some(file) = json {
        std::fs::write(&file, report.to_json(command.name)).map_err(|error| {
            Failure::Failed(format!("cannot write {}: {error}", file.display()))
        })?;
    }
    Ok(report.targets_met())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Options {
        Options::new(words.iter().map(|word| word.to_string()).collect())
    }

    #[test]
    fn options_are_taken_and_the_rest_is_refused() {
        let mut given = options(&["--dag", "a", "--large", "--pairs", "7", "--dag", "b"]);
        assert_eq!(given.texts("--dag").unwrap(), ["a", "b"]);
        assert_eq!(given.value::<u32>("--pairs"), Ok(Some(7)));
        assert_eq!(given.value::<u32>("--seed"), Ok(None));
        assert!(given.flag("--large") && !given.flag("--large"));
        assert_eq!(given.finish(), Ok(()));

        let usage = |result: Result<_, Failure>| matches!(result, Err(Failure::Usage(_)));
        assert!(usage(options(&["--pairs"]).texts("--pairs").map(|_| ())));
        let mut wrong = options(&["--pairs", "many"]);
        assert!(usage(wrong.value::<u32>("--pairs").map(|_| ())));
        assert!(usage(options(&["--fast"]).finish()));
    }
}
