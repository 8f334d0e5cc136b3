//! What happens in a run, drawn from a seed: nodes, what their users do, and what goes wrong.

use std::fmt;

use eidetica_dag::Role;

use crate::lie::Lie;

/// A run. The same plan always runs in the same way.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed, from which everything else follows.
    pub seed: u64,
    /// Whether connections prove the keys of both sides.
    pub proves_keys: bool,
    /// The nodes at the start.
    pub hosts: Vec<HostPlan>,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// A node.
#[derive(Debug, Clone)]
pub struct HostPlan {
    /// Whether its store is on a disk, which a power cut leaves with what was synced. Otherwise the store
    /// is in memory, and outlives the node.
    pub has_disk: bool,
    /// Whether it follows those who make contact.
    pub follows_callers: bool,
    /// The delay of its link, in milliseconds.
    pub latency_ms: u32,
}

/// Something that happens at a time.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its place in the plan as it was drawn.
    pub number: usize,
    /// When, in milliseconds.
    pub at_ms: u64,
    /// What.
    pub deed: Deed,
}

/// What a user does or what goes wrong. Nodes and trees are numbers.
#[derive(Debug, Clone)]
pub enum Deed {
    /// A node makes a tree, with a role for anyone and roles for others.
    Create {
        node: usize,
        tree: usize,
        anyone: Option<Role>,
        roles: Vec<(usize, Role)>,
    },
    /// A node appends entries.
    Append {
        node: usize,
        tree: usize,
        entries: u32,
        bytes: u32,
    },
    Grant {
        node: usize,
        tree: usize,
        to: usize,
        role: Role,
    },
    Revoke {
        node: usize,
        tree: usize,
        from: usize,
    },
    Follow {
        node: usize,
        peer: usize,
        tree: usize,
        gives: bool,
    },
    Unfollow {
        node: usize,
        peer: usize,
        tree: usize,
    },
    /// A node accepts trees from another one.
    Accept { node: usize, peer: usize },
    /// A sync by hand.
    Sync {
        node: usize,
        peer: usize,
        tree: usize,
    },
    /// A node asks to join, with an invite or without.
    Join {
        node: usize,
        peer: usize,
        tree: usize,
        role: Role,
        has_invite: bool,
    },
    /// An admin approves all requests.
    Approve { node: usize, tree: usize },
    /// A node serves at another address from now on.
    Move { node: usize },

    /// Nothing gets from one node to another one, or in both directions.
    Block {
        from: usize,
        to: usize,
        both: bool,
        for_ms: u64,
    },
    /// Nothing gets to a node or away from it.
    Isolate { node: usize, for_ms: u64 },
    /// A node's link carries few bytes.
    Slow {
        node: usize,
        bytes_per_s: u32,
        for_ms: u64,
    },
    /// A node takes requests and does not answer.
    Hang { node: usize, for_ms: u64 },
    /// One in so many exchanges with a node is cut somewhere.
    Cut {
        node: usize,
        one_in: u32,
        for_ms: u64,
    },
    /// What a node sends arrives once more, later.
    Replay { node: usize, for_ms: u64 },
    /// A node's process stands still.
    Freeze { node: usize, for_ms: u64 },
    /// A power cut, and a new start.
    Crash { node: usize, down_ms: u64 },
    /// A node is shut down in order, and started again.
    Restart { node: usize, down_ms: u64 },
    /// Somebody makes a backup of a disk.
    Backup { node: usize },
    /// Somebody starts a node on its backup.
    Restore { node: usize, down_ms: u64 },
    /// Somebody starts a copy of a node on another machine.
    Copy { node: usize },
    /// A clock is set.
    ClockJump { node: usize, by_ms: i64 },
    /// A clock goes wrong, in millionths.
    ClockDrift { node: usize, ppm: i32 },
    /// A disk is full.
    Full { node: usize, for_ms: u64 },
    /// Writes to a store fail.
    WriteErrors { node: usize, writes: u32 },
    /// A node lies.
    Lie { node: usize, lie: Lie, for_ms: u64 },
    /// A stranger sends many requests at once.
    Flood { node: usize, requests: u32 },
}

