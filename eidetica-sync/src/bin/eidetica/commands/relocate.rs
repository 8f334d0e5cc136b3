//! `move`: copies a whole store into a database, or out of one.

use std::path::Path;
use std::sync::Arc;

use eidetica_sync::dag::{Arrival, SignedEntry, TreeId, verify_batch};
use eidetica_sync::store::{Snapshot, Store};

use crate::args::Move;
use crate::commands::session::Session;
use crate::output::failure::{Context, Failure, Result};
use crate::output::text::count;
use crate::store::dir::StoreDir;
use crate::store::postgres::Database;

/// How much is copied in one commit, in bytes: what a transfer stores in one step.
const STEP_BYTES: usize = 2 << 20;

pub(crate) fn run(session: &Session, args: &Move) -> Result<()> {
    let opened = session.open()?;
    if opened.server.is_some() {
        return Err(
            Failure::new("a store is moved only while no server runs on it")
                .hint("stop the server first")
                .into(),
        );
    }
    let dir;
    let (unfinished, target): (_, Arc<dyn Store>) = match args.to.contains("://") {
        true => {
            let database = Database::choose(Some(&args.to))?.expect("it was asked for");
            let store = database.open().context("could not open the database")?;
            session.dir.claim(&*store, &opened.key)?;
            (None, store)
        }
        false => {
            let folder = session.path(Path::new(&args.to));
            dir = StoreDir::at(folder, session.dir.wait());
            let (unfinished, store) = dir.create_unfinished()?;
            (Some(unfinished), store)
        }
    };
    if opened.store.log_id() == target.log_id() {
        return Err(Failure::new("the store is there already").into());
    }
    let trees = opened.store.trees().context("could not list the trees")?;
    let mut entries = 0_u64;
    for tree in &trees {
        entries += u64::from(copy(session, &*opened.store, &*target, *tree)?);
    }
    // Last, so that a target that was cut short is not taken for a whole one.
    let failed = "could not copy the metadata";
    for (key, value) in opened.store.list("").context(failed)? {
        target.put(&key, Some(&value)).context(failed)?;
    }
    if let Some(unfinished) = unfinished {
        unfinished.finish(&opened.key)?;
    }
    let mut out = session.console.out();
    let trees = count(trees.len() as u64, "tree", "trees");
    let entries = count(entries, "entry", "entries");
    out.line(format_args!("copied and compared {trees} with {entries}"))?;
    out.flush()
}

/// Copies one tree and compares the copy. Returns how many entries it has.
fn copy(session: &Session, from: &dyn Store, to: &dyn Store, tree: TreeId) -> Result<u32> {
    let failed = format!("could not copy the tree {}", tree.short());
    let source = from.snapshot(tree).context(&failed)?;
    let total = source.entry_count();
    let mut progress = session.console.progress("copying");
    let mut step = Vec::new();
    let mut bytes = 0;
    for number in 0..total {
        let entry = source.entry(Arrival(number)).context(&failed)?;
        bytes += entry.encoded().len();
        step.push(entry);
        if bytes >= STEP_BYTES || number + 1 == total {
            append(to, tree, std::mem::take(&mut step))?;
            bytes = 0;
            progress.set(u64::from(number) + 1, Some(u64::from(total)));
        }
    }
    drop(progress);
    compare(&source, &to.snapshot(tree).context(&failed)?)
        .context(&failed)?
        .then_some(total)
        .ok_or_else(|| {
            let hint = "the target holds other entries; use an empty one";
            Failure::new(format!("the copy of the tree {} differs", tree.short()))
                .hint(hint)
                .into()
        })
}

/// Appends entries after checking their signatures once more.
fn append(to: &dyn Store, tree: TreeId, step: Vec<SignedEntry>) -> Result<()> {
    let failed = format!("could not copy the tree {}", tree.short());
    let verification = verify_batch(step);
    if let Some(forged) = verification.forged() {
        return Err(Failure::new(failed)
            .caused_by(forged)
            .hint("see `eidetica verify`")
            .into());
    }
    let outcome = to.append(tree, verification.verified).context(&failed)?;
    match (outcome.refused, outcome.waiting.is_empty()) {
        (None, true) => Ok(()),
        (Some(refusal), _) => Err(Failure::new(failed)
            .caused_by(refusal)
            .hint("see `eidetica verify`")
            .into()),
        (None, false) => Err(Failure::new(failed)
            .caused_by("parents are missing")
            .hint("see `eidetica verify`")
            .into()),
    }
}

/// Tells whether two views hold the same entries: every id of the one is in the other, and they are as
/// many.
fn compare(source: &Snapshot, copy: &Snapshot) -> Result<bool, eidetica_sync::store::StoreError> {
    if source.entry_count() != copy.entry_count() {
        return Ok(false);
    }
    for number in 0..source.entry_count() {
        let id = source.node(Arrival(number))?.id;
        let Some(at) = copy.arrival(&id)? else {
            return Ok(false);
        };
        if source.encoded(Arrival(number))? != copy.encoded(at)? {
            return Ok(false);
        }
    }
    Ok(true)
}
