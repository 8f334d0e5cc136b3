//! A world of one coordinator and its peers: what they hold, how fast and whether they answer.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use super::{peer, tree};

/// How long a driver waits for a peer that accepts and says nothing.
pub(super) const TIMEOUT_MS: u64 = 30_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Up,
    /// Connections fail at once.
    Down,
    /// Connections are accepted, and nothing follows.
    Suspended,
    /// Every request is turned away with this pause.
    Busy(u64),
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Log {
    pub(super) order: Vec<u64>,
    pub(super) set: BTreeSet<u64>,
}

impl Log {
    pub(super) fn add(&mut self, entry: u64) -> bool {
        let is_new = self.set.insert(entry);
        if is_new {
            self.order.push(entry);
        }
        is_new
    }

    pub(super) fn cursor(&self) -> PeerCursor {
        PeerCursor::new(&(self.order.len() as u64).to_be_bytes()).expect("short")
    }
}

#[derive(Debug)]
pub(super) struct SimPeer {
    pub(super) mode: Mode,
    /// One way.
    pub(super) latency_ms: u64,
    /// A tree that is absent here is not there.
    pub(super) trees: BTreeMap<TreeId, Log>,
    pub(super) accepts_gifts: bool,
    pub(super) read_only: bool,
    /// Our watch of it: up to where it was read, or nothing for a tree that is awaited.
    watch: Option<(ExchangeId, BTreeMap<TreeId, Option<usize>>)>,
    /// It says of every awaited tree at once that it can be read.
    pub(super) announces_all: bool,
    pub(super) can_watch: bool,
    /// Its watch of us, by our arrivals.
    pub(super) inbound: Option<(InboundWatch, BTreeMap<TreeId, usize>)>,
}

#[derive(Debug, Clone)]
enum Event {
    Answer(ExchangeId),
    End(ExchangeId, Option<Outcome>),
    Frames(u32),
    Inbound(u32),
}

pub(super) struct Sim {
    pub(super) coordinator: Coordinator,
    pub(super) now_ms: u64,
    events: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    next_entry: u64,
    pub(super) ours: BTreeMap<TreeId, Log>,
    pub(super) peers: BTreeMap<u32, SimPeer>,
    pub(super) under_way: BTreeMap<ExchangeId, Action>,
    /// All that was done, with its time.
    pub(super) log: Vec<(u64, Action)>,
    /// When each entry came to each peer.
    pub(super) delivered: BTreeMap<(u32, u64), u64>,
    /// Arrivals here that peers brought.
    pub(super) brought: BTreeMap<(u32, TreeId), BTreeSet<u32>>,
    /// Entries that a peer was sent and had.
    pub(super) redundant: u64,
    /// Decides the outcome of an exchange in place of its peer.
    pub(super) fate: Option<fn(u64) -> Option<Outcome>>,
    fate_draws: u64,
    pub(super) options: Options,
}

pub(super) fn number(of: PeerId) -> u32 {
    let [a, b, c, d, ..] = *of.as_bytes();
    u32::from_be_bytes([a, b, c, d])
}

impl Sim {
    pub(super) fn new(options: Options, seed: u64) -> Self {
        Self {
            coordinator: Coordinator::new(options, seed),
            now_ms: 0,
            events: BTreeMap::new(),
            next_event: 0,
            next_entry: 0,
            ours: BTreeMap::new(),
            peers: BTreeMap::new(),
            under_way: BTreeMap::new(),
            log: Vec::new(),
            delivered: BTreeMap::new(),
            brought: BTreeMap::new(),
            redundant: 0,
            fate: None,
            fate_draws: seed,
            options,
        }
    }

    /// Peers without end points of their own, each with these trees as they are here.
    pub(super) fn with_peers(
        &mut self,
        numbers: impl IntoIterator<Item = u32>,
        trees: impl IntoIterator<Item = u32> + Clone,
    ) {
        for number in numbers {
            self.add_peer(number);
            for of in trees.clone() {
                self.share(number, of);
            }
        }
    }

    pub(super) fn add_peer(&mut self, number: u32) {
        let sim_peer = SimPeer {
            mode: Mode::Up,
            latency_ms: 5,
            trees: BTreeMap::new(),
            accepts_gifts: false,
            read_only: false,
            watch: None,
            announces_all: false,
            can_watch: true,
            inbound: None,
        };
        self.peers.insert(number, sim_peer);
    }

    /// Both sides have the tree, equal, and it is followed.
    pub(super) fn share(&mut self, number: u32, of: u32) {
        let ours = self.ours.entry(tree(of)).or_default();
        if ours.order.is_empty() {
            ours.add(1_000_000_000 + u64::from(of));
        }
        let theirs = ours.clone();
        self.at(number).trees.insert(tree(of), theirs);
        self.follow(number, of, FollowOptions::default());
    }

