//! Round trips, bytes and redundancy of a sync, whatever the history and whatever both sides wrote.
//!
//! Pairs of replicas that diverge are drawn from histories of many shapes and synced by the
//! protocol's own machines, frame by frame, over a link in memory. After each sync both sides must
//! have everything, or the benchmark fails.

mod answering;
mod figures;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::thread::{self, available_parallelism};

use eidetica_dag::testing::history::parse_dag_text;
use eidetica_dag::testing::{Random, git_history};
use eidetica_proto::SyncOptions;
use eidetica_replicas::link::{Exchange, sync};
use eidetica_replicas::shapes::{RECIPES, Scene, windows};
use eidetica_replicas::world::{Replica, World};
use xtask_support::report::Report;

use self::figures::Row;

/// Round trips, bytes and redundant entries of syncs on histories of every shape
#[derive(clap::Args)]
pub struct Options {
    /// Also measure this history; may be repeated. A line for each entry, with the distances back to
    /// its parents; may be compressed with gzip
    #[arg(long, value_name = "FILE")]
    dag: Vec<PathBuf>,
    /// Pairs of replicas in each row
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Seed of the random numbers
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Only histories whose name contains this; `answering` for the answering times
    #[arg(long, value_name = "NAME", default_value = "")]
    only: String,
    /// Also measure answering times at a million entries; signing them takes a minute
    #[arg(long)]
    large: bool,
}

/// Equal replicas in each row: only their heads differ.
const EQUAL_REPLICAS: u32 = 5;

/// The name of the real history.
const REAL_HISTORY: &str = "git's own history";

/// Measures every history that the options name.
pub fn run(options: &Options) -> Result<Report, String> {
    let wanted = |name: &str| name.contains(&options.only);
    let mut bench = Bench {
        pairs: options.pairs,
        seed: options.seed,
        rows: Vec::new(),
    };
    for recipe in RECIPES.iter().filter(|recipe| wanted(recipe.name)) {
        let (world, scene) = recipe.scene(&mut Random::new(options.seed));
        bench.measure(&world, scene)?;
    }
    if wanted(REAL_HISTORY) {
        bench.measure_windows(REAL_HISTORY, git_history())?;
    }
    for file in &options.dag {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        bench.measure_windows(&name, read_history(file)?)?;
    }

    let mut report = Report::default();
    if !bench.rows.is_empty() {
        report.tables = figures::tables(&bench.rows);
        report.targets = figures::targets(&bench.rows);
    }
    if wanted("answering") {
        let (table, targets) = answering::measure(options.large)?;
        report.tables.push(table);
        report.targets.extend(targets);
    }
    match report.tables.is_empty() {
        true => Err(format!("no history's name contains {:?}", options.only)),
        false => Ok(report),
    }
}

/// Reads a history from a file, compressed if its name ends in `.gz`.
fn read_history(file: &Path) -> Result<Vec<Vec<u32>>, String> {
    let unreadable = |error| format!("cannot read {}: {error}", file.display());
    let mut text = String::new();
    let mut opened = fs::File::open(file).map_err(unreadable)?;
    if file.extension().is_some_and(|extension| extension == "gz") {
        flate2::read::GzDecoder::new(opened).read_to_string(&mut text)
    } else {
        opened.read_to_string(&mut text)
    }
    .map_err(unreadable)?;
    check_dag_text(&text).map_err(|wrong| format!("{}: {wrong}", file.display()))?;
    Ok(parse_dag_text(&text))
}

/// Checks the text of a history; the parser accepts only correct ones.
fn check_dag_text(text: &str) -> Result<(), String> {
    if text.lines().nth(1).is_none() {
        return Err("a history has two entries at least".to_owned());
    }
    for (number, line) in text.lines().enumerate() {
        let refers = |word: &str| {
            let back = word.parse::<u32>();
            back.is_ok_and(|back| (1..=number as u64).contains(&back.into()))
        };
        if let Some(word) = line.split_ascii_whitespace().find(|word| !refers(word)) {
            return Err(format!("line {}: no parent at {word:?}", number + 1));
        }
    }
    Ok(())
}

struct Bench {
    pairs: u32,
    seed: u64,
    rows: Vec<Row>,
}

impl Bench {
    fn measure_windows(&mut self, name: &str, history: Vec<Vec<u32>>) -> Result<(), String> {
        let base = history.len();
        let world = World::sign(history, base);
        windows(name).try_for_each(|scene| self.measure(&world, scene))
    }

