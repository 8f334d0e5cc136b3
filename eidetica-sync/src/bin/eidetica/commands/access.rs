//! `access`, `grant`, `revoke`, `requests`, `approve` and `reject`: manages the roles of a tree.

use std::collections::BTreeSet;

use eidetica_sync::dag::{PublicKey, Role, Subject, TreeId};
use eidetica_sync::{JoinRequest, Node, TreeError};
use serde_json::json;

use crate::args::{Approve, Grant, OfTree, Reject, Requests, Revoke};
use crate::commands::session::Session;
use crate::output::failure::{Context, Failure, Result};
use crate::output::text::{count, first_line, one_line, utc};
use crate::store::peers;
use crate::store::trees::{self, Named, PREFIX_DIGITS_MIN};

/// How many characters of a requester's note are shown: all that a note can have.
const NOTE_CHARS_MAX: usize = 256;

/// The least number of leading digits that identify a key where several ask. It costs about 2^40 tries
/// to make a key that begins like another.
const CONTESTED_DIGITS_MIN: usize = 10;

/// The subject that stands for everyone, on the command line and in output.
const ANYONE: &str = "anyone";

/// Returns the name of a role.
pub(crate) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Read => "read",
        Role::Write => "write",
        Role::Admin => "admin",
    }
}

/// Returns a phrase for what a role allows.
pub(crate) fn role_phrase(role: Role) -> &'static str {
    match role {
        Role::Read => "may read",
        Role::Write => "may write",
        Role::Admin => "is admin",
    }
}

pub(crate) async fn requests(session: &Session, args: Requests) -> Result<()> {
    let opened = session.open()?;
    let trees = trees::all(&*opened.store)?;
    let mut requests = all_requests(&opened.start()).await?;
    if let Some(text) = &args.tree {
        let chosen = trees::choose(with_absent(trees.clone(), &requests), text)?.tree;
        requests.retain(|request| request.tree == chosen);
    }
    let mut out = session.console.out();
    for JoinRequest { tree, key, waiting } in requests {
        let name = trees.iter().find(|it| it.tree == tree);
        let name = name.map(|it| it.name.as_str());
        let (role, asked_ms) = (role_name(waiting.role), waiting.asked_ms);
        if args.json {
            out.json(&json!({
                "tree": tree.to_string(),
                "name": name,
                "key": key.to_string(),
                "role": role,
                "note": waiting.note,
                "asked_ms": asked_ms,
                "rejected": waiting.rejected,
            }))?;
            continue;
        }
        let state = if waiting.rejected { "  rejected" } else { "" };
        out.line(format_args!(
            "{}  {key}  {role:<5}  {}{state}  {}  {}",
            tree.short(),
            utc(asked_ms),
            name.map_or("(not here)".into(), one_line),
            quoted(&waiting.note),
        ))?;
    }
    out.flush()
}

/// Quotes a requester's note, so that it cannot be mistaken for our own words.
pub(crate) fn quoted(note: &str) -> String {
    match note {
        "" => String::new(),
        note => format!("“{}”", first_line(note, NOTE_CHARS_MAX)),
    }
}

async fn all_requests(node: &Node) -> Result<Vec<JoinRequest>> {
    let requests = node.join_requests(None).await;
    Ok(requests.context("could not read the requests to join")?)
}

/// Adds the trees of requests that are not in the store.
fn with_absent(mut trees: Vec<Named>, requests: &[JoinRequest]) -> Vec<Named> {
    let here: BTreeSet<TreeId> = trees.iter().map(|it| it.tree).collect();
    let wanted: BTreeSet<TreeId> = requests.iter().map(|request| request.tree).collect();
    trees.extend(wanted.difference(&here).map(|tree| Named {
        tree: *tree,
        name: String::new(),
    }));
    trees
}

