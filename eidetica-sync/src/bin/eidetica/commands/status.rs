//! `status`: shows for each tree and each peer whether they are in sync, and if not, why.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use eidetica_sync::dag::{PublicKey, TreeId};
use eidetica_sync::proto::ErrorCode;
use eidetica_sync::proto::coordinator::{LaneStatus, RefusedReason, UnreachableReason};
use eidetica_sync::{Event, Events, Node};
use futures::{FutureExt, StreamExt};
use serde_json::{Value, json};

use crate::args::Status;
use crate::commands::session::Session;
use crate::network::transports::connect;
use crate::output::failure::{Context, Result};
use crate::output::out::json_line;
use crate::output::text::{count, first_line, one_line, utc};
use crate::store::trees;

/// How many characters of a tree's name a line shows.
const NAME_CHARS_MAX: usize = 40;

/// How long changes are collected before they are printed: a peer that comes or goes changes all of
/// its trees.
const COLLECT: Duration = Duration::from_millis(50);

pub(crate) async fn run(session: &Session, args: Status) -> Result<()> {
    let opened = session.open()?;
    let only = args
        .tree
        .as_deref()
        .map(|text| trees::find(&*opened.store, text));
    let only = only.transpose()?.map(|named| named.tree);
    let node = match (session.server(), args.watch) {
        (None, true) => {
            let known = opened.start().known_peers();
            let known = known.iter().flat_map(|(_, known)| known.addresses());
            let addresses: Vec<_> = known.map(|it| it.address.clone()).collect();
            let node = connect(session, &opened, addresses.iter(), &args.net).await?;
            node.start()
        }
        _ => opened.start(),
    };
    let mut interruption = session.console.interruption()?;
    let mut printed = Printed {
        is_live: session.server().is_some() || args.watch,
        only,
        as_json: args.json,
        is_watch: args.watch,
        lines: BTreeMap::new(),
        names: BTreeMap::new(),
        duplicates: BTreeSet::new(),
    };
    let events = node.events();
    let watching = async {
        printed.print(session, &node).await?;
        match args.watch {
            true => watch(session, &node, events, &mut printed).await,
            false => Ok(()),
        }
    };
    let watched = tokio::select! {
        watched = watching => watched,
        () = interruption.wait() => Ok(()),
    };
    if session.server().is_none()
        && let Err(error) = node.shutdown().await
    {
        tracing::warn!(%error, "the transports did not close cleanly");
    }
    watched
}

/// Prints each change until the node is gone.
async fn watch(
    session: &Session,
    node: &Node,
    mut events: Events,
    printed: &mut Printed,
) -> Result<()> {
    while let Some(event) = events.next().await {
        if matches!(
            event,
            Event::StatusChanged { .. }
                | Event::Stored { .. }
                | Event::DuplicateKey { .. }
                | Event::Lagged(_)
        ) {
            tokio::time::sleep(COLLECT).await;
            // They are part of the text printed next.
            while let Some(Some(_)) = events.next().now_or_never() {}
            printed.print(session, node).await?;
        }
    }
    Ok(())
}

/// What was printed of each peer and tree.
struct Printed {
    /// Trees are followed by this process.
    is_live: bool,
    only: Option<TreeId>,
    as_json: bool,
    is_watch: bool,
    lines: BTreeMap<(TreeId, PublicKey), String>,
    /// The names of trees that are here.
    names: BTreeMap<TreeId, String>,
    duplicates: BTreeSet<PublicKey>,
}

impl Printed {
    /// Returns the name of a tree, or `None` if the tree is not here.
    fn name(&mut self, node: &Node, tree: TreeId) -> Result<Option<String>> {
        if let Some(name) = self.names.get(&tree) {
            return Ok(Some(name.clone()));
        }
        let failed = "could not read the name of a tree";
        let store = &**node.store();
        if store.snapshot(tree).context(failed)?.entry_count() == 0 {
            return Ok(None);
        }
        let name = trees::info(store, tree).context(failed)?.name;
        self.names.insert(tree, name.clone());
        Ok(Some(name))
    }

