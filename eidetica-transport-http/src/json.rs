//! Answers for people and scripts.

use eidetica_proto::PROTOCOL_VERSION;
use eidetica_proto::transport::{InspectError, Inspection, Question};
use hyper::StatusCode;
use serde::Serialize;

/// An answer in JSON.
pub(crate) struct Json {
    pub(crate) status: StatusCode,
    pub(crate) text: Vec<u8>,
    /// The method that the path takes, if another was used.
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
                tracing::error!(%error, "an answer cannot be written as JSON");
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
        let text = format!("this path takes {allow} only");
        let json = Self::error(StatusCode::METHOD_NOT_ALLOWED, &text);
        Self {
            allow: Some(allow),
            ..json
        }
    }

    pub(crate) fn other_version(version: &str) -> Self {
        let error =
            format!("version {PROTOCOL_VERSION} of the protocol is spoken here, not {version:?}");
        let refusal = Refusal {
            error: &error,
            protocol_versions: Some([PROTOCOL_VERSION]),
        };
        Self::new(StatusCode::NOT_FOUND, &refusal)
    }

    pub(crate) fn inspection(answer: Result<Inspection, InspectError>) -> Self {
        match answer {
            Ok(inspection) => Self::new(StatusCode::OK, &inspection),
            Err(InspectError::NotFound) => Self::not_found(),
            Err(error @ InspectError::Internal) => {
                Self::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
            }
        }
    }
}

/// Returns the question that a path asks, its version taken off.
pub(crate) fn question(path: &str) -> Option<Question> {
    let mut parts = path.split('/');
    let question = match (parts.next()?, parts.next(), parts.next(), parts.next()) {
        ("health", None, None, None) => Question::Health,
        ("trees", None, None, None) => Question::Trees,
        ("trees", Some(tree), Some("tips"), None) => Question::Tips(tree.parse().ok()?),
        ("trees", Some(tree), Some("entries"), Some(entry)) => {
            Question::Entry(tree.parse().ok()?, entry.parse().ok()?)
        }
        _ => return None,
    };
    parts.next().is_none().then_some(question)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_asks_its_question() {
        let id = "ab".repeat(32);
        let tree = id.parse().expect("an id");
        let entry = id.parse().expect("an id");
        let asks = |path: &str, question_asked| {
            assert_eq!(question(path), Some(question_asked), "{path}");
        };
        asks("health", Question::Health);
        asks("trees", Question::Trees);
        asks(&format!("trees/{id}/tips"), Question::Tips(tree));
        asks(
            &format!("trees/{id}/entries/{id}"),
            Question::Entry(tree, entry),
        );
    }

    #[test]
    fn other_paths_ask_nothing() {
        let id = "ab".repeat(32);
        for path in [
            "".to_owned(),
            "health/".to_owned(),
            "trees/".to_owned(),
            "trees/xyz/tips".to_owned(),
            format!("trees/{id}"),
            format!("trees/{id}/tips/"),
            format!("trees/{id}/entries"),
            format!("trees/{id}/entries/{id}/"),
            format!("trees/{id}/entries/{id}/x"),
        ] {
            assert_eq!(question(&path), None, "{path}");
        }
    }
}
