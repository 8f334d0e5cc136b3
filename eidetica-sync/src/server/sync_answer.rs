//! Answers a peer that asks for entries: for what it lacks of a tree, or by their ids.

use std::sync::Arc;

use eidetica_dag::{Role, TreeId};
use eidetica_proto::answer::{AnswerError, SyncAnswer, answer_sync, check_access};
use eidetica_proto::message::{GetEntries, SyncTree};
use eidetica_proto::repair::answer_get;
use eidetica_proto::turns::Asker;
use eidetica_proto::{Caller, FrameStream};

use crate::server::refused::Refused;
use crate::server::work_limit::WorkLimit;
use crate::store::{Snapshot, Store, StoreError};
use crate::transport::frame_streams::{EntrySource, OutgoingMessage};
use crate::transport::packing::{Answers, Packing};

/// Sends the entries that the caller lacks.
pub(super) async fn sync_tree(
    store: Arc<dyn Store>,
    reads: &WorkLimit,
    answers: &Arc<Answers>,
    caller: &Caller,
    sync: SyncTree,
) -> Result<FrameStream, Refused> {
    let (tree, log) = (sync.tree, store.log_id());
    let choose = move |snapshot: &Snapshot| answer_sync(&**snapshot, log, &sync);
    answer((store, tree), reads, answers, caller, choose).await
}

/// Sends the entries that the caller names.
pub(super) async fn get_entries(
    store: Arc<dyn Store>,
    reads: &WorkLimit,
    answers: &Arc<Answers>,
    caller: &Caller,
    get: GetEntries,
) -> Result<FrameStream, Refused> {
    let tree = get.tree;
    let choose = move |snapshot: &Snapshot| {
        let (header, entries) = answer_get(&**snapshot, &get).map_err(AnswerError::View)?;
        let entries = Some(entries);
        Ok(SyncAnswer { header, entries })
    };
    answer((store, tree), reads, answers, caller, choose).await
}

/// Checks that the caller may read the tree, then sends what is chosen.
async fn answer(
    (store, tree): (Arc<dyn Store>, TreeId),
    reads: &WorkLimit,
    answers: &Arc<Answers>,
    caller: &Caller,
    choose: impl FnOnce(&Snapshot) -> Result<SyncAnswer, AnswerError<StoreError>> + Send + 'static,
) -> Result<FrameStream, Refused> {
    let key = caller.key;
    let source = EntrySource {
        store: store.clone(),
        tree,
    };
    let answer = move || {
        let snapshot = store.snapshot(tree)?;
        check_access(&*snapshot, key.as_ref(), Role::Read)?;
        Ok::<_, Refused>(choose(&snapshot)?)
    };
    let asker = Asker::of(caller);
    let SyncAnswer { header, entries } = reads.run(&asker, answer).await??;
    let entries = entries.map(|entries| (entries, source));
    let message = OutgoingMessage { header, entries };
    Ok(message.answer(Packing::InTurn(answers.clone(), asker)))
}
