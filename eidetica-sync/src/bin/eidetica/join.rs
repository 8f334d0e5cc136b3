//! `join`: asks to be let in where that is needed, and fetches the tree.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use eidetica_sync::dag::{PublicKey, Role, TreeId, current_access};
use eidetica_sync::proto::{Backoff, BackoffPolicy, ErrorCode, SyncFault, Ticket};
use eidetica_sync::store::Store;
use eidetica_sync::{Event, JoinOptions, Joined, Node, Origin, SyncError};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use crate::access::{role_name, role_phrase};
use crate::args::Join;
use crate::console::Console;
use crate::failure::{Context, Failure, Result};
use crate::output::{count, first_line};
use crate::peers::{self, Known};
use crate::session::Session;
use crate::store_dir::random_bytes;
use crate::sync::{AppendOutcome, Done, Plan, Route, make_equal, one, routes};
use crate::tree::{self, Named};

/// How much of a tree's name stands in a summary, in characters.
const NAME_CHARS_MAX: usize = 60;

/// How often one who waits for an admin asks again: soon at first, when the admin may be sitting
/// beside it, and twice a minute in the end.
const WAITING: BackoffPolicy = BackoffPolicy {
    base_ms: 1_000,
    factor: 2,
    cap_ms: 30_000,
};

pub(crate) async fn join(session: &Session, args: Join) -> Result<()> {
    let opened = session.open_or_create()?;
    let (store, console) = (&*opened.store, &session.console);
    let tree = args.ticket.tree;
    let known = Known::new(args.ticket.peer, args.ticket.addresses);
    let routes = routes(vec![known.clone()], args.how.via)?;
    // It is remembered first, so that a join which is cut off can be continued with `sync`.
    peers::remember(store, tree, known)?;
    let before = asked(store, tree)?;
    let was = before.clone().unwrap_or_default();
    let ask = JoinOptions {
        role: args.role.map(Role::from).or(was.role),
        note: args.note.unwrap_or(was.note),
    };
    let plan = Plan {
        tree,
        how: &args.how,
        invite: args.ticket.invite,
        was_asked: before.as_ref() == Some(&ask),
        ask: Some(ask.clone()),
        wait: args.wait,
    };
    let done = make_equal(session, &opened, routes, plan).await?;
    done.print(console, tree, &args.how)?;
    let entries = store.snapshot(tree).map(|it| it.entry_count());
    let entries = entries.context("could not read what was fetched")?;
    let name = tree::find(store, &tree.to_string())?.name;
    if !args.how.json {
        let mut out = console.out();
        out.line(tree)?;
        out.flush()?;
    }
    console.note(format_args!(
        "{:?} is here, with {}; `eidetica sync {}` fetches and sends what is new",
        first_line(&name, NAME_CHARS_MAX),
        count(entries.into(), "entry", "entries"),
        tree.short()
    ));
    let access = store.snapshot(tree).and_then(|it| current_access(&*it));
    let access = access.context("could not read who may do what")?;
    let has = access.role_of(Some(&opened.key.public()));
    if ask.role > has {
        console.note(format_args!(
            "this device {}; an admin has not granted it the role that it asked for",
            has.map_or("may do nothing with it", role_phrase)
        ));
    }
    Ok(())
}

/// Asks one peer, at one address.
pub(crate) async fn attempt(
    console: &Console,
    node: &Node,
    plan: &Plan<'_>,
    route: &Route,
) -> Result<AppendOutcome, Arc<SyncError>> {
    let tree = plan.tree;
    let Some(ask) = &plan.ask else {
        return one(console, node, tree, route)
            .await
            .map(AppendOutcome::Synced);
    };
    // Whoever has been let in with less than was asked for is in, and need not ask again.
    let asks_first = plan.invite.is_some() || ask.role.is_some() && !plan.was_asked;
    if !asks_first {
        match one(console, node, tree, route).await {
            Err(error) if is_not_found(&error) => {}
            result => return result.map(AppendOutcome::Synced),
        }
    }
    let begun = Instant::now();
    let mut ticket = Ticket::new(tree);
    ticket.peer = route.peer;
    ticket.addresses = vec![route.address.clone()];
    ticket.invite.clone_from(&plan.invite);
    let joining = node.join(&ticket, ask.clone());
    match watch(console, node, tree, joining).await? {
        Joined::Synced(report) => Ok(AppendOutcome::Synced(Done::new(route, report, begun))),
        Joined::Rejected => Ok(AppendOutcome::Rejected(route.clone())),
        // A role is asked for, and perhaps the tree can be read meanwhile.
        Joined::Pending if asks_first => match one(console, node, tree, route).await {
            Err(error) if is_not_found(&error) => Ok(AppendOutcome::Pending(route.clone())),
            result => result.map(AppendOutcome::Synced),
        },
        Joined::Pending => Ok(AppendOutcome::Pending(route.clone())),
    }
}

/// Shows what is received meanwhile. How much there is in all is not known here.
async fn watch<T>(
    console: &Console,
    node: &Node,
    tree: TreeId,
    joining: impl Future<Output = T>,
) -> T {
    let mut events = node.events();
    let mut joining = std::pin::pin!(joining);
    let (mut progress, mut received) = (None, 0);
    loop {
        tokio::select! {
            result = &mut joining => return result,
            Some(event) = events.next() => {
                if let Event::Stored { tree: of, arrivals, origin: Origin::Pulled(_) } = event
                    && of == tree
                {
                    received += arrivals.len() as u64;
                    let progress = progress.get_or_insert_with(|| console.progress("receiving"));
                    progress.set(received, None);
                }
            }
        }
    }
}

