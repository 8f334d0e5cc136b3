//! `join` and `sync`: makes a tree equal with a peer.

use std::sync::Arc;

use eidetica_sync::dag::{PublicKey, TreeId};
use eidetica_sync::http::HttpTransport;
use eidetica_sync::proto::{
    Address, Ending, ErrorCode, Report, SyncFault, SyncOptions, Ticket, TransportErrorKind,
};
use eidetica_sync::{Node, Peer, SyncError};
use serde_json::json;
use tokio::time::Instant;

use crate::args::{How, Join, Sync, Target, Via};
use crate::failure::{Context, Failure, Result};
use crate::output::{Out, bytes, count, first_line, note, printable};
use crate::peers::{self, Known};
use crate::progress::Progress;
use crate::signals::Interruption;
use crate::store_dir::{Opened, StoreDir};
use crate::transports::{with_http, with_iroh};
use crate::tree;

/// How much of a tree's name stands in a summary, in characters.
const NAME_CHARS_MAX: usize = 60;

pub(crate) async fn join(dir: &StoreDir, args: Join) -> Result<()> {
    let opened = dir.open_or_create()?;
    let done = follow(&opened, &args.ticket, &args.how).await?;
    let tree = args.ticket.tree;
    done.print(tree, &args.how)?;
    let entries = opened.store.snapshot(tree).map(|it| it.entry_count());
    let entries = entries.context("could not read what was fetched")?;
    let name = tree::find(&*opened.store, &tree.to_string())?.name;
    if !args.how.json {
        let mut out = Out::new();
        out.line(tree)?;
        out.flush()?;
    }
    note(format_args!(
        "{:?} is here, with {}; `eidetica sync {}` fetches and sends what is new",
        first_line(&name, NAME_CHARS_MAX),
        count(entries.into(), "entry", "entries"),
        tree.short()
    ));
    Ok(())
}

pub(crate) async fn sync(dir: &StoreDir, args: Sync) -> Result<()> {
    let (opened, named) = match args.target {
        Target::Ticket(mut ticket) => {
            let opened = dir.open_or_create()?;
            ticket.addresses.splice(..0, args.addresses);
            let done = follow(&opened, &ticket, &args.how).await?;
            return done.print(ticket.tree, &args.how);
        }
        Target::Tree(text) => {
            let opened = dir.open()?;
            let named = tree::find(&*opened.store, &text)?;
            (opened, named)
        }
    };
    let given = !args.addresses.is_empty();
    let known = match given {
        true => vec![Known::new(None, args.addresses)],
        false => peers::load(&*opened.store, named.tree)?,
    };
    let routes = routes(known, args.how.via)?;
    let done = try_all(&opened, named.tree, routes, &args.how).await?;
    if given {
        let known = Known::new(None, vec![done.route.address.clone()]);
        peers::remember(&*opened.store, named.tree, known)?;
    }
    done.print(named.tree, &args.how)
}

/// Syncs with the peer of a ticket, and remembers it.
async fn follow(opened: &Opened, ticket: &Ticket, how: &How) -> Result<Done> {
    let (store, tree) = (&*opened.store, ticket.tree);
    let known = Known::new(ticket.peer, ticket.addresses.clone());
    let routes = routes(vec![known.clone()], how.via)?;
    // It is remembered first, so that a join which is cut off can be continued with `sync`.
    peers::remember(store, tree, known)?;
    let result = try_all(opened, tree, routes, how).await;
    if result.is_err() {
        let got = store.snapshot(tree).map(|it| it.entry_count());
        if got.context("could not read the store")? == 0 {
            peers::forget(store, tree)?;
        }
    }
    result
}

/// One way to a peer.
#[derive(Debug, Clone)]
struct Route {
    peer: Option<PublicKey>,
    address: Address,
}

