//! `sync` and `forget`, and what `join` shares with them: brings a tree and a peer's copy together.

mod attempt;
pub(crate) mod plan;
mod report;
pub(crate) mod run;

use self::plan::{Plan, routes};
use self::run::make_equal;
use crate::args::{Forget, Sync, Target};
use crate::commands::session::Session;
use crate::output::failure::{Context, Result};
use crate::store::peers::{self, RememberedPeer};
use crate::store::{asked, trees};

pub(crate) async fn sync(session: &Session, args: Sync) -> Result<()> {
    let how = &args.how;
    let is_ticket = matches!(args.target, Target::Ticket(_));
    let given = !args.addresses.is_empty() && !is_ticket;
    let (opened, tree, known, invite) = match args.target {
        Target::Ticket(mut ticket) => {
            ticket.addresses.splice(..0, args.addresses);
            let known = RememberedPeer::new(ticket.peer, ticket.addresses);
            let opened = session.open_or_create()?;
            (opened, ticket.tree, vec![known], ticket.invite)
        }
        Target::Tree(text) => {
            let opened = session.open()?;
            let mut trees = trees::all(&*opened.store)?;
            trees.extend(asked::absent(&*opened.store, &trees)?);
            let tree = trees::choose(trees, &text)?.tree;
            let known = match given {
                true => vec![RememberedPeer::new(None, args.addresses)],
                false => peers::load(&*opened.store, tree)?,
            };
            (opened, tree, known, None)
        }
    };
    let asked = asked::load(&*opened.store, tree)?;
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
        let known = RememberedPeer::new(None, vec![done.route.address.clone()]);
        peers::remember(&*opened.store, tree, known)?;
    }
    done.print(&session.console, tree, how)
}

pub(crate) async fn forget(session: &Session, args: Forget) -> Result<()> {
    let node = session.open()?.start();
    let forgotten = node.forget_address(&args.address).await;
    forgotten.context("could not forget the key pinned to the address")?;
    session.console.note(format_args!(
        "the next peer that answers at {} will be trusted",
        args.address
    ));
    Ok(())
}
