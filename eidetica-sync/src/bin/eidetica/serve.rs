//! `serve` and `ticket`: trees for others.

use std::path::Path;

use eidetica_sync::dag::TreeId;
use eidetica_sync::http::HttpTransport;
use eidetica_sync::proto::{Ticket, TransportErrorKind};
use eidetica_sync::{Event, Events, Node, Origin};

use crate::args::Serve;
use crate::failure::{Context, Failure, Result};
use crate::output::{Out, count, note};
use crate::signals::Interruption;
use crate::store_dir::{ServedTree, Serving, StoreDir};
use crate::transports::{with_http, with_iroh};
use crate::tree::{self, Named};

pub(crate) async fn serve(dir: &StoreDir, args: Serve) -> Result<()> {
    let opened = dir.open()?;
    let mut interruption = Interruption::listen()?;
    let mut node = opened.node()?;
    let mut certificate = None;
    if !args.no_http {
        let http = HttpTransport::builder().bind(args.http);
        let (http, to_give) = args.tls.apply(dir, http)?;
        node = with_http(node, http)?;
        certificate = to_give;
    }
    if !args.no_iroh {
        node = with_iroh(node, &opened.key, args.loopback).await?;
    }
    let node = node.start();
    let events = node.events();

    let trees = tree::all(&*opened.store)?;
    let run = async {
        start(dir, &node, &trees, certificate.as_deref()).await?;
        tell(events).await;
        Ok(())
    };
    // An interruption counts at every moment: finding a relay can take a while.
    let served: Result<()> = tokio::select! {
        served = run => served,
        () = interruption.wait() => Ok(()),
    };
    dir.remove_serving();
    let stopped = node.shutdown().await;
    served?;
    Ok(stopped.context("could not stop everything in good order")?)
}

/// Begins to listen, and says where, and with which certificate of its own.
async fn start(
    dir: &StoreDir,
    node: &Node,
    trees: &[Named],
    certificate: Option<&Path>,
) -> Result<()> {
    node.accept_connections().await.map_err(|error| {
        let taken = error.kind() == TransportErrorKind::AddressInUse;
        let failure = Failure::new("could not start to serve").caused_by(error);
        match taken {
            true => failure.hint("another address: `--http 127.0.0.1:0` takes any free port"),
            false => failure.hint("`--no-http` or `--no-iroh` to leave out what does not start"),
        }
    })?;
    let addresses = node.get_all_server_addresses_async().await;
    let addresses: Vec<_> = addresses.into_iter().map(|(_, address)| address).collect();
    dir.write_serving(&Serving {
        pid: std::process::id(),
        addresses: addresses.clone(),
        trees: trees
            .iter()
            .map(|it| ServedTree {
                tree: it.tree.to_string(),
                name: it.name.clone(),
            })
            .collect(),
    })?;
    let mut out = Out::new();
    for address in &addresses {
        out.line(format_args!("listening {address}"))?;
    }
    if let Some(certificate) = certificate {
        out.line(format_args!("certificate {}", certificate.display()))?;
    }
    for Named { tree, .. } in trees {
        let mut ticket = Ticket::new(*tree);
        ticket.peer = Some(node.key());
        ticket.addresses.clone_from(&addresses);
        out.line(format_args!("ticket {ticket}"))?;
    }
    out.line("ready")?;
    out.flush()
}

/// Says what others bring.
async fn tell(mut events: Events) {
    while let Some(event) = events.next().await {
        if let Event::Stored {
            tree,
            arrivals,
            origin: Origin::Pushed(from),
        } = event
        {
            let entries = count(arrivals.len() as u64, "entry", "entries");
            note(format_args!("{entries} in {} from {from}", tree.short()));
        }
    }
}

pub(crate) fn ticket(dir: &StoreDir, text: &str) -> Result<()> {
    let key = dir.public_key()?;
    let serving = dir.serving()?.ok_or_else(|| {
        Failure::new("no server runs on this store, so nobody could follow a ticket")
            .hint("`eidetica serve`, which prints a ticket for each tree")
    })?;
    let named = |served: ServedTree| -> Option<Named> {
        let tree: TreeId = served.tree.parse().ok()?;
        let name = served.name;
        Some(Named { tree, name })
    };
    let trees = serving.trees.into_iter().filter_map(named).collect();
    let mut ticket = Ticket::new(tree::choose(trees, text)?.tree);
    ticket.peer = Some(key);
    ticket.addresses = serving.addresses;
    let mut out = Out::new();
    out.line(ticket)?;
    out.flush()
}
