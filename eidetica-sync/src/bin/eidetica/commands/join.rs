//! `join`: fetches the tree of a ticket, after asking to join if that is needed.

use std::io::Read;

use eidetica_sync::dag::{Role, current_access};
use eidetica_sync::proto::Ticket;
use eidetica_sync::proto::ticket::TICKET_BYTES_MAX;
use eidetica_sync::{JoinOptions, Peer};

use crate::args::{Given, Input, Join};
use crate::commands::access::role_phrase;
use crate::commands::append::announce_terminal;
use crate::commands::session::Session;
use crate::commands::sync::plan::{Plan, routes};
use crate::commands::sync::run::make_equal;
use crate::output::failure::{Context, Hint, Result};
use crate::output::text::{count, first_line};
use crate::store::{asked, peers, trees};

/// How many characters of a tree's name a summary shows.
const NAME_CHARS_MAX: usize = 60;

/// Returns the ticket, which need not be on the command line.
fn ticket(session: &Session, args: &Join) -> Result<Ticket> {
    let console = &session.console;
    let mut text = String::new();
    let (mut from, name): (Box<dyn Read>, String) = match (&args.ticket, args.input()) {
        (Some(Given::Ticket(ticket)), _) => return Ok((**ticket).clone()),
        (_, Some(Input::File(file))) => (
            console.file(&session.path(file))?,
            file.display().to_string(),
        ),
        (_, Some(Input::Environment(name))) => (console.variable(name), name.to_owned()),
        (_, Some(Input::Stdin) | None) => {
            announce_terminal(console);
            (console.stdin(), "stdin".to_owned())
        }
    };
    let read = (&mut from)
        .take(TICKET_BYTES_MAX as u64 + 1)
        .read_to_string(&mut text);
    read.context(format!("could not read a ticket from {name}"))?;
    let parsed: Result<Ticket, _> = text.parse();
    Ok(parsed
        .context(format!("{name} does not hold a ticket"))
        .hint("give the ticket on the command line, in --ticket-file, on stdin (-), or as EIDETICA_TICKET")?)
}

pub(crate) async fn join(session: &Session, args: Join) -> Result<()> {
    let opened = session.open_or_create()?;
    let (store, console) = (&*opened.store, &session.console);
    let ticket = ticket(session, &args)?;
    let tree = ticket.tree;
    let known = Peer::from(&ticket);
    let routes = routes(vec![known.clone()], args.how.via)?;
    // Remember the peer first, so that `sync` can continue a join that was interrupted. Without a key,
    // that has to wait for an answer.
    if known.key.is_some() {
        peers::remember(&opened.start(), tree, &known).await?;
    }
    let before = asked::load(store, tree)?;
    let was = before.clone().unwrap_or_default();
    let ask = JoinOptions {
        role: args.role.map(Role::from).or(was.role),
        note: args.note.unwrap_or(was.note),
    };
    let plan = Plan {
        tree,
        how: &args.how,
        invite: ticket.invite,
        was_asked: before.as_ref() == Some(&ask),
        ask: Some(ask.clone()),
        wait: args.wait,
    };
    let done = make_equal(session, &opened, routes, plan).await?;
    done.print(console, tree, &args.how)?;
    let entries = store.snapshot(tree).map(|it| it.entry_count());
    let entries = entries.context("could not read the fetched tree")?;
    let name = trees::find(store, &tree.to_string())?.name;
    if !args.how.json {
        let mut out = console.out();
        out.line(tree)?;
        out.flush()?;
    }
    let keeps = match session.server() {
        Some(_) => "the server keeps it in sync",
        None => "`eidetica serve` keeps it in sync",
    };
    console.note(format_args!(
        "{:?} is here with {}; {keeps}",
        first_line(&name, NAME_CHARS_MAX),
        count(entries.into(), "entry", "entries"),
    ));
    let access = store.snapshot(tree).and_then(|it| current_access(&*it));
    let access = access.context("could not read the roles of the tree")?;
    let has = access.role_of(Some(&opened.key.public()));
    if ask.role > has {
        console.note(format_args!(
            "this device {}; an admin has not granted the requested role",
            has.map_or("has no role", role_phrase)
        ));
    }
    Ok(())
}
