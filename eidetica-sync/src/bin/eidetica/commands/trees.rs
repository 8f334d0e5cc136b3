//! `init`, `new`, `ls` and `tips`: creates and lists trees.

use eidetica_sync::dag::{AccessChange, Subject, tip_ids};
use serde_json::json;

use crate::args::{Anyone, Init, Ls, New};
use crate::commands::session::Session;
use crate::output::failure::{Context, Result};
use crate::output::text::one_line;
use crate::store::trees::{find, info};

pub(crate) fn init(session: &Session, args: &Init) -> Result<()> {
    let opened = match args.new {
        true => session.open_or_begin_again()?,
        false => session.open_or_create()?,
    };
    session.dir.warn_if_others_can_replace();
    let mut out = session.console.out();
    out.line(format_args!("key {}", opened.key.public()))?;
    out.flush()
}

pub(crate) async fn new(session: &Session, args: New) -> Result<()> {
    let node = session.open_or_create()?.start();
    let tree = node
        .create_tree(args.name, access_of(args.anyone))
        .await
        .context("could not create the tree")?;
    let mut out = session.console.out();
    out.line(tree)?;
    out.flush()
}

/// Returns the roles of others in a new tree.
pub(crate) fn access_of(anyone: Option<Anyone>) -> Vec<AccessChange> {
    anyone
        .map(|role| AccessChange::grant(Subject::Anyone, role.into()))
        .into_iter()
        .collect()
}

pub(crate) fn ls(session: &Session, args: Ls) -> Result<()> {
    let opened = session.open()?;
    let mut out = session.console.out();
    for tree in opened.store.trees().context("could not list the trees")? {
        let info = info(&*opened.store, tree).context("could not list the trees")?;
        let (name, entries) = (&info.name, info.entries);
        if args.json {
            let tips = opened.store.snapshot(tree).and_then(|it| tip_ids(&*it));
            let tips = tips.context("could not read the tips")?;
            let tips: Vec<String> = tips.iter().map(ToString::to_string).collect();
            let tree = tree.to_string();
            out.json(&json!({"tree": tree, "name": name, "entries": entries, "tips": tips}))?;
        } else {
            let (tips, name) = (info.tip_count, one_line(name));
            out.line(format_args!("{tree}  {entries:>8}  {tips:>4}  {name}"))?;
        }
    }
    out.flush()
}

pub(crate) fn tips(session: &Session, tree: &str) -> Result<()> {
    let opened = session.open()?;
    let tree = find(&*opened.store, tree)?.tree;
    let tips = opened.store.snapshot(tree).and_then(|it| tip_ids(&*it));
    let mut out = session.console.out();
    for tip in tips.context("could not read the tips")? {
        out.line(tip)?;
    }
    out.flush()
}
