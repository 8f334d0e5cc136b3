//! Frames in words, for the transcript of a [`Link`](super::Link).

use eidetica_dag::{AppendOutcome, Arrival, DagView, EntryId, MemoryDag, TreeId};

use crate::batch::unpack;
use crate::message::{Part, Reply, Request, RequestHeader, ResponseHeader, Sample, SyncReply};
use crate::tips::{EndTips, TipSet};

/// Most entries of a batch that are named one by one: a reader gains nothing from more.
const NAMED_MAX: usize = 16;

type Name<'a> = dyn Fn(&EntryId) -> String + 'a;

fn list<'i>(ids: impl IntoIterator<Item = &'i EntryId>, name: &Name<'_>) -> String {
    let mut names: Vec<String> = ids.into_iter().map(name).collect();
    names.sort();
    match names.len() {
        ..=NAMED_MAX => names.join(" "),
        count => format!("{count} ids"),
    }
}

pub(super) fn in_order(ids: &[EntryId], name: &Name<'_>) -> String {
    match ids.len() {
        ..=NAMED_MAX => {
            let names: Vec<String> = ids.iter().map(name).collect();
            names.join(" ")
        }
        count => format!("{count} entries"),
    }
}

pub(super) fn describe_request(frame: &[u8], name: &Name<'_>) -> String {
    let said = match RequestHeader::decode(frame).map(|header| header.request) {
        Ok(Request::SyncTree(sync)) => {
            let tips = match &sync.tips {
                TipSet::Listed(tips) => format!("[{}]", list(tips, name)),
                TipSet::Digest(_) => "digest".to_owned(),
                TipSet::Sketch(_) => "sketch".to_owned(),
                TipSet::Unknown(kind) => format!("kind {kind}"),
            };
            let mut said = format!("SyncTree tips={tips}");
            match &sync.sample {
                Sample::None | Sample::Unknown(_) => {}
                Sample::Small(_) => said += " small filter",
                Sample::Full(_) => said += " filter",
            }
            if !sync.wants.is_empty() {
                said += &format!(" wants=[{}]", list(&sync.wants, name));
            }
            said
        }
        Ok(Request::SendEntries(send)) => format!("SendEntries({})", send.entries),
        Ok(_) => "another request".to_owned(),
        Err(error) => format!("no request: {:?}", error.code),
    };
    format!("A -> B {said}")
}

pub(super) fn describe_reply(frame: &[u8], name: &Name<'_>) -> String {
    let said = match ResponseHeader::decode(frame).map(|header| header.reply) {
        Ok(Ok(Reply::Sync(SyncReply::Equal(_)))) => "Equal".to_owned(),
        Ok(Ok(Reply::Sync(SyncReply::Entries(count)))) => format!("Entries({count})"),
        Ok(Ok(Reply::Sync(SyncReply::SendFilter))) => "SendFilter".to_owned(),
        Ok(Ok(Reply::Stored(stored))) => {
            let mut said = format!("Stored({})", stored.stored);
            if !stored.missing.is_empty() {
                said += &format!(" missing=[{}]", list(&stored.missing, name));
            }
            said
        }
        Ok(Ok(_)) => "another reply".to_owned(),
        Ok(Err(error)) => format!("refuses: {:?}", error.code),
        Err(fault) => format!("no reply: {fault}"),
    };
    format!("B -> A {said}")
}

pub(super) fn describe_part(way: &str, tree: TreeId, frame: &[u8], name: &Name<'_>) -> String {
    let said = match Part::decode(frame) {
        Ok(Part::Batch(batch)) => match unpack(tree, batch) {
            Ok(entries) => {
                let ids: Vec<EntryId> = entries.iter().map(|entry| entry.id()).collect();
                format!("batch {}", in_order(&ids, name))
            }
            Err(error) => format!("no batch: {error}"),
        },
        Ok(Part::End { tips, .. }) => match tips {
            EndTips::Untold => "end".to_owned(),
            EndTips::Listed(tips) => format!("end tips=[{}]", list(&tips, name)),
            EndTips::Shared { others, .. } => {
                format!("end tips by places and [{}]", list(&others, name))
            }
        },
        Ok(Part::Unknown(kind)) => format!("part of kind {kind}"),
        Ok(Part::Failed(error)) => format!("fails: {:?}", error.code),
        Err(fault) => format!("no part: {fault}"),
    };
    format!("{way} {said}")
}

pub(super) fn describe_outcome(
    who: &str,
    dag: &MemoryDag,
    outcome: &AppendOutcome,
    name: &Name<'_>,
) -> String {
    let ids: Vec<EntryId> = outcome
        .stored
        .clone()
        .map(|at| {
            let Ok(node) = dag.node(Arrival(at));
            node.id
        })
        .collect();
    let mut said = match ids.is_empty() {
        true => format!("{who} stores nothing"),
        false => format!("{who} stores {}", in_order(&ids, name)),
    };
    if outcome.duplicates > 0 {
        said += &format!(", has {} already", outcome.duplicates);
    }
    if !outcome.waiting.is_empty() {
        let waiting: Vec<EntryId> = outcome
            .waiting
            .iter()
            .map(|entry| entry.get().id())
            .collect();
        said += &format!(", keeps {}", in_order(&waiting, name));
    }
    if let Some(refusal) = &outcome.refused {
        said += &format!(", refuses {}", name(&refusal.id));
    }
    said
}
