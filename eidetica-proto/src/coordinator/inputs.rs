//! What happens, apart from the ends of exchanges.

use std::ops::Range;

use eidetica_dag::TreeId;

use super::{
    Coordinator, ExchangeId, FollowOptions, HEARD_SPACING_MS, InboundWatch, Lane, Next, Origin,
    Peer, PeerId, Reach, State, Timer, TooManyLanes, UnreachableReason, Wanted,
};

impl Coordinator {
    /// Keeps a tree equal with a peer from here on. Costs O(log n).
    ///
    /// `head` is how many entries of the tree have arrived here. For a lane that is followed, the
    /// options take effect, and the wait after a refusal ends. If the peer has a watch of
    /// this tree on this node, report it with [`Self::handle_watched`] after this.
    ///
    /// # Errors
    /// [`TooManyLanes`]; then nothing has changed.
    pub fn handle_follow(
        &mut self,
        peer: PeerId,
        tree: TreeId,
        options: FollowOptions,
        head: u32,
        now_ms: u64,
    ) -> Result<(), TooManyLanes> {
        self.note_time(now_ms);
        self.note_head(tree, head);
        let FollowOptions { pull, push, give } = options;
        if let Some(lane) = self.lane_mut(peer, tree) {
            (lane.pull, lane.push, lane.give) = (pull, push, give);
            lane.given = false;
            lane.announced = false;
            let cursor = lane.cursor;
            self.set_cursor(peer, tree, cursor);
            self.recheck(peer, tree);
            return Ok(());
        }
        if self.lanes.len() >= self.options.lanes_max {
            return Err(TooManyLanes(self.options.lanes_max));
        }
        let lane = Lane {
            pull,
            push,
            give,
            state: State::Resting { listed: None },
            settled: 0,
            brought: Vec::new(),
            cursor: None,
            failures: 0,
            refusals: 0,
            announced: false,
            watch: None,
            inbound: None,
            fresh_from: ExchangeId(0),
            given: false,
            since_ms: self.now_ms,
            reported: None,
        };
        self.lanes.insert((peer, tree), lane);
        self.by_tree.insert((tree, peer));
        let of_tree = self.trees.entry(tree).or_default();
        of_tree.lanes += 1;
        of_tree.head = of_tree.head.max(head);
        let places = self.options.exchanges_per_peer_max;
        let of_peer = self.peers.entry(peer);
        of_peer.or_insert_with(|| Peer::new(places)).lanes += 1;
        let next = match self.lingering.get(&(peer, tree)) {
            Some(id) => Next::Running(*id, super::Need::Compare, self.next_seq),
            None => Next::Unchecked,
        };
        self.place(peer, tree, next);
        Ok(())
    }

    /// Stops keeping a tree equal with a peer. What runs is cut. Costs O(log n).
    pub fn handle_unfollow(&mut self, peer: PeerId, tree: TreeId, now_ms: u64) {
        self.note_time(now_ms);
        let Some(lane) = self.lanes.get(&(peer, tree)) else {
            return;
        };
        let state = lane.state;
        let is_inbound = self.is_watching_us(peer, lane);
        let in_watch = self.is_in_watch(peer, tree);
        self.unlist(peer, tree);
        self.want_watched(peer, tree, Wanted::Nothing);
        self.lanes.remove(&(peer, tree));
        self.by_tree.remove(&(tree, peer));
        if let Some(of_tree) = self.trees.get_mut(&tree) {
            of_tree.lanes -= 1;
            if of_tree.lanes == 0 {
                self.trees.remove(&tree);
            }
        }
        if let Some(of_peer) = self.peer_mut(peer) {
            of_peer.lanes -= 1;
            of_peer.inbound_lanes -= usize::from(is_inbound);
            of_peer.watch_dirty |= in_watch;
        }
        if let State::Running { id, .. } = state {
            self.cut_lane(peer, tree, id);
        }
        self.changed.insert((peer, Some(tree)));
        self.touch_watch(peer);
        self.queue(peer);
        self.forget_if_done(peer);
    }

