//! `invite`, `invites`, `withdraw`: manages tickets that grant access to their holders.

use eidetica_sync::InviteTerms;
use eidetica_sync::dag::Role;
use serde_json::json;

use crate::args::{MakeInvite, OfTree, Withdraw};
use crate::commands::access::{choose_key, failed, role_name, role_phrase};
use crate::commands::session::Session;
use crate::output::failure::{Context, Failure, Result};
use crate::output::text::{count, utc};
use crate::store::trees;

pub(crate) async fn invite(session: &Session, args: MakeInvite) -> Result<()> {
    let opened = session.open()?;
    let Some(node) = &opened.server else {
        return Err(
            Failure::new("no server runs on this store, so the invite could not be used")
                .hint("run `eidetica serve` in another terminal, then run this command again")
                .into(),
        );
    };
    let tree = trees::find(&*opened.store, &args.tree)?.tree;
    let role = Role::from(args.role);
    let terms = InviteTerms {
        role,
        valid_for: args.expires,
        uses: args.uses,
    };
    let ticket = node.invite(tree, terms).await;
    let ticket = ticket.map_err(|error| failed("could not create the invite", error))?;
    let secret = ticket.invite.as_ref().expect("the ticket of an invite");
    let name = secret.key().public();
    let mut out = session.console.out();
    out.line(ticket)?;
    out.flush()?;
    session.console.note(format_args!(
        "its holder {}; {} can use it; to withdraw it: eidetica withdraw {} {}",
        role_phrase(role),
        count(args.uses.into(), "device", "devices"),
        tree.short(),
        name.short()
    ));
    Ok(())
}

pub(crate) async fn list(session: &Session, args: OfTree) -> Result<()> {
    let opened = session.open()?;
    let tree = trees::find(&*opened.store, &args.tree)?.tree;
    let invites = opened.start().invites(tree).await;
    let mut out = session.console.out();
    for info in invites.context("could not read the invites")? {
        let (invite, terms) = (info.invite, info.terms);
        let role = role_name(terms.role);
        if args.json {
            let used_by: Vec<String> = terms.used_by.iter().map(ToString::to_string).collect();
            out.json(&json!({
                "invite": invite.to_string(),
                "role": role,
                "expires_ms": terms.expires_ms,
                "uses_left": terms.uses_left,
                "used_by": used_by,
            }))?;
        } else {
            out.line(format_args!(
                "{}  {role:<5}  until {}  {} left, {} used",
                invite.short(),
                utc(terms.expires_ms),
                count(terms.uses_left.into(), "use", "uses"),
                terms.used_by.len()
            ))?;
        }
    }
    out.flush()
}

pub(crate) async fn withdraw(session: &Session, args: Withdraw) -> Result<()> {
    let opened = session.open()?;
    let node = opened.start();
    let tree = trees::find(&*opened.store, &args.tree)?.tree;
    let failed = "could not withdraw the invite";
    let invites = node.invites(tree).await.context(failed)?;
    let invite = choose_key(invites.iter().map(|it| it.invite), &args.invite)?;
    if invites.iter().all(|it| it.invite != invite) {
        return Err(Failure::new("the tree has no such open invite")
            .hint("`eidetica invites` lists them")
            .into());
    }
    node.withdraw_invite(tree, invite).await.context(failed)?;
    session
        .console
        .note(format_args!("withdrew the invite {}", invite.short()));
    Ok(())
}
