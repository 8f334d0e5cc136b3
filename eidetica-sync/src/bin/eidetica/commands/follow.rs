//! `follow`, `pause` and `accept`: decides with which peers trees are kept in sync.

use eidetica_sync::dag::TreeId;
use eidetica_sync::{FollowOptions, Node, Peer};

use crate::args::{Accept, Follow, Pause, Whom};
use crate::commands::access::choose_key;
use crate::commands::session::Session;
use crate::network::transports::connect;
use crate::output::failure::{Context, Failure, Hint, Result};
use crate::output::text::count;
use crate::store::dir::Opened;
use crate::store::peers::{self, FOLLOW};
use crate::store::trees;

pub(crate) async fn follow(session: &Session, args: Follow) -> Result<()> {
    let opened = match &args.whom {
        Some(Whom::Ticket(_)) => session.open_or_create()?,
        _ => session.open()?,
    };
    let tree = find_tree(&opened, &args)?;
    let node = start(session, &opened, &args).await?;
    let give = args.give;
    let options = FollowOptions { give, ..FOLLOW };
    let followed = match args.whom {
        None => resume(&node, tree).await?,
        Some(whom) => {
            let peer = find_peer(&node, whom).await?;
            let followed = node.follow_with(tree, peer, options).await;
            followed
                .context("could not follow the peer")
                .hint("a peer whose key is not known must be reachable; a ticket has its key")?;
            1
        }
    };
    let now = match session.server() {
        Some(_) => "from now on",
        None => {
            let closed = node.shutdown().await;
            closed.context("could not close the connections")?;
            "while `eidetica serve` runs"
        }
    };
    session.console.note(format_args!(
        "the tree {} is kept in sync with {} {now}; `eidetica status` shows how it goes",
        tree.short(),
        count(followed, "peer", "peers"),
    ));
    Ok(())
}

/// Finds the tree, which need not be in the store if a ticket names it.
fn find_tree(opened: &Opened, args: &Follow) -> Result<TreeId> {
    let Some(Whom::Ticket(ticket)) = &args.whom else {
        return Ok(trees::find(&*opened.store, &args.tree)?.tree);
    };
    let mut known = trees::all(&*opened.store)?;
    if known.iter().all(|it| it.tree != ticket.tree) {
        let (tree, name) = (ticket.tree, String::new());
        known.push(trees::Named { tree, name });
    }
    let tree = trees::choose(known, &args.tree)?.tree;
    match tree == ticket.tree {
        true => Ok(tree),
        false => Err(Failure::new("the ticket is for another tree")
            .hint(format!("the ticket is for {}", ticket.tree))
            .into()),
    }
}

/// Follows every peer again that the tree is shared with. Returns how many those are.
async fn resume(node: &Node, tree: TreeId) -> Result<u64> {
    let follows = node.remembered_follows().await;
    let follows = follows.context("could not read which peers are followed")?;
    let mut resumed = 0;
    for follow in follows.into_iter().filter(|it| it.tree == tree) {
        let peer = Peer::from(follow.peer);
        let followed = node.follow_with(tree, peer, follow.options).await;
        followed.context("could not follow the peer")?;
        resumed += 1;
    }
    match resumed {
        0 => Err(peers::none_known(tree).into()),
        resumed => Ok(resumed),
    }
}

/// Finds the peer. One of which only an address is known is asked for its key later.
async fn find_peer(node: &Node, whom: Whom) -> Result<Peer> {
    Ok(match whom {
        Whom::Key(text) => {
            let known = peers::keys(node).await?;
            Peer::from(choose_key(known.into_iter(), &text)?)
        }
        Whom::Ticket(ticket) => Peer::from(&*ticket),
        Whom::Address(address) => Peer::from(address),
    })
}

/// Returns the server's node, or one that can ask the peer for its key if that is needed.
async fn start(session: &Session, opened: &Opened, args: &Follow) -> Result<Node> {
    let ask = match &args.whom {
        Some(Whom::Address(address)) => std::slice::from_ref(address),
        Some(Whom::Ticket(ticket)) if ticket.peer.is_none() => &ticket.addresses[..],
        _ => return Ok(opened.start()),
    };
    match session.server() {
        Some(_) => Ok(opened.start()),
        None => {
            let node = connect(session, opened, ask.iter(), &args.net).await?;
            Ok(node.without_following().start())
        }
    }
}

pub(crate) async fn pause(session: &Session, args: Pause) -> Result<()> {
    let opened = session.open()?;
    let tree = trees::find(&*opened.store, &args.tree)?.tree;
    let node = opened.start();
    let follows = node.remembered_follows().await;
    let follows = follows.context("could not read which peers are followed")?;
    let of_tree = follows.iter().filter(|it| it.tree == tree);
    let mut peers: Vec<_> = of_tree.map(|it| it.peer).collect();
    if let Some(text) = &args.peer {
        let key = choose_key(peers.iter().copied(), text)?;
        peers.retain(|peer| *peer == key);
    }
    if peers.is_empty() {
        return Err(peers::none_known(tree).into());
    }
    for peer in &peers {
        let paused = node.pause(tree, *peer).await;
        paused.context("could not remember the pause")?;
    }
    session.console.note(format_args!(
        "{} not contacted about the tree {} until `eidetica follow {}`",
        match peers.len() {
            1 => "1 peer is".to_owned(),
            n => format!("{n} peers are"),
        },
        tree.short(),
        tree.short()
    ));
    Ok(())
}

pub(crate) async fn accept(session: &Session, args: Accept) -> Result<()> {
    let node = session.open_or_create()?.start();
    let failed = "could not read or change from whom trees are accepted";
    let accepted = node.trees_accepted_from().await.context(failed)?;
    let Some(text) = args.key else {
        let mut out = session.console.out();
        for key in accepted {
            out.line(key)?;
        }
        return out.flush();
    };
    let known = peers::keys(&node).await?.into_iter().chain(accepted);
    let key = choose_key(known, &text)?;
    node.accept_trees_from(key, !args.off)
        .await
        .context(failed)?;
    session.console.note(match args.off {
        true => format!("trees that {key} offers are not accepted; those that are here stay"),
        false => format!("trees that {key} offers are accepted"),
    });
    Ok(())
}
