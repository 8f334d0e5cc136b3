//! `join`: asks to be let in where that is needed, and fetches the tree.

use eidetica_sync::JoinOptions;
use eidetica_sync::dag::{Role, current_access};

use crate::args::Join;
use crate::commands::access::role_phrase;
use crate::commands::session::Session;
use crate::commands::sync::plan::{Plan, routes};
use crate::commands::sync::run::make_equal;
use crate::output::failure::{Context, Result};
use crate::output::text::{count, first_line};
use crate::store::peers::{self, Known};
use crate::store::{asked, trees};

/// How much of a tree's name stands in a summary, in characters.
const NAME_CHARS_MAX: usize = 60;

pub(crate) async fn join(session: &Session, args: Join) -> Result<()> {
    let opened = session.open_or_create()?;
    let (store, console) = (&*opened.store, &session.console);
    let tree = args.ticket.tree;
    let known = Known::new(args.ticket.peer, args.ticket.addresses);
    let routes = routes(vec![known.clone()], args.how.via)?;
    // It is remembered first, so that a join which is cut off can be continued with `sync`.
    peers::remember(store, tree, known)?;
    let before = asked::load(store, tree)?;
    let was = before.clone().unwrap_or_default();
    let ask = JoinOptions {
        role: args.role.map(Role::from).or(was.role),
        note: args.note.unwrap_or(was.note),
    };
    let plan = Plan {
        tree,
        how: &args.how,
        invite: args.ticket.invite,
        was_asked: before.as_ref() == Some(&ask),
        ask: Some(ask.clone()),
        wait: args.wait,
    };
    let done = make_equal(session, &opened, routes, plan).await?;
    done.print(console, tree, &args.how)?;
    let entries = store.snapshot(tree).map(|it| it.entry_count());
    let entries = entries.context("could not read what was fetched")?;
    let name = trees::find(store, &tree.to_string())?.name;
    if !args.how.json {
        let mut out = console.out();
        out.line(tree)?;
        out.flush()?;
    }
    console.note(format_args!(
        "{:?} is here, with {}; `eidetica sync {}` fetches and sends what is new",
        first_line(&name, NAME_CHARS_MAX),
        count(entries.into(), "entry", "entries"),
        tree.short()
    ));
    let access = store.snapshot(tree).and_then(|it| current_access(&*it));
    let access = access.context("could not read who may do what")?;
    let has = access.role_of(Some(&opened.key.public()));
    if ask.role > has {
        console.note(format_args!(
            "this device {}; an admin has not granted it the role that it asked for",
            has.map_or("may do nothing with it", role_phrase)
        ));
    }
    Ok(())
}