    /// Prints what differs from what was printed.
    async fn print(&mut self, session: &Session, node: &Node) -> Result<()> {
        let rows = rows(node, self.is_live).await?;
        let mut lines = BTreeMap::new();
        let mut out = session.console.out();
        let duplicates = node.duplicate_keys();
        for (key, noticed_ms) in &duplicates {
            if self.duplicates.contains(key) {
                continue;
            }
            match self.as_json {
                true => out.json(&json!({
                    "duplicate_key": key.to_string(),
                    "noticed_ms": noticed_ms,
                }))?,
                false => out.line(duplicate(node, *key, *noticed_ms))?,
            }
        }
        self.duplicates = duplicates.into_iter().map(|(key, _)| key).collect();
        for row in rows {
            if self.only.is_some_and(|tree| tree != row.tree) {
                continue;
            }
            let name = self.name(node, row.tree)?;
            let name = name.as_deref();
            let line = match self.as_json {
                true => json_line(&row.as_json(name)),
                false => row.for_people(name),
            };
            if self.lines.get(&row.key()) != Some(&line) {
                match (self.as_json, self.is_watch) {
                    (true, _) | (false, false) => out.line(&line)?,
                    (false, true) => out.line(format_args!("{}  {line}", utc(now_ms())))?,
                }
            }
            lines.insert(row.key(), line);
        }
        for (tree, peer) in self.lines.keys() {
            if !lines.contains_key(&(*tree, *peer)) {
                let (tree, peer, state) = (*tree, *peer, State::Removed);
                let row = Row {
                    tree,
                    peer,
                    peer_has: None,
                    state,
                    error: None,
                };
                match self.as_json {
                    true => out.json(&row.as_json(None))?,
                    false => {
                        out.line(format_args!("{}  {}", utc(now_ms()), row.for_people(None)))?
                    }
                }
            }
        }
        self.lines = lines;
        out.flush()
    }
}

/// One tree at one peer.
struct Row {
    tree: TreeId,
    peer: PublicKey,
    /// How many entries of this device the peer is known to have.
    peer_has: Option<u32>,
    state: State,
    /// The last error, and when it happened.
    error: Option<(String, u64)>,
}

enum State {
    Live(LaneStatus),
    Paused,
    /// No process follows the tree; the peer was last reached at this time.
    Idle(Option<u64>),
    Removed,
}

async fn rows(node: &Node, is_live: bool) -> Result<Vec<Row>> {
    let follows = node.remembered_follows().await;
    let follows = follows.context("could not read which peers are followed")?;
    let known = node.known_peers();
    let mut rows = Vec::new();
    for status in node.status() {
        let error = status
            .last_error
            .map(|(error, at_ms)| (error.to_string(), at_ms));
        rows.push(Row {
            tree: status.tree,
            peer: status.peer,
            peer_has: Some(status.peer_has),
            state: State::Live(status.state),
            error,
        });
    }
    for follow in follows {
        let (tree, peer) = (follow.tree, follow.peer);
        let state = match (follow.is_paused, is_live) {
            (true, _) => State::Paused,
            (false, true) => continue,
            (false, false) => {
                let known = known.iter().find(|(key, _)| *key == peer);
                let known = known.map_or(&[][..], |(_, known)| known.addresses());
                State::Idle(known.iter().filter_map(|it| it.last_success_ms).max())
            }
        };
        rows.push(Row {
            tree,
            peer,
            peer_has: None,
            state,
            error: None,
        });
    }
    rows.sort_by_key(Row::key);
    Ok(rows)
}

impl Row {
    fn key(&self) -> (TreeId, PublicKey) {
        (self.tree, self.peer)
    }

    fn for_people(&self, name: Option<&str>) -> String {
        let name = name.map_or("(not here)".to_owned(), |it| first_line(it, NAME_CHARS_MAX));
        let (tree, peer) = (self.tree.short(), self.peer.short());
        let mut line = format!("{tree}  {peer}  {}  {name}", self.described());
        if let (
            State::Live(LaneStatus::Unreachable { .. } | LaneStatus::Refused { .. }),
            Some((error, _)),
        ) = (&self.state, &self.error)
        {
            line.push_str("  (");
            line.push_str(&one_line(error));
            line.push(')');
        }
        line
    }

