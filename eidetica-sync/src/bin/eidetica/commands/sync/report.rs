//! What is reported about a sync: how it went, or why it failed and what helps.

use std::sync::Arc;

use eidetica_sync::dag::{PublicKey, Role, TreeId};
use eidetica_sync::proto::{ErrorCode, Report, SyncFault, SyncOutcome, TransportErrorKind};
use eidetica_sync::{Node, SyncError};
use serde_json::json;

use super::plan::{Done, Plan, Route};
use crate::args::How;
use crate::commands::access::role_name;
use crate::output::console::Console;
use crate::output::failure::{Failure, Result};
use crate::output::text::{bytes, count};

/// Says why a sync failed and what helps.
pub(super) fn failure(
    node: &Node,
    plan: &Plan<'_>,
    route: &Route,
    error: Arc<SyncError>,
) -> Failure {
    let tree = plan.tree;
    let code = match &*error {
        SyncError::Peer {
            source: SyncFault::Refused(refused),
            ..
        } => Some(refused.code),
        _ => None,
    };
    let (text, hint) = match (code, &*error) {
        (Some(ErrorCode::NotFound), _) if plan.ask.is_some() && plan.invite.is_some() => (
            format!(
                "the peer does not take the invite to the tree {}: it has expired, is used up or \
                 withdrawn, or the peer has no such tree; it does not say which",
                tree.short()
            ),
            "another invite; or ask to be let in: the same ticket without `&invite=…`".to_owned(),
        ),
        (Some(ErrorCode::NotFound), _) => (
            format!(
                "the peer has no tree {}, or does not let this device read it: it does not say which",
                tree.short()
            ),
            format!(
                "`eidetica join` with a ticket asks to be let in; an admin of the tree can also grant \
                 this device a role at once: `eidetica grant {tree} {} read`",
                node.key()
            ),
        ),
        (Some(ErrorCode::Busy), _) => (could_not_sync(tree), "the same again in a while".to_owned()),
        (Some(ErrorCode::UnsupportedVersion), _) => (
            could_not_sync(tree),
            "update this program or the peer's, so that both speak the same version".to_owned(),
        ),
        (_, SyncError::Transport { address, source })
            if source.kind() == TransportErrorKind::WrongPeer && address.kind() == "https" =>
        {
            (
                could_not_sync(tree),
                format!(
                    "the certificate that `serve --tls-self-signed` names there, copied here, with \
                     `--tls-ca`; or, if the device there has another key, and rightly so, `eidetica \
                     forget {address}`"
                ),
            )
        }
        (_, SyncError::Transport { address, source })
            if source.kind() == TransportErrorKind::WrongPeer && route.peer.is_none() =>
        {
            (
                could_not_sync(tree),
                format!(
                    "ask whoever runs the server whether it has another key; if so, `eidetica forget \
                     {address}` and the same again"
                ),
            )
        }
        (_, SyncError::Transport { source, .. })
            if source.kind() == TransportErrorKind::WrongPeer =>
        {
            (
                could_not_sync(tree),
                "a fresh ticket: somebody else is at the address now".to_owned(),
            )
        }
        (_, SyncError::Transport { source, .. })
            if source.kind() == TransportErrorKind::UnusableAddress =>
        {
            (
                could_not_sync(tree),
                "another address; a server that was started without HTTP or iroh does not sync over \
                 it either"
                    .to_owned(),
            )
        }
        (_, SyncError::Transport { .. }) => (
            could_not_sync(tree),
            "see that the peer runs `eidetica serve` and can be reached; its addresses change when \
             it restarts, a fresh ticket has them"
                .to_owned(),
        ),
        (_, SyncError::Store(_)) => (
            could_not_sync(tree),
            "the same again once the cause is gone: it goes on from what is stored".to_owned(),
        ),
        _ => (
            could_not_sync(tree),
            "another peer that has the tree; what was stored is sound and stays".to_owned(),
        ),
    };
    Failure::new(text).caused_by(error).hint(hint)
}

