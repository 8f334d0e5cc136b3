//! The filter against trees of many shapes: does one request bring everything, how large is it,
//! and how much is sent in vain?
//!
//! Everything is seeded: what passes once passes always. `cargo test --release --test it
//! filter_negotiation -- --ignored --nocapture` prints the table of many more pairs.

mod building;
mod shapes;
mod world;

use eidetica_dag::tip_ids;
use eidetica_dag::walk::{Heads, difference_by};
use eidetica_proto::{Filter, FilterBudget};

use crate::filter_negotiation::shapes::Pair;
use crate::filter_negotiation::world::{Replica, Rng, World};

/// The tree's id and a header; the tips and the filter come on top.
const REQUEST_HEAD_BYTES: usize = 32 + 24;

/// What one exchange came to.
struct Exchange {
    /// How many entries A lacked.
    missing: usize,
    /// How many of those that B sent A had.
    redundant: usize,
    /// Whether A has to ask again.
    is_incomplete: bool,
    tips: usize,
    request_bytes: usize,
    filter_entries: usize,
    visits: usize,
}

/// A asks, B answers.
fn exchange(world: &World, a: &[usize], b: &[usize], seed: u64) -> Exchange {
    let (in_a, in_b) = (world.closure(a), world.closure(b));
    // What both have came first; then each wrote its own.
    let order = |own: &[bool], other: &[bool]| {
        let shared = (0..world.len()).filter(|at| own[*at] && other[*at]);
        let alone = (0..world.len()).filter(|at| own[*at] && !other[*at]);
        shared.chain(alone).collect()
    };
    let a = Replica::new(world, order(&in_a, &in_b));
    let b = Replica::new(world, order(&in_b, &in_a));

    let Ok(tips) = tip_ids(&a);
    a.visits.set(0);
    let budget = FilterBudget::for_tips(tips.len());
    let Ok(filter) = Filter::build(&a, seed.to_le_bytes(), budget);
    let filter = filter.expect("A is not empty");
    let visits = a.visits.get();

    let matcher = filter.matcher().expect("a valid filter");
    let Ok(sent) = difference_by(&b, Heads::Tips, |_, node| {
        tips.binary_search(&node.id).is_ok() || matcher.contains(&node.id, node.height)
    });
    let sent: Vec<usize> = sent.iter().map(|at| b.world_number(at)).collect();
    let missing = (0..world.len())
        .filter(|at| in_b[*at] && !in_a[*at])
        .count();
    let redundant = sent.iter().filter(|at| a.has(**at)).count();
    Exchange {
        missing,
        redundant,
        is_incomplete: sent.len() - redundant != missing,
        tips: tips.len(),
        request_bytes: REQUEST_HEAD_BYTES + 32 * tips.len() + filter.encoded_bytes(),
        filter_entries: filter.entry_count() as usize,
        visits,
    }
}

/// What the exchanges of one shape came to.
struct Row {
    name: String,
    exchanges: Vec<Exchange>,
}

impl Row {
    fn of(
        name: impl Into<String>,
        pairs: usize,
        mut one: impl FnMut(&mut Rng) -> Exchange,
    ) -> Self {
        let exchanges = (0..pairs as u64).map(|pair| one(&mut Rng(pair << 32 | 7)));
        Self {
            name: name.into(),
            exchanges: exchanges.collect(),
        }
    }

    fn mean(&self, of: impl Fn(&Exchange) -> usize) -> f64 {
        let sum: usize = self.exchanges.iter().map(of).sum();
        sum as f64 / self.exchanges.len() as f64
    }

    fn max(&self, of: impl Fn(&Exchange) -> usize) -> usize {
        self.exchanges.iter().map(of).max().unwrap_or(0)
    }

    fn incomplete(&self) -> usize {
        self.exchanges.iter().filter(|e| e.is_incomplete).count()
    }

