//! Why a request is not answered, and what the peer learns of it.

use eidetica_proto::WireError;
use eidetica_proto::answer::AnswerError;

use crate::store::StoreError;

/// Why a request is not answered.
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
        tracing::error!(%error, "the store failed while answering a peer");
        Self::With(WireError::internal())
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
