//! Compares Eidetica's protocol with what a user would pick instead: the same workloads, in one run,
//! on one machine. `cargo xtask bench peers` runs it.

mod cells;
mod changes;
mod git;
mod ours;
mod peer;
mod ranges;
mod table;
mod trace;
mod workload;

use std::process::ExitCode;

use crate::peer::Peer;
use crate::table::Row;

const HELP: &str = "\
Compares Eidetica's protocol with git, Automerge, negentropy and rateless IBLTs.

Usage: cargo xtask bench peers [options]

Options:
  --pairs N      Pairs of replicas in each row [default: 5]
  --seed S       What the pairs are drawn from [default: 1]
  --only TEXT    Only workloads whose names contain the text
  --json FILE    Also writes the rows as a JSON array
";

struct Options {
    pairs: u64,
    seed: u64,
    only: String,
    json: Option<String>,
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).peekable();
    if args
        .peek()
        .is_some_and(|arg| matches!(arg.as_str(), "help" | "--help" | "-h"))
    {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let options = match parse(args) {
        Ok(options) => options,
        Err(text) => {
            eprintln!("error: {text}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("error: {text}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        pairs: 5,
        seed: 1,
        only: String::new(),
        json: None,
    };
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = || {
            let number = value.parse::<u64>().ok();
            number.ok_or_else(|| format!("{name} takes a number, not {value:?}"))
        };
        match name.as_str() {
            "--pairs" => options.pairs = number()?.max(1),
            "--seed" => options.seed = number()?,
            "--only" => options.only = value,
            "--json" => options.json = Some(value),
            _ => return Err(format!("there is no option {name:?}")),
        }
    }
    Ok(options)
}

fn run(options: &Options) -> Result<(), String> {
    let mut peers: Vec<Box<dyn Peer>> = vec![Box::new(ours::Ours)];
    match git::Git::find() {
        Ok(git) => peers.push(Box::new(git)),
        Err(text) => println!("git is left out: {text}\n"),
    }
    peers.push(Box::new(changes::Changes));
    peers.push(Box::new(ranges::Ranges));
    peers.push(Box::new(cells::Cells));

    let mut rows = Vec::new();
    println!("{}", table::HEAD);
    for workload in workload::all(&options.only) {
        let first = rows.len();
        let ways = peers.iter().flat_map(|peer| peer.names());
        rows.extend(ways.map(|peer| Row {
            workload: workload.name.clone(),
            peer,
            missing: Vec::new(),
            costs: Vec::new(),
        }));
        for number in 0..options.pairs {
            let pair = workload.pair(options.seed, number);
            let mut rows = rows[first..].iter_mut();
            for peer in &peers {
                let context = |text| format!("{}, pair {number}: {text}", workload.name);
                if number == 0 {
                    // Not measured: memory and files are cold the first time.
                    peer.fetch(&pair).map_err(context)?;
                }
                for cost in peer.fetch(&pair).map_err(context)? {
                    let row = rows.next().ok_or("a peer has more ways than names")?;
                    row.missing.push(pair.missing());
                    row.costs.push(cost);
                }
            }
        }
        for row in &rows[first..] {
            println!("{}", row.line());
        }
    }
    println!("{}", table::NOTES);
    if let Some(path) = &options.json {
        let rows: Vec<_> = rows.iter().map(Row::json).collect();
        let text = format!("{:#}\n", serde_json::Value::from(rows));
        std::fs::write(path, text).map_err(|error| format!("cannot write {path}: {error}"))?;
    }
    Ok(())
}
