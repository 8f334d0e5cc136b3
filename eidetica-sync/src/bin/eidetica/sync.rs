//! `sync`, and what `join` has in common with it: makes a tree equal with a peer.

mod report;

use std::sync::Arc;

use eidetica_sync::dag::{PublicKey, TreeId};
use eidetica_sync::http::HttpTransport;
use eidetica_sync::proto::{Address, InviteSecret, Report, SyncFault, SyncOptions};
use eidetica_sync::store::Store;
use eidetica_sync::{JoinOptions, Node, Peer, SyncError};
use tokio::time::Instant;

use self::report::failure;
use crate::args::{Forget, How, Sync, Target, Via};
use crate::console::Console;
use crate::failure::{Context, Failure, Result};
use crate::join::{self, Waiting};
use crate::output::printable;
use crate::peers::{self, Known};
use crate::session::Session;
use crate::store_dir::Opened;
use crate::transports::{with_http, with_iroh};
use crate::tree;

pub(crate) async fn sync(session: &Session, args: Sync) -> Result<()> {
    let how = &args.how;
    let is_ticket = matches!(args.target, Target::Ticket(_));
    let given = !args.addresses.is_empty() && !is_ticket;
    let (opened, tree, known, invite) = match args.target {
        Target::Ticket(mut ticket) => {
            ticket.addresses.splice(..0, args.addresses);
            let known = Known::new(ticket.peer, ticket.addresses);
            let opened = session.open_or_create()?;
            (opened, ticket.tree, vec![known], ticket.invite)
        }
        Target::Tree(text) => {
            let opened = session.open()?;
            let mut trees = tree::all(&*opened.store)?;
            trees.extend(join::asked_for(&*opened.store, &trees)?);
            let tree = tree::choose(trees, &text)?.tree;
            let known = match given {
                true => vec![Known::new(None, args.addresses)],
                false => peers::load(&*opened.store, tree)?,
            };
            (opened, tree, known, None)
        }
    };
    let asked = join::asked(&*opened.store, tree)?;
    let plan = Plan {
        tree,
        how,
        invite,
        was_asked: asked.is_some(),
        ask: asked,
        wait: false,
    };
    let routes = routes(known.clone(), how.via)?;
    if is_ticket {
        for known in known {
            peers::remember(&*opened.store, tree, known)?;
        }
    }
    let done = make_equal(session, &opened, routes, plan).await?;
    if given {
        let known = Known::new(None, vec![done.route.address.clone()]);
        peers::remember(&*opened.store, tree, known)?;
    }
    done.print(&session.console, tree, how)
}

pub(crate) async fn forget(session: &Session, args: Forget) -> Result<()> {
    let node = session.open()?.start()?;
    let forgotten = node.forget_address(&args.address).await;
    forgotten.context("could not forget who was at the address")?;
    session.console.note(format_args!(
        "whoever answers next at {} is believed to be who is meant",
        args.address
    ));
    Ok(())
}

/// One way to a peer.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) peer: Option<PublicKey>,
    pub(crate) address: Address,
}

/// What is to be done with a peer.
pub(crate) struct Plan<'a> {
    pub(crate) tree: TreeId,
    pub(crate) how: &'a How,
    pub(crate) invite: Option<InviteSecret>,
    /// What to ask for where this device is not let in; `None` to leave it at that.
    pub(crate) ask: Option<JoinOptions>,
    /// Whether it has been asked for before.
    pub(crate) was_asked: bool,
    /// Whether to wait until an admin has decided.
    pub(crate) wait: bool,
}

/// How far it came with a peer.
pub(crate) enum AppendOutcome {
    Synced(Done),
    Pending(Route),
    Rejected(Route),
}

/// A sync that came to its end.
pub(crate) struct Done {
    pub(crate) route: Route,
    report: Report,
    seconds: f64,
}

/// Lists the ways that may be taken, in the order of trying.
pub(crate) fn routes(known: Vec<Known>, via: Option<Via>) -> Result<Vec<Route>> {
    let mut all = Vec::new();
    for known in known {
        let peer = known.key();
        all.extend(
            known
                .addresses
                .into_iter()
                .map(|address| Route { peer, address }),
        );
    }
    if all.is_empty() {
        return Err(Failure::new("no address of anyone who has the tree is known")
            .hint("`eidetica sync <tree> --at <address>`, or `eidetica join '<ticket>'`: mind the \
                   quotes, the shell cuts a ticket at '&'")
            .into());
    }
    if let Some(via) = via {
        let found: Vec<String> = all.iter().map(|it| it.address.to_string()).collect();
        all.retain(|route| via.kinds().contains(&route.address.kind()));
        if all.is_empty() {
            let kinds = via.kinds().join(" or ");
            let text = format!("none of the addresses is of the kind {kinds}");
            let hint = format!("without --via; there are: {}", found.join(", "));
            return Err(Failure::new(text).hint(hint).into());
        }
    }
    Ok(all)
}

/// Carries a plan out, and remembers what comes of it.
pub(crate) async fn make_equal(
    session: &Session,
    opened: &Opened,
    routes: Vec<Route>,
    mut plan: Plan<'_>,
) -> Result<Done> {
    let (store, tree) = (&*opened.store, plan.tree);
    match try_all(session, opened, routes, &mut plan).await {
        Ok(AppendOutcome::Synced(done)) => {
            join::forget_asked(store, tree)?;
            Ok(done)
        }
        Ok(AppendOutcome::Pending(route)) => {
            join::print_state(&session.console, "pending", &plan, &route)?;
            Err(join::pending(&opened.key.public(), &plan, &route).into())
        }
        Ok(AppendOutcome::Rejected(route)) => {
            join::forget_asked(store, tree)?;
            forget_if_absent(store, tree)?;
            join::print_state(&session.console, "rejected", &plan, &route)?;
            Err(join::rejected(&plan, &route).into())
        }
        Err(stop) => {
            if !plan.was_asked {
                forget_if_absent(store, tree)?;
            }
            Err(stop)
        }
    }
}

