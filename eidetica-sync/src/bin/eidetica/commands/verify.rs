//! `verify`: reads whole trees and reports damage.

use eidetica_sync::dag::{TreeId, check};
use eidetica_sync::store::Store;
use serde_json::json;

use crate::args::Verify;
use crate::commands::session::Session;
use crate::output::failure::{Failure, Result};
use crate::output::text::{count, one_line};
use crate::store::trees::{self, Named};

pub(crate) fn verify(session: &Session, args: Verify) -> Result<()> {
    let opened = session.open()?;
    let trees = match &args.tree {
        Some(text) => vec![trees::find(&*opened.store, text)?],
        None => trees::all(&*opened.store)?,
    };
    let mut out = session.console.out();
    let (mut problems_found, mut damaged) = (0, 0);
    for Named { tree, name } in trees {
        let (entries, problems) = problems_of(session, &*opened.store, tree);
        problems_found += problems.len() as u64;
        damaged += u64::from(!problems.is_empty());
        if args.json {
            let tree = tree.to_string();
            out.json(&json!({"tree": tree, "entries": entries, "problems": problems}))?;
        } else if problems.is_empty() {
            let which = format!("  {}  {}", tree.short(), one_line(&name));
            let which = if args.all { &which } else { "" };
            out.line(format_args!("ok {entries} entries{which}"))?;
        } else {
            for problem in problems {
                out.line(format_args!("tree {}: {problem}", tree.short()))?;
            }
        }
        out.flush()?;
    }
    if problems_found == 0 {
        return Ok(());
    }
    let problems = count(problems_found, "problem", "problems");
    let text = format!("{problems} in {}", count(damaged, "tree", "trees"));
    let hint = "put damaged entries back with `eidetica repair --all`; if that is not enough, fetch the \
                trees again: `eidetica join` into another --store, with a ticket from another device";
    Err(Failure::new(text).hint(hint).into())
}

/// Returns how many entries a tree has, and what is wrong with it. What cannot be read at all is the last
/// problem, and the other trees go on.
fn problems_of(session: &Session, store: &dyn Store, tree: TreeId) -> (u32, Vec<String>) {
    let unread = |error| format!("cannot be read further: {error}");
    let snapshot = match store.snapshot(tree) {
        Ok(snapshot) => snapshot,
        Err(error) => return (0, vec![unread(error)]),
    };
    let entries = snapshot.entry_count();
    let mut progress = session.console.progress("verifying");
    progress.set(0, Some(entries.into()));
    let checked = check(&*snapshot, tree, |done| {
        progress.set(done.into(), Some(entries.into()));
    });
    let problems = match checked {
        Ok(problems) => problems.iter().map(ToString::to_string).collect(),
        Err(error) => vec![unread(error)],
    };
    (entries, problems)
}
