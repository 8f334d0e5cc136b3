//! Answering peers: [`service`] authenticates a request and dispatches it, and each kind of answer has
//! a file of its own. What to answer is decided by [`eidetica_proto::answer`] and
//! [`eidetica_proto::joining`]; this room reads, writes and waits for them.

pub(crate) mod push;
pub(crate) mod refused;
pub(crate) mod request_auth;
pub(crate) mod request_limits;
pub(crate) mod service;
pub(crate) mod sync_answer;
pub(crate) mod trees;

use eidetica_dag::{Body, PublicKey, Role, SignedEntry, TreeId, current_access, tip_ids};
use eidetica_proto::PROTOCOL_VERSION;
use eidetica_proto::transport::{
    EntryInspection, InspectError, Inspection, Question, TreeInspection,
};

use crate::server::trees::tree_name;
use crate::store::{Snapshot, Store, StoreError};

/// Answers people, who see only what anyone may read.
fn inspect(
    store: &dyn Store,
    key: PublicKey,
    question: Question,
) -> Result<Inspection, InspectError> {
    let internal = |error: StoreError| {
        tracing::error!(%error, "the store failed while a question was answered");
        InspectError::Internal
    };
    let open_tree = |tree: TreeId| {
        let snapshot = store.snapshot(tree).map_err(internal)?;
        let access = current_access(&*snapshot).map_err(internal)?;
        if access.allows(None, Role::Read) {
            Ok(snapshot)
        } else {
            Err(InspectError::NotFound)
        }
    };
    match question {
        Question::Health => Ok(Inspection::Health {
            status: "ok",
            protocol_versions: vec![PROTOCOL_VERSION],
            key: key.to_string(),
        }),
        Question::Trees => {
            let mut trees = Vec::new();
            for tree in store.trees().map_err(internal)? {
                match open_tree(tree) {
                    Ok(snapshot) => {
                        trees.push(inspect_tree(tree, &snapshot).map_err(internal)?);
                    }
                    Err(InspectError::NotFound) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(Inspection::Trees { trees })
        }
        Question::Tips(tree) => inspect_tree(tree, &open_tree(tree)?)
            .map(Inspection::Tips)
            .map_err(internal),
        Question::Entry(tree, id) => {
            let snapshot = open_tree(tree)?;
            let at = snapshot
                .arrival(&id)
                .map_err(internal)?
                .ok_or(InspectError::NotFound)?;
            let entry = snapshot.entry(at).map_err(internal)?;
            Ok(Inspection::Entry(inspect_entry(&entry)))
        }
    }
}

fn inspect_tree(tree: TreeId, snapshot: &Snapshot) -> Result<TreeInspection, StoreError> {
    Ok(TreeInspection {
        tree: tree.to_string(),
        name: tree_name(snapshot)?,
        entries: snapshot.entry_count().into(),
        tips: tip_ids(&**snapshot)?
            .iter()
            .map(ToString::to_string)
            .collect(),
    })
}

fn inspect_entry(signed: &SignedEntry) -> EntryInspection {
    let entry = signed.entry();
    let (kind, payload) = match &entry.body {
        Body::Data(data) => ("data", data.as_ref()),
        Body::Access(_) => ("access", [].as_slice()),
        Body::Genesis(genesis) => ("genesis", genesis.name.as_bytes()),
        Body::Extension { bytes, .. } => ("extension", bytes.as_ref()),
    };
    EntryInspection {
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
