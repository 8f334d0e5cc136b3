//! The read-only JSON interface for people and scripts: what a program implements to serve it.

use async_trait::async_trait;

/// Answers read-only requests of people and scripts that speak no frames.
///
/// The server asks it for each `GET` below `/eidetica/v2/`, and for `/health/live` and `/health/ready`; see
/// [`HttpTransport::set_json_api`](crate::HttpTransport::set_json_api). It must show only what
/// anyone may read, because nothing proves who asks.
#[async_trait]
pub trait JsonApi: Send + Sync + 'static {
    /// Returns the JSON text at `path`, which is the part of the path after the version, such as
    /// `health`. `remote` is the address and the port from which the request came.
    ///
    /// # Errors
    /// [`JsonApiError`].
    async fn get(&self, remote: &str, path: &str) -> Result<String, JsonApiError>;
}

/// Why a [`JsonApi`] has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonApiError {
    /// There is nothing at the path, or not everyone may read it: the two look the same.
    #[error("not found")]
    NotFound,
    /// The program cannot answer for now.
    #[error("the node is not ready")]
    Unavailable,
    /// Too many ask at once.
    #[error("too many concurrent requests; retry later")]
    Busy,
    /// The program failed, through no fault of the caller.
    #[error("the node failed to answer")]
    Internal,
}
