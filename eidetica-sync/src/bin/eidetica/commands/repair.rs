//! `repair`: fetches damaged entries again from peers.

use eidetica_sync::dag::TreeId;
use eidetica_sync::{Node, Peer, Repaired};

use crate::args::Repair;
use crate::commands::session::Session;
use crate::network::transports::connect;
use crate::output::console::Console;
use crate::output::failure::{Context, Failure, Result};
use crate::output::text::{count, one_line};
use crate::store::dir::Opened;
use crate::store::trees::Named;
use crate::store::{peers, trees};

/// A tree, and who may have what is damaged.
struct Copies {
    tree: TreeId,
    name: String,
    peers: Vec<Peer>,
}

pub(crate) async fn run(session: &Session, args: Repair) -> Result<()> {
    let opened = session.open()?;
    let copies = find(&opened, &args).await?;
    let node = match &opened.server {
        Some(node) => node.clone(),
        None => {
            let peers = copies.iter().flat_map(|copies| &copies.peers);
            let addresses = peers.flat_map(|peer| &peer.addresses);
            let node = connect(session, &opened, addresses, &args.net).await?;
            node.without_following().start()
        }
    };
    let left = repair_all(&session.console, &node, copies).await;
    if opened.server.is_none()
        && let Err(error) = node.shutdown().await
    {
        tracing::warn!(%error, "the transports did not close cleanly");
    }
    match left? {
        0 => Ok(()),
        left => {
            let text = format!("{} still damaged", count(left, "entry is", "entries are"));
            let hint = "name a peer that has the tree with --at, or fetch the tree again: `eidetica join` \
                        into another --store";
            Err(Failure::new(text).hint(hint).into())
        }
    }
}

/// Finds the trees that are meant, and their peers.
async fn find(opened: &Opened, args: &Repair) -> Result<Vec<Copies>> {
    let found = match &args.tree {
        Some(text) => vec![trees::find(&*opened.store, text)?],
        None => trees::all(&*opened.store)?,
    };
    let node = opened.start();
    let mut copies = Vec::new();
    for Named { tree, name } in found {
        let peers = match args.addresses.is_empty() {
            true => peers::of_tree(&node, tree).await?,
            false => vec![Peer {
                key: None,
                addresses: args.addresses.clone(),
            }],
        };
        copies.push(Copies { tree, name, peers });
    }
    Ok(copies)
}

/// Repairs what can be repaired. Returns how many entries are still damaged.
async fn repair_all(console: &Console, node: &Node, copies: Vec<Copies>) -> Result<u64> {
    let mut out = console.out();
    let mut left = 0;
    for Copies { tree, name, peers } in copies {
        let looked = node.damaged(tree).await;
        let mut state = looked.context(format!("tree {} cannot be read", tree.short()))?;
        let damaged = unsound(&state);
        let which = format!("{}  {}", tree.short(), one_line(&name));
        if damaged == 0 {
            out.line(format_args!("ok  {which}"))?;
            continue;
        }
        for peer in peers {
            if state.missing.is_empty() {
                break;
            }
            state = ask(console, node, tree, peer, state).await;
        }
        let unread = unsound(&state);
        let restored = count(damaged - unread, "entry", "entries");
        out.line(format_args!(
            "{restored} put back, {unread} still damaged  {which}"
        ))?;
        for id in &state.missing {
            out.line(format_args!("  {id}"))?;
        }
        left += unread;
    }
    out.flush()?;
    Ok(left)
}

fn unsound(state: &Repaired) -> u64 {
    state.missing.len() as u64 + u64::from(state.unknown)
}

/// Asks one peer, and returns what is damaged afterwards.
async fn ask(
    console: &Console,
    node: &Node,
    tree: TreeId,
    peer: Peer,
    before: Repaired,
) -> Repaired {
    let at = peer.addresses.first().map(ToString::to_string);
    match node.repair(tree, peer).await {
        Ok(after) => after,
        Err(error) => {
            let at = at.unwrap_or_default();
            console.note(format_args!("could not ask the peer at {at}: {error}"));
            before
        }
    }
}
