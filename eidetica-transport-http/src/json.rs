//! JSON answers and refusals.

use eidetica_proto::PROTOCOL_VERSION;
use hyper::StatusCode;
use serde::Serialize;

use crate::json_api::JsonApiError;

/// An answer in JSON.
pub(crate) struct Json {
    pub(crate) status: StatusCode,
    pub(crate) text: Vec<u8>,
    /// The method that the path accepts, if the request used another.
    pub(crate) allow: Option<&'static str>,
}

/// Why there is no answer.
#[derive(Serialize)]
struct Refusal<'a> {
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol_versions: Option<[u16; 1]>,
}

impl Json {
    fn new(status: StatusCode, content: &impl Serialize) -> Self {
        match serde_json::to_vec(content) {
            Ok(mut text) => {
                text.push(b'\n');
                Self {
                    status,
                    text,
                    allow: None,
                }
            }
            Err(error) => {
                tracing::error!(%error, "an answer could not be written as JSON");
                Self {
                    status: StatusCode::INTERNAL_SERVER_ERROR,
                    text: Vec::new(),
                    allow: None,
                }
            }
        }
    }

    pub(crate) fn error(status: StatusCode, error: &str) -> Self {
        let refusal = Refusal {
            error,
            protocol_versions: None,
        };
        Self::new(status, &refusal)
    }

    pub(crate) fn not_found() -> Self {
        Self::error(StatusCode::NOT_FOUND, "not found")
    }

    pub(crate) fn wrong_method(allow: &'static str) -> Self {
        let text = format!("this path accepts only {allow}");
        let json = Self::error(StatusCode::METHOD_NOT_ALLOWED, &text);
        Self {
            allow: Some(allow),
            ..json
        }
    }

    pub(crate) fn other_version(version: &str) -> Self {
        let error = format!(
            "this server speaks version {PROTOCOL_VERSION} of the protocol, not {version:?}"
        );
        let refusal = Refusal {
            error: &error,
            protocol_versions: Some([PROTOCOL_VERSION]),
        };
        Self::new(StatusCode::NOT_FOUND, &refusal)
    }

    /// Wraps the answer of a [`JsonApi`](crate::JsonApi).
    pub(crate) fn answer(answer: Result<String, JsonApiError>) -> Self {
        match answer {
            Ok(text) => Self {
                status: StatusCode::OK,
                text: text.into(),
                allow: None,
            },
            Err(JsonApiError::NotFound) => Self::not_found(),
            Err(error @ (JsonApiError::Unavailable | JsonApiError::Busy)) => {
                Self::error(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())
            }
            Err(error @ JsonApiError::Internal) => {
                Self::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
            }
        }
    }
}
