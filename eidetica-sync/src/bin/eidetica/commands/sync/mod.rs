//! `sync` and `forget`, and what `join` shares with them: brings a tree and a peer's copy together.

mod attempt;
pub(crate) mod plan;
mod report;
pub(crate) mod run;

use eidetica_sync::Peer;

use self::plan::{Plan, routes};
use self::run::make_equal;
use crate::args::{Forget, Sync, Target};
use crate::commands::session::Session;
use crate::output::failure::{Context, Result};
use crate::store::{asked, peers, trees};

pub(crate) async fn sync(session: &Session, args: Sync) -> Result<()> {
    let how = &args.how;
    let (opened, tree, known, invite) = match args.target {
        Target::Ticket(mut ticket) => {
            ticket.addresses.splice(..0, args.addresses);
            let opened = session.open_or_create()?;
            let known = vec![Peer::from(&*ticket)];
            (opened, ticket.tree, known, ticket.invite)
        }
        Target::Tree(text) => {
            let opened = session.open()?;
            let mut trees = trees::all(&*opened.store)?;
            trees.extend(asked::absent(&*opened.store, &trees)?);
            let tree = trees::choose(trees, &text)?.tree;
            let known = match args.addresses.is_empty() {
                true => peers::of_tree(&opened.start(), tree).await?,
                false => vec![Peer {
                    key: None,
                    addresses: args.addresses,
                }],
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
    let routes = routes(known, how.via)?;
    let done = make_equal(session, &opened, routes, plan).await?;
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
