//! Who may join a tree: what becomes of a [`Join`], and what an admin has to remember for it.
//!
//! [`judge`] decides, the driver carries it out. A joiner that already has the role gets that answer.
//! One that shows an invite gets the invite's role. All others wait for an admin, whether the tree
//! is here or not, so that the answer does not reveal which trees there are. An invalid invite gets
//! the same answer as an absent tree.

mod room;

use eidetica_dag::{PublicKey, Role};
use serde::{Deserialize, Serialize};

use crate::error::{ErrorCode, WireError};
use crate::message::{Join, JoinReply};

pub use room::{
    JoinRequest, REQUESTS_MAX, REQUESTS_PER_KEY_MAX, REQUESTS_PER_TREE_MAX, Room, room_for,
    source_of,
};

/// How long a joiner is asked to wait when its request cannot be kept, in milliseconds: a minute.
/// Room comes from an admin's decisions.
const NO_ROOM_RETRY_MS: u32 = 60_000;

/// How long a request is kept, in milliseconds: two weeks, the length of an admin's holiday. After
/// that the joiner has to ask again.
pub const REQUEST_KEPT_MS: u64 = 14 * 24 * 60 * 60 * 1_000;

/// How far a clock may be set back after an invite was made, in milliseconds: a day, which covers
/// mistaken time zones.
const CLOCK_ERROR_MAX_MS: u64 = 24 * 60 * 60 * 1_000;

/// Most uses of one invite: each leaves a key in the record of the invite, which is metadata of at
/// most 64 KiB.
pub const INVITE_USES_MAX: u32 = 1_024;

/// Most keys that an invite remembers: those that used it, and those that were revoked since. They fit
/// into 64 KiB.
pub const INVITE_KEYS_MAX: usize = 2_000;

/// Most invites of one tree that are kept at a time.
pub const INVITES_PER_TREE_MAX: usize = 256;

/// An invite, as its maker remembers it. Its secret is not in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// The role that it grants.
    pub role: Role,
    /// When it was made, in milliseconds since 1970.
    pub made_ms: u64,
    /// When it expires, in milliseconds since 1970.
    pub expires_ms: u64,
    /// How many more keys may use it.
    pub uses_left: u32,
    /// The keys that have used it, or were revoked since it was made. None of them can use it, so
    /// a revoked key stays out.
    pub used_by: Vec<PublicKey>,
}

impl Invite {
    /// Tells whether `key` may use it now.
    pub fn is_good(&self, key: &PublicKey, now_ms: u64) -> bool {
        now_ms < self.expires_ms
            && !self.is_from_future(now_ms)
            && self.uses_left > 0
            && !self.used_by.contains(key)
    }

    /// Tells whether it was made later than now, because the clock was wrong then or is now. It is not
    /// good meanwhile: one that was made while the clock was years ahead would be valid for years.
    pub fn is_from_future(&self, now_ms: u64) -> bool {
        now_ms.saturating_add(CLOCK_ERROR_MAX_MS) < self.made_ms
    }

    /// Returns the invite as it is after `key` has used it, or `None` if the key may not use it now.
    #[must_use]
    pub fn after_use(&self, key: &PublicKey, now_ms: u64) -> Option<Self> {
        self.is_good(key, now_ms).then(|| {
            let mut after = self.clone();
            after.uses_left -= 1;
            after.used_by.push(*key);
            after
        })
    }
}

/// A request that an admin has not approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The role that is asked for.
    pub role: Role,
    /// What the client says about itself. Nothing in it is proved.
    pub note: String,
    /// When it was first made, in milliseconds since 1970.
    pub asked_ms: u64,
    /// Whether an admin has rejected it.
    pub rejected: bool,
    /// The network that it came from; see [`source_of`].
    pub source: String,
}

impl Waiting {
    /// Tells whether it is too old to be kept.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.asked_ms) >= REQUEST_KEPT_MS
    }
}

/// What is known here about a joiner.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The joiner's key, which it has proved.
    pub key: &'a PublicKey,
    /// The role that it has on the tree.
    pub role: Option<Role>,
    /// The invite that it shows, if it is one of this tree, and this node can grant roles.
    pub invite: Option<&'a Invite>,
    /// Its earlier request.
    pub earlier: Option<&'a Waiting>,
    /// Whether one more request can be kept; see [`room_for`].
    pub has_room: bool,
    /// The network that the request came from; see [`source_of`].
    pub source: &'a str,
    /// The time, in milliseconds since 1970.
    pub now_ms: u64,
}