    pub(super) fn at(&mut self, number: u32) -> &mut SimPeer {
        self.peers.get_mut(&number).expect("a peer")
    }

    pub(super) fn head(&self, of: u32) -> u32 {
        self.ours
            .get(&tree(of))
            .map_or(0, |it| it.order.len() as u32)
    }

    pub(super) fn follow(&mut self, number: u32, of: u32, options: FollowOptions) {
        let (head, now_ms) = (self.head(of), self.now_ms);
        self.coordinator
            .handle_follow(peer(number), tree(of), options, head, now_ms)
            .expect("there is room");
        if let Some((watch, positions)) = &self.at(number).inbound
            && positions.contains_key(&tree(of))
        {
            let watch = *watch;
            self.coordinator
                .handle_watched(peer(number), watch, [tree(of)], now_ms);
        }
    }

    /// Writes an entry here.
    pub(super) fn write(&mut self, of: u32) -> u64 {
        let entry = self.new_entry();
        let log = self.ours.entry(tree(of)).or_default();
        log.add(entry);
        let head = log.order.len() as u32;
        let now_ms = self.now_ms;
        self.coordinator
            .handle_stored(tree(of), head - 1..head, Origin::Local, now_ms);
        self.wake_inbound();
        entry
    }

    fn new_entry(&mut self) -> u64 {
        self.next_entry += 1;
        self.next_entry
    }

    /// A peer writes an entry.
    pub(super) fn peer_writes(&mut self, number: u32, of: u32) -> u64 {
        let entry = self.new_entry();
        self.at(number)
            .trees
            .entry(tree(of))
            .or_default()
            .add(entry);
        let latency_ms = self.at(number).latency_ms;
        self.event_in(latency_ms, Event::Frames(number));
        entry
    }

