//! This side's watches of its peers.

use eidetica_dag::TreeId;

use super::{
    Action, Coordinator, ExchangeId, Need, Next, Outcome, PeerCursor, PeerId, RETRY_AFTER_MAX_MS,
    Reach, Running, State, Timer, WATCH_TREES_MAX, Wanted, What,
};

/// How long changes of the watched trees are collected before the watch is opened anew, in
/// milliseconds.
const WATCH_COLLECT_MS: u64 = 50;

/// For so many watched trees they are collected for another millisecond: opening costs in
/// proportion to the trees, so they may not be opened often. News of trees that are not watched yet
/// are not lost, for the cursor stays.
const WATCH_TREES_PER_MS: u64 = 8;

/// Shortest time between two openings, in milliseconds: a peer that answers each with "compare
/// first" is no loop.
const WATCH_SPACING_MS: u64 = 250;

/// A watch that has lived this long, in milliseconds, did not fail at once: the next one is opened
/// without a wait.
const WATCH_LIVED_MS: u64 = 10_000;

/// When a watch is tried again that the peer refused, in milliseconds. Checks bring the news
/// meanwhile.
const WATCH_REFUSED_MS: u64 = 300_000;

impl Coordinator {
    /// Notes that all entries before `cursor` that a watch brought are durable here. Costs
    /// O(log n).
    ///
    /// The entries themselves are reported with [`Coordinator::handle_stored`], before.
    pub fn handle_news(&mut self, id: ExchangeId, tree: TreeId, cursor: PeerCursor, now_ms: u64) {
        self.note_time(now_ms);
        if let Some(peer) = self.watched_peer(id) {
            if self.is_watched(peer, tree) {
                self.set_cursor(peer, tree, Some(cursor));
            }
            self.note_heard(peer);
        }
    }

    /// Notes that a watch cannot bring a tree before it is compared in full, or says that a tree can
    /// be read that the peer lacked. Costs O(log n).
    pub fn handle_compare_first(&mut self, id: ExchangeId, tree: TreeId, now_ms: u64) {
        self.note_time(now_ms);
        let Some(peer) = self.watched_peer(id) else {
            return;
        };
        if !self.is_in_watch(peer, tree) {
            return;
        }
        let was_awaited = !self.is_watched(peer, tree);
        self.set_cursor(peer, tree, None);
        self.want_watched(peer, tree, Wanted::Nothing);
        let fresh_from = ExchangeId(self.next_id);
        let Some(lane) = self.lane_mut(peer, tree) else {
            return;
        };
        if was_awaited {
            lane.announced = true;
            lane.fresh_from = fresh_from;
        }
        match lane.state {
            State::Held { .. } => {}
            State::Absent if !was_awaited => {}
            _ => self.need(peer, tree, Need::Compare),
        }
    }

    /// Notes that a watched tree is gone from the peer, or may not be read. Costs
    /// O(log n).
    pub fn handle_gone(&mut self, id: ExchangeId, tree: TreeId, now_ms: u64) {
        self.note_time(now_ms);
        let Some(peer) = self.watched_peer(id) else {
            return;
        };
        if self.is_watched(peer, tree) {
            self.set_cursor(peer, tree, None);
            // The next check decides, as for every tree that is not there.
            let state = self.lanes.get(&(peer, tree)).map(|lane| lane.state);
            match state {
                Some(State::Running { .. }) => self.need(peer, tree, Need::Compare),
                Some(State::Held { .. }) | None => {}
                Some(_) => self.place(peer, tree, Next::Unchecked),
            }
        }
    }

    fn watched_peer(&self, id: ExchangeId) -> Option<PeerId> {
        let peer = self.running.get(&id)?.peer;
        let current = self.peers.get(&peer)?.watch;
        (current == Some(id)).then_some(peer)
    }

    /// Tells whether a lane is part of the watch that runs.
    pub(super) fn is_in_watch(&self, peer: PeerId, tree: TreeId) -> bool {
        let watch = self.peers.get(&peer).and_then(|it| it.watch);
        let lane = self.lanes.get(&(peer, tree));
        watch.is_some() && lane.is_some_and(|lane| lane.watch == watch)
    }

    /// Tells whether the watch that runs brings the news of a lane.
    pub(super) fn is_watched(&self, peer: PeerId, tree: TreeId) -> bool {
        let of_peer = self.peers.get(&peer);
        let is_awaited = of_peer.is_some_and(|it| it.awaited.contains(&tree));
        !is_awaited && self.is_in_watch(peer, tree)
    }

    /// Takes a tree into the peer's next watch, or out of it.
    pub(super) fn want_watched(&mut self, peer: PeerId, tree: TreeId, wanted: Wanted) {
        let in_watch = self.is_in_watch(peer, tree);
        let Some(of_peer) = self.peer_mut(peer) else {
            return;
        };
        let before = match () {
            () if of_peer.watchable.remove(&tree) => Wanted::News,
            () if of_peer.awaited.remove(&tree) => Wanted::Arrival,
            () => Wanted::Nothing,
        };
        match wanted {
            Wanted::Nothing => {}
            Wanted::Arrival => {
                of_peer.awaited.insert(tree);
            }
            Wanted::News => {
                of_peer.watchable.insert(tree);
            }
        }
        let changed = before != wanted;
        // A watch that says when a tree can be read does not bring its entries.
        let stays = in_watch && !changed;
        if in_watch && changed {
            of_peer.watch_trees = of_peer.watch_trees.saturating_sub(1);
            if let Some(lane) = self.lane_mut(peer, tree) {
                lane.watch = None;
            }
        }
        if wanted == Wanted::Nothing {
            if changed {
                self.stop_empty_watch(peer);
            }
        } else if !stays
            && let Some(of_peer) = self.peer_mut(peer)
            && (changed || of_peer.watch.is_none() || of_peer.watch_trees < WATCH_TREES_MAX)
        {
            of_peer.watch_dirty = true;
            self.touch_watch(peer);
        }
    }