fn is_not_found(error: &SyncError) -> bool {
    let SyncError::Peer {
        source: SyncFault::Refused(refused),
        ..
    } = error
    else {
        return false;
    };
    refused.code == ErrorCode::NotFound
}

/// Waits longer each time.
pub(crate) struct Waiting {
    backoff: Backoff,
    begun: Instant,
    has_begun: bool,
}

impl Waiting {
    pub(crate) fn new() -> Result<Self> {
        let [a, b, c, d, e, f, g, h, ..] = random_bytes()?;
        let seed = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        Ok(Self {
            backoff: Backoff::new(WAITING, seed),
            begun: Instant::now(),
            has_begun: false,
        })
    }

    /// Tells whether it has waited before.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun
    }

    pub(crate) async fn wait(&mut self) {
        self.has_begun = true;
        let begun = self.begun;
        let elapsed_ms = || u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.backoff.handle_failure(elapsed_ms());
        while let Err(until_ms) = self.backoff.poll_ready(elapsed_ms()) {
            tokio::time::sleep_until(begun + Duration::from_millis(until_ms)).await;
        }
    }
}

/// Says that an admin has to decide, and how.
pub(crate) fn pending(key: &PublicKey, plan: &Plan<'_>, route: &Route) -> Failure {
    let hint = "the same again when that is done; `eidetica join` with --wait waits for it";
    Failure::pending(whose_turn(key, plan, route)).hint(hint)
}

/// Says what an admin has to do.
pub(crate) fn whose_turn(key: &PublicKey, plan: &Plan<'_>, route: &Route) -> String {
    let role = plan.ask.as_ref().and_then(|ask| ask.role);
    let role = role_name(role.unwrap_or(Role::Read));
    let (asked, which) = match route.peer {
        Some(peer) => (format!("{peer} at {}", route.address), peer.short()),
        None => (route.address.to_string(), "that was asked".to_owned()),
    };
    format!(
        "an admin of the tree {tree} has to let this device in first\n  \
         asked: {asked}, which does not tell whether it has the tree\n  \
         this device: {key}\n  \
         an admin runs on the device {which}: eidetica approve {tree} {short_key}\n  \
         or on a device of its own: eidetica grant {tree} {key} {role}",
        tree = plan.tree.short(),
        short_key = key.short()
    )
}

/// Says that an admin does not want it.
pub(crate) fn rejected(plan: &Plan<'_>, route: &Route) -> Failure {
    Failure::rejected(format!(
        "an admin of the tree {} does not let this device in; {} says so",
        plan.tree.short(),
        route.address
    ))
    .hint("talk to an admin: one who changes their mind grants this device's key a role")
}

/// Prints for scripts that there is nothing to be had yet.
pub(crate) fn print_state(
    console: &Console,
    state: &str,
    plan: &Plan<'_>,
    route: &Route,
) -> Result<()> {
    if !plan.how.json {
        return Ok(());
    }
    let mut out = console.out();
    out.json(&json!({
        "tree": plan.tree.to_string(),
        "transport": route.address.kind(),
        "address": route.address,
        "state": state,
    }))?;
    out.flush()
}

/// What was asked for, as the store remembers it: so that asking again asks for the same.
#[derive(Serialize, Deserialize)]
struct Asked {
    role: Option<Role>,
    note: String,
}

const ASKED: &str = "asked/";

fn meta_key(tree: TreeId) -> String {
    format!("{ASKED}{tree}")
}

/// Returns what was asked for, if an admin has not decided about it.
pub(crate) fn asked(store: &dyn Store, tree: TreeId) -> Result<Option<JoinOptions>> {
    let json = store.get(&meta_key(tree));
    let json = json.context("could not read what was asked for")?;
    // What cannot be read is asked for anew.
    let asked = json.and_then(|json| serde_json::from_slice(&json).ok());
    Ok(asked.map(|Asked { role, note }| JoinOptions { role, note }))
}

/// Lists trees that this device has asked for, but for those that are here.
pub(crate) fn asked_for(store: &dyn Store, here: &[Named]) -> Result<Vec<Named>> {
    let asked = store
        .list(ASKED)
        .context("could not read what was asked for")?;
    let trees = asked
        .iter()
        .filter_map(|(key, _)| key.strip_prefix(ASKED)?.parse().ok());
    let absent = trees.filter(|tree| here.iter().all(|it| it.tree != *tree));
    let named = |tree| Named {
        tree,
        name: String::new(),
    };
    Ok(absent.map(named).collect())
}

/// Remembers what has been asked for.
pub(crate) fn remember_asked(store: &dyn Store, plan: &Plan<'_>) -> Result<()> {
    let ask = plan.ask.clone().unwrap_or_default();
    let asked = Asked {
        role: ask.role,
        note: ask.note,
    };
    let failed = "could not remember what was asked for";
    let json = serde_json::to_vec(&asked).context(failed)?;
    let key = meta_key(plan.tree);
    Ok(store.put(&key, Some(&json)).context(failed)?)
}

/// Forgets what was asked for: it is decided.
pub(crate) fn forget_asked(store: &dyn Store, tree: TreeId) -> Result<()> {
    let key = meta_key(tree);
    let failed = "could not forget what was asked for";
    match store.get(&key).context(failed)? {
        Some(_) => Ok(store.put(&key, None).context(failed)?),
        None => Ok(()),
    }
}
