//! The JSON interface for people and scripts, who see only what anyone may read.
//!
//! ```text
//! GET /health/live
//! GET /health/ready
//! GET /eidetica/v2/health
//! GET /eidetica/v2/trees
//! GET /eidetica/v2/trees/<tree>/tips
//! GET /eidetica/v2/trees/<tree>/entries/<entry>
//! ```

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use eidetica_dag::{Body, EntryId, PublicKey, Role, SignedEntry, TreeId, current_access, tip_ids};
use eidetica_proto::PROTOCOL_VERSION;
use eidetica_transport_http::{HttpTransport, JsonApi, JsonApiError};
use serde::Serialize;

use crate::platform::blocking;
use crate::server::trees::tree_name;
use crate::store::{Snapshot, Store, StoreError};

/// Answers from a store.
struct StoreApi {
    store: Arc<dyn Store>,
    key: PublicKey,
}

/// Serves the JSON interface of a node with this store and key, if `transport` is HTTP.
pub(crate) fn attach(transport: &dyn Any, store: &Arc<dyn Store>, key: PublicKey) {
    if let Some(http) = transport.downcast_ref::<HttpTransport>() {
        http.set_json_api(Arc::new(StoreApi {
            store: store.clone(),
            key,
        }));
    }
}

enum Failure {
    NotFound,
    NotReady(StoreError),
    Store(StoreError),
    Json(serde_json::Error),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

#[async_trait]
impl JsonApi for StoreApi {
    async fn get(&self, path: &str) -> Result<String, JsonApiError> {
        let question = Question::parse(path).ok_or(JsonApiError::NotFound)?;
        let (store, key) = (self.store.clone(), self.key);
        let answer = blocking::run(move || answer(&*store, key, question)).await;
        answer.map_err(|failure| match failure {
            Failure::NotFound => JsonApiError::NotFound,
            Failure::NotReady(error) => {
                tracing::warn!(%error, "the node is not ready");
                JsonApiError::Unavailable
            }
            Failure::Store(error) => {
                tracing::error!(%error, "the store failed to answer a JSON request");
                JsonApiError::Internal
            }
            Failure::Json(error) => {
                tracing::error!(%error, "an answer could not be written as JSON");
                JsonApiError::Internal
            }
        })
    }
}

/// What a path asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    /// Does the process answer?
    Live,
    /// Can it use its store?
    Ready,
    Health,
    Trees,
    Tips(TreeId),
    Entry(TreeId, EntryId),
}

impl Question {
    fn parse(path: &str) -> Option<Self> {
        match *path.split('/').collect::<Vec<_>>() {
            ["health", "live"] => Some(Self::Live),
            ["health", "ready"] => Some(Self::Ready),
            ["health"] => Some(Self::Health),
            ["trees"] => Some(Self::Trees),
            ["trees", tree, "tips"] => Some(Self::Tips(tree.parse().ok()?)),
            ["trees", tree, "entries", entry] => {
                Some(Self::Entry(tree.parse().ok()?, entry.parse().ok()?))
            }
            _ => None,
        }
    }
}

fn answer(store: &dyn Store, key: PublicKey, question: Question) -> Result<String, Failure> {
    match question {
        Question::Live => json(&Status { status: "live" }),
        Question::Ready => {
            let checked = match store.shared() {
                Some(shared) => shared.check(),
                None => store.get("health").map(drop),
            };
            checked.map_err(Failure::NotReady)?;
            json(&Status { status: "ready" })
        }
        Question::Health => json(&Health {
            status: "ok",
            protocol_versions: vec![PROTOCOL_VERSION],
            key: key.to_string(),
        }),
        Question::Trees => {
            let mut trees = Vec::new();
            for tree in store.trees()? {
                match public_tree(store, tree) {
                    Ok(snapshot) => trees.push(tree_info(tree, &snapshot)?),
                    Err(Failure::NotFound) => {}
                    Err(failure) => return Err(failure),
                }
            }
            json(&Trees { trees })
        }
        Question::Tips(tree) => json(&tree_info(tree, &public_tree(store, tree)?)?),
        Question::Entry(tree, entry) => {
            let snapshot = public_tree(store, tree)?;
            let arrival = snapshot.arrival(&entry)?.ok_or(Failure::NotFound)?;
            json(&entry_info(&snapshot.entry(arrival)?))
        }
    }
}

/// Writes one line of JSON.
fn json(content: &impl Serialize) -> Result<String, Failure> {
    let mut text = serde_json::to_string(content).map_err(Failure::Json)?;
    text.push('\n');
    Ok(text)
}

#[derive(Serialize)]
struct Status {
    status: &'static str,
}

/// The state of the node. A node that is not well gives no answer.
#[derive(Serialize)]
struct Health {
    status: &'static str,
    protocol_versions: Vec<u16>,
    key: String,
}

/// The trees that anyone may read, ascending by id.
#[derive(Serialize)]
struct Trees {
    trees: Vec<TreeInfo>,
}

/// One tree, with its tips ascending.
#[derive(Serialize)]
struct TreeInfo {
    tree: String,
    name: String,
    entries: u64,
    tips: Vec<String>,
}

/// One entry. `text` is the payload, if it is UTF-8.
#[derive(Serialize)]
struct EntryInfo {
    id: String,
    tree: String,
    parents: Vec<String>,
    height: u64,
    timestamp_ms: u64,
    author: String,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    payload_bytes: u64,
}

