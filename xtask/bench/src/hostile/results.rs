//! The figures of an attack, and their targets.

use std::time::Duration;

use clap::ValueEnum;
use xtask_support::figures::quantile;
use xtask_support::report::{Cell, Report, Table, Target, mib};

use super::bombs::Answer;
use super::honest::Syncs;
use super::{Stall, Stood};
use crate::nodes::TransportKind;

/// Most memory that the attack may cost the server.
const MEMORY_BYTES_MAX: u64 = 64 << 20;

/// Longest time until the server has closed every connection that stalls.
const CLOSED_MAX: Duration = Duration::from_secs(10);

/// How much slower honest clients may be.
const SLOWER_MAX: f64 = 2.0;

/// By how much a sync on a fresh connection may be slower in any case: over iroh, a crowded server
/// asks newcomers to show that packets reach them.
const FRESH_SLOWER_MAX_MS: f64 = 50.0;

/// Places of the tables and targets in the report.
const MEMORY: usize = 0;
const STOOD: usize = 1;
const HONEST: usize = 2;
const BOMBS: usize = 3;
const REFUSED: usize = 4;

/// All figures.
pub(super) struct Results {
    pub(super) report: Report,
}

impl Results {
    pub(super) fn new() -> Self {
        let memory = Table::new(
            "Memory of the server under stalled connections",
            &[
                ("transport", "transport"),
                ("connections", "connections"),
                ("idle MiB", "idle_mib"),
                ("peak over idle, MiB", "peak_over_idle_mib"),
            ],
        );
        let stood = Table::new(
            "How long stalled connections were open",
            &[
                ("transport", "transport"),
                ("stalled after", "stalled_after"),
                ("connections", "connections"),
                ("median s", "median_s"),
                ("longest s", "longest_s"),
            ],
        );
        let honest = Table::new(
            "Honest syncs, without and with the attack",
            &[
                ("transport", "transport"),
                ("syncs", "syncs"),
                ("quiet", "quiet_count"),
                ("median ms", "quiet_median_ms"),
                ("p99 ms", "quiet_p99_ms"),
                ("attacked", "attacked_count"),
                ("median ms", "attacked_median_ms"),
                ("p99 ms", "attacked_p99_ms"),
                ("failed", "attacked_failed"),
            ],
        );
        let bombs = Table::new(
            "Requests that are too large",
            &[
                ("transport", "transport"),
                ("request", "request"),
                ("answer", "answer"),
                ("peak over idle, MiB", "peak_over_idle_mib"),
            ],
        );
        let targets = [
            "at most 64 MiB of memory for stalled connections",
            "stalled connections are closed within 10 s",
            "the p99 of honest syncs is less than doubled, or 50 ms more on fresh connections",
            "what is too large is refused, for at most 64 MiB",
            "no honest sync fails",
        ];
        let tables = vec![memory, stood, honest, bombs];
        Self {
            report: Report {
                tables,
                targets: targets.map(Target::new).into(),
            },
        }
    }

    pub(super) fn memory(
        &mut self,
        transport: TransportKind,
        connections: usize,
        idle: Option<u64>,
        peak: Option<u64>,
    ) {
        let name = transport.name();
        let fine = peak.is_some_and(|peak| peak <= MEMORY_BYTES_MAX);
        self.report.targets[MEMORY].check(fine, || format!("{name}: {} MiB", mib(peak)));
        self.report.tables[MEMORY].push(vec![
            name.into(),
            connections.into(),
            mib(idle),
            mib(peak),
        ]);
    }

    pub(super) fn stood(&mut self, transport: TransportKind, all: &[Stood]) {
        let seconds = |time: Duration| Cell::Number(time.as_secs_f64(), 1);
        for stall in Stall::value_variants() {
            let these: Vec<&Stood> = all.iter().filter(|stood| stood.stall == *stall).collect();
            if these.is_empty() {
                continue;
            }
            let times: Vec<Duration> = these.iter().filter_map(|stood| stood.time).collect();
            let longest = times.iter().max().copied();
            let (over, under) = (transport.name(), stall.name());
            self.report.targets[STOOD].check(longest.is_none_or(|it| it <= CLOSED_MAX), || {
                format!(
                    "{over}, {under}: {:.1} s",
                    longest.unwrap_or_default().as_secs_f64()
                )
            });
            let median = longest.map(|_| seconds(quantile(&times, 0.5)));
            self.report.tables[STOOD].push(vec![
                over.into(),
                under.into(),
                these.len().into(),
                median.into(),
                longest.map(seconds).into(),
            ]);
        }
    }

    pub(super) fn honest(
        &mut self,
        transport: TransportKind,
        fresh: bool,
        quiet: &Syncs,
        attacked: &Syncs,
    ) {
        let (before, after) = (quiet.quantile_ms(0.99), attacked.quantile_ms(0.99));
        let (which, slower_max) = match fresh {
            true => (
                "each on a fresh one",
                (SLOWER_MAX * before).max(before + FRESH_SLOWER_MAX_MS),
            ),
            false => ("on one connection", SLOWER_MAX * before),
        };
        let place = format!("{}, {which}", transport.name());
        let fine = after < slower_max && attacked.count() > 0;
        let targets = &mut self.report.targets;
        targets[HONEST].check(fine, || format!("{place}: {before:.1} to {after:.1} ms"));
        let failures = &attacked.failures;
        targets[REFUSED].check(failures.is_empty(), || {
            format!(
                "{place}: {}, the first because of: {}",
                failures.len(),
                failures[0]
            )
        });
        self.report.tables[HONEST].push(vec![
            transport.name().into(),
            which.into(),
            quiet.count().into(),
            Cell::Number(quiet.quantile_ms(0.5), 2),
            Cell::Number(before, 2),
            attacked.count().into(),
            Cell::Number(attacked.quantile_ms(0.5), 2),
            Cell::Number(after, 2),
            failures.len().into(),
        ]);
    }

    pub(super) fn bomb(
        &mut self,
        transport: TransportKind,
        request: &'static str,
        answer: &Answer,
        peak: Option<u64>,
    ) {
        let name = transport.name();
        let fine = answer.is_refusal() && peak.is_some_and(|peak| peak <= MEMORY_BYTES_MAX);
        self.report.targets[BOMBS].check(fine, || {
            format!("{name}, {request}: {answer}, {} MiB", mib(peak))
        });
        let row = vec![
            name.into(),
            request.into(),
            answer.to_string().into(),
            mib(peak),
        ];
        self.report.tables[BOMBS].push(row);
    }
}
