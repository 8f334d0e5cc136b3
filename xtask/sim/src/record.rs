//! What happened in a run: a log for people, counts, and the invariants that broke.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// How many broken invariants are kept: the first one leads to the cause.
const VIOLATIONS_KEPT_MAX: usize = 8;

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The invariant's name.
    pub rule: &'static str,
    /// What was found.
    pub text: String,
}

/// The record of one run. Clones are the same record.
#[derive(Clone)]
pub struct Record(Arc<Mutex<State>>);

struct State {
    began: Instant,
    /// The lines of the log, if anyone reads them.
    lines: Option<Vec<String>>,
    counts: BTreeMap<&'static str, u64>,
    violations: Vec<Violation>,
}

impl Record {
    /// Begins a record now.
    pub fn begin(keeps_log: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            began: Instant::now(),
            lines: keeps_log.then(Vec::new),
            counts: BTreeMap::new(),
            violations: Vec::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line to the log.
    pub fn log(&self, line: impl FnOnce() -> String) {
        let mut state = self.lock();
        let at = state.began.elapsed();
        if let Some(lines) = &mut state.lines {
            lines.push(format!("{:>10.3} {}", at.as_secs_f64(), line()));
        }
    }

    /// Counts something.
    pub fn count(&self, what: &'static str) {
        self.add(what, 1);
    }

    /// Counts several.
    pub fn add(&self, what: &'static str, number: u64) {
        *self.lock().counts.entry(what).or_default() += number;
    }

    /// Notes that an invariant does not hold.
    pub fn violated(&self, rule: &'static str, text: impl Into<String>) {
        let text = text.into();
        self.log(|| format!("VIOLATED {rule}: {text}"));
        let mut state = self.lock();
        if state.violations.len() < VIOLATIONS_KEPT_MAX {
            state.violations.push(Violation { rule, text });
        }
    }

    /// Notes an invariant that says why it does not hold.
    pub fn check(&self, rule: &'static str, holds: Result<(), String>) {
        self.count("checks of invariants");
        if let Err(text) = holds {
            self.violated(rule, text);
        }
    }

    /// Tells whether an invariant broke.
    pub fn has_violations(&self) -> bool {
        !self.lock().violations.is_empty()
    }

    /// Returns what was recorded.
    pub fn outcome(&self) -> Outcome {
        let mut state = self.lock();
        Outcome {
            violations: std::mem::take(&mut state.violations),
            counts: std::mem::take(&mut state.counts),
            lines: state.lines.take().unwrap_or_default(),
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The invariants that did not hold, in the order in which that was seen.
    pub violations: Vec<Violation>,
    /// How often what happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// The log, if it was kept.
    pub lines: Vec<String>,
}
