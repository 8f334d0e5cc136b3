//! Carries out a plan: tries the routes, waits if that was asked for, and remembers the outcome.

use std::sync::Arc;
use std::time::Duration;

use eidetica_sync::dag::TreeId;
use eidetica_sync::http::HttpTransport;
use eidetica_sync::proto::{Backoff, BackoffPolicy, SyncFault};
use eidetica_sync::store::Store;
use eidetica_sync::{Node, SyncError};
use rand::TryRng;
use rand::rngs::SysRng;
use tokio::time::Instant;

use super::attempt::attempt;
use super::plan::{Done, Outcome, Plan, Route};
use super::report;
use crate::args::{How, Via};
use crate::commands::session::Session;
use crate::network::transports::{with_http, with_iroh};
use crate::output::console::Console;
use crate::output::failure::{Context, Failure, Result};
use crate::output::text::printable;
use crate::store::dir::Opened;
use crate::store::{asked, peers};
/// How often a device that waits for an admin asks again: soon at first, when the admin may be sitting
/// beside it, and twice a minute in the end.
const WAITING: BackoffPolicy = BackoffPolicy {
    base_ms: 1_000,
    factor: 2,
    cap_ms: 30_000,
};

/// Carries out a plan, and remembers the outcome.
pub(crate) async fn make_equal(
    session: &Session,
    opened: &Opened,
    routes: Vec<Route>,
    mut plan: Plan<'_>,
) -> Result<Done> {
    let (store, tree) = (&*opened.store, plan.tree);
    match try_all(session, opened, routes, &mut plan).await {
        Ok(Outcome::Synced(done)) => {
            asked::forget(store, tree)?;
            Ok(done)
        }
        Ok(Outcome::Pending(route)) => {
            report::print_state(&session.console, "pending", &plan, &route)?;
            Err(report::pending(&opened.key.public(), &plan, &route).into())
        }
        Ok(Outcome::Rejected(route)) => {
            asked::forget(store, tree)?;
            forget_if_absent(store, tree)?;
            report::print_state(&session.console, "rejected", &plan, &route)?;
            Err(report::rejected(&plan, &route).into())
        }
        Err(stop) => {
            if !plan.was_asked {
                forget_if_absent(store, tree)?;
            }
            Err(stop)
        }
    }
}

/// Forgets the peers of a tree that is not in the store.
fn forget_if_absent(store: &dyn Store, tree: TreeId) -> Result<()> {
    let got = store.snapshot(tree).map(|it| it.entry_count());
    match got.context("could not read the store")? {
        0 => peers::forget(store, tree),
        _ => Ok(()),
    }
}

/// Tries the routes, with the server's node or with one of its own.
async fn try_all(
    session: &Session,
    opened: &Opened,
    routes: Vec<Route>,
    plan: &mut Plan<'_>,
) -> Result<Outcome> {
    let mut interruption = session.console.interruption()?;
    let shared = opened.server.as_ref();
    // The certificates that the server trusts were settled when it started; a node of its own can
    // trust others.
    let shared = shared.filter(|_| !plan.how.tls.is_given());
    let node = match shared {
        Some(node) => node.clone(),
        None => connect(session, opened, &routes, plan.how).await?,
    };
    let outcome = tokio::select! {
        outcome = try_until_decided(&session.console, &node, &routes, plan) => outcome,
        () = interruption.wait() => Err(Failure::new("interrupted")
            .hint("run the command again; it continues from what is stored")
            .into()),
    };
    if shared.is_none()
        && let Err(error) = node.shutdown().await
    {
        tracing::warn!(%error, "the transports did not close cleanly");
    }
    outcome
}

/// Starts a node with the transports that the routes need.
async fn connect(session: &Session, opened: &Opened, routes: &[Route], how: &How) -> Result<Node> {
    let http = how.tls.apply(session, HttpTransport::builder())?;
    let mut node = with_http(opened.node(), http)?;
    let is_iroh = |route: &Route| Via::Iroh.kinds().contains(&route.address.kind());
    // A device's key has one endpoint, and while a server runs, that is the server's.
    if opened.server.is_none() && routes.iter().any(is_iroh) {
        node = with_iroh(node, &opened.key, how.loopback).await?;
    }
    Ok(node.start())
}

