//! What the failure of an exchange means to the coordinator.

use eidetica_proto::coordinator::{Outcome, PeerCursor, UnreachableReason};
use eidetica_proto::{Cursor, ErrorCode, PeerFault, SyncFault, TransportErrorKind, WireError};

use crate::client::error::SyncError;

/// How long a busy peer is left alone that does not say, in milliseconds.
const BUSY_MS: u64 = 1_000;

/// Returns a place in a peer's log as the coordinator keeps it.
pub(super) fn peer_cursor(cursor: Cursor) -> Option<PeerCursor> {
    let cursor = (!cursor.is_none()).then_some(cursor)?;
    PeerCursor::new(cursor.as_bytes())
}

/// Returns the outcome of an exchange that ended with an error.
pub(super) fn of_error(error: &SyncError) -> Outcome {
    match error {
        SyncError::Transport { source, .. } => {
            let retry_after = source.retry_after();
            let retry_ms = retry_after.map_or(BUSY_MS, |wait| wait.as_millis() as u64);
            of_transport(source.kind(), retry_ms)
        }
        SyncError::Peer {
            source: SyncFault::Refused(refusal),
            ..
        } => of_refusal(refusal),
        // An answer that ends too soon may have been cut by what passed it on, such as a proxy.
        SyncError::Peer {
            source: SyncFault::Peer(PeerFault::Incomplete),
            ..
        } => Outcome::Failed,
        // It broke the protocol: asking again at once does not help.
        SyncError::Peer { .. } => Outcome::Broken,
        SyncError::NoAddress => Outcome::Unreachable(UnreachableReason::NoAddress),
        SyncError::Store(_) | SyncError::TooManyFollowed(_) | SyncError::NotConfirmed(_) => {
            Outcome::Failed
        }
        SyncError::Closed => Outcome::Abandoned,
    }
}

fn of_transport(kind: TransportErrorKind, retry_ms: u64) -> Outcome {
    use UnreachableReason as Reason;
    match kind {
        TransportErrorKind::Busy => Outcome::RetryAfter(retry_ms),
        TransportErrorKind::Refused | TransportErrorKind::Unreachable => {
            Outcome::Unreachable(Reason::NoConnection)
        }
        TransportErrorKind::UnusableAddress => Outcome::Unreachable(Reason::NoAddress),
        TransportErrorKind::TimedOut => Outcome::Unreachable(Reason::NoAnswer),
        TransportErrorKind::ConnectionLost => Outcome::Unreachable(Reason::ConnectionLost),
        TransportErrorKind::WrongPeer => Outcome::Unreachable(Reason::WrongPeer),
        TransportErrorKind::ProtocolMismatch | TransportErrorKind::FrameTooLarge => {
            Outcome::Unreachable(Reason::BrokenPeer)
        }
        TransportErrorKind::Closed => Outcome::Abandoned,
        // A proxy takes not even the smallest request, until its limit is raised; or it is the fault of
        // this machine, or of a kind that this version does not know.
        _ => Outcome::Failed,
    }
}

fn of_refusal(refusal: &WireError) -> Outcome {
    match refusal.code {
        ErrorCode::NotFound => Outcome::NotHere,
        ErrorCode::Busy => Outcome::RetryAfter(refusal.retry_after_ms.map_or(BUSY_MS, u64::from)),
        ErrorCode::Internal | ErrorCode::StaleProof => Outcome::Failed,
        code => refused(code),
    }
}

fn refused(code: ErrorCode) -> Outcome {
    Outcome::Refused { code, cursor: None }
}

#[cfg(test)]
mod tests {
    use eidetica_proto::{Address, TransportError};

    use super::*;

    fn address() -> Address {
        "memory:a".parse().expect("an address")
    }

    #[test]
    fn every_refusal_has_its_outcome() {
        let of = |code| {
            let refusal = WireError {
                retry_after_ms: Some(70),
                ..WireError::new(code, "no")
            };
            of_error(&SyncError::peer(&address(), refusal))
        };
        assert_eq!(of(ErrorCode::NotFound), Outcome::NotHere);
        assert_eq!(of(ErrorCode::Busy), Outcome::RetryAfter(70));
        assert_eq!(of(ErrorCode::Internal), Outcome::Failed);
        assert_eq!(of(ErrorCode::ReadOnly), refused(ErrorCode::ReadOnly));
        assert_eq!(of(ErrorCode::Unsupported), refused(ErrorCode::Unsupported));
    }

    #[test]
    fn what_may_go_well_another_time_is_tried_again() {
        let of = |fault: PeerFault| of_error(&SyncError::peer(&address(), fault));
        assert_eq!(of(PeerFault::Incomplete), Outcome::Failed);
        assert_eq!(of(PeerFault::BadList("no order")), Outcome::Broken);
    }

    #[test]
    fn every_failure_of_a_transport_has_its_outcome() {
        let of = |kind| {
            of_error(&SyncError::transport(
                &address(),
                TransportError::new(kind, ""),
            ))
        };
        let unreachable = Outcome::Unreachable;
        let reasons = [
            (TransportErrorKind::Refused, UnreachableReason::NoConnection),
            (TransportErrorKind::TimedOut, UnreachableReason::NoAnswer),
            (
                TransportErrorKind::ConnectionLost,
                UnreachableReason::ConnectionLost,
            ),
            (TransportErrorKind::WrongPeer, UnreachableReason::WrongPeer),
            (
                TransportErrorKind::ProtocolMismatch,
                UnreachableReason::BrokenPeer,
            ),
        ];
        for (kind, reason) in reasons {
            assert_eq!(of(kind), unreachable(reason));
        }
        assert_eq!(of(TransportErrorKind::Busy), Outcome::RetryAfter(BUSY_MS));
        assert_eq!(of(TransportErrorKind::Closed), Outcome::Abandoned);
    }
}
