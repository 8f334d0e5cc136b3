//! `cargo xtask bench <what>`: measures the program and its parts, and checks what they promise.

mod bootstrap;
mod figures;
mod interrupt;

use crate::cli::{Command, Failure};
use crate::node::{self, Profile};
use crate::process::Warden;

/// The command's entry in the list of commands.
pub const COMMAND: Command = Command {
    name: "bench",
    summary: "Measures the program and its parts, and checks their promises.",
    help: HELP,
    run,
};

const HELP: &str = "\
Measures the program and its parts, optimised.

Usage: cargo xtask bench <what> [options]

micro:       the parts by themselves: differences, filters, entries, signatures, batches
negotiation: round trips, bytes and redundancy of syncs, on histories of every shape; more of its
             kind are told by `bench list`, and the options of each by `bench <what> help`
hostile:     a server under attack by 1,000 connections that stall, and by requests that are too
             large: its memory, and how those fare who only want to sync

peers:       the protocol beside git fetch, Automerge, negentropy and rateless IBLTs
bootstrap:   with processes and durable stores of their own, on 127.0.0.1, fetch the shape of a real
             history (81,966 entries, a quarter of them merges) into an empty store, over each
             transport: time, bytes, the peak memory of both sides. Then kill the client and the
             server in the middle of it, and see that it goes on from what was stored

Options of bootstrap:
  --entries <n>         How many entries; may be repeated [default: 10000 and 81966]
  --payload-bytes <n>   Payload of each entry [default: 200]
  --via <transport>     Only http or only iroh
  --keep                Leave the temporary folder with the stores and the logs in place
  -h, --help            Print this help

Needs a Unix system with gzip, and Linux for the memory.
Exit codes: 0 if all promises are kept, 1 if not or if anything failed (slowness is no failure),
2 for a wrong command line.
";

/// Entries of the real history.
const HISTORY_ENTRIES: u64 = 81_966;

/// What is measured unless told otherwise: a tenth, and all.
const ENTRIES: [u64; 2] = [10_000, HISTORY_ENTRIES];

/// A payload like a small document or a chat message with its markup.
const PAYLOAD_BYTES: u64 = 200;

/// Every transport, by the name that the program gives it.
const TRANSPORTS: [&str; 2] = ["http", "iroh"];

#[derive(Debug, PartialEq)]
struct Options {
    /// Ascending.
    entries: Vec<u64>,
    payload_bytes: u64,
    transports: Vec<&'static str>,
    keep: bool,
}

fn run(args: &[String]) -> Result<(), Failure> {
    match args.split_first() {
        Some((what, args)) if what == "bootstrap" => {
            let options = parse(args)?;
            bench(&options).map_err(Failure::Failed)
        }
        Some((what, options)) => figures::run(what, options),
        None => Err(Failure::Usage(
            "bench needs to know what: bootstrap, micro, negotiation, …".into(),
        )),
    }
}

fn bench(options: &Options) -> Result<(), String> {
    println!("Building the program, optimised");
    let program = node::build(Profile::Release)?;
    let warden = Warden::start("bench", options.keep)?;
    let broken = bootstrap::run(options, &program, &warden);
    if options.keep {
        println!("kept: {}", warden.folder().display());
    }
    let broken = broken?;
    if broken.is_empty() {
        println!("all promises are kept");
        return Ok(());
    }
    Err(format!("broken promises:\n  {}", broken.join("\n  ")))
}

fn parse(args: &[String]) -> Result<Options, Failure> {
    let mut options = Options {
        entries: vec![],
        payload_bytes: PAYLOAD_BYTES,
        transports: vec![],
        keep: false,
    };
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
            "--entries" => options
                .entries
                .push(number(name, &value()?, HISTORY_ENTRIES)?),
            "--payload-bytes" => options.payload_bytes = number(name, &value()?, 1 << 19)?,
            "--via" => {
                let via = value()?;
                let known = TRANSPORTS.iter().find(|it| **it == via);
                let unknown = || Failure::Usage(format!("--via is http or iroh, not {via:?}"));
                options.transports.push(known.copied().ok_or_else(unknown)?);
            }
            "--keep" if inline.is_none() => options.keep = true,
            _ => {
                return Err(Failure::Usage(format!(
                    "bench bootstrap does not know {arg:?}"
                )));
            }
        }
    }
    if options.entries.is_empty() {
        options.entries.extend(ENTRIES);
    }
    options.entries.sort_unstable();
    options.entries.dedup();
    if options.transports.is_empty() {
        options.transports.extend(TRANSPORTS);
    }
    Ok(options)
}

fn number(name: &str, text: &str, max: u64) -> Result<u64, Failure> {
    let number = text
        .parse()
        .ok()
        .filter(|number| (1..=max).contains(number));
    number.ok_or_else(|| Failure::Usage(format!("{name} is from 1 to {max}, not {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(args: &[&str]) -> Result<Options, Failure> {
        parse(&args.iter().map(|arg| arg.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_understood_or_refused() {
        let usual = options(&[]).unwrap();
        assert_eq!(usual.entries, ENTRIES);
        assert_eq!(usual.transports, TRANSPORTS);
        let some =
            options(&["--entries", "70", "--entries=60", "--via", "iroh", "--keep"]).unwrap();
        let expected = Options {
            entries: vec![60, 70],
            payload_bytes: PAYLOAD_BYTES,
            transports: vec!["iroh"],
            keep: true,
        };
        assert_eq!(some, expected);
        for wrong in [
            &["--entries", "81967"][..],
            &["--via", "ftp"],
            &["--entries"],
            &["fast"],
        ] {
            assert!(
                matches!(options(wrong), Err(Failure::Usage(_))),
                "{wrong:?}"
            );
        }
        assert!(matches!(run(&[]), Err(Failure::Usage(_))));
    }
}
