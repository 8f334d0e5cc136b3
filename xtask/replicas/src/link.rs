//! One sync of two replicas over a link in memory, by the machines that the drivers drive.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use eidetica_dag::{DagView, EntryView, Role};
use eidetica_proto::answer::{acknowledge, answer_sync, check_access};
use eidetica_proto::frame::{FRAME_PREFIX_BYTES, FrameDecoder, encode_frame};
use eidetica_proto::message::{Request, RequestHeader, SyncTree};
use eidetica_proto::{
    EntryReceiver, LogId, Outgoing, ReceiveStep, Received, Step, SyncOptions, SyncSession,
};
use xtask_support::failed;

use crate::clock::timed;
use crate::world::Replica;

/// Stands for the answerer's log. No cursor is used here.
pub const ANY_LOG: LogId = LogId::from_bytes([0; 8]);

/// What one sync cost. Bytes are those of frames with their prefixes.
#[derive(Debug, Default, Clone)]
pub struct Exchange {
    /// Tips of the asker before the sync.
    pub asker_tips: usize,
    /// Entries that only the answerer had.
    pub missing_at_asker: u64,
    /// Entries that only the asker had.
    pub missing_at_answerer: u64,
    /// Requests until the asker had everything.
    pub pull_round_trips: u32,
    /// Bytes of each request of the pull.
    pub request_bytes: Vec<u64>,
    /// Bytes of the responses to the pull that are no entries.
    pub response_bytes: u64,
    /// Bytes around the entries that were pushed: the header, the end, and the acknowledgement.
    pub push_bytes: u64,
    /// Entries that the asker received and had.
    pub redundant_at_asker: u64,
    /// Entries that the answerer received and had.
    pub redundant_at_answerer: u64,
    /// What the asking side computed.
    pub asker_cpu: Duration,
    /// What the answering side computed.
    pub answerer_cpu: Duration,
}

/// The link: frames go through their encoding and back.
#[derive(Default)]
struct Link {
    decoder: FrameDecoder,
}

impl Link {
    fn carry(&mut self, frame: &Bytes) -> Result<Bytes, String> {
        self.decoder.feed(&encode_frame(frame).map_err(failed)?);
        let arrived = self.decoder.poll_frame().map_err(failed)?;
        arrived.ok_or_else(|| "a whole frame was fed and none came out".to_owned())
    }
}

/// How many bytes a frame takes on the link.
fn wire_bytes(frame: &Bytes) -> u64 {
    (FRAME_PREFIX_BYTES + frame.len()) as u64
}

/// Syncs `asker` with `answerer` and checks that both have everything at the end.
///
/// # Errors
/// What went wrong: one of the two misbehaves, or they differ at the end.
pub fn sync(
    asker: &mut Replica<'_>,
    answerer: &mut Replica<'_>,
    options: SyncOptions,
    seed: [u8; 8],
) -> Result<Exchange, String> {
    let (asker_had, answerer_had) = (asker.marks(), answerer.marks());
    let lacking = |of: &[bool], other: &[bool]| {
        let pairs = of.iter().zip(other);
        pairs.filter(|(here, there)| !**here && **there).count() as u64
    };
    let Ok(tips) = asker.tips();
    let mut exchange = Exchange {
        asker_tips: tips.len(),
        missing_at_asker: lacking(&asker_had, &answerer_had),
        missing_at_answerer: lacking(&answerer_had, &asker_had),
        ..Exchange::default()
    };
    run(asker, answerer, options, seed, &mut exchange)?;

    let union: Vec<bool> = asker_had
        .iter()
        .zip(&answerer_had)
        .map(|(a, b)| *a || *b)
        .collect();
    if asker.marks() != union || answerer.marks() != union {
        return Err("the two sides differ after the sync".to_owned());
    }
    Ok(exchange)
}

