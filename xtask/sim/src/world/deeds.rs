//! What users do, and what goes wrong.

use std::time::Duration;

use eidetica_dag::testing::Random;
use eidetica_dag::{AccessChange, Role, Subject, TreeId, current_access};
use eidetica_proto::message::{Request, RequestHeader};
use eidetica_proto::{Caller, Ticket};
use eidetica_sync::{FollowOptions, InviteTerms, JoinOptions, Joined, Node, Peer};
use futures::{StreamExt, stream};
use std::sync::Arc;
use tokio::time::{sleep, timeout};

use super::World;
use crate::invariants::first_lacking;
use crate::network::SimTransport;
use crate::plan::{Deed, Step};
use crate::store::Medium;

/// How long a user waits for anything.
const PATIENCE: Duration = Duration::from_secs(100);

/// How long after the first write that fails the rest of a node is dead, too.
const POWER_FAILS_WITHIN: Duration = Duration::from_millis(20);

/// How long an invite is valid: longer than a run.
const INVITE_VALID: Duration = Duration::from_secs(86_400);

impl World {
    fn tree(&self, number: usize) -> Option<TreeId> {
        self.state().trees.get(&number).copied()
    }

    /// Returns a peer with its present address.
    pub fn peer(&self, number: usize) -> Peer {
        let state = self.state();
        let host = &state.hosts[number];
        Peer {
            key: Some(host.key.public()),
            addresses: vec![SimTransport::address(&host.name(number))],
        }
    }

    fn subject(&self, number: usize) -> Subject {
        Subject::Key(self.state().hosts[number].key.public())
    }