/// What to do about a [`Join`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Answer this.
    Reply(JoinReply),
    /// Count the use of the invite, durably ([`Invite::after_use`]); then grant the role, and answer so.
    Grant(Role),
    /// Keep the request, and answer that it is pending.
    Keep(Waiting),
    /// Refuse.
    Refuse(WireError),
}

/// Decides about a request to join. The signature of an invite has been checked already.
pub fn judge(join: &Join, known: Known<'_>) -> Verdict {
    if let Some(role) = known.role.filter(|role| *role >= join.role) {
        return Verdict::Reply(JoinReply::Granted(role));
    }
    if join.invite.is_some() {
        let good = known
            .invite
            .filter(|invite| invite.is_good(known.key, known.now_ms));
        return match (good, known.role) {
            // It has as much as the invite gives, so the use is left to another key.
            (Some(invite), Some(role)) if role >= invite.role => {
                Verdict::Reply(JoinReply::Granted(role))
            }
            (Some(invite), _) => Verdict::Grant(invite.role),
            (None, _) => Verdict::Refuse(WireError::not_found()),
        };
    }
    let earlier = known
        .earlier
        .filter(|earlier| !earlier.is_expired(known.now_ms));
    match earlier {
        Some(earlier) if earlier.rejected => Verdict::Reply(JoinReply::Rejected),
        // What an admin has looked at stays what it was, and asking again writes nothing.
        Some(_) => Verdict::Reply(JoinReply::Pending),
        None if !known.has_room => Verdict::Refuse(no_room()),
        None => Verdict::Keep(Waiting {
            role: join.role,
            note: join.note.clone(),
            asked_ms: known.now_ms,
            rejected: false,
            source: known.source.to_owned(),
        }),
    }
}

/// The answer to a joiner whose request cannot be kept.
fn no_room() -> WireError {
    let text = "too many requests to join are waiting for an admin; retry later, or get an invite";
    WireError {
        retry_after_ms: Some(NO_ROOM_RETRY_MS),
        ..WireError::new(ErrorCode::Busy, text)
    }
}

/// The answer to a joiner that does not prove a key.
pub fn unproven_join() -> WireError {
    let text = "join requests must be signed";
    WireError::new(ErrorCode::Unproven, text)
}

#[cfg(test)]
mod tests {
    use eidetica_dag::testing::key;
    use eidetica_dag::{EntryId, TreeId};

    use super::*;
    use crate::message::InviteProof;

    const NOW_MS: u64 = 1_700_000_000_000;

    fn join(role: Role, with_invite: bool) -> Join {
        let tree = TreeId::from_root(EntryId::from_bytes([1; 32]));
        Join {
            tree,
            role,
            note: "Ada".into(),
            invite: with_invite.then(|| InviteProof::new(&key(9), tree, &key(1).public())),
        }
    }

    fn invite() -> Invite {
        Invite {
            role: Role::Write,
            made_ms: NOW_MS,
            expires_ms: NOW_MS + 1,
            uses_left: 2,
            used_by: vec![],
        }
    }

    fn waiting() -> Waiting {
        Waiting {
            role: Role::Read,
            note: "Ada".into(),
            asked_ms: NOW_MS,
            rejected: false,
            source: "192.0.2.1".into(),
        }
    }

