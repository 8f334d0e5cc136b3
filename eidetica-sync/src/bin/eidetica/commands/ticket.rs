//! `ticket`: prints where others find a tree that is being served.

use eidetica_sync::dag::TreeId;
use eidetica_sync::proto::Ticket;

use crate::commands::session::Session;
use crate::output::failure::{Failure, Result};
use crate::store::dir::ServedTree;
use crate::store::trees::{self, Named};

pub(crate) async fn ticket(session: &Session, text: &str) -> Result<()> {
    let dir = &session.dir;
    let mut out = session.console.out();
    if let Some(opened) = session.server() {
        let tree = trees::find(&*opened.store, text)?.tree;
        out.line(opened.start().ticket(tree).await)?;
        return out.flush();
    }
    let key = dir.public_key()?;
    let serving = dir.serving()?.ok_or_else(|| {
        Failure::new("no server runs on this store, so the ticket could not be used")
            .hint("run `eidetica serve`, which prints a ticket for each tree")
    })?;
    let named = |served: ServedTree| -> Option<Named> {
        let tree: TreeId = served.tree.parse().ok()?;
        let name = served.name;
        Some(Named { tree, name })
    };
    let trees = serving.trees.into_iter().filter_map(named).collect();
    let mut ticket = Ticket::new(trees::choose(trees, text)?.tree);
    ticket.peer = Some(key);
    ticket.addresses = serving.addresses;
    out.line(ticket)?;
    out.flush()
}