    /// Notes that entries were stored: those that arrived here under these numbers. Costs O(log n),
    /// however many lanes the tree has.
    ///
    /// Report all of them, in any order. Reports may be merged where the origin is the same.
    pub fn handle_stored(
        &mut self,
        tree: TreeId,
        arrivals: Range<u32>,
        origin: Origin,
        now_ms: u64,
    ) {
        self.note_time(now_ms);
        self.work += 1;
        let Some(of_tree) = self.trees.get_mut(&tree) else {
            return;
        };
        of_tree.head = of_tree.head.max(arrivals.end);
        of_tree.stirred |= !of_tree.absent.is_empty();
        self.spread(tree);
        if let Origin::Peer(peer) = origin {
            self.note_brought(peer, tree, arrivals);
            self.note_heard(peer);
        }
    }

    fn note_brought(&mut self, peer: PeerId, tree: TreeId, arrivals: Range<u32>) {
        if arrivals.is_empty() {
            return;
        }
        let Some(lane) = self.lane_mut(peer, tree) else {
            return;
        };
        if arrivals.start > lane.settled {
            return lane.bring(arrivals);
        }
        self.note_settled(peer, tree, arrivals.end);
    }

    /// Notes that the peer is known to have every entry that arrived here before `settled`, such as
    /// from a cursor of this node's log that it showed. Costs O(log n).
    pub fn handle_peer_has(&mut self, peer: PeerId, tree: TreeId, settled: u32, now_ms: u64) {
        self.note_time(now_ms);
        let settled = settled.min(self.head(tree));
        self.note_settled(peer, tree, settled);
    }

    /// Notes that a peer watches these trees on this node: its watch brings it all new entries, so
    /// nothing is pushed to it. Costs O(log n) for each tree.
    ///
    /// The same `watch` again adds trees. Another one replaces the one before.
    pub fn handle_watched(
        &mut self,
        peer: PeerId,
        watch: InboundWatch,
        trees: impl IntoIterator<Item = TreeId>,
        now_ms: u64,
    ) {
        self.note_time(now_ms);
        let Some(of_peer) = self.peer_mut(peer) else {
            return;
        };
        let before = of_peer.inbound.replace(watch);
        let (mut lanes, mut kept) = (of_peer.inbound_lanes, 0);
        if before != Some(watch) {
            of_peer.inbound_lanes = 0;
            lanes = if before.is_some() { lanes } else { 0 };
        }
        let mut added = 0;
        for tree in trees {
            let Some(lane) = self.lane_mut(peer, tree) else {
                continue;
            };
            if lane.inbound == Some(watch) {
                continue;
            }
            kept += usize::from(before.is_some() && lane.inbound == before);
            lane.inbound = Some(watch);
            added += 1;
            match lane.state {
                State::Resting { listed: Some(_) }
                | State::Due {
                    need: super::Need::Push,
                    ..
                } => self.place(peer, tree, Next::Rest),
                _ => {}
            }
        }
        if let Some(of_peer) = self.peer_mut(peer) {
            of_peer.inbound_lanes += added;
        }
        // Trees that the watch before had and this one has not are not pushed to yet.
        if before != Some(watch) && kept < lanes {
            self.check_soon(peer);
        }
        self.note_heard(peer);
    }

    /// Notes that a peer's watch of this node has ended. What it may have missed is found by a
    /// check at once. Costs O(log n).
    pub fn handle_watch_stopped(&mut self, peer: PeerId, watch: InboundWatch, now_ms: u64) {
        self.note_time(now_ms);
        let Some(of_peer) = self.peer_mut(peer) else {
            return;
        };
        if of_peer.inbound == Some(watch) {
            of_peer.inbound = None;
            of_peer.inbound_lanes = 0;
            self.check_soon(peer);
        }
    }

    /// Notes that a peer made contact, in whatever way: it is there, so its backoff ends. Costs
    /// O(log n).
    pub fn handle_heard(&mut self, peer: PeerId, now_ms: u64) {
        self.note_time(now_ms);
        self.note_heard(peer);
    }