    fn known(key: &PublicKey) -> Known<'_> {
        Known {
            key,
            role: None,
            invite: None,
            earlier: None,
            has_room: true,
            source: "192.0.2.1",
            now_ms: NOW_MS,
        }
    }

    #[test]
    fn a_joiner_that_has_the_role_learns_so() {
        let key = key(1).public();
        for with_invite in [false, true] {
            let known = Known {
                role: Some(Role::Write),
                ..known(&key)
            };
            let granted = Verdict::Reply(JoinReply::Granted(Role::Write));
            assert_eq!(judge(&join(Role::Read, with_invite), known), granted);
            assert_eq!(judge(&join(Role::Write, with_invite), known), granted);
            assert_ne!(judge(&join(Role::Admin, with_invite), known), granted);
        }
    }

    #[test]
    fn an_invite_grants_its_own_role_to_each_key_once() {
        let (ada, eve) = (key(1).public(), key(2).public());
        let mut invite = invite();
        for (key, uses_left) in [(&ada, 1), (&eve, 0)] {
            let known = Known {
                invite: Some(&invite),
                ..known(key)
            };
            // Asking for more does not bring more.
            let granted = judge(&join(Role::Admin, true), known);
            assert_eq!(granted, Verdict::Grant(Role::Write));
            let after = invite.after_use(key, NOW_MS).unwrap();
            assert_eq!(after.uses_left, uses_left);
            assert!(after.used_by.contains(key));
            // A key that was revoked since does not come in again.
            let again = Known {
                invite: Some(&after),
                ..known
            };
            let refused = Verdict::Refuse(WireError::not_found());
            assert_eq!(judge(&join(Role::Read, true), again), refused);
            invite = after;
        }
    }

    #[test]
    fn refusals_do_not_say_what_is_wrong_with_an_invite() {
        let key = key(1).public();
        let expired = Invite {
            expires_ms: NOW_MS,
            ..invite()
        };
        let of_a_wrong_clock = Invite {
            made_ms: NOW_MS + CLOCK_ERROR_MAX_MS + 1,
            expires_ms: u64::MAX,
            ..invite()
        };
        let used_up = Invite {
            uses_left: 0,
            ..invite()
        };
        for invite in [
            None,
            Some(&expired),
            Some(&of_a_wrong_clock),
            Some(&used_up),
        ] {
            let known = Known {
                invite,
                ..known(&key)
            };
            let verdict = judge(&join(Role::Read, true), known);
            assert_eq!(verdict, Verdict::Refuse(WireError::not_found()));
        }
    }

    #[test]
    fn an_invite_takes_no_role_away() {
        let key = key(1).public();
        let invite = Invite {
            role: Role::Read,
            ..invite()
        };
        let known = Known {
            role: Some(Role::Write),
            invite: Some(&invite),
            ..known(&key)
        };
        let verdict = judge(&join(Role::Admin, true), known);
        assert_eq!(verdict, Verdict::Reply(JoinReply::Granted(Role::Write)));
    }

    #[test]
    fn a_request_waits_once_and_expires() {
        let key = key(1).public();
        assert_eq!(
            judge(&join(Role::Read, false), known(&key)),
            Verdict::Keep(waiting())
        );
        let earlier = waiting();
        let again = Known {
            earlier: Some(&earlier),
            now_ms: NOW_MS + REQUEST_KEPT_MS - 1,
            ..known(&key)
        };
        let pending = Verdict::Reply(JoinReply::Pending);
        assert_eq!(judge(&join(Role::Read, false), again), pending);
        assert_eq!(
            judge(&join(Role::Write, false), again),
            pending,
            "what an admin has seen does not change"
        );
        let late = Known {
            now_ms: NOW_MS + REQUEST_KEPT_MS,
            ..again
        };
        let anew = Waiting {
            asked_ms: late.now_ms,
            ..waiting()
        };
        assert_eq!(judge(&join(Role::Read, false), late), Verdict::Keep(anew));
    }

    #[test]
    fn without_room_a_joiner_learns_that_it_is_not_waiting() {
        let key = key(1).public();
        let full = Known {
            has_room: false,
            ..known(&key)
        };
        let Verdict::Refuse(error) = judge(&join(Role::Read, false), full) else {
            panic!("it cannot be kept");
        };
        assert_eq!(error.code, ErrorCode::Busy);
        assert_eq!(error.retry_after_ms, Some(NO_ROOM_RETRY_MS));
        let earlier = waiting();
        let again = Known {
            earlier: Some(&earlier),
            ..full
        };
        let pending = Verdict::Reply(JoinReply::Pending);
        assert_eq!(
            judge(&join(Role::Read, false), again),
            pending,
            "it was kept"
        );
    }

    #[test]
    fn a_rejection_is_repeated_until_it_expires() {
        let key = key(1).public();
        let rejected = Waiting {
            rejected: true,
            ..waiting()
        };
        let known = Known {
            earlier: Some(&rejected),
            ..known(&key)
        };
        let verdict = judge(&join(Role::Write, false), known);
        assert_eq!(verdict, Verdict::Reply(JoinReply::Rejected));
        let late = Known {
            now_ms: NOW_MS + REQUEST_KEPT_MS,
            ..known
        };
        assert!(matches!(
            judge(&join(Role::Write, false), late),
            Verdict::Keep(_)
        ));
    }
}
