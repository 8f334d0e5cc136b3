//! What the workspace's own programs share: child processes, figures and tables.

pub mod figures;
pub mod process;
pub mod report;

use std::process::Command;
use std::time::Instant;

/// Returns the current time, to measure how long things take and to bound how long to wait.
#[expect(
    clippy::disallowed_methods,
    reason = "these programs measure time; nothing that they measure decides by it"
)]
pub fn now() -> Instant {
    Instant::now()
}

/// Runs a command to its end and returns what it prints, or an error with its stderr.
pub fn output(command: &mut Command) -> Result<String, String> {
    let shown = format!("{command:?}");
    let output = command
        .output()
        .map_err(|error| format!("cannot start {shown}: {error}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "{shown} failed ({}):\n{}",
            output.status,
            stderr.trim_end()
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command that writes its own messages to the terminal.
pub fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .map_err(|error| format!("cannot start {name}: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("{name} failed ({status}); see above")),
    }
}

/// Turns any error into a message.
pub fn failed(error: impl std::fmt::Display) -> String {
    error.to_string()
}
