//! Carries out a plan: tries the routes, waits if that was asked for, and remembers the outcome.

use std::sync::Arc;
use std::time::Duration;

use eidetica_sync::dag::TreeId;
use eidetica_sync::proto::{Backoff, BackoffPolicy, SyncFault};
use eidetica_sync::{Node, Peer, SyncError};
use rand::TryRng;
use rand::rngs::SysRng;
use tokio::time::Instant;

use super::attempt::attempt;
use super::plan::{Done, Outcome, Plan, Route};
use super::report;
use crate::commands::session::Session;
use crate::network::transports::connect;
use crate::output::console::Console;
use crate::output::failure::{Context, Failure, Result};
use crate::output::text::one_line;
use crate::store::dir::Opened;
use crate::store::{asked, peers};

/// How often a device that waits for an admin asks again: soon at first, when the admin may be sitting
/// beside it, and twice a minute in the end.
const WAITING: BackoffPolicy = BackoffPolicy {
    base_ms: 1_000,
    factor: 2,
    cap_ms: 30_000,
};

/// Carries out a plan with the server's node or with one of its own, and remembers the outcome.
pub(crate) async fn make_equal(
    session: &Session,
    opened: &Opened,
    routes: Vec<Route>,
    mut plan: Plan<'_>,
) -> Result<Done> {
    let mut interruption = session.console.interruption()?;
    let shared = opened.server.as_ref();
    // The certificates that the server trusts were settled when it started; a node of its own can
    // trust others.
    let node = match shared.filter(|_| !plan.how.net.tls.is_given()) {
        Some(node) => node.clone(),
        None => {
            let addresses = routes.iter().flat_map(|route| &route.addresses);
            let node = connect(session, opened, addresses, &plan.how.net).await?;
            node.without_following().start()
        }
    };
    let outcome = tokio::select! {
        outcome = try_until_decided(&session.console, &node, &routes, &mut plan) => outcome,
        () = interruption.wait() => Err(Failure::new("interrupted")
            .hint("run the command again; it continues from what is stored")
            .into()),
    };
    let result = conclude(session, shared.unwrap_or(&node), &routes, &plan, outcome).await;
    if shared.is_none()
        && let Err(error) = node.shutdown().await
    {
        tracing::warn!(%error, "the transports did not close cleanly");
    }
    result
}

/// Remembers the outcome, and reports one that is no success.
async fn conclude(
    session: &Session,
    node: &Node,
    routes: &[Route],
    plan: &Plan<'_>,
    outcome: Result<Outcome>,
) -> Result<Done> {
    let (store, tree) = (&**node.store(), plan.tree);
    match outcome {
        Ok(Outcome::Synced(done)) => {
            asked::forget(store, tree)?;
            let at = Peer {
                key: done.route.peer,
                addresses: vec![done.route.address().clone()],
            };
            peers::remember(node, tree, &at).await?;
            Ok(done)
        }
        Ok(Outcome::Pending(route)) => {
            // `serve` fetches the tree as soon as an admin has approved.
            peers::remember(node, tree, &Peer::from(&route)).await?;
            report::print_state(&session.console, "pending", plan, &route)?;
            Err(report::pending(&node.key(), plan, &route).into())
        }
        Ok(Outcome::Rejected(route)) => {
            asked::forget(store, tree)?;
            forget_if_absent(node, routes, tree).await?;
            report::print_state(&session.console, "rejected", plan, &route)?;
            Err(report::rejected(plan, &route).into())
        }
        Err(stop) => {
            if !plan.was_asked {
                forget_if_absent(node, routes, tree).await?;
            }
            Err(stop)
        }
    }
}

/// Stops following the peers of a tree that is not in the store.
async fn forget_if_absent(node: &Node, routes: &[Route], tree: TreeId) -> Result<()> {
    let got = node.store().snapshot(tree).map(|it| it.entry_count());
    if got.context("could not read the store")? > 0 {
        return Ok(());
    }
    for peer in routes.iter().filter_map(|route| route.peer) {
        let forgotten = node.unfollow(tree, peer).await;
        forgotten.context("could not forget the peers of the tree")?;
    }
    Ok(())
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
            Err(Failed { error, .. }) if error.is_transient() => one_line(&error.to_string()),
            _ => String::new(),
        };
        if why.is_empty() || !plan.wait {
            return result
                .map_err(|failed| report::failure(node, plan, &failed.route, failed.error).into());
        }
        if reported != why {
            console.note(one_line(&format!("waiting: {why}")));
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
        let error = match attempt(console, node, plan, route).await {
            Ok(Outcome::Pending(_)) => {
                pending = pending.or(Some(route));
                continue;
            }
            Ok(outcome) => return Ok(outcome),
            Err(error) => error,
        };
        let another_may_help = matches!(
            &*error,
            SyncError::NoAddress
                | SyncError::Transport { .. }
                | SyncError::Peer {
                    source: SyncFault::Refused(_),
                    ..
                }
        );
        if another_may_help && left > 0 && !is_quiet {
            console.note(one_line(&format!("{error}; trying the next peer")));
        }
        // A peer that answered says more about the tree than one that did not.
        let tells_more = !matches!(&*error, SyncError::NoAddress | SyncError::Transport { .. });
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
