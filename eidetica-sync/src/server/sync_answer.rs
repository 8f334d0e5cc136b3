//! Answers a peer that asks for what it lacks of a tree.

use std::sync::Arc;

use eidetica_dag::Role;
use eidetica_proto::answer::{SyncAnswer, answer_sync, check_access};
use eidetica_proto::message::SyncTree;
use eidetica_proto::turns::Asker;
use eidetica_proto::{Caller, FrameStream};

use crate::server::refused::Refused;
use crate::server::work_limit::WorkLimit;
use crate::store::Store;
use crate::transport::frame_streams::{EntrySource, OutgoingMessage};
use crate::transport::packing::{Answers, Packing};

/// Checks that the caller may read the tree, then sends the entries that it lacks.
pub(super) async fn sync_tree(
    store: Arc<dyn Store>,
    reads: &WorkLimit,
    answers: &Arc<Answers>,
    caller: &Caller,
    sync: SyncTree,
) -> Result<FrameStream, Refused> {
    let key = caller.key;
    let source = EntrySource {
        store: store.clone(),
        tree: sync.tree,
    };
    let answer = move || {
        let snapshot = store.snapshot(sync.tree)?;
        check_access(&*snapshot, key.as_ref(), Role::Read)?;
        Ok::<_, Refused>(answer_sync(&*snapshot, store.log_id(), &sync)?)
    };
    let asker = Asker::of(caller);
    let SyncAnswer { header, entries } = reads.run(&asker, answer).await??;
    let entries = entries.map(|entries| (entries, source));
    let message = OutgoingMessage { header, entries };
    Ok(message.answer(Packing::InTurn(answers.clone(), asker)))
}
