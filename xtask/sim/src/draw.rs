//! Draws plans from seeds.

use eidetica_dag::Role;
use eidetica_dag::testing::Random;

use crate::lie::Lie;
use crate::plan::{Deed, HostPlan, Plan, Step};

/// Most nodes of a run: enough for chains, rings, and a majority beside a partition.
const HOSTS_MAX: u32 = 5;

/// Most trees of a run.
const TREES_MAX: u32 = 3;

/// How long the eventful part of a run lasts, in milliseconds: longer than a check interval, so that every
/// timer of the coordinator fires in the midst of faults.
const EVENTFUL_MS: u32 = 150_000;

/// One in so many runs is about who may do what.
const QUARRELS_ONE_IN: u32 = 4;

/// The kinds of faults. Each run has some of them: all at once would hide what one alone does.
const FAULT_KINDS: usize = 17;

impl Plan {
    /// Draws the plan of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x73_69_6d);
        let hosts = (0..2 + random.below(HOSTS_MAX - 1)).map(|_| HostPlan {
            has_disk: random.one_in(2),
            follows_callers: random.one_in(3),
            latency_ms: [1, 5, 20, 80][random.below(4) as usize],
        });
        let hosts: Vec<_> = hosts.collect();
        let mut draw = Draw {
            hosts: hosts.len(),
            trees: 1 + random.below(TREES_MAX) as usize,
            quarrels: random.one_in(QUARRELS_ONE_IN),
            random,
            steps: Vec::new(),
        };
        draw.beginnings();
        draw.workload();
        draw.faults();
        let proves_keys = draw.random.one_in(2);
        draw.steps.sort_by_key(|(at_ms, _)| *at_ms);
        let steps = draw.steps.into_iter().enumerate();
        let steps = steps.map(|(number, (at_ms, deed))| Step {
            number,
            at_ms,
            deed,
        });
        Self {
            seed,
            proves_keys,
            hosts,
            steps: steps.collect(),
        }
    }
}

