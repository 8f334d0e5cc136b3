//! Eidetica's own machines over a link in memory: real frames, counted with their prefixes.

use std::collections::VecDeque;

use bytes::Bytes;
use eidetica_dag::{DagView, MemoryDag};
use eidetica_proto::answer::answer_sync;
use eidetica_proto::frame::FRAME_PREFIX_BYTES;
use eidetica_proto::message::{Request, RequestHeader};
use eidetica_proto::{LogId, ReceiveStep, Received, Step, SyncOptions, SyncOutcome, SyncSession};

use crate::peer::{Cost, Peer, start};
use crate::workload::{Pair, Side};

/// With the filter in the first request, and with the tips alone as the periodic check does.
pub struct Ours;

impl Peer for Ours {
    fn names(&self) -> &'static [&'static str] {
        &["eidetica", "eidetica, tips first"]
    }

    fn fetch(&self, pair: &Pair) -> Result<Vec<Cost>, String> {
        let b = pair.dag(Side::B);
        // Not cloned: a clone has no room, and moving everything would be counted as storing.
        [true, false]
            .map(|filter_at_once| pull(pair, pair.dag(Side::A), &b, filter_at_once))
            .into_iter()
            .collect()
    }
}

fn pull(
    pair: &Pair,
    mut a: MemoryDag,
    b: &MemoryDag,
    filter_at_once: bool,
) -> Result<Cost, String> {
    let expected = u64::from(a.entry_count()) + pair.missing();
    let tree = a.tree();
    let options = SyncOptions {
        push: false,
        filter_at_once,
    };
    let seed = pair.entries[pair.order(Side::B).len() - 1]
        .get()
        .id()
        .prefix();
    let mut session = SyncSession::new(tree, options, seed.to_le_bytes());
    let mut response = VecDeque::new();
    let mut frames = 0;
    let began = start();
    let report = loop {
        match session.poll_step() {
            Step::View => {
                let Ok(done) = session.handle_view(&a);
                done.map_err(|fault| fault.to_string())?;
            }
            Step::Exchange { header, .. } => {
                frames += 1;
                response = answer(b, &header)?;
            }
            Step::ReceiveHeader => {
                frames += 1;
                let frame = next(&mut response)?;
                session
                    .handle_header(&frame)
                    .map_err(|fault| fault.to_string())?;
            }
            Step::Receive => {
                let receiver = session.receiver();
                match receiver.poll_step(0) {
                    ReceiveStep::ReceivePart => {
                        let frame = next(&mut response)?;
                        let part =
                            Received::from_frame(tree, &frame).map_err(|fault| fault.to_string())?;
                        frames += u64::from(matches!(part, Received::End { .. }));
                        receiver
                            .handle_part(part, frame.len(), 0)
                            .map_err(|fault| fault.to_string())?;
                    }
                    ReceiveStep::Append { entries, .. } => receiver
                        .handle_appended(a.append(entries))
                        .map_err(|fault| fault.to_string())?,
                    ReceiveStep::AwaitAppend => return Err("nothing is being stored".into()),
                    ReceiveStep::Done => {}
                }
            }
            Step::Done(report) => break report,
        }
    };
    let elapsed = began.elapsed();
    let is_complete = u64::from(a.entry_count()) == expected;
    if !is_complete || report.outcome == SyncOutcome::PeerLacksParents {
        return Err(format!("ended with entries missing: {report:?}"));
    }
    let stats = report.stats;
    Ok(Cost {
        round_trips: stats.pull_round_trips.into(),
        negotiation_bytes: stats.request_bytes
            + stats.response_bytes
            + frames * FRAME_PREFIX_BYTES as u64,
        redundant: stats.redundant,
        elapsed,
    })
}

/// Returns the frames with which B answers.
fn answer(b: &MemoryDag, header: &[u8]) -> Result<VecDeque<Bytes>, String> {
    let header = RequestHeader::decode(header).map_err(|error| error.to_string())?;
    let Request::SyncTree(request) = header.request else {
        return Err("a pull sends nothing".into());
    };
    let answer = answer_sync(b, LogId::from_bytes([0; 8]), &request).map_err(|error| error.to_string())?;
    let mut frames = VecDeque::from([answer.header]);
    if let Some(mut outgoing) = answer.entries.map(|selection| selection.outgoing()) {
        while let Ok(Some((frame, _))) = outgoing.poll_frame(b) {
            frames.push_back(frame);
        }
    }
    Ok(frames)
}

fn next(response: &mut VecDeque<Bytes>) -> Result<Bytes, String> {
    response
        .pop_front()
        .ok_or_else(|| "the answer was cut".into())
}