pub(crate) async fn approve(session: &Session, args: Approve) -> Result<()> {
    let opened = session.open()?;
    let node = opened.start();
    let Named { tree, name } = trees::find(&*opened.store, &args.tree)?;
    let requests = all_requests(&node).await?;
    let asking = of_tree(&requests, tree);
    let has = access(&node, tree).await?;
    let key = choose_known(&node, &requests, keys(&has), &args.key).await?;
    let wanted = asking.iter().find(|it| it.key == key);
    let wanted = wanted.map(|it| it.waiting.role);
    // Approval must not lower a role that was granted elsewhere meanwhile.
    let has = role_in(&has, &Subject::Key(key));
    let role = match args.role {
        Some(role) => Some(role.into()),
        None => has.filter(|has| Some(*has) > wanted.min(Some(Role::Write))),
    };
    let granted = node.approve(tree, key, role).await;
    let granted = granted.map_err(|error| failed("could not approve the request", error))?;
    let console = &session.console;
    console.note(format_args!(
        "{key} {} {:?}",
        role_phrase(granted),
        one_line(&name)
    ));
    if wanted > Some(granted) && args.role.is_none() {
        console.note(format_args!(
            "it asked to be admin; to grant that: eidetica grant {} {} admin",
            tree.short(),
            distinct(&key, keys(&access(&node, tree).await?))
        ));
    }
    Ok(())
}

pub(crate) async fn reject(session: &Session, args: Reject) -> Result<()> {
    let opened = session.open()?;
    let node = opened.start();
    let requests = all_requests(&node).await?;
    let trees = with_absent(trees::all(&*opened.store)?, &requests);
    let tree = trees::choose(trees, &args.tree)?.tree;
    let Some(key) = &args.key else {
        let rejected = node.reject_all(tree).await;
        let rejected = rejected.context("could not reject the requests")?;
        let rejected = count(rejected as u64, "request", "requests");
        session.console.note(format_args!("rejected {rejected}"));
        return Ok(());
    };
    let key = choose_known(&node, &requests, std::iter::empty(), key).await?;
    let rejected = node.reject(tree, key).await;
    rejected.map_err(|error| failed("could not reject the request", error))?;
    session
        .console
        .note(format_args!("rejected the request of {key}"));
    Ok(())
}

fn of_tree(requests: &[JoinRequest], tree: TreeId) -> Vec<&JoinRequest> {
    let of_tree = requests.iter().filter(|request| request.tree == tree);
    of_tree.collect()
}

pub(crate) async fn grant(session: &Session, args: Grant) -> Result<()> {
    let opened = session.open()?;
    let node = opened.start();
    let Named { tree, name } = trees::find(&*opened.store, &args.tree)?;
    let requests = all_requests(&node).await?;
    let asking = of_tree(&requests, tree);
    let access = access(&node, tree).await?;
    let subject = match &args.subject[..] {
        ANYONE => Subject::Anyone,
        text => Subject::Key(choose_known(&node, &requests, keys(&access), text).await?),
    };
    let role = Role::from(args.role);
    if subject == Subject::Anyone && role == Role::Admin {
        return Err(Failure::new("`anyone` cannot be admin")
            .hint("grant `read` or `write` to anyone, or `admin` to a key")
            .into());
    }
    let console = &session.console;
    let done = format!(
        "{} {} {:?}",
        named(&subject),
        role_phrase(role),
        one_line(&name)
    );
    if access.contains(&(subject, role)) {
        console.note(format_args!("{done} already"));
        return Ok(());
    }
    if role < Role::Admin {
        refuse_orphan(&access, &subject, args.force)?;
    }
    let what = "could not grant the role";
    match subject {
        // This also settles its request.
        Subject::Key(key) if asking.iter().any(|it| it.key == key) => {
            let granted = node.approve(tree, key, Some(role)).await;
            granted.map(drop).map_err(|error| failed(what, error))?;
        }
        subject => {
            let granted = node.grant(tree, subject, role).await;
            granted.map(drop).map_err(|error| failed(what, error))?;
        }
    }
    console.note(done);
    Ok(())
}

pub(crate) async fn revoke(session: &Session, args: Revoke) -> Result<()> {
    let opened = session.open()?;
    let node = opened.start();
    let Named { tree, name } = trees::find(&*opened.store, &args.tree)?;
    let access = access(&node, tree).await?;
    let subject = choose_subject(keys(&access), &args.subject)?;
    let of_anyone = role_in(&access, &Subject::Anyone);
    if role_in(&access, &subject).is_none() {
        let text = format!("{} has no role of its own", named(&subject));
        return Err(Failure::new(text)
            .hint(hint_of_access(&tree.short()))
            .into());
    }
    refuse_orphan(&access, &subject, args.force)?;
    let revoked = node.revoke(tree, subject).await;
    let revoked = revoked.map_err(|error| failed("could not revoke the role", error))?;
    let console = &session.console;
    for (entry, change) in revoked.voids {
        let what = change.role.map_or("may do nothing", role_phrase);
        console.note(format_args!(
            "void from here on: that {} {what}, in entry {}",
            named(&change.subject),
            entry.short()
        ));
    }
    match of_anyone.filter(|_| subject != Subject::Anyone) {
        None => console.note(format_args!(
            "{} no longer has a role in {:?}, on this device and on those that learn of it; it keeps \
             what it has fetched",
            named(&subject),
            one_line(&name)
        )),
        Some(role) => console.note(format_args!(
            "{} no longer has a role of its own, but anyone {} {:?}",
            named(&subject),
            role_phrase(role),
            one_line(&name)
        )),
    }
    let invites = node
        .invites(tree)
        .await
        .context("could not read the invites")?;
    if !invites.is_empty() {
        console.note(format_args!(
            "{} can still be used under another key: `eidetica invites {tree}` lists them, \
             `eidetica withdraw {tree} <invite>` withdraws one",
            count(invites.len() as u64, "open invite", "open invites"),
            tree = tree.short()
        ));
    }
    Ok(())
}