struct Draw {
    random: Random,
    /// Whether admins appoint and remove each other all the time.
    quarrels: bool,
    hosts: usize,
    trees: usize,
    steps: Vec<(u64, Deed)>,
}

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        self.random.below(limit as u32) as usize
    }

    fn node(&mut self) -> usize {
        self.below(self.hosts)
    }

    fn tree(&mut self) -> usize {
        self.below(self.trees)
    }

    fn pair(&mut self) -> (usize, usize) {
        let one = self.node();
        let other = (one + 1 + self.below(self.hosts - 1)) % self.hosts;
        (one, other)
    }

    fn role(&mut self) -> Role {
        if self.quarrels && self.random.one_in(2) {
            return Role::Admin;
        }
        [Role::Read, Role::Write, Role::Write, Role::Admin][self.below(4)]
    }

    fn at(&mut self, from_ms: u32, below_ms: u32) -> u64 {
        u64::from(from_ms + self.random.below(below_ms - from_ms))
    }

    /// A duration: most are short, some are longer than every wait of a node.
    fn duration(&mut self) -> u64 {
        let longest = [300, 3_000, 30_000, 90_000][self.below(4)];
        self.at(50, longest)
    }

    fn add(&mut self, at_ms: u64, deed: Deed) {
        self.steps.push((at_ms, deed));
    }

    /// Trees, and who follows whom: a tree of nodes for each, and some edges more.
    fn beginnings(&mut self) {
        for tree in 0..self.trees {
            let founder = self.node();
            let is_open = self.random.one_in(3);
            let mut roles = Vec::new();
            for other in (0..self.hosts).filter(|other| *other != founder) {
                if !self.random.one_in(4) {
                    roles.push((other, self.role()));
                }
            }
            let at_ms = self.at(0, 2_000);
            self.add(
                at_ms,
                Deed::Create {
                    node: founder,
                    tree,
                    anyone: is_open.then_some(Role::Write),
                    roles,
                },
            );
            let mut order: Vec<usize> = (0..self.hosts).filter(|it| *it != founder).collect();
            self.random.shuffle(&mut order);
            let mut placed = vec![founder];
            for node in order {
                let peer = placed[self.below(placed.len())];
                let at_ms = self.at(2_000, 20_000);
                self.add(
                    at_ms,
                    Deed::Follow {
                        node,
                        peer,
                        tree,
                        gives: false,
                    },
                );
                placed.push(node);
            }
            for _ in 0..self.random.below(3) {
                let (node, peer) = self.pair();
                let (at_ms, gives) = (self.at(2_000, 60_000), self.random.one_in(3));
                self.add(
                    at_ms,
                    Deed::Follow {
                        node,
                        peer,
                        tree,
                        gives,
                    },
                );
                if gives {
                    let (node, peer) = (peer, node);
                    self.add(at_ms, Deed::Accept { node, peer });
                }
            }
        }
    }

    fn workload(&mut self) {
        for _ in 0..8 + self.random.below(40) {
            let at_ms = self.at(2_100, EVENTFUL_MS);
            let (node, peer) = self.pair();
            let tree = self.tree();
            let kind = match self.quarrels && self.random.one_in(2) {
                true => 9 + self.random.below(5),
                false => self.random.below(20),
            };
            let deed = match kind {
                0..9 => {
                    let entries = match self.random.below(12) {
                        0 => 20 + self.random.below(100),
                        1..4 => 2 + self.random.below(8),
                        _ => 1,
                    };
                    let bytes = match self.random.below(16) {
                        0 if entries < 10 => 30_000 + self.random.below(200_000),
                        1..4 => 1_000,
                        _ => self.random.below(60),
                    };
                    Deed::Append {
                        node,
                        tree,
                        entries,
                        bytes,
                    }
                }
                9..12 => Deed::Grant {
                    node,
                    tree,
                    to: peer,
                    role: self.role(),
                },
                12 | 13 => {
                    // Two admins may remove each other at the same time.
                    if self.random.one_in(3) {
                        let mutual = Deed::Revoke {
                            node: peer,
                            tree,
                            from: node,
                        };
                        self.add(at_ms, mutual);
                    }
                    Deed::Revoke {
                        node,
                        tree,
                        from: peer,
                    }
                }
                14 => Deed::Join {
                    node,
                    peer,
                    tree,
                    role: self.role(),
                    has_invite: self.random.one_in(2),
                },
                15 => Deed::Approve { node, tree },
                16 | 17 => Deed::Sync { node, peer, tree },
                18 => Deed::Follow {
                    node,
                    peer,
                    tree,
                    gives: false,
                },
                _ => match self.random.below(3) {
                    0 => Deed::Unfollow { node, peer, tree },
                    1 => Deed::Restart {
                        node,
                        down_ms: self.duration(),
                    },
                    _ => Deed::Move { node },
                },
            };
            self.add(at_ms, deed);
        }
    }

    fn faults(&mut self) {
        if self.random.one_in(8) {
            return;
        }
        let mut kinds: Vec<usize> = (0..FAULT_KINDS).collect();
        self.random.shuffle(&mut kinds);
        kinds.truncate(1 + self.below(5));
        for _ in 0..1 + self.random.below(12) {
            let kind = kinds[self.below(kinds.len())];
            let at_ms = self.at(1_000, EVENTFUL_MS);
            let deed = self.fault(kind, at_ms);
            self.add(at_ms, deed);
        }
    }

    fn fault(&mut self, kind: usize, at_ms: u64) -> Deed {
        let (node, other) = self.pair();
        let for_ms = self.duration();
        match kind {
            0 => Deed::Block {
                from: node,
                to: other,
                both: true,
                for_ms,
            },
            1 => Deed::Block {
                from: node,
                to: other,
                both: false,
                for_ms,
            },
            2 => Deed::Isolate { node, for_ms },
            3 => Deed::Slow {
                node,
                bytes_per_s: [500, 8_000, 100_000][self.below(3)],
                for_ms,
            },
            4 => Deed::Hang { node, for_ms },
            5 => Deed::Cut {
                node,
                one_in: 1 + self.random.below(4),
                for_ms,
            },
            6 => Deed::Replay { node, for_ms },
            7 => Deed::Freeze { node, for_ms },
            8 => Deed::Crash {
                node,
                down_ms: for_ms,
            },
            9 => {
                let before_ms = self.at(0, at_ms as u32);
                self.add(before_ms, Deed::Backup { node });
                Deed::Restore {
                    node,
                    down_ms: for_ms,
                }
            }
            10 => Deed::Copy { node },
            11 => {
                let by_ms = [5_000, 120_000, 7_200_000, 400 * 86_400_000][self.below(4)];
                let is_back = self.random.one_in(2);
                Deed::ClockJump {
                    node,
                    by_ms: if is_back { -by_ms } else { by_ms },
                }
            }
            12 => Deed::ClockDrift {
                node,
                ppm: self.random.below(200_000) as i32 - 100_000,
            },
            13 => Deed::Full { node, for_ms },
            14 => Deed::WriteErrors {
                node,
                writes: 1 + self.random.below(5),
            },
            15 => Deed::Lie {
                node,
                lie: Lie::ALL[self.below(Lie::ALL.len())],
                for_ms,
            },
            _ => Deed::Flood {
                node,
                requests: 20 + self.random.below(300),
            },
        }
    }
}
