//! Makes a failing run smaller.

use std::time::Duration;

use xtask_support::now;

use crate::plan::Plan;
use crate::world;

/// Most runs that are tried.
const RUNS_MAX: usize = 300;

/// How long is looked: a run that fails to settle takes seconds.
const TIME_MAX: Duration = Duration::from_secs(60);

/// Leaves out steps as long as the same invariant breaks, half of them first and single ones last
/// (after Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", 2002).
pub fn shrink(plan: &Plan, rule: &str) -> Plan {
    let mut kept = plan.numbers();
    let (began, mut runs) = (now(), 0);
    let has_time = |runs| runs < RUNS_MAX && began.elapsed() < TIME_MAX;
    let mut chunk = kept.len().div_ceil(2).max(1);
    loop {
        let mut start = 0;
        let mut has_shrunk = false;
        while start < kept.len() && has_time(runs) {
            let end = (start + chunk).min(kept.len());
            let fewer: Vec<usize> = kept[..start].iter().chain(&kept[end..]).copied().collect();
            runs += 1;
            if fails(&plan.only(&fewer), rule) {
                kept = fewer;
                has_shrunk = true;
            } else {
                start = end;
            }
        }
        if !has_time(runs) || (chunk == 1 && !has_shrunk) {
            return plan.only(&kept);
        }
        chunk = match chunk {
            1 => 1,
            chunk => chunk.div_ceil(2),
        };
    }
}

fn fails(plan: &Plan, rule: &str) -> bool {
    let outcome = world::run(plan, false);
    outcome
        .violations
        .iter()
        .any(|violation| violation.rule == rule)
}
