//! `serve`: serves all trees of the store, keeps them in sync with peers, and runs other commands on it
//! meanwhile.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use eidetica_sync::dag::{PublicKey, Role, TreeId};
use eidetica_sync::http::HttpTransport;
use eidetica_sync::proto::joining::REQUESTS_MAX;
use eidetica_sync::proto::{Address, Ticket, TransportErrorKind};
use eidetica_sync::{Event, Events, Node, Origin};
use futures::StreamExt;

use crate::args::Serve;
use crate::commands::access::{distinct, quoted, role_name};
use crate::commands::session::Session;
use crate::commands::status::duplicate;
#[cfg(unix)]
use crate::control::server::Control;
use crate::network::metrics::Exporter;
use crate::network::transports::{with_http, with_iroh};
use crate::output::failure::{Context, Failure, Result, Stop};
use crate::output::text::{self, count, one_line};
use crate::signals::Interruption;
use crate::store::dir::{Opened, ServedTree, Serving};
use crate::store::trees::{self, Named};

/// How long a server takes to stop at most: supervisors kill it some seconds later.
const DRAIN_TIME: Duration = Duration::from_secs(8);

pub(crate) async fn serve(session: &Session, args: Serve) -> Result<()> {
    let dir = &session.dir;
    let mut opened = match session.open() {
        // A server gives no commands to another.
        Err(Stop::ServerBegan) => return Err(dir.in_use().into()),
        opened => opened?,
    };
    dir.warn_if_others_can_replace();
    let mut interruption = Interruption::listen()?;
    // Before anything is counted.
    let exporter = match args.metrics {
        Some(at) => Some(Exporter::listen(at, args.metrics_anywhere).await?),
        None => None,
    };
    let interval = Duration::from_secs(args.check_interval);
    let mut node = opened.node().follow_callers().check_interval(interval);
    let mut certificate = None;
    if !args.no_http {
        let http = HttpTransport::builder().bind(args.http);
        let http = args
            .advertise
            .into_iter()
            .fold(http, |http, it| http.advertise(it));
        let http = args
            .allow_host
            .into_iter()
            .fold(http, |http, it| http.allow_host(it));
        let http = args.net.tls.apply(session, http)?;
        let (http, to_give) = args.tls.apply(dir, http)?;
        node = with_http(node, http)?;
        certificate = to_give;
    }
    if !args.no_iroh {
        node = with_iroh(node, &opened.key, args.net.loopback).await?;
    }
    let node = node.start();
    let events = node.events();
    opened.server = Some(node.clone());

    let trees = trees::all(&*opened.store)?;
    let metrics = exporter.as_ref().map(Exporter::url);
    #[cfg(unix)]
    let mut control = None;
    let run = async {
        let addresses = listen(&node).await?;
        #[cfg(unix)]
        {
            control = listen_for_commands(session);
        }
        announce(
            session,
            &node,
            &trees,
            addresses,
            certificate.as_deref(),
            metrics,
        )?;
        #[cfg(unix)]
        if let Some(control) = &control {
            tokio::join!(
                report_events(session, &opened, events),
                control.run(dir, &opened)
            );
            return Ok(());
        }
        report_events(session, &opened, events).await;
        Ok(())
    };
    let measure = async {
        match exporter {
            Some(exporter) => exporter.run(node.clone()).await,
            None => std::future::pending().await,
        }
    };
    // An interruption counts at any time: finding a relay can take a while.
    let served: Result<()> = tokio::select! {
        served = run => served,
        () = interruption.wait() => Ok(()),
        never = measure => match never {},
    };
    dir.remove_serving();
    #[cfg(unix)]
    if let Some(control) = control {
        control.stop().await;
    }
    // Exchanges under way get some seconds; what is not acknowledged then, peers send again.
    let stopped = tokio::time::timeout(DRAIN_TIME, node.shutdown()).await;
    served?;
    Ok(stopped
        .unwrap_or(Ok(()))
        .context("could not shut down cleanly")?)
}

