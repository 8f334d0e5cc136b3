//! The JSON interface for people and scripts, who see only what anyone may read.
//!
//! ```text
//! GET /health/live
//! GET /health/ready
//! GET /eidetica/v2/health
//! GET /eidetica/v2/trees
//! GET /eidetica/v2/trees/after/<tree>
//! GET /eidetica/v2/trees/<tree>/tips
//! GET /eidetica/v2/trees/<tree>/entries/<entry>
//! ```

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use eidetica_dag::{Arrival, Body, EntryId, PublicKey, Role, SignedEntry, TreeId, current_access};
use eidetica_proto::PROTOCOL_VERSION;
use eidetica_proto::joining::source_of;
use eidetica_proto::turns::Asker;
use eidetica_transport_http::{HttpTransport, JsonApi, JsonApiError};
use serde::Serialize;

use crate::membership::readers::ReaderIndex;
use crate::server::trees::tree_name;
use crate::server::work_limit::WorkLimit;
use crate::store::{Snapshot, Store, StoreError};

/// Most trees in one list, and most tips of one tree: a person reads no more, and a script asks for the
/// next ones.
const TREES_SHOWN_MAX: usize = 256;
const TIPS_SHOWN_MAX: usize = 256;

/// Answers from a store.
pub(crate) struct StoreApi {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) key: PublicKey,
    pub(crate) readers: Arc<ReaderIndex>,
    pub(crate) reads: Arc<WorkLimit>,
}

/// Returns a transport as the HTTP transport, if it is one.
pub(crate) fn http_of(transport: &dyn Any) -> Option<&HttpTransport> {
    transport.downcast_ref()
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
    async fn get(&self, remote: &str, path: &str) -> Result<String, JsonApiError> {
        let question = Question::parse(path).ok_or(JsonApiError::NotFound)?;
        if question == Question::Live {
            // It asks nothing of the store, and a crowd at the store must not look like a dead process.
            return json(&Status { status: "live" }).map_err(|_| JsonApiError::Internal);
        }
        let (store, readers, key) = (self.store.clone(), self.readers.clone(), self.key);
        let work = move || answer(&*store, &readers, key, question);
        let asker = Asker {
            network: source_of("http", remote).into(),
            key: None,
        };
        let answer = self.reads.run(&asker, work).await;
        let answer = answer.map_err(|_| JsonApiError::Busy)?;
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
    /// Those after this one, or all.
    Trees(Option<TreeId>),
    Tips(TreeId),
    Entry(TreeId, EntryId),
}

impl Question {
    fn parse(path: &str) -> Option<Self> {
        match *path.split('/').collect::<Vec<_>>() {
            ["health", "live"] => Some(Self::Live),
            ["health", "ready"] => Some(Self::Ready),
            ["health"] => Some(Self::Health),
            ["trees"] => Some(Self::Trees(None)),
            ["trees", "after", tree] => Some(Self::Trees(Some(tree.parse().ok()?))),
            ["trees", tree, "tips"] => Some(Self::Tips(tree.parse().ok()?)),
            ["trees", tree, "entries", entry] => {
                Some(Self::Entry(tree.parse().ok()?, entry.parse().ok()?))
            }
            _ => None,
        }
    }
}

fn answer(
    store: &dyn Store,
    readers: &ReaderIndex,
    key: PublicKey,
    question: Question,
) -> Result<String, Failure> {
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
        Question::Trees(after) => {
            let public = readers.readable(None)?.into_iter();
            let mut left = public.skip_while(|tree| Some(*tree) <= after);
            let mut trees = Vec::new();
            for tree in left.by_ref().take(TREES_SHOWN_MAX) {
                match public_tree(store, tree) {
                    Ok(snapshot) => trees.push(tree_info(tree, &snapshot)?),
                    Err(Failure::NotFound) => {}
                    Err(failure) => return Err(failure),
                }
            }
            let next = left.next().and_then(|_| trees.last());
            let next = next.map(|last| format!("trees/after/{}", last.tree));
            json(&Trees { trees, next })
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
    /// The path of the next ones, if there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// One tree, with some of its tips, ascending; most trees have few.
#[derive(Serialize)]
struct TreeInfo {
    tree: String,
    name: String,
    entries: u64,
    tip_count: u64,
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
    let mut tips = Vec::new();
    for tip in snapshot.tips_from(Arrival(0), TIPS_SHOWN_MAX)? {
        tips.push(snapshot.node(tip)?.id);
    }
    tips.sort_unstable();
    Ok(TreeInfo {
        tree: tree.to_string(),
        name: tree_name(snapshot)?,
        entries: snapshot.entry_count().into(),
        tip_count: snapshot.tip_count().into(),
        tips: tips.iter().map(ToString::to_string).collect(),
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
            ("trees".to_owned(), Some(Question::Trees(None))),
            (
                format!("trees/after/{id}"),
                Some(Question::Trees(Some(tree))),
            ),
            ("trees/after/xyz".to_owned(), None),
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
            "{{\"tree\":\"{public}\",\"name\":\"notes\",\"entries\":2,\"tip_count\":1,\"tips\":[\"{entry}\"]}}"
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
        // More than one answer lists.
        let mut shown = Vec::from([public]);
        for n in 0..TREES_SHOWN_MAX {
            let readers = vec![AccessChange::grant(Subject::Anyone, Role::Read)];
            let tree = node.create_tree(format!("{n}"), readers).await;
            shown.push(tree.expect("stored"));
        }
        shown.sort();
        let (mut listed, mut path) = (Vec::new(), Some("trees".to_owned()));
        while let Some(at) = path {
            let (status, list) = get(server, &at).await;
            assert_eq!(status, 200);
            let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
            let trees = list["trees"].as_array().expect("a list");
            assert!(trees.len() <= TREES_SHOWN_MAX);
            listed.extend(
                trees
                    .iter()
                    .map(|tree| tree["tree"].as_str().expect("an id").to_owned()),
            );
            path = list["next"].as_str().map(str::to_owned);
        }
        let shown: Vec<String> = shown.iter().map(ToString::to_string).collect();
        assert_eq!(listed, shown);
        node.shutdown().await.expect("closes");
    }
}
