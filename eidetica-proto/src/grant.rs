//! Showing a grant to a server that has lost it.
//!
//! A server that was put back to an old backup lacks entries, and among them may be the one that gave
//! a member its role. It then answers that member as it answers a stranger, so the member cannot bring
//! back what is lost. But the member has the grant, signed by an admin whom the server knows. It sends
//! the grant with the entries before it as a small `SendEntries`; the server stores them if the grant
//! is genuine and they give the sender its role, and answers as for an absent tree otherwise.
//!
//! Nothing is believed that is not signed: every entry is judged in its own causal past when it is
//! stored, as always. Who shows a grant that was taken back since brings nothing that the server's own
//! entries do not overrule.

use eidetica_dag::{
    Arrival, ArrivalSet, Body, EntryView, PublicKey, Role, Subject, VerifiedEntry, current_access,
    walk,
};

use crate::cursor::Cursor;
use crate::outgoing::EntrySelection;
use crate::tips::EndTips;

/// Most entries that are sent to show a grant, the grant included. A backup that is older than that
/// many entries before the grant needs an admin to approve the member again.
pub const GRANT_ENTRIES_MAX: u32 = 1_024;

/// Most bytes of the frames that show a grant: the server keeps them until it has seen the grant.
pub const GRANT_BYTES_MAX: usize = 1 << 20;

/// Chooses the entries that show how `key` got its role: the latest grant of it that has an effect
/// here, and what precedes that. Returns `None` if the key has no role of its own, or has had it from
/// the root on: no server that has the tree lacks that. Returns `None` as well if `peer`, to whom they
/// would be shown, may not read the tree as far as is known here.
///
/// # Errors
/// Those of the view.
pub fn shown_by<V: EntryView + ?Sized>(
    view: &V,
    key: &PublicKey,
    peer: &PublicKey,
) -> Result<Option<EntrySelection>, V::Error> {
    let access = current_access(view)?;
    let may_read = access.allows(Some(peer), Role::Read);
    if access.own_role(&Subject::Key(*key)).is_none() || !may_read {
        return Ok(None);
    }
    let ledger = access.ledger();
    let entries = (1..ledger.len())
        .rev()
        .filter_map(|number| ledger.get(number));
    let is_grant = |change: &eidetica_dag::AccessChange| {
        change.subject == Subject::Key(*key) && change.role.is_some()
    };
    let mut grants = entries.filter(|entry| entry.changes.iter().any(is_grant));
    let Some(grant) = grants.next() else {
        return Ok(None);
    };
    let past = walk::ancestors(view, &[grant.at])?;
    let latest: Vec<Arrival> = past.iter().rev().take(GRANT_ENTRIES_MAX as usize).collect();
    let chosen: ArrivalSet = latest.into_iter().collect();
    Ok(Some(EntrySelection::new(
        chosen,
        EndTips::Untold,
        Cursor::NONE,
    )))
}

/// Tells whether one of these entries, whose signatures were checked, gives `key` a role by the hand of
/// an admin of the tree as it is here.
///
/// # Errors
/// Those of the view.
pub fn is_shown<V: EntryView + ?Sized>(
    view: &V,
    key: &PublicKey,
    entries: &[VerifiedEntry],
) -> Result<bool, V::Error> {
    let access = current_access(view)?;
    Ok(entries.iter().any(|entry| {
        let entry = entry.get().entry();
        let Body::Access(changes) = &entry.body else {
            return false;
        };
        let gives = |change: &eidetica_dag::AccessChange| {
            change.subject == Subject::Key(*key) && change.role.is_some()
        };
        changes.iter().any(gives) && access.allows(Some(&entry.author), Role::Admin)
    }))
}

#[cfg(test)]
mod tests {
    use eidetica_dag::testing::{draw, genesis, key, shapes::sign_on_top};
    use eidetica_dag::{AccessChange, MemoryDag};

    use super::*;

    fn grant(n: u32, role: Role) -> Body {
        Body::Access(vec![AccessChange::grant(
            Subject::Key(key(n).public()),
            role,
        )])
    }

