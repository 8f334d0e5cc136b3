//! `log`: prints the entries of a tree, in the same order on every device.

use data_encoding::{BASE64, HEXLOWER};
use eidetica_sync::dag::{AccessChange, Body, EntryId, SignedEntry, Subject, TreeId};
use eidetica_sync::proto::Cursor;
use eidetica_sync::{Node, SubscribeFrom};
use futures::StreamExt;
use serde_json::{Value, json};

use crate::args::Log;
use crate::commands::access::role_phrase;
use crate::commands::session::Session;
use crate::commands::show;
use crate::network::transports::connect;
use crate::output::failure::{Context, Result};
use crate::output::out::Out;
use crate::output::text::{first_line, utc};
use crate::store::{peers, trees};

/// How many characters of an entry's text are shown: with the columns before it, about as many as
/// fit on a wide terminal.
const TEXT_CHARS_MAX: usize = 100;

pub(crate) async fn run(session: &Session, args: Log) -> Result<()> {
    let opened = session.open()?;
    let tree = trees::find(&*opened.store, &args.tree)?.tree;
    let node = match args.follow && session.server().is_none() {
        true => {
            let known = peers::of_tree(&opened.start(), tree).await?;
            let addresses = known.iter().flat_map(|peer| &peer.addresses);
            connect(session, &opened, addresses, &args.net)
                .await?
                .start()
        }
        false => opened.start(),
    };
    if !args.follow {
        return print_log(session, &node, tree, &args).await.map(|_| ());
    }
    let mut interruption = session.console.interruption()?;
    let following = async {
        let printed = print_log(session, &node, tree, &args).await?;
        print_arrivals(session, &node, tree, &args, printed).await
    };
    let followed = tokio::select! {
        followed = following => followed,
        () = interruption.wait() => Ok(()),
    };
    if session.server().is_none()
        && let Err(error) = node.shutdown().await
    {
        tracing::warn!(%error, "the transports did not close cleanly");
    }
    followed
}

const READ_FAILED: &str = "could not read the tree";

/// Prints all entries that are stored, and returns the place after them.
async fn print_log(session: &Session, node: &Node, tree: TreeId, args: &Log) -> Result<Cursor> {
    let mut log = match args.since.is_empty() {
        true => node.log(tree).await.context(READ_FAILED)?,
        false => {
            let snapshot = node.store().snapshot(tree).context(READ_FAILED)?;
            let mut known = Vec::new();
            for text in &args.since {
                known.push(show::find(&snapshot, text)?.id());
            }
            drop(snapshot);
            let since = node.entries_since(tree, known).await;
            since.context(READ_FAILED)?
        }
    };
    let mut out = session.console.out();
    if let Some(number) = args.number {
        log.skip_to_last(number).context(READ_FAILED)?;
    }
    let mut reversed = Vec::new();
    while let Some(entry) = log.next() {
        let entry = entry.context(READ_FAILED)?;
        if args.reverse {
            reversed.push(entry.id());
            continue;
        }
        let contested_by = log.contested_by(&entry).context(READ_FAILED)?;
        print(&mut out, &entry, contested_by, args)?;
    }
    for id in reversed.into_iter().rev() {
        // Held by their ids alone, because a tree may be larger than the memory.
        let Some(entry) = log.entry(id).context(READ_FAILED)? else {
            continue;
        };
        let contested_by = log.contested_by(&entry).context(READ_FAILED)?;
        print(&mut out, &entry, contested_by, args)?;
    }
    out.flush()?;
    Ok(log.cursor().context(READ_FAILED)?)
}

/// Prints the entries that arrive after those that were printed.
async fn print_arrivals(
    session: &Session,
    node: &Node,
    tree: TreeId,
    args: &Log,
    printed: Cursor,
) -> Result<()> {
    let arrivals = node.subscribe(tree, SubscribeFrom::After(printed)).await;
    let mut arrivals = arrivals.context(READ_FAILED)?;
    while let Some(entry) = arrivals.next().await.transpose().context(READ_FAILED)? {
        // Stdout is not held between entries: a server writes to it too.
        let mut out = session.console.out();
        print(&mut out, &entry, None, args)?;
        out.flush()?;
    }
    Ok(())
}