    /// Describes the state.
    fn described(&self) -> String {
        let lane = match &self.state {
            State::Live(lane) => *lane,
            State::Paused => return "paused".to_owned(),
            State::Idle(None) => return "no server runs here; never reached".to_owned(),
            State::Idle(Some(last_ms)) => {
                return format!("no server runs here; last reached {}", utc(*last_ms));
            }
            State::Removed => return "not followed".to_owned(),
        };
        match lane {
            LaneStatus::InSync { since_ms } => format!("in sync since {}", utc(since_ms)),
            LaneStatus::Behind => "behind".to_owned(),
            LaneStatus::Ahead { entries } => {
                format!("ahead by {}", count(entries.into(), "entry", "entries"))
            }
            LaneStatus::Syncing => "syncing".to_owned(),
            LaneStatus::Unreachable { reason, next_ms } => {
                format!(
                    "unreachable: {}; next attempt {}",
                    unreachable(reason),
                    utc(next_ms)
                )
            }
            LaneStatus::Refused {
                reason,
                next_ms: None,
            } => format!("refused: {}", refused(reason)),
            LaneStatus::Refused {
                reason,
                next_ms: Some(next_ms),
            } => {
                format!(
                    "refused: {}; next attempt {}",
                    refused(reason),
                    utc(next_ms)
                )
            }
            LaneStatus::WaitingForAccess => "waiting for access".to_owned(),
        }
    }

    fn as_json(&self, name: Option<&str>) -> Value {
        let mut value = json!({
            "tree": self.tree.to_string(),
            "name": name,
            "peer": self.peer.to_string(),
            "peer_has": self.peer_has,
        });
        let mut set = |field: &str, to: Value| value[field] = to;
        let state = match &self.state {
            State::Paused => "paused",
            State::Idle(last_ms) => {
                set("last_reached_ms", (*last_ms).into());
                "idle"
            }
            State::Removed => "not followed",
            State::Live(LaneStatus::InSync { since_ms }) => {
                set("since_ms", (*since_ms).into());
                "in sync"
            }
            State::Live(LaneStatus::Behind) => "behind",
            State::Live(LaneStatus::Ahead { entries }) => {
                set("ahead_by", (*entries).into());
                "ahead"
            }
            State::Live(LaneStatus::Syncing) => "syncing",
            State::Live(LaneStatus::Unreachable { reason, next_ms }) => {
                set("reason", unreachable(*reason).into());
                set("next_attempt_ms", (*next_ms).into());
                "unreachable"
            }
            State::Live(LaneStatus::Refused { reason, next_ms }) => {
                set("reason", refused(*reason).into());
                set("next_attempt_ms", (*next_ms).into());
                "refused"
            }
            State::Live(LaneStatus::WaitingForAccess) => "waiting for access",
        };
        set("state", state.into());
        if let Some((error, at_ms)) = &self.error {
            set("last_error", json!({"text": error, "at_ms": at_ms}));
        }
        value
    }
}

/// Describes a key that is in use on two machines.
pub(crate) fn duplicate(node: &Node, key: PublicKey, noticed_ms: u64) -> String {
    let (whose, advice) = match key == node.key() {
        true => (
            "the key of this device".to_owned(),
            "stop one of the two, and let it join again with a store of its own",
        ),
        false => (
            format!("the key {}", key.short()),
            "its owner should stop one of the two",
        ),
    };
    let when = utc(noticed_ms);
    format!("{whose} is in use on two machines at once (noticed {when}): {advice}")
}

fn unreachable(reason: UnreachableReason) -> String {
    match reason {
        UnreachableReason::NoAddress => "no address is known",
        UnreachableReason::NoConnection => "no connection",
        UnreachableReason::NoAnswer => "no answer",
        UnreachableReason::ConnectionLost => "the connection broke",
        UnreachableReason::WrongPeer => "another peer answers at its addresses",
        UnreachableReason::BrokenPeer => "it does not follow the protocol",
        _ => "for another reason",
    }
    .to_owned()
}

fn refused(reason: RefusedReason) -> String {
    match reason {
        RefusedReason::Code(ErrorCode::ReadOnly) => "it does not let this device write".to_owned(),
        RefusedReason::Code(ErrorCode::NotFound) => {
            "it may not read the new entries here, or this device may not read there".to_owned()
        }
        RefusedReason::Code(ErrorCode::EntryRefused) => "it refuses an entry".to_owned(),
        RefusedReason::Code(code) => format!("error {}", u16::from(code)),
        RefusedReason::Failed => "the exchange failed".to_owned(),
        RefusedReason::Broken => "the peer breaks the protocol".to_owned(),
        _ => "for another reason".to_owned(),
    }
}

fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}
