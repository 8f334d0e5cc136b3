//! Compares Eidetica's protocol with what a user would pick instead: the same workloads, in one run,
//! on one machine. `cargo xtask bench peers` runs it.

mod changes;
mod git;
mod ours;
mod pair;
mod sets;

use std::process::ExitCode;

use clap::Parser;
use eidetica_dag::testing::{Random, git_history};
use eidetica_replicas::World;
use eidetica_replicas::shapes::{RECIPES, Scene, windows};
use xtask_support::figures::mean;
use xtask_support::report::{Table, decimals};

use crate::pair::{Cost, Pair, Peer};

/// Compares Eidetica's protocol with git, Automerge, negentropy and rateless IBLTs
#[derive(Parser)]
#[command(name = "cargo xtask bench peers", bin_name = "cargo xtask bench peers")]
struct Options {
    /// Pairs of replicas in each row
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// What the pairs are drawn from
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Only workloads whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
}

/// The built-in histories that are compared.
const HISTORIES: [&str; 3] = ["linear", "all of many chains forked", "old branches forked"];

/// How to read the table.
const NOTES: &str = "\
A fetches all that it lacks from B; means over the pairs, the replicas the same for every peer.
Round trips: until A has everything. Bytes: of the negotiation, both ways, without the entries' own.
Redundant: entries that A was sent and had.

- eidetica: the filter in the first request; nothing is remembered.
- git fetch: protocol 2 over file://, empty commits. A round trip is a command; the handshake is not
  counted.
- automerge: empty changes. State kept: both remember the heads of the moment at which they were
  last equal, which only these two can use. If more than a third of the document is missing, all of
  it is sent, compressed, and counts as redundant.
- negentropy: ids only, ordered by clocks that are right. One round trip and the ids of what is
  missing are added for fetching the entries by id.
- riblt: ids only, eight bytes of each. A streams until B has decoded; symbols under way by then are
  not counted. If an attacker can choose ids, they must be whole and a symbol is 2.4 times as long.
";

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("error: {text}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let mut peers: Vec<Box<dyn Peer>> = vec![Box::new(ours::Ours)];
    match git::Git::find() {
        Ok(git) => peers.push(Box::new(git)),
        Err(text) => println!("git is left out: {text}\n"),
    }
    peers.push(Box::new(changes::Changes));
    peers.push(Box::new(sets::Ranges));
    peers.push(Box::new(sets::Cells));

    let headings = &[
        "workload",
        "missing",
        "",
        "round trips",
        "bytes",
        "redundant",
    ];
    let mut table = Table::new("what it costs to catch up", headings);
    let mut compare = |world: &World, scene: &Scene| {
        let name = format!("{}, {}", scene.name, scene.variant);
        if !name.contains(&options.only) {
            return Ok(());
        }
        eprintln!("{name} …");
        let mut random = Random::new(options.seed);
        let draw = |_| Pair::new(world, scene.pairs.draw(world, &mut random));
        let pairs: Vec<Pair<'_>> = (0..options.pairs).map(draw).collect();
        for peer in &peers {
            let mut costs: Vec<Vec<Cost>> = Vec::new();
            for pair in &pairs {
                costs.push(peer.fetch(pair).map_err(|text| format!("{name}: {text}"))?);
            }
            for (way, peer) in peer.names().iter().enumerate() {
                table.push(vec![
                    name.clone(),
                    decimals(mean(&pairs, |pair| pair.missing as f64), 0),
                    (*peer).into(),
                    decimals(mean(&costs, |it| it[way].round_trips as f64), 1),
                    decimals(mean(&costs, |it| it[way].bytes as f64), 0),
                    decimals(mean(&costs, |it| it[way].redundant as f64), 1),
                ]);
            }
        }
        Ok::<(), String>(())
    };
    for recipe in RECIPES
        .iter()
        .filter(|recipe| HISTORIES.contains(&recipe.0))
    {
        if format!("{}, {}", recipe.0, recipe.1).contains(&options.only) {
            let (world, scene) = recipe.scene(&mut Random::new(options.seed));
            compare(&world, &scene)?;
        }
    }
    let scenes: Vec<Scene> = windows("git's own history").collect();
    if scenes
        .iter()
        .any(|it| format!("{}, {}", it.name, it.variant).contains(&options.only))
    {
        let history = git_history();
        let base = history.len();
        let world = World::sign(history, base);
        scenes.iter().try_for_each(|scene| compare(&world, scene))?;
    }
    println!("{table}\n{NOTES}");
    Ok(())
}