/// Opens a tree that anyone may read.
fn public_tree(store: &dyn Store, tree: TreeId) -> Result<Snapshot, Failure> {
    let snapshot = store.snapshot(tree)?;
    match current_access(&*snapshot)?.allows(None, Role::Read) {
        true => Ok(snapshot),
        false => Err(Failure::NotFound),
    }
}

fn tree_info(tree: TreeId, snapshot: &Snapshot) -> Result<TreeInfo, StoreError> {
    Ok(TreeInfo {
        tree: tree.to_string(),
        name: tree_name(snapshot)?,
        entries: snapshot.entry_count().into(),
        tips: tip_ids(&**snapshot)?
            .iter()
            .map(ToString::to_string)
            .collect(),
    })
}

fn entry_info(signed: &SignedEntry) -> EntryInfo {
    let entry = signed.entry();
    let (kind, payload) = match &entry.body {
        Body::Data(data) => ("data", data.as_ref()),
        Body::Access(_) => ("access", [].as_slice()),
        Body::Genesis(genesis) => ("genesis", genesis.name.as_bytes()),
        Body::Extension { bytes, .. } => ("extension", bytes.as_ref()),
    };
    EntryInfo {
        id: signed.id().to_string(),
        tree: signed.tree().to_string(),
        parents: entry.parents.iter().map(ToString::to_string).collect(),
        height: entry.height.into(),
        timestamp_ms: entry.timestamp_ms,
        author: entry.author.to_string(),
        kind,
        text: std::str::from_utf8(payload).ok().map(str::to_owned),
        payload_bytes: payload.len() as u64,
    }
}

#[cfg(test)]
mod tests {
    use eidetica_dag::{AccessChange, SecretKey, Subject};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::Node;
    use crate::store::MemoryStore;

    /// Returns the status and the body of a `GET`.
    async fn get(server: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(server).await.expect("connects");
        let root = if path.starts_with('/') {
            ""
        } else {
            "/eidetica/v2/"
        };
        let request =
            format!("GET {root}{path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sends");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("ends");
        let status = answer.split(' ').nth(1).expect("a status line");
        let body = answer.split_once("\r\n\r\n").expect("a head").1;
        (status.parse().expect("a number"), body.to_owned())
    }

    #[test]
    fn each_path_asks_its_question() {
        let id = "ab".repeat(32);
        let tree = id.parse().expect("an id");
        let entry = id.parse().expect("an id");
        for (path, question) in [
            ("health".to_owned(), Some(Question::Health)),
            ("health/live".to_owned(), Some(Question::Live)),
            ("health/ready".to_owned(), Some(Question::Ready)),
            ("trees".to_owned(), Some(Question::Trees)),
            (format!("trees/{id}/tips"), Some(Question::Tips(tree))),
            (
                format!("trees/{id}/entries/{id}"),
                Some(Question::Entry(tree, entry)),
            ),
            ("".to_owned(), None),
            ("health/".to_owned(), None),
            ("trees/".to_owned(), None),
            ("trees/xyz/tips".to_owned(), None),
            (format!("trees/{id}"), None),
            (format!("trees/{id}/tips/"), None),
            (format!("trees/{id}/entries"), None),
            (format!("trees/{id}/entries/{id}/"), None),
            (format!("trees/{id}/entries/{id}/x"), None),
        ] {
            assert_eq!(Question::parse(&path), question, "{path}");
        }
    }

    #[tokio::test]
    async fn a_node_over_http_shows_what_anyone_may_read() {
        let key = SecretKey::from_bytes(&[1; 32]);
        let http = HttpTransport::builder().bind(([127, 0, 0, 1], 0).into());
        let node = Node::builder(MemoryStore::new(), key.clone())
            .transport("web", http.build())
            .expect("the only transport")
            .start();
        node.accept_connections().await.expect("a free port");
        let (_, address) = node.get_all_server_addresses_async().await.remove(0);
        let server = address.value();

        let readers = vec![AccessChange::grant(Subject::Anyone, Role::Read)];
        let public = node.create_tree("notes", readers).await.expect("stored");
        let entry = node.append(public, "hello").await.expect("stored");
        let private = node.create_tree("diary", vec![]).await.expect("stored");
        let secret = node.append(private, "hidden").await.expect("stored");

        let health = format!(
            "{{\"status\":\"ok\",\"protocol_versions\":[2],\"key\":\"{}\"}}\n",
            key.public()
        );
        assert_eq!(get(server, "health").await, (200, health));
        for state in ["live", "ready"] {
            let (status, said) = get(server, &format!("/health/{state}")).await;
            assert_eq!((status, said.contains(state)), (200, true), "{said}");
        }
        let tips = format!(
            "{{\"tree\":\"{public}\",\"name\":\"notes\",\"entries\":2,\"tips\":[\"{entry}\"]}}"
        );
        let trees = format!("{{\"trees\":[{tips}]}}\n");
        assert_eq!(get(server, "trees").await, (200, trees));
        let path = format!("trees/{public}/tips");
        assert_eq!(get(server, &path).await, (200, format!("{tips}\n")));
        let (status, shown) = get(server, &format!("trees/{public}/entries/{entry}")).await;
        assert_eq!(status, 200);
        assert!(shown.contains("\"text\":\"hello\""), "{shown}");
        for hidden in [
            format!("trees/{private}/tips"),
            format!("trees/{private}/entries/{secret}"),
            format!("trees/{public}/entries/{secret}"),
        ] {
            let not_found = (404, "{\"error\":\"not found\"}\n".to_owned());
            assert_eq!(get(server, &hidden).await, not_found, "{hidden}");
        }
        node.shutdown().await.expect("closes");
    }
}