    pub(super) fn note_heard(&mut self, peer: PeerId) {
        let now_ms = self.now_ms;
        let is_mute = |id| self.running.get(&id).is_some_and(|it| it.mute);
        let hangs = match self.peers.get(&peer).map(|it| it.reach) {
            Some(Reach::Probing(probe)) => is_mute(probe),
            _ => false,
        };
        let Some(of_peer) = self.peer_mut(peer) else {
            return;
        };
        let waits = match of_peer.reach {
            Reach::Unreachable { .. } => true,
            // It is there and an exchange hangs: a probe beside it tells whether it still matters.
            Reach::Proven => of_peer.stuck,
            Reach::Probing(_) => {
                of_peer.heard_in_probe = true;
                hangs
            }
            Reach::Unproven => false,
        };
        if !waits {
            return;
        }
        let from_ms = of_peer
            .heard_ms
            .map_or(0, |at_ms| at_ms.saturating_add(HEARD_SPACING_MS));
        if now_ms < from_ms {
            return self.timers.set_sooner(Timer::Retry(peer), from_ms);
        }
        of_peer.heard_ms = Some(now_ms);
        self.probe_soon(peer);
    }

    /// Notes that a peer asked about a tree that it may have, or has news of it: if it lacked the
    /// tree, it is asked for it. Report a question by a peer that lacks the tree with
    /// [`Self::handle_heard`], or two peers that both lack it would ask each other without an end.
    /// Costs O(log n).
    pub fn handle_heard_about(&mut self, peer: PeerId, tree: TreeId, now_ms: u64) {
        self.note_time(now_ms);
        self.note_heard(peer);
        if let Some(lane) = self.lane_mut(peer, tree)
            && lane.state == State::Absent
        {
            lane.given = false;
            self.ask_for_absent_soon(peer);
        }
    }

    /// Notes that access to a tree may have changed, such as by an approval that was learned of:
    /// peers that refused it are asked again. Costs O(log n).
    pub fn handle_access_changed(&mut self, tree: TreeId, now_ms: u64) {
        self.note_time(now_ms);
        if let Some(of_tree) = self.trees.get_mut(&tree) {
            of_tree.stirred = true;
            of_tree.approved = true;
            self.spread(tree);
        }
    }

    /// Notes that another address of a peer is known: its failures so far mean nothing. Costs
    /// O(log n).
    pub fn handle_address_learned(&mut self, peer: PeerId, now_ms: u64) {
        self.note_time(now_ms);
        if let Some(of_peer) = self.peer_mut(peer)
            && let Reach::Unreachable { .. } = of_peer.reach
        {
            of_peer.failures = 0;
            self.probe_soon(peer);
        }
    }

    /// Notes that the network changed, or that the process or the machine was suspended: every
    /// peer is probed once, as far as there are places. Costs O(1).
    ///
    /// A suspended process is also noticed by itself, by how late it comes back.
    pub fn handle_network_changed(&mut self, now_ms: u64) {
        self.note_time(now_ms);
        self.catch_up_soon();
    }

    /// Tries a peer, or one tree of it, at once. Costs O(log n).
    ///
    /// Also confirms what a peer has that was sent by its watch.
    pub fn handle_retry_now(&mut self, peer: PeerId, tree: Option<TreeId>, now_ms: u64) {
        self.note_time(now_ms);
        let Some(of_peer) = self.peer_mut(peer) else {
            return;
        };
        of_peer.paused = false;
        let (reach, stuck) = (of_peer.reach, of_peer.stuck);
        self.timers.clear(Timer::Pause(peer));
        match reach {
            Reach::Unreachable { .. } => self.start_over(peer),
            Reach::Proven if stuck => self.probe_soon(peer),
            Reach::Unproven | Reach::Probing(_) | Reach::Proven => {}
        }
        match tree {
            Some(tree) => self.recheck(peer, tree),
            None => self.check_soon(peer),
        }
        self.queue(peer);
    }

    /// Cuts all that runs and begins nothing after it. Done when [`Self::is_idle`]. Costs what
    /// runs.
    pub fn handle_shutdown(&mut self, now_ms: u64) {
        self.note_time(now_ms);
        self.stopping = true;
        let running: Vec<ExchangeId> = self.running.keys().copied().collect();
        for id in running {
            self.abandon(id);
        }
    }

    /// Why the peer cannot be reached, if it cannot, and when it is tried next: a probe that is due or
    /// runs changes nothing until it is answered.
    pub(super) fn unreachable(&self, peer: PeerId) -> Option<(UnreachableReason, u64)> {
        let of_peer = self.peers.get(&peer)?;
        match of_peer.reach {
            Reach::Unreachable { reason, next_ms } => Some((reason, next_ms)),
            Reach::Unproven | Reach::Probing(_) => Some((of_peer.away?, self.now_ms)),
            Reach::Proven => None,
        }
    }
}