fn print(
    out: &mut Out,
    entry: &SignedEntry,
    contested_by: Option<EntryId>,
    args: &Log,
) -> Result<()> {
    if args.json {
        let mut value = as_json(entry, args.raw);
        value["after_revocation"] = contested_by.map(|by| by.to_string()).into();
        return out.json(&value);
    }
    match contested_by {
        None => out.line(for_people(entry)),
        Some(by) => {
            let (line, by) = (for_people(entry), by.short());
            out.line(format_args!("{line}  [after revocation {by}]"))
        }
    }
}

/// Returns the kind of an entry, its text if it has one, and the length of its payload.
fn content(body: &Body) -> (&'static str, Option<&str>, usize) {
    match body {
        Body::Data(data) => ("data", std::str::from_utf8(data).ok(), data.len()),
        Body::Access(_) => ("access", None, 0),
        Body::Genesis(genesis) => ("genesis", Some(&genesis.name), genesis.name.len()),
        Body::Extension { bytes, .. } => ("extension", None, bytes.len()),
    }
}

pub(crate) fn as_json(signed: &SignedEntry, raw: bool) -> Value {
    let entry = signed.entry();
    let (kind, text, payload_bytes) = content(&entry.body);
    let parents: Vec<String> = entry.parents.iter().map(ToString::to_string).collect();
    let mut value = json!({
        "id": signed.id().to_string(),
        "parents": parents,
        "height": entry.height,
        "timestamp_ms": entry.timestamp_ms,
        "author": entry.author.to_string(),
        "kind": kind,
        "text": text,
        "payload_bytes": payload_bytes,
    });
    match &entry.body {
        // What is not text, so that nothing is missing.
        Body::Data(data) if text.is_none() => value["base64"] = BASE64.encode(data).into(),
        Body::Access(changes) => value["access"] = access_json(changes),
        Body::Genesis(genesis) => value["access"] = access_json(&genesis.access),
        Body::Data(_) | Body::Extension { .. } => {}
    }
    if raw {
        value["encoded"] = HEXLOWER.encode(signed.encoded()).into();
    }
    value
}

fn for_people(signed: &SignedEntry) -> String {
    let entry = signed.entry();
    let (kind, text, payload_bytes) = content(&entry.body);
    let (id, author) = (signed.id().short(), entry.author.short());
    let (height, time) = (entry.height, utc(entry.timestamp_ms));
    let merges = match entry.parents.len() {
        0 | 1 => String::new(),
        parents => format!("({parents} parents) "),
    };
    let text = match (text, &entry.body) {
        (Some(text), Body::Data(_)) => first_line(text, TEXT_CHARS_MAX),
        (_, Body::Genesis(genesis)) => {
            let name = first_line(&genesis.name, TEXT_CHARS_MAX);
            format!("[tree {name}] {}", described(&genesis.access))
        }
        (_, Body::Access(changes)) => format!("[{kind}] {}", described(changes)),
        (_, Body::Extension { kind: number, .. }) => {
            format!("[{kind} {number}: {payload_bytes} bytes]")
        }
        (None, Body::Data(_)) => format!("[{payload_bytes} bytes]"),
    };
    format!("{height:>7}  {id}  {time}  {author}  {merges}{text}")
}

/// Changes of access: the subject, a key or `anyone`, and its role, or none.
fn access_json(changes: &[AccessChange]) -> Value {
    let one = |change: &AccessChange| {
        let subject = match change.subject {
            Subject::Anyone => "anyone".to_owned(),
            Subject::Key(key) => key.to_string(),
        };
        let role = change.role.map(|role| format!("{role:?}").to_lowercase());
        json!({"subject": subject, "role": role})
    };
    changes.iter().map(one).collect()
}

/// Describes changes of access.
fn described(changes: &[AccessChange]) -> String {
    let one = |change: &AccessChange| {
        let subject = match change.subject {
            Subject::Anyone => "anyone".to_owned(),
            Subject::Key(key) => key.short(),
        };
        format!(
            "{subject} {}",
            change.role.map_or("has no role", role_phrase)
        )
    };
    changes.iter().map(one).collect::<Vec<_>>().join(", ")
}