/// Tries all routes, again and again if the plan is to wait and waiting may help.
async fn try_until_decided(
    console: &Console,
    node: &Node,
    routes: &[Route],
    plan: &mut Plan<'_>,
) -> Result<Outcome> {
    let mut waiting = Waiting::new()?;
    let mut reported = String::new();
    loop {
        let result = try_in_order(console, node, routes, plan, waiting.has_begun()).await;
        let why = match &result {
            Ok(Outcome::Pending(route)) => {
                // Before waiting, so that an interrupted command can be continued.
                asked::remember(
                    &**node.store(),
                    plan.tree,
                    &plan.ask.clone().unwrap_or_default(),
                )?;
                plan.was_asked = true;
                report::whose_turn(&node.key(), plan, route)
            }
            Err(Failed { error, .. }) if error.is_transient() => error.to_string(),
            _ => String::new(),
        };
        if why.is_empty() || !plan.wait {
            return result
                .map_err(|failed| report::failure(node, plan, &failed.route, failed.error).into());
        }
        if reported != why {
            console.note(printable(&format!("waiting: {why}")));
            reported = why;
        }
        waiting.wait().await;
    }
}

/// A route that failed, and why.
struct Failed {
    route: Route,
    error: Arc<SyncError>,
}

async fn try_in_order(
    console: &Console,
    node: &Node,
    routes: &[Route],
    plan: &Plan<'_>,
    is_quiet: bool,
) -> Result<Outcome, Failed> {
    let mut worst: Option<Failed> = None;
    let mut pending: Option<&Route> = None;
    let mut left = routes.len();
    for route in routes {
        left -= 1;
        // A peer with a pending request answers alike at all its addresses; another peer may not.
        if pending.is_some_and(|it| it.peer.is_some() && it.peer == route.peer) {
            continue;
        }
        let error = match attempt(console, node, plan, route).await {
            Ok(Outcome::Pending(_)) => {
                pending = pending.or(Some(route));
                continue;
            }
            Ok(outcome) => return Ok(outcome),
            Err(error) => error,
        };
        // At another address of the same list, another peer may answer.
        let another_may_help = matches!(
            &*error,
            SyncError::Transport { .. }
                | SyncError::Peer {
                    source: SyncFault::Refused(_),
                    ..
                }
        );
        if another_may_help && left > 0 && !is_quiet {
            console.note(printable(&format!("{error}; trying the next address")));
        }
        // A peer that answered says more about the tree than one that did not.
        let tells_more = !matches!(&*error, SyncError::Transport { .. });
        if tells_more || worst.is_none() {
            let route = route.clone();
            worst = Some(Failed { route, error });
        }
        if !another_may_help {
            break;
        }
    }
    if let Some(route) = pending {
        return Ok(Outcome::Pending(route.clone()));
    }
    Err(worst.expect("there is a route: `routes` refuses an empty list"))
}

/// Waits longer each time.
struct Waiting {
    backoff: Backoff,
    begun: Instant,
    has_begun: bool,
}

impl Waiting {
    fn new() -> Result<Self> {
        let seed = SysRng.try_next_u64();
        let seed = seed.context("the operating system provides no random bytes")?;
        Ok(Self {
            backoff: Backoff::new(WAITING, seed),
            begun: Instant::now(),
            has_begun: false,
        })
    }

    /// Tells whether it has waited before.
    fn has_begun(&self) -> bool {
        self.has_begun
    }

    async fn wait(&mut self) {
        self.has_begun = true;
        let begun = self.begun;
        let elapsed_ms = || u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.backoff.handle_failure(elapsed_ms());
        while let Err(until_ms) = self.backoff.poll_ready(elapsed_ms()) {
            tokio::time::sleep_until(begun + Duration::from_millis(until_ms)).await;
        }
    }
}