/// Lists the ways that may be taken, in the order of trying.
fn routes(known: Vec<Known>, via: Option<Via>) -> Result<Vec<Route>> {
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

/// A sync that came to its end.
struct Done {
    route: Route,
    report: Report,
    seconds: f64,
}

/// Tries one way after the other until one leads to the end.
async fn try_all(opened: &Opened, tree: TreeId, routes: Vec<Route>, how: &How) -> Result<Done> {
    let mut interruption = Interruption::listen()?;
    let http = how.tls.apply(HttpTransport::builder())?;
    let mut node = with_http(opened.node()?, http)?;
    if routes
        .iter()
        .any(|route| Via::Iroh.kinds().contains(&route.address.kind()))
    {
        node = with_iroh(node, &opened.key, how.loopback).await?;
    }
    let node = node.start();
    let outcome = tokio::select! {
        outcome = try_in_order(&node, tree, routes) => outcome,
        () = interruption.wait() => Err(Failure::new("interrupted")
            .hint("the same again: it goes on from what is stored")
            .into()),
    };
    let stopped = node.shutdown().await;
    let done = outcome?;
    if let Err(error) = stopped {
        tracing::warn!(%error, "the transports did not close in good order");
    }
    Ok(done)
}

async fn try_in_order(node: &Node, tree: TreeId, routes: Vec<Route>) -> Result<Done> {
    let mut worst: Option<Arc<SyncError>> = None;
    let mut left = routes.len();
    for route in routes {
        left -= 1;
        let begun = Instant::now();
        let error = match one(node, tree, &route).await {
            Ok(report) => {
                let seconds = begun.elapsed().as_secs_f64();
                return Ok(Done {
                    route,
                    report,
                    seconds,
                });
            }
            Err(error) => error,
        };
        // The same peer can answer otherwise where its transport proves our key.
        let another_may_help = matches!(
            &*error,
            SyncError::Transport { .. }
                | SyncError::Peer {
                    source: SyncFault::Refused(_),
                    ..
                }
        );
        if another_may_help && left > 0 {
            note(printable(&format!("{error}; trying the next address")));
        }
        // Whoever answered says more about the tree than whoever was not there.
        let tells_more = !matches!(&*error, SyncError::Transport { .. });
        if tells_more || worst.is_none() {
            worst = Some(error);
        }
        if !another_may_help {
            break;
        }
    }
    Err(worst
        .map_or_else(
            || Failure::new("there is no address to try"),
            |error| failure(node, tree, error),
        )
        .into())
}

async fn one(node: &Node, tree: TreeId, route: &Route) -> Result<Report, Arc<SyncError>> {
    let peer = Peer {
        key: route.peer,
        addresses: vec![route.address.clone()],
    };
    let running = node.begin_sync(tree, peer, SyncOptions::default()).await?;
    let mut seen = running.progress();
    let mut finished = std::pin::pin!(running.finish());
    let mut progress = Progress::new("receiving");
    loop {
        tokio::select! {
            result = &mut finished => return result,
            Ok(()) = seen.changed() => {
                let at = *seen.borrow_and_update();
                if at.to_send > 0 && at.received >= at.expected {
                    progress.say("sending", at.to_send);
                } else {
                    progress.set(at.received, (at.expected > 0).then_some(at.expected));
                }
            }
        }
    }
}

/// Says why a sync failed and what helps.
fn failure(node: &Node, tree: TreeId, error: Arc<SyncError>) -> Failure {
    let code = match &*error {
        SyncError::Peer {
            source: SyncFault::Refused(refused),
            ..
        } => Some(refused.code),
        _ => None,
    };
    let (text, hint) = match (code, &*error) {
        (Some(ErrorCode::NotFound), _) => (
            format!(
                "the peer has no tree {}, or does not let this device read it: it does not say which",
                tree.short()
            ),
            format!(
                "ask for a ticket of a tree that is open to anyone (`eidetica new … --anyone read`), or \
                 to grant this device's key a role, and then `--via iroh`; the key is {}",
                node.key()
            ),
        ),
        (Some(ErrorCode::Busy), _) => (could_not_sync(tree), "the same again in a while".to_owned()),
        (Some(ErrorCode::UnsupportedVersion), _) => (
            could_not_sync(tree),
            "update this program or the peer's, so that both speak the same version".to_owned(),
        ),
        (_, SyncError::Transport { address, source })
            if source.kind() == TransportErrorKind::WrongPeer && address.kind() == "https" =>
        {
            (
                could_not_sync(tree),
                "the certificate that `serve --tls-self-signed` names there, copied here, with \
                 `--tls-ca`"
                    .to_owned(),
            )
        }
        (_, SyncError::Transport { .. }) => (
            could_not_sync(tree),
            "see that the peer runs `eidetica serve` and can be reached; its addresses change when \
             it restarts, a fresh ticket has them"
                .to_owned(),
        ),
        (_, SyncError::Store(_)) => (
            could_not_sync(tree),
            "the same again once the cause is gone: it goes on from what is stored".to_owned(),
        ),
        _ => (
            could_not_sync(tree),
            "another peer that has the tree; what was stored is sound and stays".to_owned(),
        ),
    };
    Failure::new(text).caused_by(error).hint(hint)
}

fn could_not_sync(tree: TreeId) -> String {
    format!("could not sync the tree {}", tree.short())
}

impl Done {
    /// Prints how it went: as JSON on stdout, or for people on stderr.
    fn print(&self, tree: TreeId, how: &How) -> Result<()> {
        if !how.json {
            note(self.summary());
            return Ok(());
        }
        let mut out = Out::new();
        out.json(&json!({
            "tree": tree.to_string(),
            "transport": self.route.address.kind(),
            "address": self.route.address,
            "ending": self.report.ending,
            "seconds": self.seconds,
            "stats": self.report.stats,
        }))?;
        out.flush()
    }

    fn summary(&self) -> String {
        let Report { ending, stats } = &self.report;
        let ending = match ending {
            Ending::Equal => "equal with the peer",
            Ending::Pulled => "received all that the peer has",
            Ending::PeerIsReadOnly => {
                "received all that the peer has; it does not let this device write"
            }
            Ending::PeerMayNotRead => {
                "received all that the peer has; it may not read what is new here"
            }
            Ending::MovedOn => "exchanged all; one side went on writing meanwhile: sync again",
            Ending::PeerLacksParents => "the peer could not store all that it was sent: sync again",
        };
        format!(
            "{ending}: received {} ({}), sent {} ({}), {} over {} in {:.2} s",
            count(stats.received, "entry", "entries"),
            bytes(stats.received_bytes + stats.response_bytes),
            count(stats.sent, "entry", "entries"),
            bytes(stats.sent_bytes + stats.request_bytes),
            count(stats.round_trips.into(), "round trip", "round trips"),
            self.route.address.kind(),
            self.seconds
        )
    }
}
