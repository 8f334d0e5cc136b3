//! Round trips, bytes and redundancy of a sync, whatever the history and whatever both sides wrote.
//!
//! Pairs of replicas that diverge are drawn from histories of many shapes and synced by the
//! protocol's own machines, frame by frame, over a link in memory. After each sync both sides must
//! have everything, or the benchmark fails.

mod answering;
mod rows;

use std::thread::{self, available_parallelism};

use eidetica_dag::testing::{Random, git_history};
use eidetica_proto::SyncOptions;
use eidetica_replicas::shapes::{RECIPES, Scene, windows};
use eidetica_replicas::{World, sync};
use xtask_support::report::Report;

use self::rows::Row;

/// Round trips, bytes and redundant entries of syncs on histories of every shape
#[derive(clap::Args)]
pub struct Options {
    /// Pairs of replicas in each row
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Seed of the random numbers
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Only histories whose name contains this; `answering` for the answering times
    #[arg(long, value_name = "NAME", default_value = "")]
    only: String,
}

/// Equal replicas in each row: only their heads differ.
const EQUAL_REPLICAS: u32 = 5;

/// The name of the real history.
const REAL_HISTORY: &str = "git's own history";

/// Measures every history that the options name.
pub fn run(options: &Options) -> Result<Report, String> {
    let wanted = |name: &str| name.contains(&options.only);
    let mut rows = Vec::new();
    for recipe in RECIPES.iter().filter(|recipe| wanted(recipe.0)) {
        let (world, scene) = recipe.scene(&mut Random::new(options.seed));
        rows.push(measure(options, rows.len(), &world, scene)?);
    }
    if wanted(REAL_HISTORY) {
        let history = git_history();
        let base = history.len();
        let world = World::sign(history, base);
        for scene in windows(REAL_HISTORY) {
            rows.push(measure(options, rows.len(), &world, scene)?);
        }
    }
    let mut report = Report::default();
    if !rows.is_empty() {
        report.tables.push(rows::table(&rows));
        report.targets.extend(rows::targets(&rows));
    }
    if wanted("answering") {
        let (table, targets) = answering::measure()?;
        report.tables.push(table);
        report.targets.extend(targets);
    }
    match report.tables.is_empty() {
        true => Err(format!("no history's name contains {:?}", options.only)),
        false => Ok(report),
    }
}

fn measure(options: &Options, number: usize, world: &World, scene: Scene) -> Result<Row, String> {
    eprintln!("{}, {} …", scene.name, scene.variant);
    let exchange = |pair: u32, are_equal: bool| {
        let place = (number as u64) << 32 | u64::from(pair);
        let mut random = Random::new(Random::new(options.seed).next_u64() ^ place);
        let [client, mut server] = scene.pairs.draw(world, &mut random);
        let mut options = SyncOptions::default();
        if are_equal {
            server.clone_from(&client);
            // As the periodic check asks, which mostly finds equal trees.
            options.filter_at_once = false;
        }
        let seed = random.next_u64().to_le_bytes();
        sync(world, [&client, &server], options, seed)
    };
    let wrong = |error: String| format!("{}, {}: {error}", scene.name, scene.variant);
    let diverged = spread(options.pairs, |pair| exchange(pair, false)).map_err(wrong)?;
    let equal = EQUAL_REPLICAS.min(options.pairs);
    let equal = spread(equal, |pair| exchange(pair, true)).map_err(wrong)?;
    Ok(Row {
        scene,
        diverged,
        equal,
    })
}

/// Does numbered work on all cores.
fn spread<T: Send>(
    count: u32,
    work: impl Fn(u32) -> Result<T, String> + Sync,
) -> Result<Vec<T>, String> {
    let threads = available_parallelism().map_or(1, |cores| cores.get() as u32);
    let work = &work;
    thread::scope(|scope| {
        let share = |first| (first..count).step_by(threads as usize).map(work).collect();
        let running: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || -> Vec<_> { share(first) }))
            .collect();
        let done = running
            .into_iter()
            .flat_map(|it| it.join().expect("a panic ends everything"));
        done.collect()
    })
}