/// Refuses to revoke the last admin: without one, no role of the tree can ever change.
fn refuse_orphan(access: &[(Subject, Role)], subject: &Subject, force: bool) -> Result<()> {
    let admins = access.iter().filter(|(_, role)| *role == Role::Admin);
    let admins: Vec<&Subject> = admins.map(|(subject, _)| subject).collect();
    if force || admins != [subject] {
        return Ok(());
    }
    let text = format!(
        "{} is the last admin; without one, the roles of the tree can never change",
        named(subject)
    );
    Err(Failure::new(text)
        .hint("make another key admin first, or use --force to freeze the roles of the tree")
        .into())
}

pub(crate) async fn list(session: &Session, args: OfTree) -> Result<()> {
    let opened = session.open()?;
    let tree = trees::find(&*opened.store, &args.tree)?.tree;
    let own = Subject::Key(opened.key.public());
    let mut out = session.console.out();
    for (subject, role) in access(&opened.start(), tree).await? {
        let (name, role, is_own) = (named(&subject), role_name(role), subject == own);
        if args.json {
            out.json(&json!({"subject": name, "role": role, "this_device": is_own}))?;
        } else {
            let own = if is_own { "  (this device)" } else { "" };
            out.line(format_args!("{role:<5}  {name}{own}"))?;
        }
    }
    out.flush()
}

async fn access(node: &Node, tree: TreeId) -> Result<Vec<(Subject, Role)>> {
    let access = node.access(tree).await;
    Ok(access.context("could not read the roles of the tree")?)
}

fn role_in(access: &[(Subject, Role)], subject: &Subject) -> Option<Role> {
    let found = access.iter().find(|(other, _)| other == subject);
    found.map(|(_, role)| *role)
}

fn keys(access: &[(Subject, Role)]) -> impl Iterator<Item = PublicKey> {
    access.iter().filter_map(|(subject, _)| match subject {
        Subject::Anyone => None,
        Subject::Key(key) => Some(*key),
    })
}

fn named(subject: &Subject) -> String {
    match subject {
        Subject::Anyone => ANYONE.to_owned(),
        Subject::Key(key) => key.to_string(),
    }
}

/// Finds the key that is to be let in or kept out. A stranger can make keys until one begins like
/// another's, so digits must identify one key among all that are known and all that ask, and there must
/// be enough of them where several ask.
async fn choose_known(
    node: &Node,
    requests: &[JoinRequest],
    members: impl Iterator<Item = PublicKey>,
    text: &str,
) -> Result<PublicKey> {
    let asking: BTreeSet<PublicKey> = requests.iter().map(|request| request.key).collect();
    let digits_min = match asking.len() {
        0 | 1 => PREFIX_DIGITS_MIN,
        _ => CONTESTED_DIGITS_MIN,
    };
    let is_named = choose_key(asking.iter().copied(), text).is_ok();
    if is_named && text.len() < digits_min {
        let text = format!(
            "{} keys ask to join, so {digits_min} digits of a key are needed",
            asking.len()
        );
        return Err(Failure::new(text)
            .hint("compare all of the key with what its owner tells you: `eidetica requests`")
            .into());
    }
    let known = peers::keys(node).await?;
    choose_key(asking.into_iter().chain(known).chain(members), text)
}