    /// Notes how a call ended.
    fn note<T, E: std::fmt::Display>(&self, step: &Step, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.record
                    .log(|| format!("#{} fails: {error}", step.number));
                self.record.count("calls that failed");
                None
            }
        }
    }

    /// Waits for a call, as long as a user does.
    async fn wait<T>(&self, step: &Step, call: impl Future<Output = T>) -> Option<T> {
        match timeout(PATIENCE, call).await {
            Ok(value) => Some(value),
            Err(_) => {
                self.record
                    .log(|| format!("#{} takes too long", step.number));
                self.record.count("calls that took too long");
                None
            }
        }
    }

    /// Does what a user does.
    pub(super) async fn deed(self: &Arc<Self>, step: &Step) -> Option<()> {
        match &step.deed {
            Deed::Create {
                node,
                tree,
                anyone,
                roles,
            } => {
                let of = self.node(*node)?;
                let anyone = anyone.map(|role| AccessChange::grant(Subject::Anyone, role));
                let roles = roles.iter();
                let roles = roles.map(|(to, role)| AccessChange::grant(self.subject(*to), *role));
                let access = anyone.into_iter().chain(roles).collect();
                let name = format!("tree {tree}");
                let made = of.create_tree(&name, access);
                let id = self.note(step, self.wait(step, made).await?)?;
                self.state().trees.insert(*tree, id);
            }
            Deed::Append {
                node,
                tree,
                entries,
                bytes,
            } => {
                let (of, tree) = (self.node(*node)?, self.tree(*tree)?);
                let mut random = Random::new(self.plan.seed ^ ((step.number as u64) << 20));
                let data = (0..*entries).map(|_| {
                    let byte = random.next_u64() as u8;
                    vec![byte; *bytes as usize].into()
                });
                let appended = of.append_all(tree, data.collect());
                let ids = self.note(step, self.wait(step, appended).await?)?;
                // They are durable now, and stay also if the node dies at once.
                self.acknowledged(*node, tree, ids);
            }
            Deed::Grant {
                node,
                tree,
                to,
                role,
            } => {
                let (of, tree) = (self.node(*node)?, self.tree(*tree)?);
                let granted = of.grant(tree, self.subject(*to), *role);
                let id = self.note(step, self.wait(step, granted).await?)?;
                self.acknowledged(*node, tree, vec![id]);
            }
            Deed::Revoke { node, tree, from } => {
                let (of, tree) = (self.node(*node)?, self.tree(*tree)?);
                let revoked = of.revoke(tree, self.subject(*from));
                let revocation = self.note(step, self.wait(step, revoked).await?)?;
                self.acknowledged(*node, tree, vec![revocation.entry]);
            }
            Deed::Follow {
                node,
                peer,
                tree,
                gives,
            } => {
                let (of, id) = (self.node(*node)?, self.tree(*tree)?);
                self.follow(step, of, (*node, *peer), id, *gives).await?;
            }
            Deed::Unfollow { node, peer, tree } => {
                let (of, id) = (self.node(*node)?, self.tree(*tree)?);
                let edge = (*node, *peer, id);
                self.state().follows.retain(|follow| *follow != edge);
                let key = self.state().hosts[*peer].key.public();
                self.note(step, self.wait(step, of.unfollow(id, key)).await?)?;
            }
            Deed::Accept { node, peer } => {
                let of = self.node(*node)?;
                let key = self.state().hosts[*peer].key.public();
                let accepted = of.accept_trees_from(key, true);
                self.note(step, self.wait(step, accepted).await?)?;
            }
            Deed::Sync { node, peer, tree } => {
                let (of, id) = (self.node(*node)?, self.tree(*tree)?);
                self.sync(step, of, (*node, *peer), id).await?;
            }
            Deed::Join {
                node,
                peer,
                tree,
                role,
                has_invite,
            } => {
                let id = self.tree(*tree)?;
                let ticket = self.ticket(step, *peer, id, *role, *has_invite).await?;
                let of = self.node(*node)?;
                let options = JoinOptions {
                    role: (!has_invite).then_some(*role),
                    note: "a person".to_owned(),
                };
                let joined = self.wait(step, of.join_and_wait(&ticket, options)).await?;
                match self.note(step, joined)? {
                    Joined::Synced(_) => self.record.count("joins that succeeded"),
                    Joined::Pending | Joined::Rejected => return None,
                }
                self.follow(step, of, (*node, *peer), id, false).await?;
            }
            Deed::Approve { node, tree } => {
                let (of, id) = (self.node(*node)?, self.tree(*tree)?);
                let requests = self.wait(step, of.join_requests(Some(id))).await?;
                for request in self.note(step, requests)? {
                    let approved = of.approve(id, request.key, None);
                    self.note(step, self.wait(step, approved).await?);
                }
            }
            Deed::Move { node } => {
                if !self.stop(*node).await {
                    return None;
                }
                self.state().hosts[*node].address += 1;
                self.start(*node).await;
            }
            _ => return None,
        }
        Some(())
    }

    fn acknowledged(&self, node: usize, tree: TreeId, ids: Vec<eidetica_dag::EntryId>) {
        let acknowledged = self.state().hosts[node].acknowledged.clone();
        acknowledged.extend(ids.into_iter().map(|id| (tree, id)));
    }

    async fn ticket(
        &self,
        step: &Step,
        peer: usize,
        tree: TreeId,
        role: Role,
        has_invite: bool,
    ) -> Option<Ticket> {
        let of = self.node(peer)?;
        if !has_invite {
            return Some(of.ticket(tree).await);
        }
        let terms = InviteTerms {
            role,
            valid_for: INVITE_VALID,
            uses: 1,
        };
        self.note(step, self.wait(step, of.invite(tree, terms)).await?)
    }

    /// Follows, and expects the copies to be equal in the end.
    pub(super) async fn follow(
        &self,
        step: &Step,
        of: Node,
        (node, peer): (usize, usize),
        tree: TreeId,
        gives: bool,
    ) -> Option<()> {
        let options = FollowOptions {
            give: gives,
            remember: true,
            ..FollowOptions::default()
        };
        let followed = of.follow_with(tree, self.peer(peer), options);
        self.note(step, self.wait(step, followed).await?)?;
        let mut state = self.state();
        if !state.follows.contains(&(node, peer, tree)) {
            state.follows.push((node, peer, tree));
        }
        Some(())
    }

    /// Syncs by hand. A sync that succeeds has brought everything that the peer had when it began.
    async fn sync(
        &self,
        step: &Step,
        of: Node,
        (node, peer): (usize, usize),
        tree: TreeId,
    ) -> Option<()> {
        let theirs = self.store(peer)?;
        let view = theirs.inner().snapshot(tree).ok()?;
        let synced = of.sync(tree, self.peer(peer));
        self.note(step, self.wait(step, synced).await?)?;
        self.record.count("syncs by hand that succeeded");
        let (has_twin, is_same) = {
            let state = self.state();
            let life = state.hosts[peer].life.as_ref();
            let is_same = life.is_some_and(|life| Arc::ptr_eq(&life.store, &theirs));
            (state.hosts[peer].has_twin, is_same)
        };
        if has_twin || !is_same || self.network.has_lied(peer) {
            return Some(());
        }
        let own = self.store(node)?;
        let own = own.inner().snapshot(tree).ok()?;
        let lacks = first_lacking(&*own, &*view, view.entry_count());
        let holds = match lacks {
            Ok(None) => Ok(()),
            Ok(Some(id)) => Err(format!(
                "#{}: node {node} lacks {}",
                step.number,
                id.short()
            )),
            Err(text) => Err(text),
        };
        let rule = "a sync that succeeds has brought everything";
        self.record.check(rule, holds);
        Some(())
    }

    /// Lets something go wrong.
    pub(super) async fn fault(self: &Arc<Self>, step: &Step) -> Option<()> {
        let until = self.at(step.at_ms + step.deed.lasts_ms());
        let network = &self.network;
        match &step.deed {
            Deed::Block { from, to, both, .. } => {
                network.block(*from, *to, until);
                if *both {
                    network.block(*to, *from, until);
                }
            }
            Deed::Isolate { node, .. } => network.isolate(*node, until),
            Deed::Slow {
                node, bytes_per_s, ..
            } => network.slow(*node, until, *bytes_per_s),
            Deed::Hang { node, .. } => network.hang(*node, until),
            Deed::Cut { node, one_in, .. } => network.cut_some(*node, until, *one_in),
            Deed::Replay { node, .. } => network.replay(*node, until),
            Deed::Freeze { node, .. } => network.freeze(*node, until),
            Deed::Lie { node, lie, .. } => network.lie(*node, until, *lie),
            Deed::Crash { node, down_ms } => self.crash(step, *node, *down_ms).await?,
            Deed::Restart { node, down_ms } => {
                if !self.stop(*node).await {
                    return None;
                }
                sleep(Duration::from_millis(*down_ms)).await;
                self.start(*node).await;
            }
            Deed::Backup { node } => {
                let mut state = self.state();
                let host = &mut state.hosts[*node];
                let Medium::Disk(disk) = &host.medium else {
                    return None;
                };
                host.backup = Some(disk.copy());
            }
            Deed::Restore { node, down_ms } => {
                let backup = self.state().hosts[*node].backup.take()?;
                if !self.kill(*node) {
                    return None;
                }
                sleep(Duration::from_millis(*down_ms)).await;
                {
                    let mut state = self.state();
                    let host = &mut state.hosts[*node];
                    host.medium = Medium::Disk(backup);
                    host.acknowledged = Default::default();
                    host.was_restored = true;
                    // What was followed after the backup is forgotten.
                    state.follows.retain(|(of, _, _)| of != node);
                }
                self.start(*node).await;
            }
            Deed::Copy { node } => self.copy(*node).await?,
            Deed::ClockJump { node, by_ms } => self.state().hosts[*node].clock.jump(*by_ms),
            Deed::ClockDrift { node, ppm } => self.state().hosts[*node].clock.set_drift(*ppm),
            Deed::Full { node, for_ms } => {
                let medium = self.state().hosts[*node].medium.clone();
                let Medium::Disk(disk) = medium else {
                    return None;
                };
                disk.set_full(true);
                sleep(Duration::from_millis(*for_ms)).await;
                disk.set_full(false);
            }
            Deed::WriteErrors { node, writes } => self.store(*node)?.fail_writes(*writes),
            Deed::Flood { node, requests } => self.flood(*node, *requests).await?,
            _ => return None,
        }
        Some(())
    }

    /// Lets the power fail in the middle of what is written next.
    async fn crash(self: &Arc<Self>, step: &Step, node: usize, down_ms: u64) -> Option<()> {
        self.node(node)?;
        let medium = self.state().hosts[node].medium.clone();
        if let Medium::Disk(disk) = &medium {
            disk.cut_after(step.number as u64 % 7);
            sleep(POWER_FAILS_WITHIN).await;
        }
        let was_alive = self.kill(node);
        if let Medium::Disk(disk) = &medium {
            let mut random = Random::new(self.plan.seed ^ step.number as u64);
            disk.restart(&mut random);
        }
        if was_alive {
            sleep(Duration::from_millis(down_ms)).await;
            self.start(node).await;
        }
        Some(())
    }

    /// Starts a copy of a node's disk on another machine.
    async fn copy(self: &Arc<Self>, node: usize) -> Option<()> {
        let twin = {
            let mut state = self.state();
            let host = &mut state.hosts[node];
            let Medium::Disk(disk) = &host.medium else {
                return None;
            };
            if host.has_twin {
                return None;
            }
            let medium = Medium::Disk(disk.copy());
            host.has_twin = true;
            let (plan, key, log) = (host.plan.clone(), host.key.clone(), host.log);
            drop(state);
            let mut twin = super::host::Host::new(self, &plan);
            (twin.key, twin.log, twin.medium) = (key, log, medium);
            twin.has_twin = true;
            let mut state = self.state();
            state.hosts.push(twin);
            state.hosts.len() - 1
        };
        let key = self.state().hosts[twin].key.public();
        self.network.set_key(twin, key);
        self.start(twin).await;
        Some(())
    }

    /// Asks a node for anything, as a stranger, very often.
    async fn flood(&self, node: usize, requests: u32) -> Option<()> {
        let service = self.node(node)?.service();
        let tree = self.state().trees.values().next().copied();
        let mut random = Random::new(self.plan.seed ^ 0x0066_6c6f_6f64);
        let calls = (0..requests).map(|_| {
            let request = match (random.below(4), tree) {
                (0, _) => Request::ListTrees(eidetica_proto::message::ListTrees { after: None }),
                (1, Some(tree)) => Request::Watch(eidetica_proto::message::Watch {
                    trees: vec![(tree, eidetica_proto::Cursor::NONE)],
                }),
                (2, Some(tree)) => Request::Peers(eidetica_proto::message::Peers {
                    tree,
                    records: vec![],
                }),
                _ => Request::Unknown(random.below(100) as u16 + 100),
            };
            let mut frames = vec![RequestHeader::new(request).encode()];
            if random.one_in(4) {
                let garbage: Vec<u8> = (0..random.below(400)).map(|n| n as u8).collect();
                frames.insert(0, garbage.into());
            }
            let caller = Caller {
                transport: "sim",
                key: None,
                remote: "10.99.0.1:9".to_owned(),
            };
            let request = stream::iter(frames.into_iter().map(Ok)).boxed();
            let service = service.clone();
            async move {
                let mut answer = service.exchange(caller, request).await;
                let read = async { while let Some(Ok(_)) = answer.next().await {} };
                let _a_watch_goes_on = timeout(Duration::from_millis(500), read).await;
            }
        });
        let calls: Vec<_> = calls.collect();
        stream::iter(calls)
            .buffer_unordered(64)
            .collect::<()>()
            .await;
        Some(())
    }

    /// Tells whether a node lets another one do something with a tree, as far as it knows.
    pub(super) fn allows(&self, node: usize, other: usize, tree: TreeId, role: Role) -> bool {
        let key = self.state().hosts[other].key.public();
        let allows = || {
            let store = self.store(node)?;
            let view = store.inner().snapshot(tree).ok()?;
            Some(current_access(&*view).ok()?.allows(Some(&key), role))
        };
        allows().unwrap_or(false)
    }
}
