//! Runs a plan.

mod deeds;
mod end;
mod host;

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use eidetica_dag::TreeId;
use eidetica_dag::testing::Random;
use eidetica_sync::InlineBlocking;
use tokio::runtime;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::network::Network;
use crate::plan::{Deed, Plan};
use crate::record::{Outcome, Record};
use host::Host;

/// How long a run goes on after everything that the plan has ended, in milliseconds.
const AFTER_MS: u64 = 1_000;

/// One in so many pieces of blocking work takes long.
const SLOW_WORK_ONE_IN: u32 = 40;

/// What the nodes and their users share.
pub struct World {
    pub record: Record,
    pub network: Network,
    pub plan: Plan,
    began: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
pub struct State {
    pub hosts: Vec<Host>,
    /// The trees that exist, by their numbers.
    pub trees: BTreeMap<usize, TreeId>,
    /// Which node follows which one, for which tree.
    pub follows: Vec<(usize, usize, TreeId)>,
}

/// Runs a plan and returns what happened.
pub fn run(plan: &Plan, keeps_log: bool) -> Outcome {
    let runtime = runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing of the system");
    let mut random = Random::new(plan.seed ^ 0x64_69_73_6b);
    let _inline = InlineBlocking::begin(move || {
        let most_us = match random.one_in(SLOW_WORK_ONE_IN) {
            true => 60_000,
            false => 400,
        };
        Duration::from_micros(u64::from(random.below(most_us)))
    });
    let record = {
        let _entered = runtime.enter();
        Record::begin(keeps_log)
    };
    crate::panics::watch(&record);
    let world = {
        let _entered = runtime.enter();
        Arc::new(World {
            record: record.clone(),
            network: Network::new(plan.seed, &record),
            plan: plan.clone(),
            began: Instant::now(),
            state: Mutex::default(),
        })
    };
    let ran = panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(world.live())));
    if ran.is_ok() {
        let tasks = runtime.metrics().num_alive_tasks();
        let holds = match tasks {
            0 => Ok(()),
            tasks => Err(format!("{tasks} tasks")),
        };
        record.check("nothing is left running", holds);
    }
    drop(runtime);
    record.outcome()
}

impl World {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the instant after so many milliseconds of the run.
    pub fn at(&self, ms: u64) -> Instant {
        self.began + Duration::from_millis(ms)
    }

    async fn live(self: &Arc<Self>) {
        for plan in &self.plan.hosts {
            let host = Host::new(self, plan);
            self.state().hosts.push(host);
        }
        for number in 0..self.plan.hosts.len() {
            self.start(number).await;
        }
        let mut deeds = JoinSet::new();
        for step in self.plan.steps.clone() {
            sleep_until(self.at(step.at_ms)).await;
            self.record
                .log(|| format!("#{} {:?}", step.number, step.deed));
            self.check_statuses();
            let world = self.clone();
            deeds.spawn(async move { world.carry_out(step).await });
        }
        sleep_until(self.at(self.plan.ends_ms() + AFTER_MS)).await;
        self.record.log(|| "the faults are over".to_owned());
        while deeds.join_next().await.is_some() {}
        if !self.record.has_violations() {
            self.settle().await;
        }
        self.finish().await;
    }

    /// Carries out a deed. `None` if it made no sense.
    async fn carry_out(self: &Arc<Self>, step: crate::plan::Step) -> Option<()> {
        let name = step.deed.name();
        let done = match step.deed.is_fault() {
            true => self.fault(&step).await,
            false => self.deed(&step).await,
        };
        if done.is_some() {
            self.record.count(name);
        }
        done
    }
}

impl Deed {
    fn is_fault(&self) -> bool {
        self.name().starts_with("fault")
            || matches!(self, Self::Restart { .. } | Self::Backup { .. })
    }
}