fn could_not_sync(tree: TreeId) -> String {
    format!("could not sync the tree {}", tree.short())
}

impl Done {
    /// Prints how it went: as JSON on stdout, or for people on stderr.
    pub(crate) fn print(&self, console: &Console, tree: TreeId, how: &How) -> Result<()> {
        if !how.json {
            console.note(self.summary());
            return Ok(());
        }
        let mut out = console.out();
        out.json(&json!({
            "tree": tree.to_string(),
            "transport": self.route.address.kind(),
            "address": self.route.address,
            "outcome": self.report.outcome,
            "seconds": self.seconds,
            "stats": self.report.stats,
        }))?;
        out.flush()
    }

    fn summary(&self) -> String {
        let Report { outcome, stats } = &self.report;
        let outcome = match outcome {
            SyncOutcome::Equal => "equal with the peer",
            SyncOutcome::Pulled => "received all that the peer has",
            SyncOutcome::PeerIsReadOnly => {
                "received all that the peer has; it does not let this device write"
            }
            SyncOutcome::PeerMayNotRead => {
                "received all that the peer has; it may not read what is new here"
            }
            SyncOutcome::MovedOn => "exchanged all; one side went on writing meanwhile: sync again",
            SyncOutcome::PeerLacksParents => {
                "the peer could not store all that it was sent: sync again"
            }
        };
        format!(
            "{outcome}: received {} ({}), sent {} ({}), {} over {} in {:.2} s",
            count(stats.received, "entry", "entries"),
            bytes(stats.received_bytes + stats.response_bytes),
            count(stats.sent, "entry", "entries"),
            bytes(stats.sent_bytes + stats.request_bytes),
            count(stats.round_trips.into(), "round trip", "round trips"),
            self.route.address.kind(),
            self.seconds
        )
    }
}

/// Says that an admin has to decide, and how.
pub(crate) fn pending(key: &PublicKey, plan: &Plan<'_>, route: &Route) -> Failure {
    let hint = "the same again when that is done; `eidetica join` with --wait waits for it";
    Failure::pending(whose_turn(key, plan, route)).hint(hint)
}

/// Says what an admin has to do.
pub(crate) fn whose_turn(key: &PublicKey, plan: &Plan<'_>, route: &Route) -> String {
    let role = plan.ask.as_ref().and_then(|ask| ask.role);
    let role = role_name(role.unwrap_or(Role::Read));
    let (asked, which) = match route.peer {
        Some(peer) => (format!("{peer} at {}", route.address), peer.short()),
        None => (route.address.to_string(), "that was asked".to_owned()),
    };
    format!(
        "an admin of the tree {tree} has to let this device in first\n  \
         asked: {asked}, which does not tell whether it has the tree\n  \
         this device: {key}\n  \
         an admin runs on the device {which}: eidetica approve {tree} {short_key}\n  \
         or on a device of its own: eidetica grant {tree} {key} {role}",
        tree = plan.tree.short(),
        short_key = key.short()
    )
}

/// Says that an admin does not want it.
pub(crate) fn rejected(plan: &Plan<'_>, route: &Route) -> Failure {
    Failure::rejected(format!(
        "an admin of the tree {} does not let this device in; {} says so",
        plan.tree.short(),
        route.address
    ))
    .hint("talk to an admin: one who changes their mind grants this device's key a role")
}

/// Prints for scripts that there is nothing to be had yet.
pub(crate) fn print_state(
    console: &Console,
    state: &str,
    plan: &Plan<'_>,
    route: &Route,
) -> Result<()> {
    if !plan.how.json {
        return Ok(());
    }
    let mut out = console.out();
    out.json(&json!({
        "tree": plan.tree.to_string(),
        "transport": route.address.kind(),
        "address": route.address,
        "state": state,
    }))?;
    out.flush()
}