/// Forgets the peers of a tree of which nothing is here.
fn forget_if_absent(store: &dyn Store, tree: TreeId) -> Result<()> {
    let got = store.snapshot(tree).map(|it| it.entry_count());
    match got.context("could not read the store")? {
        0 => peers::forget(store, tree),
        _ => Ok(()),
    }
}

/// Tries one way after the other until one leads to the end.
async fn try_all(
    session: &Session,
    opened: &Opened,
    routes: Vec<Route>,
    plan: &mut Plan<'_>,
) -> Result<AppendOutcome> {
    let mut interruption = session.console.interruption()?;
    let shared = opened.server.as_ref();
    // What the server trusts was settled when it began; the same store can have a node that trusts
    // somebody else.
    let shared = shared.filter(|_| !plan.how.tls.is_given());
    let node = match shared {
        Some(node) => node.clone(),
        None => connect(session, opened, &routes, plan.how).await?,
    };
    let outcome = tokio::select! {
        outcome = try_until_decided(&session.console, &node, &routes, plan) => outcome,
        () = interruption.wait() => Err(Failure::new("interrupted")
            .hint("the same again: it goes on from what is stored")
            .into()),
    };
    if shared.is_none()
        && let Err(error) = node.shutdown().await
    {
        tracing::warn!(%error, "the transports did not close in good order");
    }
    outcome
}

/// Starts a node with the transports that it takes.
async fn connect(session: &Session, opened: &Opened, routes: &[Route], how: &How) -> Result<Node> {
    let http = how.tls.apply(session, HttpTransport::builder())?;
    let mut node = with_http(opened.node()?, http)?;
    let is_iroh = |route: &Route| Via::Iroh.kinds().contains(&route.address.kind());
    // A device's key has one endpoint, and that is the server's.
    if opened.server.is_none() && routes.iter().any(is_iroh) {
        node = with_iroh(node, &opened.key, how.loopback).await?;
    }
    Ok(node.start())
}

/// Tries all ways, and again for as long as the plan is to wait and waiting may help.
async fn try_until_decided(
    console: &Console,
    node: &Node,
    routes: &[Route],
    plan: &mut Plan<'_>,
) -> Result<AppendOutcome> {
    let mut waiting = Waiting::new()?;
    let mut told = String::new();
    loop {
        let result = try_in_order(console, node, routes, plan, waiting.has_begun()).await;
        let why = match &result {
            Ok(AppendOutcome::Pending(route)) => {
                // At once: whoever stops to wait can go on later.
                join::remember_asked(&**node.store(), plan)?;
                plan.was_asked = true;
                join::whose_turn(&node.key(), plan, route)
            }
            Err(Failed { error, .. }) if error.is_transient() => error.to_string(),
            _ => String::new(),
        };
        if why.is_empty() || !plan.wait {
            return result.map_err(|failed| failure(node, plan, failed).into());
        }
        if told != why {
            console.note(printable(&format!("waiting: {why}")));
            told = why;
        }
        waiting.wait().await;
    }
}

/// A way that did not lead to the end, and why.
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
) -> Result<AppendOutcome, Failed> {
    let mut worst: Option<Failed> = None;
    let mut pending: Option<&Route> = None;
    let mut left = routes.len();
    for route in routes {
        left -= 1;
        // A peer whose admin has to decide says the same everywhere; another may be open.
        if pending.is_some_and(|it| it.peer.is_some() && it.peer == route.peer) {
            continue;
        }
        let error = match join::attempt(console, node, plan, route).await {
            Ok(AppendOutcome::Pending(_)) => {
                pending = pending.or(Some(route));
                continue;
            }
            Ok(outcome) => return Ok(outcome),
            Err(error) => error,
        };
        // The same peer can answer otherwise at another address, where it may be somebody else.
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
        // Whoever answered says more about the tree than whoever was not there.
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
        return Ok(AppendOutcome::Pending(route.clone()));
    }
    Err(worst.expect("there is a route: `routes` refuses an empty list"))
}

/// Syncs at one address.
pub(crate) async fn one(
    console: &Console,
    node: &Node,
    tree: TreeId,
    route: &Route,
) -> Result<Done, Arc<SyncError>> {
    let begun = Instant::now();
    let peer = Peer {
        key: route.peer,
        addresses: vec![route.address.clone()],
    };
    let running = node.begin_sync(tree, peer, SyncOptions::default()).await?;
    let mut seen = running.progress();
    let mut finished = std::pin::pin!(running.finish());
    let mut progress = console.progress("receiving");
    loop {
        tokio::select! {
            result = &mut finished => return result.map(|report| Done::new(route, report, begun)),
            Ok(()) = seen.changed() => {
                let at = *seen.borrow_and_update();
                if at.to_send > 0 && at.received >= at.expected {
                    progress.say("sending", at.to_send);
                } else {
                    progress.show("receiving".into(), at.received, (at.expected > 0).then_some(at.expected));
                }
            }
        }
    }
}

impl Done {
    pub(crate) fn new(route: &Route, report: Report, begun: Instant) -> Self {
        Self {
            route: route.clone(),
            report,
            seconds: begun.elapsed().as_secs_f64(),
        }
    }
}
