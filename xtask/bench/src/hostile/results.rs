//! The figures of an attack, and what they are held against.

use std::time::Duration;

use super::bombs::Answer;
use super::honest::Syncs;
use super::{Stall, Stood};
use crate::nodes::TransportKind;
use crate::report::{Cell, Report, Table, Target, column};

/// Most memory that the attack may cost the server.
const MEMORY_BYTES_MAX: u64 = 64 << 20;

/// Longest time until the server has closed every connection that stalls.
const CLOSED_MAX: Duration = Duration::from_secs(10);

/// By this factor may honest clients be slowed down.
const SLOWER_MAX: f64 = 2.0;

/// By so much may a sync on a fresh connection be slower in any case: over iroh, a crowded server
/// asks newcomers to show that packets reach them.
const FRESH_SLOWER_MAX_MS: f64 = 50.0;

/// All figures.
pub(super) struct Results {
    memory: Table,
    stood: Table,
    honest: Table,
    bombs: Table,
    memory_target: Target,
    stood_target: Target,
    slower_target: Target,
    refused_target: Target,
    bombs_target: Target,
}

impl Results {
    pub(super) fn new() -> Self {
        let target = |wanted| Target {
            wanted,
            missed: vec![],
        };
        Self {
            memory: Table::new(
                "Memory of the server under stalled connections",
                const {
                    &[
                        column("transport", "transport"),
                        column("connections", "connections"),
                        column("idle MiB", "idle_mib"),
                        column("peak over idle, MiB", "peak_over_idle_mib"),
                    ]
                },
            ),
            stood: Table::new(
                "How long stalled connections stood",
                const {
                    &[
                        column("transport", "transport"),
                        column("stalled after", "stalled_after"),
                        column("connections", "connections"),
                        column("median s", "median_s"),
                        column("longest s", "longest_s"),
                    ]
                },
            ),
            honest: Table::new(
                "Syncs of others, without and with the attack",
                const {
                    &[
                        column("transport", "transport"),
                        column("syncs", "syncs"),
                        column("quiet", "quiet_count"),
                        column("median ms", "quiet_median_ms"),
                        column("p99 ms", "quiet_p99_ms"),
                        column("attacked", "attacked_count"),
                        column("median ms", "attacked_median_ms"),
                        column("p99 ms", "attacked_p99_ms"),
                        column("failed", "attacked_failed"),
                    ]
                },
            ),
            bombs: Table::new(
                "Requests that are too large",
                const {
                    &[
                        column("transport", "transport"),
                        column("request", "request"),
                        column("what came back", "answer"),
                        column("peak over idle, MiB", "peak_over_idle_mib"),
                    ]
                },
            ),
            memory_target: target("at most 64 MiB of memory for stalled connections"),
            stood_target: target("stalled connections are closed within 10 s"),
            slower_target: target(
                "the p99 of honest syncs is less than doubled, or 50 ms more on fresh connections",
            ),
            refused_target: target("no honest sync fails"),
            bombs_target: target("what is too large is refused, for at most 64 MiB"),
        }
    }

    pub(super) fn memory(
        &mut self,
        transport: TransportKind,
        connections: usize,
        idle: Option<u64>,
        peak: Option<u64>,
    ) {
        if peak.is_none_or(|peak| peak > MEMORY_BYTES_MAX) {
            let figure = mib(peak).to_string();
            self.memory_target
                .missed
                .push(format!("{}: {figure} MiB", transport.name()));
        }
        self.memory.push(vec![
            transport.name().into(),
            Cell::Count(connections as u64),
            mib(idle),
            mib(peak),
        ]);
    }

    pub(super) fn stood(&mut self, transport: TransportKind, all: &[Stood]) {
        for stall in Stall::ALL {
            let these = all.iter().filter(|stood| stood.stall == stall);
            let count = these.clone().count();
            if count == 0 {
                continue;
            }
            let mut times: Vec<Duration> = these.filter_map(|stood| stood.time).collect();
            times.sort_unstable();
            let longest = times.last().copied();
            let median = times.get(times.len() / 2).copied();
            if let Some(longest) = longest
                && longest > CLOSED_MAX
            {
                self.stood_target.missed.push(format!(
                    "{}, {}: {:.1} s",
                    transport.name(),
                    stall.name(),
                    longest.as_secs_f64()
                ));
            }
            let seconds = |time: Option<Duration>| {
                time.map_or(Cell::Absent, |time| Cell::Number(time.as_secs_f64(), 1))
            };
            self.stood.push(vec![
                transport.name().into(),
                stall.name().into(),
                Cell::Count(count as u64),
                seconds(median),
                seconds(longest),
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
        let which = match fresh {
            true => "each on a fresh one",
            false => "on one connection",
        };
        let place = format!("{}, {which}", transport.name());
        let (before, after) = (quiet.quantile_ms(0.99), attacked.quantile_ms(0.99));
        let slower_max = match fresh {
            true => (SLOWER_MAX * before).max(before + FRESH_SLOWER_MAX_MS),
            false => SLOWER_MAX * before,
        };
        if after >= slower_max || attacked.count() == 0 {
            self.slower_target
                .missed
                .push(format!("{place}: {before:.1} to {after:.1} ms"));
        }
        if let Some(first) = attacked.failures.first() {
            let count = attacked.failures.len();
            self.refused_target
                .missed
                .push(format!("{place}: {count}, the first because of: {first}"));
        }
        self.honest.push(vec![
            transport.name().into(),
            which.into(),
            Cell::Count(quiet.count() as u64),
            Cell::Number(quiet.quantile_ms(0.5), 2),
            Cell::Number(before, 2),
            Cell::Count(attacked.count() as u64),
            Cell::Number(attacked.quantile_ms(0.5), 2),
            Cell::Number(after, 2),
            Cell::Count(attacked.failures.len() as u64),
        ]);
    }

    pub(super) fn bomb(
        &mut self,
        transport: TransportKind,
        request: &'static str,
        answer: &Answer,
        peak: Option<u64>,
    ) {
        let text = answer.to_string();
        if !answer.is_refusal() || peak.is_none_or(|peak| peak > MEMORY_BYTES_MAX) {
            let figure = mib(peak).to_string();
            self.bombs_target.missed.push(format!(
                "{}, {request}: {text}, {figure} MiB",
                transport.name()
            ));
        }
        self.bombs.push(vec![
            transport.name().into(),
            request.into(),
            Cell::Text(text),
            mib(peak),
        ]);
    }

    pub(super) fn into_report(self) -> Report {
        Report {
            tables: vec![self.memory, self.stood, self.honest, self.bombs],
            targets: vec![
                self.memory_target,
                self.stood_target,
                self.slower_target,
                self.refused_target,
                self.bombs_target,
            ],
        }
    }
}

fn mib(bytes: Option<u64>) -> Cell {
    bytes.map_or(Cell::Absent, |bytes| {
        Cell::Number(bytes as f64 / f64::from(1 << 20), 1)
    })
}