    fn wake_inbound(&mut self) {
        let watching: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, it)| it.inbound.is_some())
            .collect();
        let watching: Vec<_> = watching
            .iter()
            .map(|(n, it)| (**n, it.latency_ms))
            .collect();
        for (number, latency_ms) in watching {
            self.event_in(latency_ms, Event::Inbound(number));
        }
    }

    /// A peer watches these trees here, from its own place on.
    pub(super) fn watch_us(&mut self, number: u32, watch: InboundWatch, trees: &[u32]) {
        let positions = trees.iter().map(|of| {
            let theirs = self.peers[&number].trees.get(&tree(*of));
            let ours = self
                .ours
                .get(&tree(*of))
                .map_or(&[][..], |it| &it.order[..]);
            let has = |entry: &&u64| theirs.is_some_and(|it| it.set.contains(*entry));
            (tree(*of), ours.iter().take_while(has).count())
        });
        let positions: BTreeMap<_, _> = positions.collect();
        self.at(number).inbound = Some((watch, positions));
        let now_ms = self.now_ms;
        let trees: Vec<_> = trees.iter().map(|of| tree(*of)).collect();
        self.coordinator
            .handle_watched(peer(number), watch, trees, now_ms);
        self.wake_inbound();
    }

    pub(super) fn stop_watching_us(&mut self, number: u32) {
        if let Some((watch, _)) = self.at(number).inbound.take() {
            let now_ms = self.now_ms;
            self.coordinator
                .handle_watch_stopped(peer(number), watch, now_ms);
        }
    }

    fn event_in(&mut self, wait_ms: u64, event: Event) {
        self.next_event += 1;
        self.events
            .insert((self.now_ms + wait_ms, self.next_event), event);
    }

    /// Runs everything that happens until a time.
    pub(super) fn run_until(&mut self, until_ms: u64) {
        loop {
            self.act();
            let event_ms = self.events.first_key_value().map(|((at_ms, _), _)| *at_ms);
            let wake_ms = self.coordinator.poll_wake();
            let next_ms = event_ms.into_iter().chain(wake_ms).min();
            let Some(next_ms) = next_ms.filter(|at_ms| *at_ms <= until_ms) else {
                self.now_ms = self.now_ms.max(until_ms);
                return;
            };
            self.now_ms = self.now_ms.max(next_ms);
            if let Some(entry) = self.events.first_entry()
                && entry.key().0 <= self.now_ms
            {
                let event = entry.remove();
                self.handle(event);
            }
        }
    }

    pub(super) fn run_for(&mut self, for_ms: u64) {
        self.run_until(self.now_ms + for_ms);
    }

    /// Virtual time passes, and this process does not run.
    pub(super) fn sleep(&mut self, for_ms: u64) {
        self.now_ms += for_ms;
    }

    fn act(&mut self) {
        while let Some(action) = self.coordinator.poll_action(self.now_ms) {
            self.begin(&action);
            self.log.push((self.now_ms, action));
        }
        self.check_quotas();
    }

    fn begin(&mut self, action: &Action) {
        let (id, of) = match action {
            Action::Check { id, peer, .. }
            | Action::Sync { id, peer, .. }
            | Action::Push { id, peer, .. }
            | Action::Give { id, peer, .. } => (*id, number(*peer)),
            Action::Watch {
                id,
                peer,
                trees,
                replaces,
            } => {
                self.under_way.insert(*id, action.clone());
                self.begin_watch(*id, number(*peer), trees, *replaces);
                return;
            }
            Action::StopWatch { id } | Action::Abandon { id } => {
                self.events
                    .retain(|_, event| !matches!(event, Event::End(of, _) if of == id));
                self.event_in(0, Event::End(*id, Some(Outcome::Abandoned)));
                return;
            }
            Action::Swap { peer, .. } => {
                let now_ms = self.now_ms;
                self.coordinator.handle_swapped(*peer, now_ms);
                return;
            }
            Action::StatusChanged { .. } => return,
        };
        self.under_way.insert(id, action.clone());
        self.fate_draws += 1;
        let fate = self.fate.and_then(|fate| fate(self.fate_draws));
        let of_peer = &self.peers[&of];
        let latency_ms = of_peer.latency_ms;
        match of_peer.mode {
            Mode::Up => {
                self.event_in(latency_ms * 2, Event::Answer(id));
                self.event_in(latency_ms * 2, Event::End(id, fate));
            }
            Mode::Down => {
                let failed = Outcome::Unreachable(UnreachableReason::NoConnection);
                self.event_in(1, Event::End(id, Some(failed)));
            }
            Mode::Suspended => {
                let failed = Outcome::Unreachable(UnreachableReason::NoAnswer);
                self.event_in(TIMEOUT_MS, Event::End(id, Some(failed)));
            }
            Mode::Busy(pause_ms) => {
                let busy = Outcome::RetryAfter(pause_ms);
                self.event_in(latency_ms * 2, Event::End(id, Some(busy)));
            }
        }
    }

    fn begin_watch(
        &mut self,
        id: ExchangeId,
        of: u32,
        trees: &[(TreeId, PeerCursor)],
        replaces: Option<ExchangeId>,
    ) {
        if let Some(replaced) = replaces {
            self.event_in(0, Event::End(replaced, Some(Outcome::Abandoned)));
        }
        let of_peer = &self.peers[&of];
        let latency_ms = of_peer.latency_ms;
        let outcome = match of_peer.mode {
            Mode::Up if of_peer.can_watch => {
                let position = |cursor: &PeerCursor| {
                    let bytes = cursor.as_bytes().try_into().ok()?;
                    Some(u64::from_be_bytes(bytes) as usize)
                };
                let positions = trees.iter().map(|(tree, cursor)| (*tree, position(cursor)));
                let watch = Some((id, positions.collect()));
                self.at(of).watch = watch;
                self.event_in(latency_ms * 2, Event::Answer(id));
                self.event_in(latency_ms * 2, Event::Frames(of));
                return;
            }
            Mode::Up => Outcome::Broken,
            Mode::Busy(pause_ms) => Outcome::RetryAfter(pause_ms),
            Mode::Down => Outcome::Unreachable(UnreachableReason::NoConnection),
            Mode::Suspended => {
                let failed = Outcome::Unreachable(UnreachableReason::NoAnswer);
                self.event_in(TIMEOUT_MS, Event::End(id, Some(failed)));
                return;
            }
        };
        self.event_in(latency_ms * 2, Event::End(id, Some(outcome)));
    }

    /// Cuts our watch of a peer.
    pub(super) fn cut_watch(&mut self, of: u32) {
        if let Some((id, _)) = self.at(of).watch.take() {
            let cut = Outcome::Unreachable(UnreachableReason::ConnectionLost);
            self.event_in(0, Event::End(id, Some(cut)));
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Answer(id) => {
                let now_ms = self.now_ms;
                if self.under_way.contains_key(&id) {
                    self.coordinator.handle_answered(id, now_ms);
                }
            }
            Event::End(id, outcome) => self.end(id, outcome),
            Event::Frames(of) => self.frames(of),
            Event::Inbound(of) => self.inbound(of),
        }
    }

    fn end(&mut self, id: ExchangeId, outcome: Option<Outcome>) {
        let Some(action) = self.under_way.remove(&id) else {
            return;
        };
        // What is carried out although its acknowledgement is lost.
        let lost_after_all = outcome == Some(LOST_ANSWER);
        let outcome = match outcome {
            Some(outcome) if !lost_after_all => outcome,
            _ => {
                let done = self.carry_out(&action);
                if lost_after_all { LOST_ANSWER } else { done }
            }
        };
        if let Action::Watch { peer, .. } = &action {
            let of = number(*peer);
            if self.at(of).watch.as_ref().is_some_and(|(of, _)| *of == id) {
                self.at(of).watch = None;
            }
        }
        let now_ms = self.now_ms;
        self.coordinator.handle_ended(id, outcome, now_ms);
    }

    /// Stores what a peer brought.
    pub(super) fn take(&mut self, of: u32, tree: TreeId, entries: &[u64]) {
        let log = self.ours.entry(tree).or_default();
        let before = log.order.len() as u32;
        for entry in entries {
            log.add(*entry);
        }
        let after = log.order.len() as u32;
        if after > before {
            let now_ms = self.now_ms;
            let brought = self.brought.entry((of, tree)).or_default();
            brought.extend(before..after);
            self.coordinator
                .handle_stored(tree, before..after, Origin::Peer(peer(of)), now_ms);
            self.wake_inbound();
        }
    }

    /// A peer pushes an entry of its own.
    pub(super) fn peer_pushes(&mut self, number: u32, of: u32) -> u64 {
        let entry = self.new_entry();
        self.at(number)
            .trees
            .entry(tree(of))
            .or_default()
            .add(entry);
        self.take(number, tree(of), &[entry]);
        entry
    }

    fn frames(&mut self, of: u32) {
        let of_peer = self.peers.get_mut(&of).expect("a peer");
        if of_peer.mode != Mode::Up {
            return;
        }
        let Some((id, positions)) = &mut of_peer.watch else {
            return;
        };
        let (id, mut news, mut announced) = (*id, Vec::new(), Vec::new());
        for (tree, position) in &mut *positions {
            let theirs = of_peer.trees.get(tree);
            let Some(position) = position else {
                if theirs.is_some() || of_peer.announces_all {
                    announced.push(*tree);
                }
                continue;
            };
            let Some(theirs) = theirs else {
                continue;
            };
            if *position < theirs.order.len() {
                news.push((*tree, theirs.order[*position..].to_vec(), theirs.cursor()));
                *position = theirs.order.len();
            }
        }
        for tree in &announced {
            positions.remove(tree);
        }
        let now_ms = self.now_ms;
        for tree in announced {
            self.coordinator.handle_compare_first(id, tree, now_ms);
        }
        for (tree, entries, cursor) in news {
            self.take(of, tree, &entries);
            self.coordinator.handle_news(id, tree, cursor, now_ms);
        }
    }

    fn inbound(&mut self, of: u32) {
        let now_ms = self.now_ms;
        let of_peer = self.peers.get_mut(&of).expect("a peer");
        if of_peer.mode != Mode::Up {
            return;
        }
        let Some((_, positions)) = &mut of_peer.inbound else {
            return;
        };
        for (tree, position) in positions {
            let Some(ours) = self.ours.get(tree) else {
                continue;
            };
            let theirs = of_peer.trees.entry(*tree).or_default();
            for entry in &ours.order[*position..] {
                if theirs.add(*entry) {
                    self.delivered.insert((of, *entry), now_ms);
                }
            }
            *position = ours.order.len();
        }
    }

    pub(super) fn begun(&self, from_ms: u64) -> usize {
        let begins = |action: &Action| {
            matches!(
                action,
                Action::Check { .. }
                    | Action::Sync { .. }
                    | Action::Push { .. }
                    | Action::Give { .. }
            )
        };
        let since = self.log.iter().filter(|(at_ms, _)| *at_ms >= from_ms);
        since.filter(|(_, action)| begins(action)).count()
    }

    pub(super) fn count(&self, from_ms: u64, wanted: impl Fn(&Action) -> bool) -> usize {
        let since = self.log.iter().filter(|(at_ms, _)| *at_ms >= from_ms);
        since.filter(|(_, action)| wanted(action)).count()
    }

    pub(super) fn status(&self, number: u32, of: u32) -> LaneStatus {
        let status = self.coordinator.status(peer(number), tree(of));
        status.expect("it is followed")
    }

    pub(super) fn is_in_sync(&self, number: u32, of: u32) -> bool {
        matches!(self.status(number, of), LaneStatus::InSync { .. })
    }

    /// Nothing is under way, watches apart.
    pub(super) fn under_way(&self) -> usize {
        let is_watch = |action: &&Action| matches!(action, Action::Watch { .. });
        self.under_way.values().filter(|it| !is_watch(it)).count()
    }
}

/// An exchange is carried out, and its driver does not hear of it.
pub(super) const LOST_ANSWER: Outcome = Outcome::Unreachable(UnreachableReason::ConnectionLost);
