//! Why a request is not answered, and what the peer learns of it.

use eidetica_proto::answer::AnswerError;
use eidetica_proto::{ErrorCode, WireError};

use crate::store::StoreError;

/// When to ask again while a database cannot be reached, in milliseconds: a restart of it takes some
/// seconds.
const UNREACHABLE_RETRY_MS: u32 = 1_000;

/// Why a request is not answered.
#[derive(Clone)]
pub(crate) enum Refused {
    /// The peer gets this error.
    With(WireError),
    /// The connection broke, so there is no peer to answer.
    Gone,
}

impl From<WireError> for Refused {
    fn from(error: WireError) -> Self {
        Self::With(error)
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::With(store_failed(&error))
    }
}

/// Tells a peer that the store has failed: for now, if the fault is the connection to a database.
pub(super) fn store_failed(error: &StoreError) -> WireError {
    tracing::error!(%error, "the store failed while answering a peer");
    match error {
        StoreError::Unreachable { .. } => WireError {
            retry_after_ms: Some(UNREACHABLE_RETRY_MS),
            ..WireError::new(ErrorCode::Busy, "the store cannot be reached; retry later")
        },
        StoreError::Damaged { .. } => WireError::damaged(),
        _ => WireError::internal(),
    }
}

impl From<AnswerError<StoreError>> for Refused {
    fn from(error: AnswerError<StoreError>) -> Self {
        match error {
            AnswerError::Refuse(error) => Self::With(error),
            AnswerError::View(error) => error.into(),
        }
    }
}
