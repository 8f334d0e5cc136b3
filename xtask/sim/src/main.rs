//! Runs whole networks of nodes in one thread and virtual time: `cargo xtask sim` builds this program and
//! runs it.
//!
//! Every part is the real one: nodes with their engines, machines and access rules, and stores, of which
//! some are on disks that lose power. Only the network, the clocks and the disks are simulated. A seed
//! draws a [`plan`]: nodes, what their users do, and what goes wrong. The [`world`] carries it out and
//! checks [`invariants`] on the way and at the end.

mod draw;
mod invariants;
mod lie;
mod network;
mod panics;
mod plan;
mod record;
mod shrink;
mod store;
#[cfg(test)]
mod tests;
mod world;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use xtask_support::now;

use crate::plan::Plan;
use crate::record::Outcome;

/// Runs networks of nodes with faults of every kind, in virtual time
///
/// Each seed is a run of its own: some nodes, what their users do, and what goes wrong. Invariants are
/// checked at every step, and when the faults have stopped, all copies must become equal. A seed that
/// fails is made smaller, and printed with the command that replays it. Exit codes: 0 if every
/// invariant held, 1 if one did not, 2 for a wrong command line.
#[derive(Parser)]
#[command(
    name = "cargo xtask sim",
    bin_name = "cargo xtask sim",
    max_term_width = 100,
    verbatim_doc_comment
)]
struct Options {
    /// How many seeds to run
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Run this seed alone, and print its log
    #[arg(long)]
    seed: Option<u64>,
    /// Of that seed, run these steps alone, as numbers with commas between them
    #[arg(long, requires = "seed", value_delimiter = ',')]
    steps: Option<Vec<usize>>,
    /// Do not look for a smaller run that fails in the same way
    #[arg(long)]
    no_shrink: bool,
    /// How many seeds to run at a time [default: one on each processor]
    #[arg(long)]
    threads: Option<usize>,
}

/// How long a seed may take: it hangs in an endless loop then, in which virtual time stands still.
const HANGS_AFTER: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let options = Options::parse();
    let holds = match options.seed {
        Some(seed) => replay(seed, options.steps.as_deref()),
        None => run_many(&options),
    };
    match holds {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Runs one seed and prints everything.
fn replay(seed: u64, steps: Option<&[usize]>) -> bool {
    let mut plan = Plan::draw(seed);
    if let Some(steps) = steps {
        plan = plan.only(steps);
    }
    print!("{plan}");
    let outcome = world::run(&plan, true);
    panics::unwatch();
    for line in &outcome.lines {
        println!("{line}");
    }
    print_counts(&outcome.counts);
    for violation in &outcome.violations {
        println!("VIOLATED {}: {}", violation.rule, violation.text);
    }
    outcome.violations.is_empty()
}

fn print_counts(counts: &BTreeMap<&'static str, u64>) {
    for (what, number) in counts {
        println!("{number:>12}  {what}");
    }
}

/// What the threads share.
#[derive(Default)]
struct Shared {
    next: AtomicU64,
    done: AtomicU64,
    failed: Mutex<Option<(u64, Outcome)>>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    running: Mutex<BTreeMap<u64, Instant>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(
    clippy::disallowed_methods,
    reason = "nothing but the threads that run seeds is waited for"
)]
fn pause(duration: Duration) {
    thread::sleep(duration);
}

/// Runs seeds until one fails.
fn run_many(options: &Options) -> bool {
    let threads = options
        .threads
        .or_else(|| Some(thread::available_parallelism().ok()?.get()));
    let shared = Arc::new(Shared::default());
    shared.next.store(options.first, Ordering::Relaxed);
    let last = options.first.saturating_add(options.seeds);
    let began = now();
    let workers: Vec<_> = (0..threads.unwrap_or(1).max(1))
        .map(|_| {
            let shared = shared.clone();
            thread::spawn(move || work(&shared, last))
        })
        .collect();
    while workers.iter().any(|worker| !worker.is_finished()) {
        pause(Duration::from_millis(50));
        let running = lock(&shared.running);
        if let Some((seed, _)) = running
            .iter()
            .find(|(_, began)| began.elapsed() > HANGS_AFTER)
        {
            println!("seed {seed} hangs: cargo xtask sim --seed {seed}");
            return false;
        }
    }
    let done = shared.done.load(Ordering::Relaxed);
    print_counts(&lock(&shared.counts));
    let failed = lock(&shared.failed).take();
    let Some((seed, outcome)) = failed else {
        println!(
            "{done} seeds held in {:.1} s",
            began.elapsed().as_secs_f64()
        );
        return true;
    };
    report(seed, &outcome, options.no_shrink);
    println!(
        "failed after {done} seeds, {:.1} s",
        began.elapsed().as_secs_f64()
    );
    false
}

fn work(shared: &Shared, last: u64) {
    loop {
        let seed = shared.next.fetch_add(1, Ordering::Relaxed);
        if seed >= last || lock(&shared.failed).is_some() {
            return;
        }
        lock(&shared.running).insert(seed, now());
        let outcome = world::run(&Plan::draw(seed), false);
        lock(&shared.running).remove(&seed);
        shared.done.fetch_add(1, Ordering::Relaxed);
        for (what, number) in &outcome.counts {
            *lock(&shared.counts).entry(what).or_default() += number;
        }
        if !outcome.violations.is_empty() {
            let mut failed = lock(&shared.failed);
            // The smallest seed, whichever thread was faster.
            if failed.as_ref().is_none_or(|(other, _)| seed < *other) {
                *failed = Some((seed, outcome));
            }
            return;
        }
    }
}

/// Tells of a seed that failed.
fn report(seed: u64, outcome: &Outcome, as_it_is: bool) {
    let first = &outcome.violations[0];
    println!("seed {seed} fails: {}: {}", first.rule, first.text);
    println!("  cargo xtask sim --seed {seed}");
    if as_it_is {
        return;
    }
    let plan = shrink::shrink(&Plan::draw(seed), first.rule);
    let steps: Vec<String> = plan.numbers().iter().map(usize::to_string).collect();
    println!("smaller:");
    print!("{plan}");
    println!(
        "  cargo xtask sim --seed {seed} --steps {}",
        steps.join(",")
    );
}
