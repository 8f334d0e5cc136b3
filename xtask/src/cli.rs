//! Picks the command, prints help, and turns outcomes into exit codes.

use std::process::ExitCode;

/// A command could not be understood. The same number as most command-line programs use.
const EXIT_USAGE: u8 = 2;

/// One `cargo xtask` command.
pub struct Command {
    /// What the user types.
    pub name: &'static str,
    /// One line for the list of commands.
    pub summary: &'static str,
    /// The text of `cargo xtask <name> --help`.
    pub help: &'static str,
    /// Does the work; gets the arguments behind the name.
    pub run: fn(&[String]) -> Result<(), Failure>,
}

/// Why a command did not succeed.
#[derive(Debug, PartialEq)]
pub enum Failure {
    /// The arguments make no sense; the text says which and why. Exit code 2.
    Usage(String),
    /// The work itself failed; the text says what. Exit code 1.
    Failed(String),
}

/// What a command line asks for.
enum Request<'a> {
    Overview,
    Help(&'a Command),
    Run(&'a Command, Vec<String>),
}

/// Runs the command that `args` (without the program's name) asks for.
pub fn run(commands: &[Command], args: impl Iterator<Item = String>) -> ExitCode {
    let outcome = match parse(commands, args.collect()) {
        Ok(Request::Overview) => {
            print!("{}", overview(commands));
            Ok(())
        }
        Ok(Request::Help(command)) => {
            print!("{}", command.help);
            Ok(())
        }
        Ok(Request::Run(command, args)) => (command.run)(&args),
        Err(failure) => Err(failure),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => {
            eprintln!("error: {text}\nTry: cargo xtask --help");
            ExitCode::from(EXIT_USAGE)
        }
        Err(Failure::Failed(text)) => {
            eprintln!("error: {text}");
            ExitCode::FAILURE
        }
    }
}

fn parse(commands: &[Command], args: Vec<String>) -> Result<Request<'_>, Failure> {
    let mut args = args.into_iter();
    let Some(name) = args.next() else {
        return Err(Failure::Usage("no command given".into()));
    };
    let rest: Vec<String> = args.collect();
    if matches!(name.as_str(), "-h" | "--help" | "help") {
        return Ok(Request::Overview);
    }
    let Some(command) = commands.iter().find(|command| command.name == name) else {
        return Err(Failure::Usage(format!("there is no command {name:?}")));
    };
    if rest.iter().any(|arg| arg == "-h" || arg == "--help") {
        return Ok(Request::Help(command));
    }
    Ok(Request::Run(command, rest))
}

fn overview(commands: &[Command]) -> String {
    let mut text = String::from(
        "The workspace's own commands.\n\n\
         Usage: cargo xtask <command> [options]\n\nCommands:\n",
    );
    for command in commands {
        text.push_str(&format!("  {:<14}{}\n", command.name, command.summary));
    }
    text.push_str("\ncargo xtask <command> --help tells a command's options.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMANDS: &[Command] = &[Command {
        name: "greet",
        summary: "Greets.",
        help: "Usage: greet\n",
        run: |args| match args {
            [] => Ok(()),
            _ => Err(Failure::Failed("greet takes nothing".into())),
        },
    }];

    fn exit(args: &[&str]) -> ExitCode {
        run(COMMANDS, args.iter().map(|arg| arg.to_string()))
    }

    #[test]
    fn exit_codes_tell_success_failure_and_misuse_apart() {
        assert_eq!(exit(&["greet"]), ExitCode::SUCCESS);
        assert_eq!(exit(&["greet", "--help"]), ExitCode::SUCCESS);
        assert_eq!(exit(&["--help"]), ExitCode::SUCCESS);
        assert_eq!(exit(&["greet", "loudly"]), ExitCode::FAILURE);
        assert_eq!(exit(&[]), ExitCode::from(EXIT_USAGE));
        assert_eq!(exit(&["sing"]), ExitCode::from(EXIT_USAGE));
    }

    #[test]
    fn overview_lists_every_command() {
        assert!(overview(COMMANDS).contains("  greet         Greets.\n"));
    }
}