/// Returns the leading digits of a key that identify it among others, and at least ten.
pub(crate) fn distinct(key: &PublicKey, others: impl Iterator<Item = PublicKey>) -> String {
    let text = key.to_string();
    let shared = |other: PublicKey| {
        let other = other.to_string();
        let pairs = text.bytes().zip(other.bytes());
        pairs.take_while(|(a, b)| a == b).count()
    };
    let others = others.filter(|other| other != key);
    let digits = others.map(shared).max().map_or(0, |shared| shared + 1);
    text[..digits.clamp(CONTESTED_DIGITS_MIN, text.len())].to_owned()
}

fn choose_subject(known: impl Iterator<Item = PublicKey>, text: &str) -> Result<Subject> {
    match text {
        ANYONE => Ok(Subject::Anyone),
        text => choose_key(known, text).map(Subject::Key),
    }
}

/// Finds the key that `text` means: any complete key, or the only known key that starts with it.
pub(crate) fn choose_key(known: impl Iterator<Item = PublicKey>, text: &str) -> Result<PublicKey> {
    let digits = text.to_ascii_lowercase();
    if let Ok(key) = digits.parse() {
        return Ok(key);
    }
    let is_prefix = digits.len() >= PREFIX_DIGITS_MIN;
    let known: BTreeSet<PublicKey> = known
        .filter(|key| is_prefix && key.to_string().starts_with(&digits))
        .collect();
    let text = match known.len() {
        1 => return Ok(known.into_iter().next().expect("there is one")),
        0 => format!("no known key starts with {text:?}"),
        n => format!("{n} known keys start with {text:?}"),
    };
    Err(Failure::new(text)
        .hint(
            "write all 64 digits, or at least 4 leading digits that identify one key; `eidetica \
             requests`, `access` and `invites` list keys",
        )
        .into())
}

/// Describes why access could not be changed.
pub(crate) fn failed(what: &str, error: TreeError) -> Failure {
    let hint = match &error {
        TreeError::NoSuchRequest(_) => "`eidetica requests` lists the pending requests".to_owned(),
        TreeError::TooManyInvites(_) => "`eidetica invites` lists them".to_owned(),
        TreeError::NotAdmin(tree) => hint_of_access(&tree.short()),
        TreeError::Refused(_) | TreeError::NoEffect(_) => hint_of_access("<tree>"),
        _ => "run the command again once the cause is fixed".to_owned(),
    };
    Failure::new(what).caused_by(error).hint(hint)
}

fn hint_of_access(tree: &str) -> String {
    format!("`eidetica access {tree}` lists the roles and the admins")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> PublicKey {
        PublicKey::from_bytes([byte; 32])
    }

    #[test]
    fn keys_are_found_by_prefix_or_in_full() {
        let known = || [key(0xab), key(0xcd), key(0xab)].into_iter();
        assert_eq!(choose_key(known(), "ABAB").ok(), Some(key(0xab)));
        assert_eq!(choose_key(known(), &"12".repeat(32)).ok(), Some(key(0x12)));
        for text in ["aba", "", "ffff", "abab0"] {
            assert!(choose_key(known(), text).is_err(), "{text}");
        }
        let mut near = [0xab; 32];
        near[31] = 0;
        let known = [key(0xab), PublicKey::from_bytes(near)].into_iter();
        assert!(choose_key(known, "abab").is_err(), "two keys start with it");
    }

    #[test]
    fn enough_of_a_key_is_shown_to_tell_it_from_others() {
        let mut near = [0xab; 32];
        near[10] = 0xaf;
        let near = PublicKey::from_bytes(near);
        let shown = |others: &[PublicKey]| distinct(&key(0xab), others.iter().copied());
        assert_eq!(shown(&[]).len(), CONTESTED_DIGITS_MIN);
        assert_eq!(shown(&[key(0xab), key(1)]).len(), CONTESTED_DIGITS_MIN);
        let shown = shown(&[near, key(0xab)]);
        assert_eq!(shown, "ab".repeat(11));
        assert!(!near.to_string().starts_with(&shown));
    }

    #[test]
    fn last_admin_is_kept() {
        let (ada, eve) = (Subject::Key(key(1)), Subject::Key(key(2)));
        let one = [
            (Subject::Anyone, Role::Write),
            (ada, Role::Admin),
            (eve, Role::Write),
        ];
        assert!(refuse_orphan(&one, &ada, false).is_err());
        assert!(refuse_orphan(&one, &ada, true).is_ok());
        assert!(refuse_orphan(&one, &eve, false).is_ok());
        let two = [(ada, Role::Admin), (eve, Role::Admin)];
        assert!(refuse_orphan(&two, &ada, false).is_ok());
    }
}