fn run(
    asker: &mut Replica<'_>,
    answerer: &mut Replica<'_>,
    options: SyncOptions,
    seed: [u8; 8],
    exchange: &mut Exchange,
) -> Result<(), String> {
    let mut session = SyncSession::new(asker.tree(), options, seed);
    let mut link = Link::default();
    let mut response: VecDeque<Bytes> = VecDeque::new();
    let mut pushing = false;
    loop {
        let (step, cpu) = timed(|| session.poll_step());
        exchange.asker_cpu += cpu;
        match step {
            Step::View => {
                let (result, cpu) = timed(|| session.handle_view(asker));
                exchange.asker_cpu += cpu;
                let Ok(result) = result;
                result.map_err(failed)?;
            }
            Step::Exchange { header, entries } => {
                pushing = entries.is_some();
                match pushing {
                    true => exchange.push_bytes += wire_bytes(&header),
                    false => exchange.request_bytes.push(wire_bytes(&header)),
                }
                let mut request = VecDeque::from([link.carry(&header)?]);
                if let Some(selection) = entries {
                    let (frames, cpu) = timed(|| frames_of(&mut selection.outgoing(), asker));
                    exchange.asker_cpu += cpu;
                    let Ok(frames) = frames;
                    for (frame, count) in frames {
                        session.handle_sent(count as u64, frame.len() as u64);
                        if count == 0 {
                            exchange.push_bytes += wire_bytes(&frame);
                        }
                        request.push_back(link.carry(&frame)?);
                    }
                }
                let (frames, cpu) = timed(|| answer(answerer, request));
                exchange.answerer_cpu += cpu;
                for frame in frames? {
                    response.push_back(link.carry(&frame)?);
                }
            }
            Step::ReceiveHeader => {
                let frame = next(&mut response)?;
                match pushing {
                    true => exchange.push_bytes += wire_bytes(&frame),
                    false => exchange.response_bytes += wire_bytes(&frame),
                }
                let (result, cpu) = timed(|| session.handle_header(&frame));
                exchange.asker_cpu += cpu;
                result.map_err(failed)?;
            }
            Step::Receive => {
                let receiver = session.receiver();
                let (ended, cpu) = timed(|| receive(receiver, asker, &mut response));
                exchange.asker_cpu += cpu;
                if let Some(frame) = ended? {
                    exchange.response_bytes += wire_bytes(&frame);
                }
            }
            Step::Done(_) if !response.is_empty() => {
                return Err("the response continues after its end".to_owned());
            }
            Step::Done(report) => {
                let stats = report.stats;
                exchange.pull_round_trips = stats.pull_round_trips;
                exchange.redundant_at_asker = stats.redundant;
                exchange.redundant_at_answerer = stats.sent - stats.peer_stored;
                return Ok(());
            }
        }
    }
}

/// Takes and stores the entries in these frames. Returns the frame that ended them, if they end.
fn receive(
    receiver: &mut EntryReceiver,
    replica: &mut Replica<'_>,
    frames: &mut VecDeque<Bytes>,
) -> Result<Option<Bytes>, String> {
    let mut end = None;
    loop {
        // All frames are here at once.
        let now_ms = 0;
        match receiver.poll_step(now_ms) {
            ReceiveStep::ReceivePart => {
                let frame = next(frames)?;
                let part = Received::from_frame(receiver.tree(), &frame).map_err(failed)?;
                let ends = matches!(part, Received::End { .. });
                receiver
                    .handle_part(part, frame.len(), now_ms)
                    .map_err(failed)?;
                end = ends.then_some(frame).or(end);
            }
            ReceiveStep::Append { entries, .. } => {
                let outcome = replica.append(entries);
                receiver.handle_appended(outcome).map_err(failed)?;
            }
            ReceiveStep::AwaitAppend => return Err("waits for a store that is done".to_owned()),
            ReceiveStep::Done => return Ok(end),
        }
    }
}

fn next(response: &mut VecDeque<Bytes>) -> Result<Bytes, String> {
    response
        .pop_front()
        .ok_or_else(|| "the response ended too early".to_owned())
}

/// Makes every frame after a header, each with the number of entries in it.
fn frames_of<V: EntryView + ?Sized>(
    outgoing: &mut Outgoing,
    view: &V,
) -> Result<Vec<(Bytes, usize)>, V::Error> {
    std::iter::from_fn(|| outgoing.poll_frame(view).transpose()).collect()
}

/// Answers a request as a server does: checks access first.
fn answer(replica: &mut Replica<'_>, mut request: VecDeque<Bytes>) -> Result<Vec<Bytes>, String> {
    let header = RequestHeader::decode(&next(&mut request)?).map_err(failed)?;
    match header.request {
        Request::SyncTree(asked) => {
            check_access(replica, None, Role::Read).map_err(failed)?;
            answer_pull(replica, &asked)
        }
        Request::SendEntries(announced) => {
            check_access(replica, None, Role::Write).map_err(failed)?;
            let mut receiver = EntryReceiver::new(announced.tree);
            receiver.begin(announced.entries);
            receive(&mut receiver, replica, &mut request)?;
            let Ok(acknowledgement) = acknowledge(&receiver, replica, ANY_LOG);
            Ok(vec![acknowledgement])
        }
        other => Err(format!("a sync does not send {other:?}")),
    }
}

/// Makes all frames of the answer to a comparison.
pub fn answer_pull<V: EntryView + ?Sized>(
    view: &V,
    asked: &SyncTree,
) -> Result<Vec<Bytes>, String> {
    let answer = answer_sync(view, ANY_LOG, asked).map_err(failed)?;
    let mut frames = vec![answer.header];
    if let Some(selection) = answer.entries {
        let entries = frames_of(&mut selection.outgoing(), view).map_err(failed)?;
        frames.extend(entries.into_iter().map(|(frame, _)| frame));
    }
    Ok(frames)
}
