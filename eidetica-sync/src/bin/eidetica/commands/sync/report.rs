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

/// Describes why a sync failed, and what helps.
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
                "the peer refused the invite to the tree {}: it has expired, was used up or withdrawn, \
                 or the peer has no such tree; it does not say which",
                tree.short()
            ),
            "get another invite, or ask to join with the same ticket without `&invite=…`"
                .to_owned(),
        ),
        (Some(ErrorCode::NotFound), _) => (
            format!(
                "the peer has no tree {} or does not let this device read it; it does not say which",
                tree.short()
            ),
            format!(
                "ask to join: `eidetica join` with a ticket; or an admin of the tree grants this \
                 device a role: `eidetica grant {tree} {} read`",
                node.key()
            ),
        ),
        (Some(ErrorCode::Busy), _) => (
            could_not_sync(tree),
            "run the command again later".to_owned(),
        ),
        (Some(ErrorCode::UnsupportedVersion), _) => (
            could_not_sync(tree),
            "update this program or the peer's, so that both support a common version".to_owned(),
        ),
        (_, SyncError::Transport { address, source })
            if source.kind() == TransportErrorKind::WrongPeer && address.kind() == "https" =>
        {
            (
                could_not_sync(tree),
                format!(
                    "copy the certificate that `serve --tls-self-signed` prints there, and pass it with \
                     `--tls-ca`; if the device legitimately has another key, run `eidetica forget \
                     {address}`"
                ),
            )
        }
        (_, SyncError::Transport { address, source })
            if source.kind() == TransportErrorKind::WrongPeer && route.peer.is_none() =>
        {
            (
                could_not_sync(tree),
                format!(
                    "if the server legitimately has another key, run `eidetica forget {address}`, then \
                     this command again"
                ),
            )
        }
        (_, SyncError::Transport { source, .. })
            if source.kind() == TransportErrorKind::WrongPeer =>
        {
            (
                could_not_sync(tree),
                "get a fresh ticket; another peer answers at this address".to_owned(),
            )
        }
        (_, SyncError::Transport { source, .. })
            if source.kind() == TransportErrorKind::UnusableAddress =>
        {
            (
                could_not_sync(tree),
                "use another address; a server that was started without HTTP or iroh cannot sync \
                 over it either"
                    .to_owned(),
            )
        }
        (_, SyncError::Transport { .. }) => (
            could_not_sync(tree),
            "check that the peer runs `eidetica serve` and is reachable; its addresses can change \
             when it restarts, and a fresh ticket has them"
                .to_owned(),
        ),
        (_, SyncError::Store(_)) => (
            could_not_sync(tree),
            "run the command again once the cause is fixed; it continues from what is stored"
                .to_owned(),
        ),
        _ => (
            could_not_sync(tree),
            "sync with another peer; the entries stored so far are valid and stay".to_owned(),
        ),
    };
    Failure::new(text).caused_by(error).hint(hint)
}

fn could_not_sync(tree: TreeId) -> String {
    format!("could not sync the tree {}", tree.short())
}

impl Done {
    /// Prints the result: as JSON on stdout, or for people on stderr.
    pub(crate) fn print(&self, console: &Console, tree: TreeId, how: &How) -> Result<()> {
        if !how.json {
            console.note(self.summary());
            return Ok(());
        }
        let mut out = console.out();
        out.json(&json!({
            "tree": tree.to_string(),
            "transport": self.route.address().kind(),
            "address": self.route.address(),
            "outcome": self.report.outcome,
            "seconds": self.seconds,
            "stats": self.report.stats,
        }))?;
        out.flush()
    }

    fn summary(&self) -> String {
        let Report { outcome, stats, .. } = &self.report;
        let outcome = match outcome {
            SyncOutcome::Equal => "in sync with the peer",
            SyncOutcome::Pulled => "received everything the peer has",
            SyncOutcome::PeerIsReadOnly => {
                "received everything the peer has; it does not let this device write"
            }
            SyncOutcome::PeerMayNotRead => {
                "received everything the peer has; it may not read the new entries here"
            }
            SyncOutcome::MovedOn => "exchanged everything, but one side kept writing; sync again",
            SyncOutcome::PeerLacksParents => "the peer could not store every entry; sync again",
        };
        format!(
            "{outcome}: received {} ({}), sent {} ({}), {} over {} in {:.2} s",
            count(stats.received, "entry", "entries"),
            bytes(stats.received_bytes + stats.response_bytes),
            count(stats.sent, "entry", "entries"),
            bytes(stats.sent_bytes + stats.request_bytes),
            count(stats.round_trips.into(), "round trip", "round trips"),
            self.route.address().kind(),
            self.seconds
        )
    }
}

/// Describes a pending request.
pub(crate) fn pending(key: &PublicKey, plan: &Plan<'_>, route: &Route) -> Failure {
    let hint = "run the command again after that, or use `eidetica join --wait`";
    Failure::pending(whose_turn(key, plan, route)).hint(hint)
}

/// Describes what an admin has to do.
pub(crate) fn whose_turn(key: &PublicKey, plan: &Plan<'_>, route: &Route) -> String {
    let role = plan.ask.as_ref().and_then(|ask| ask.role);
    let role = role_name(role.unwrap_or(Role::Read));
    let (asked, which) = match route.peer {
        Some(peer) => (format!("{peer} at {}", route.address()), peer.short()),
        None => (route.address().to_string(), "that was asked".to_owned()),
    };
    format!(
        "an admin of the tree {tree} must approve this device\n  \
         asked: {asked}, which does not say whether it has the tree\n  \
         this device: {key}\n  \
         to approve on the device {which}: eidetica approve {tree} {short_key}\n  \
         to approve on another admin's device: eidetica grant {tree} {key} {role}",
        tree = plan.tree.short(),
        short_key = key.short()
    )
}

/// Describes a rejected request.
pub(crate) fn rejected(plan: &Plan<'_>, route: &Route) -> Failure {
    Failure::rejected(format!(
        "an admin of the tree {} has rejected this device's request, according to {}",
        plan.tree.short(),
        route.address()
    ))
    .hint("ask an admin to grant a role to this device's key")
}

/// Prints the state of an undecided or rejected request as JSON, if that was asked for.
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
        "transport": route.address().kind(),
        "address": route.address(),
        "state": state,
    }))?;
    out.flush()
}