impl Deed {
    /// Returns its name in counts and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Append { .. } => "append",
            Self::Grant { .. } => "grant",
            Self::Revoke { .. } => "revoke",
            Self::Follow { .. } => "follow",
            Self::Unfollow { .. } => "unfollow",
            Self::Accept { .. } => "accept",
            Self::Sync { .. } => "sync",
            Self::Join { .. } => "join",
            Self::Approve { .. } => "approve",
            Self::Move { .. } => "move",
            Self::Block { both: true, .. } => "fault: partition",
            Self::Block { both: false, .. } => "fault: one-way partition",
            Self::Isolate { .. } => "fault: isolation",
            Self::Slow { .. } => "fault: slow link",
            Self::Hang { .. } => "fault: hung node",
            Self::Cut { .. } => "fault: cut connections",
            Self::Replay { .. } => "fault: duplication",
            Self::Freeze { .. } => "fault: paused process",
            Self::Crash { .. } => "fault: power cut",
            Self::Restart { .. } => "restart",
            Self::Backup { .. } => "backup",
            Self::Restore { .. } => "fault: restored backup",
            Self::Copy { .. } => "fault: copied store",
            Self::ClockJump { .. } => "fault: clock jump",
            Self::ClockDrift { .. } => "fault: clock drift",
            Self::Full { .. } => "fault: full disk",
            Self::WriteErrors { .. } => "fault: write errors",
            Self::Lie { .. } => "fault: lying node",
            Self::Flood { .. } => "fault: flood",
        }
    }

    /// Returns when it is over, in milliseconds after it began.
    pub fn lasts_ms(&self) -> u64 {
        match self {
            Self::Block { for_ms, .. }
            | Self::Isolate { for_ms, .. }
            | Self::Slow { for_ms, .. }
            | Self::Hang { for_ms, .. }
            | Self::Cut { for_ms, .. }
            | Self::Replay { for_ms, .. }
            | Self::Freeze { for_ms, .. }
            | Self::Full { for_ms, .. }
            | Self::Lie { for_ms, .. } => *for_ms,
            Self::Crash { down_ms, .. }
            | Self::Restart { down_ms, .. }
            | Self::Restore { down_ms, .. } => *down_ms,
            _ => 0,
        }
    }
}

impl Plan {
    /// Returns when every fault is over, in milliseconds.
    pub fn ends_ms(&self) -> u64 {
        let ends = self
            .steps
            .iter()
            .map(|step| step.at_ms + step.deed.lasts_ms());
        ends.max().unwrap_or(0)
    }

    /// Returns whether a node lies in it.
    pub fn has_lies(&self) -> bool {
        let mut deeds = self.steps.iter().map(|step| &step.deed);
        deeds.any(|deed| matches!(deed, Deed::Lie { .. }))
    }

    /// Returns the plan with those steps alone whose numbers are listed.
    #[must_use]
    pub fn only(&self, numbers: &[usize]) -> Self {
        let mut plan = self.clone();
        plan.steps.retain(|step| numbers.contains(&step.number));
        plan
    }

    /// Returns the numbers of its steps.
    pub fn numbers(&self) -> Vec<usize> {
        self.steps.iter().map(|step| step.number).collect()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proves = match self.proves_keys {
            true => "connections prove keys",
            false => "requests are signed",
        };
        writeln!(
            f,
            "seed {}: {} nodes, {proves}",
            self.seed,
            self.hosts.len()
        )?;
        for (number, host) in self.hosts.iter().enumerate() {
            let store = if host.has_disk { "disk" } else { "memory" };
            let callers = if host.follows_callers {
                ", follows callers"
            } else {
                ""
            };
            writeln!(
                f,
                "  node {number}: {store}, {} ms{callers}",
                host.latency_ms
            )?;
        }
        for step in &self.steps {
            let seconds = step.at_ms as f64 / 1_000.0;
            writeln!(f, "  {:>3}  {seconds:>8.3} s  {:?}", step.number, step.deed)?;
        }
        Ok(())
    }
}
