//! `show`: gives one entry's payload as it is, or everything about it as JSON.

use eidetica_sync::dag::{Arrival, Body, EntryId, SignedEntry};
use eidetica_sync::store::Snapshot;

use crate::args::Show;
use crate::commands::log::as_json;
use crate::commands::session::Session;
use crate::output::failure::{Context, Failure, Result};
use crate::store::trees;

/// How many digits of an id are needed to mean it.
const PREFIX_DIGITS_MIN: usize = 4;

/// How many entries are named where digits mean several.
const NAMED_MAX: usize = 3;

const READ_FAILED: &str = "could not read the tree";

pub(crate) fn run(session: &Session, args: &Show) -> Result<()> {
    let opened = session.open()?;
    let tree = trees::find(&*opened.store, &args.tree)?.tree;
    let snapshot = opened.store.snapshot(tree).context(READ_FAILED)?;
    let entry = find(&snapshot, &args.entry)?;
    let mut out = session.console.out();
    if args.json {
        out.json(&as_json(&entry, true))?;
    } else {
        match &entry.entry().body {
            Body::Data(bytes) | Body::Extension { bytes, .. } => out.raw(bytes)?,
            Body::Access(_) | Body::Genesis(_) => {
                let text = "the entry has no payload: it says who may do what";
                return Err(Failure::new(text).hint("use --json").into());
            }
        }
    }
    out.flush()
}

/// Finds an entry by its id, or by leading digits of it.
pub(crate) fn find(snapshot: &Snapshot, text: &str) -> Result<SignedEntry> {
    let digits = text.to_ascii_lowercase();
    let by_id = digits.parse::<EntryId>().ok();
    let found = match by_id {
        Some(id) => snapshot.arrival(&id).context(READ_FAILED)?,
        None => by_digits(snapshot, &digits)?,
    };
    let at = found.ok_or_else(|| {
        Failure::new(format!("there is no entry {text:?} in the tree"))
            .hint("`eidetica log` lists the entries with their ids")
    })?;
    Ok(snapshot.entry(at).context(READ_FAILED)?)
}

fn by_digits(snapshot: &Snapshot, digits: &str) -> Result<Option<Arrival>> {
    if digits.len() < PREFIX_DIGITS_MIN {
        return Ok(None);
    }
    let mut found = Vec::new();
    for at in (0..snapshot.entry_count()).map(Arrival) {
        let id = snapshot.node(at).context(READ_FAILED)?.id;
        if id.to_string().starts_with(digits) {
            found.push((at, id));
        }
    }
    match &found[..] {
        [] => Ok(None),
        [(at, _)] => Ok(Some(*at)),
        several => {
            let named: Vec<String> = several
                .iter()
                .take(NAMED_MAX)
                .map(|(_, id)| id.to_string())
                .collect();
            let text = format!(
                "{} entries begin with {digits:?}, such as {}",
                several.len(),
                named.join(" and ")
            );
            Err(Failure::new(text).hint("write more digits").into())
        }
    }
}