    /// Fails unless the row keeps what the protocol promises.
    fn assert_promises(&self) {
        let name = &self.name;
        let (incomplete, pairs) = (self.incomplete(), self.exchanges.len());
        assert!(
            incomplete * 200 <= pairs,
            "{name}: {incomplete} of {pairs} ask again"
        );
        for few_tips in self.exchanges.iter().filter(|e| e.tips <= 8) {
            let bytes = few_tips.request_bytes;
            assert!(bytes <= 700, "{name}: a request takes {bytes} bytes");
        }
        let allowed = self.mean(|e| e.missing) * 0.03 + 32.0;
        let redundant = self.mean(|e| e.redundant);
        assert!(
            redundant <= allowed,
            "{name}: {redundant} redundant, {allowed} allowed"
        );
    }
}

fn row(name: &str, pairs: usize, shape: impl Fn(&mut Rng) -> Pair) -> Row {
    Row::of(name, pairs, |rng| {
        let Pair { world, a, b } = shape(rng);
        exchange(&world, &a, &b, rng.next())
    })
}

fn drawn_rows(pairs: usize) -> Vec<Row> {
    let few = pairs.div_ceil(8);
    vec![
        row("line, both wrote 10", pairs, |rng| shapes::line(rng, 10)),
        row("line, both wrote 100", pairs, |rng| shapes::line(rng, 100)),
        row("line, both wrote 1,000", pairs, |rng| {
            shapes::line(rng, 1_000)
        }),
        row("line, both wrote 10,000", pairs, |rng| {
            shapes::line(rng, 10_000)
        }),
        row("1,000 chains, 10 written on", few, shapes::wide),
        row("100 chains, all forked", pairs, |rng| {
            shapes::all_forked(rng, 100)
        }),
        row("1,000 chains, all forked", few, |rng| {
            shapes::all_forked(rng, 1_000)
        }),
        row("braid", pairs, shapes::braid),
        row("criss-cross", pairs, shapes::criss_cross),
        row("old branches forked", pairs, shapes::old_branches),
        row("5 stale chains", pairs, |rng| shapes::stale_chains(rng, 5)),
        row("200 stale chains", pairs, |rng| {
            shapes::stale_chains(rng, 200)
        }),
        row("8 devices", pairs, shapes::eight_devices),
    ]
}

fn history_rows(world: &World, pairs: usize) -> Vec<Row> {
    let row = |window| {
        Row::of(format!("history, window of {window}"), pairs, |rng| {
            let (a, b) = shapes::heads_in_window(world, rng, window);
            exchange(world, &a, &b, rng.next())
        })
    };
    [50, 500, 2_000, 10_000].map(row).into()
}

#[test]
fn one_request_brings_everything_in_few_bytes_and_almost_nothing_in_vain() {
    for row in drawn_rows(8) {
        row.assert_promises();
    }
}

/// Takes minutes without optimisation. `EIDETICA_HISTORY` may name an unpacked history.
#[test]
#[ignore = "prints a table for people, from many pairs"]
#[expect(clippy::print_stdout, reason = "printing the table is what it is for")]
#[expect(
    clippy::disallowed_methods,
    reason = "a person names the history to read"
)]
fn table() {
    let pairs = std::env::var("EIDETICA_PAIRS").map_or(200, |n| n.parse().expect("a number"));
    let mut rows = drawn_rows(pairs);
    if let Ok(path) = std::env::var("EIDETICA_HISTORY") {
        let text = std::fs::read_to_string(path).expect("a readable history");
        rows.extend(history_rows(&shapes::history(&text), pairs));
    }
    println!(
        "| tree | pairs | missing | asked again | request bytes (max) | filter entries | redundant (max) | allowed | entries read |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for row in &rows {
        println!(
            "| {} | {} | {:.0} | {} | {:.0} ({}) | {:.0} | {:.1} ({}) | {:.0} | {:.0} ({}) |",
            row.name,
            row.exchanges.len(),
            row.mean(|e| e.missing),
            row.incomplete(),
            row.mean(|e| e.request_bytes),
            row.max(|e| e.request_bytes),
            row.mean(|e| e.filter_entries),
            row.mean(|e| e.redundant),
            row.max(|e| e.redundant),
            row.mean(|e| e.missing) * 0.03 + 32.0,
            row.mean(|e| e.visits),
            row.max(|e| e.visits),
        );
    }
    rows.iter().for_each(Row::assert_promises);
}