    /// The entries that are chosen, as a server gets them.
    fn shown(view: &MemoryDag, n: u32) -> Option<Vec<VerifiedEntry>> {
        let (own, founder) = (key(n).public(), key(0).public());
        let selection = shown_by(view, &own, &founder).expect("in memory")?;
        let (mut outgoing, mut entries) = (selection.outgoing(), Vec::new());
        while let Some((frame, _)) = outgoing.poll_frame(view).expect("in memory") {
            let part = crate::Received::from_frame(view.tree(), &frame).expect("sound");
            if let crate::Received::Entries(batch) = part {
                let mut unproven = eidetica_dag::UnprovenEntries::default();
                entries.extend(unproven.handle_batch(batch));
                entries.extend(unproven.take_proven());
            }
        }
        Some(entries)
    }

    #[test]
    fn the_latest_grant_is_shown_with_what_precedes_it() {
        let drawn = draw("A-B");
        let tree = drawn.tree();
        let mut chain = drawn.entries(&["A", "B"]);
        let before = chain.clone();
        let bodies = [
            grant(7, Role::Read),
            Body::Data(b"between".to_vec().into()),
            grant(7, Role::Write),
            Body::Data(b"after".to_vec().into()),
        ];
        for body in bodies {
            let last = &chain[chain.len() - 1..];
            chain.push(sign_on_top(Some(tree), last, &key(0), 0, body));
        }
        let mut view = MemoryDag::new(tree);
        view.append(chain);
        let entries = shown(&view, 7).expect("it has a role");
        assert_eq!(entries.len(), 5, "all but the last");
        assert!(shown(&view, 0).is_none(), "the root gave it");
        assert!(shown(&view, 8).is_none(), "it has none");

        let mut restored = MemoryDag::new(tree);
        restored.append(before);
        let is_shown = |n: u32, entries: &[VerifiedEntry]| {
            is_shown(&restored, &key(n).public(), entries).expect("in memory")
        };
        assert!(is_shown(7, &entries));
        assert!(!is_shown(8, &entries), "it is about another key");
        assert!(!is_shown(7, &entries[..2]), "the grant is missing");
        // Signed by itself.
        let last = &entries[entries.len() - 1..];
        let forged = sign_on_top(Some(tree), last, &key(7), 0, grant(7, Role::Admin));
        assert!(!is_shown(7, &[forged]));
    }

    #[test]
    fn nothing_is_shown_to_a_peer_that_may_not_read() {
        let root = sign_on_top(None, [], &key(0), 0, genesis("private", vec![]));
        let tree = root.get().tree();
        let granted = sign_on_top(Some(tree), [&root], &key(0), 0, grant(7, Role::Write));
        let mut view = MemoryDag::new(tree);
        view.append(vec![root, granted]);
        let is_shown_to = |n: u32| {
            let shown = shown_by(&view, &key(7).public(), &key(n).public());
            shown.expect("in memory").is_some()
        };
        assert!(is_shown_to(0));
        assert!(!is_shown_to(8));
    }

    #[test]
    fn a_long_history_is_cut() {
        let drawn = draw("A");
        let mut chain = drawn.entries(&["A"]);
        for n in 0..2 * GRANT_ENTRIES_MAX {
            let last = &chain[chain.len() - 1..];
            let body = Body::Data(n.to_le_bytes().to_vec().into());
            chain.push(sign_on_top(Some(drawn.tree()), last, &key(0), 0, body));
        }
        let last = &chain[chain.len() - 1..];
        let tree = Some(drawn.tree());
        chain.push(sign_on_top(tree, last, &key(0), 0, grant(7, Role::Read)));
        let mut view = MemoryDag::new(drawn.tree());
        view.append(chain);
        let (own, founder) = (key(7).public(), key(0).public());
        let selection = shown_by(&view, &own, &founder).expect("in memory");
        assert_eq!(
            selection.expect("it has a role").entry_count(),
            GRANT_ENTRIES_MAX
        );
    }
}