    fn stop_empty_watch(&mut self, peer: PeerId) {
        if let Some(of_peer) = self.peer_mut(peer)
            && of_peer.watch_wanted() == 0
        {
            let open = of_peer.watch.take();
            self.timers.clear(Timer::Watch(peer));
            if let Some(id) = open {
                self.abandon(id);
            }
        }
    }

    /// Has the peer's watch opened, or opened anew, if its trees demand it.
    pub(super) fn touch_watch(&mut self, peer: PeerId) {
        let now_ms = self.now_ms;
        let Some(of_peer) = self.peer_mut(peer) else {
            return;
        };
        if of_peer.watch_wanted() == 0 {
            return;
        }
        let wanted = of_peer.watch.is_none() || of_peer.watch_dirty;
        if !wanted || of_peer.reach != Reach::Proven || of_peer.paused {
            return;
        }
        let trees = of_peer.watch_wanted().min(WATCH_TREES_MAX) as u64;
        let collect_ms = WATCH_COLLECT_MS + trees / WATCH_TREES_PER_MS;
        let spaced_ms = of_peer
            .watch_begun_ms
            .map_or(0, |begun_ms| begun_ms.saturating_add(WATCH_SPACING_MS));
        let at_ms = now_ms
            .saturating_add(collect_ms)
            .max(spaced_ms)
            .max(of_peer.watch_from_ms);
        if self.timers.get(Timer::Watch(peer)).is_none() {
            self.timers.set(Timer::Watch(peer), at_ms);
        }
    }

    pub(super) fn begin_watch(&mut self, peer: PeerId) -> Option<Action> {
        let now_ms = self.now_ms;
        let of_peer = self.peers.get(&peer)?;
        let may = of_peer.reach == Reach::Proven && !of_peer.paused && of_peer.lanes > 0;
        if !may || of_peer.watch_wanted() == 0 {
            return None;
        }
        let id = self.new_id();
        let of_peer = self.peers.get_mut(&peer)?;
        let mut trees = Vec::new();
        // News matter more than what may never come.
        let wanted = of_peer.watchable.iter().chain(&of_peer.awaited);
        for tree in wanted.take(WATCH_TREES_MAX) {
            self.work += 1;
            if let Some(lane) = self.lanes.get_mut(&(peer, *tree)) {
                lane.watch = Some(id);
                trees.push((*tree, lane.cursor.unwrap_or(PeerCursor::NONE)));
            }
        }
        trees.sort_unstable_by_key(|(tree, _)| *tree);
        let replaces = of_peer.watch.replace(id);
        of_peer.watch_trees = trees.len();
        of_peer.watch_dirty = false;
        of_peer.watch_begun_ms = Some(now_ms);
        let running = Running {
            peer,
            what: What::Watch,
            answered: false,
            mute: false,
            probe: false,
            abandoned: false,
        };
        self.running.insert(id, running);
        Some(Action::Watch {
            id,
            peer,
            trees,
            replaces,
        })
    }

    pub(super) fn note_watch_answered(&mut self, id: ExchangeId) {
        if let Some(running) = self.running.get_mut(&id) {
            running.answered = true;
        }
    }

    pub(super) fn end_watch(&mut self, id: ExchangeId, peer: PeerId, outcome: &Outcome) {
        let now_ms = self.now_ms;
        let policy = self.options.backoff;
        let Some(of_peer) = self.peers.get_mut(&peer) else {
            return;
        };
        if of_peer.watch != Some(id) {
            return;
        }
        of_peer.watch = None;
        let lived_ms = of_peer
            .watch_begun_ms
            .map_or(0, |begun_ms| now_ms.saturating_sub(begun_ms));
        if lived_ms >= WATCH_LIVED_MS {
            of_peer.watch_failures = 0;
        } else {
            of_peer.watch_failures = of_peer.watch_failures.saturating_add(1);
        }
        let wait_ms = match outcome {
            Outcome::RetryAfter(pause_ms) => (*pause_ms).min(RETRY_AFTER_MAX_MS),
            Outcome::Success { .. }
            | Outcome::Unreachable(_)
            | Outcome::Failed
            | Outcome::Abandoned => policy.wait_ms(of_peer.watch_failures, &mut self.jitter),
            Outcome::Checked(_)
            | Outcome::CompareFirst
            | Outcome::NotHere
            | Outcome::Refused { .. }
            | Outcome::Broken => WATCH_REFUSED_MS,
        };
        of_peer.watch_from_ms = now_ms.saturating_add(wait_ms);
        // A watch that was cut says that a connection broke. Whether the peer is there is found out
        // by a check, which also fetches what was missed if the watch cannot be opened again.
        if let Outcome::Unreachable(_) = outcome
            && of_peer.reach == Reach::Proven
        {
            self.probe_soon(peer);
        }
        self.touch_watch(peer);
    }
}