/// Starts to listen, and returns the addresses.
async fn listen(node: &Node) -> Result<Vec<Address>> {
    node.accept_connections().await.map_err(|error| {
        let taken = error.kind() == TransportErrorKind::AddressInUse;
        let failure = Failure::new("could not start the server").caused_by(error);
        match taken {
            true => failure.hint("choose another address; `--http 127.0.0.1:0` picks a free port"),
            false => failure.hint(
                "use `--no-http` or `--no-iroh` to leave out the transport that does not start",
            ),
        }
    })?;
    let addresses = node.get_all_server_addresses_async().await;
    Ok(addresses.into_iter().map(|(_, address)| address).collect())
}

/// Prints the addresses, the self-signed certificate and the metrics if there are any, and a ticket for
/// each tree.
fn announce(
    session: &Session,
    node: &Node,
    trees: &[Named],
    addresses: Vec<Address>,
    certificate: Option<&Path>,
    metrics: Option<String>,
) -> Result<()> {
    session.dir.write_serving(&Serving {
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
    let mut out = session.console.out();
    for address in &addresses {
        out.line(format_args!("listening {address}"))?;
    }
    if let Some(certificate) = certificate {
        out.line(format_args!("certificate {}", text::path(certificate)))?;
    }
    if let Some(metrics) = metrics {
        out.line(format_args!("metrics {metrics}"))?;
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

/// Starts to listen for commands on the store, which no other process can open meanwhile.
#[cfg(unix)]
fn listen_for_commands(session: &Session) -> Option<Control> {
    match Control::listen(&session.dir) {
        Ok(control) => Some(control),
        // The server works without it.
        Err(error) => {
            let failure =
                Failure::new("other commands on this store must wait until the server ends")
                    .caused_by(error)
                    .hint("see that nothing else is at that path, or use a store with a shorter one, on a local disk");
            session.console.note(failure);
            None
        }
    }
}

/// Reports what peers bring, and who asks to join.
async fn report_events(session: &Session, opened: &Opened, mut events: Events) {
    let mut reported = BTreeSet::new();
    while let Some(event) = events.next().await {
        match event {
            Event::Stored {
                tree,
                arrivals,
                origin: Origin::Peer { at: from, .. } | Origin::Caller { at: from },
            } => {
                let entries = count(arrivals.len() as u64, "entry", "entries");
                let tree = tree.short();
                let note = format!("{entries} in {tree} from {from}");
                session.console.note(one_line(&note));
            }
            Event::Contested {
                tree,
                author,
                entries,
                ..
            } => {
                let entries = count(entries.into(), "entry", "entries");
                let (tree, author) = (tree.short(), &author.to_string()[..10]);
                session.console.note(format_args!(
                    "{entries} in {tree} by {author}, who was removed; `eidetica log {tree}` marks them"
                ));
            }
            // Repeated requests must not fill the log.
            Event::JoinRequested { tree, key, role } if reported.insert((tree, key)) => {
                if reported.len() > REQUESTS_MAX {
                    reported.clear();
                }
                if let Some(note) = describe_request(opened, tree, key, role).await {
                    session.console.note(note);
                }
            }
            Event::DuplicateKey { key } => {
                if let Some(node) = &opened.server {
                    let now_ms = node.duplicate_keys().into_iter();
                    let now_ms = now_ms.filter(|(found, _)| *found == key).map(|(_, at)| at);
                    let noticed_ms = now_ms.max().unwrap_or(0);
                    session.console.note(duplicate(node, key, noticed_ms));
                }
            }
            _ => {}
        }
    }
}

/// Describes a request to join a tree of this store.
async fn describe_request(
    opened: &Opened,
    tree: TreeId,
    key: PublicKey,
    role: Role,
) -> Option<String> {
    let name = trees::find(&*opened.store, &tree.to_string()).ok()?.name;
    let requests = opened.server.as_ref()?.join_requests(Some(tree)).await;
    let requests = requests.unwrap_or_default();
    let request = requests.iter().find(|request| request.key == key);
    let others = requests.iter().map(|request| request.key);
    let note = request.map(|request| quoted(&request.waiting.note));
    Some(format!(
        "{key} asks to {role} {name:?} {note}\n  \
         eidetica approve {tree} {short}    or    eidetica reject {tree} {short}",
        role = role_name(role),
        name = one_line(&name),
        note = note.unwrap_or_default(),
        tree = tree.short(),
        short = distinct(&key, others)
    ))
}