    fn measure(&mut self, world: &World, scene: Scene) -> Result<(), String> {
        eprintln!("{}, {} …", scene.name, scene.variant);
        let scene_number = self.rows.len() as u64;
        let random = |pair: u32| {
            let place = scene_number << 32 | u64::from(pair);
            Random::new(Random::new(self.seed).next_u64() ^ place)
        };
        let diverged = spread(self.pairs, |pair| {
            let mut random = random(pair);
            let (asker, answerer) = scene.pairs.draw(world, &mut random);
            exchange(
                world,
                &asker,
                &answerer,
                SyncOptions::default(),
                &mut random,
            )
        });
        let equal = spread(EQUAL_REPLICAS.min(self.pairs), |pair| {
            let mut random = random(pair);
            let (heads, _) = scene.pairs.draw(world, &mut random);
            // As the periodic check asks, which mostly finds equal trees.
            let options = SyncOptions {
                filter_at_once: false,
                ..SyncOptions::default()
            };
            exchange(world, &heads, &heads, options, &mut random)
        });
        let wrong = |error: String| format!("{}, {}: {error}", scene.name, scene.variant);
        let (diverged, equal) = (diverged.map_err(wrong)?, equal.map_err(wrong)?);
        self.rows.push(Row {
            scene,
            diverged,
            equal,
        });
        Ok(())
    }
}

fn exchange(
    world: &World,
    asker: &[u32],
    answerer: &[u32],
    options: SyncOptions,
    random: &mut Random,
) -> Result<Exchange, String> {
    let mut asker = Replica::new(world, &world.closure(asker));
    let mut answerer = Replica::new(world, &world.closure(answerer));
    let seed = random.next_u64().to_le_bytes();
    sync(&mut asker, &mut answerer, options, seed)
}

/// Does numbered work on all cores and returns the results in the order of their numbers. Times are
/// measured for each thread, so that threads do not disturb each other's figures.
fn spread<T: Send>(
    count: u32,
    work: impl Fn(u32) -> Result<T, String> + Sync,
) -> Result<Vec<T>, String> {
    let threads = available_parallelism().map_or(1, |cores| cores.get() as u32);
    let share = |first: u32| {
        let numbers = (first..count).step_by(threads as usize);
        let done = numbers.map(|number| Ok((number, work(number)?)));
        done.collect::<Result<Vec<_>, String>>()
    };
    let mut results: Vec<(u32, T)> = Vec::new();
    thread::scope(|scope| {
        let share = &share;
        let running: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || share(first)))
            .collect();
        for thread in running {
            results.extend(thread.join().expect("a panic ends the benchmark")?);
        }
        Ok::<(), String>(())
    })?;
    results.sort_unstable_by_key(|(number, _)| *number);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use eidetica_dag::testing::Shape;

    use super::*;

    #[test]
    fn work_is_spread_and_comes_back_in_order() {
        assert_eq!(spread(9, Ok), Ok((0..9).collect()));
        assert_eq!(
            spread(9, |n| if n == 4 {
                Err("four".to_owned())
            } else {
                Ok(n)
            }),
            Err("four".to_owned())
        );
    }

    #[test]
    fn windows_of_a_history_are_synced_and_counted() {
        let mut bench = Bench {
            pairs: 4,
            seed: 3,
            rows: Vec::new(),
        };
        bench
            .measure_windows("braid", Shape::Braided.parents(600, 2))
            .unwrap();
        let tables = figures::tables(&bench.rows);
        assert_eq!(
            tables[0].rows.len(),
            eidetica_replicas::shapes::WINDOWS.len()
        );
        for row in &bench.rows {
            assert!(row.diverged.iter().any(|e| e.missing_at_asker > 0));
            assert!(row.diverged.iter().all(|e| !e.request_bytes.is_empty()));
            assert!(
                row.equal
                    .iter()
                    .all(|e| e.missing_at_asker == 0 && e.push_bytes == 0)
            );
        }
    }

    #[test]
    fn histories_of_others_are_checked_before_they_are_read() {
        assert_eq!(check_dag_text("\n1\n\n1 2"), Ok(()));
        for wrong in ["", "\n", "\n2", "\n1\n0", "1\n1", "\none"] {
            assert!(check_dag_text(wrong).is_err(), "{wrong:?}");
        }
    }
}
