//! What is told about a sync: how it went, or why it failed and what helps.

use eidetica_sync::dag::TreeId;
use eidetica_sync::proto::{ErrorCode, Report, SyncFault, SyncOutcome, TransportErrorKind};
use eidetica_sync::{Node, SyncError};
use serde_json::json;

use super::{Done, Failed, Plan};
use crate::args::How;
use crate::console::Console;
use crate::failure::{Failure, Result};
use crate::output::{bytes, count};

/// Says why a sync failed and what helps.
pub(super) fn failure(node: &Node, plan: &Plan<'_>, failed: Failed) -> Failure {
    let Failed { route, error } = failed;
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
