//! Counts what servers are asked: exchanges by kind, bytes, entries and refusals.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use eidetica_dag::varint;
use eidetica_sync::Node;
use eidetica_sync::proto::message::{Part, Request, RequestHeader, ResponseHeader, WatchFrame};
use eidetica_sync::proto::{Address, Caller, FrameStream, Service};
use futures::StreamExt;
use xtask_support::failed;

/// What was counted.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// Exchanges by what they asked. Each refusal counts as well, as the kind and an error.
    kinds: BTreeMap<String, u64>,
    /// Bytes of frames in both directions, length prefixes included.
    pub bytes: u64,
    /// Entries in both directions, and those of them that were pushed.
    pub entries: u64,
    pub pushed: u64,
}

impl Tally {
    /// Returns how many exchanges were begun.
    pub fn begun(&self) -> u64 {
        let begun = self.kinds.iter().filter(|(kind, _)| !kind.contains(' '));
        begun.map(|(_, count)| count).sum()
    }

    /// Returns whether an exchange was refused.
    pub fn has_refusals(&self) -> bool {
        self.kinds.keys().any(|kind| kind.contains(' '))
    }

    /// Returns the exchanges by kind, for a cell of a table.
    pub fn kinds(&self) -> String {
        let kinds = self
            .kinds
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"));
        kinds.collect::<Vec<_>>().join(", ")
    }
}

/// The counts of several servers together.
#[derive(Clone, Default)]
pub struct Counts(Arc<Mutex<Tally>>);

impl Counts {
    /// Lets a node listen, counted, and returns its address.
    pub async fn listen(&self, node: &Node) -> Result<Address, String> {
        let transport = node
            .transports()
            .get("net")
            .ok_or("the node has no transport")?;
        let server = Counted {
            inner: node.service(),
            header: usize::from(!transport.proves_keys()),
            counts: self.clone(),
        };
        transport
            .start_server(Arc::new(server))
            .await
            .map_err(failed)?;
        let addresses = transport.server_addresses().await;
        Ok(addresses
            .first()
            .ok_or("the server has no address")?
            .clone())
    }

    /// Returns what was counted since the last call.
    pub fn take(&self) -> Tally {
        self.with(std::mem::take)
    }

    /// Returns how many exchanges were begun since the last call of [`Counts::take`].
    pub fn begun(&self) -> u64 {
        self.with(|tally| tally.begun())
    }

    fn with<T>(&self, work: impl FnOnce(&mut Tally) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, kind: String) {
        self.with(|tally| *tally.kinds.entry(kind).or_default() += 1);
    }

    /// Counts the frames of one direction as they pass.
    fn passing(
        &self,
        frames: FrameStream,
        entries: impl Fn(usize, &[u8]) -> u64 + Send + 'static,
    ) -> FrameStream {
        let counts = self.clone();
        Box::pin(frames.enumerate().map(move |(index, frame)| {
            if let Ok(frame) = &frame {
                let entries = entries(index, frame);
                counts.with(|tally| {
                    tally.bytes += frame.len() as u64 + 4;
                    tally.entries += entries;
                });
            }
            frame
        }))
    }
}

/// A service that counts the exchanges of another one.
struct Counted {
    inner: Arc<dyn Service>,
    /// The index of the header: where the transport proves no keys, a proof precedes it.
    header: usize,
    counts: Counts,
}

#[async_trait]
impl Service for Counted {
    async fn exchange(&self, caller: Caller, request: FrameStream) -> FrameStream {
        let (header, counts) = (self.header, self.counts.clone());
        let kind = Arc::new(Mutex::new("nothing"));
        let asked = kind.clone();
        let request = self.counts.passing(request, move |index, frame| {
            if index == header {
                let kind = kind_of(frame);
                *asked.lock().unwrap_or_else(PoisonError::into_inner) = kind;
                counts.note(kind.to_owned());
            }
            let entries = if index > header {
                entries_of_part(frame)
            } else {
                0
            };
            counts.with(|tally| tally.pushed += entries);
            entries
        });
        let answer = self.inner.exchange(caller, request).await;
        let counts = self.counts.clone();
        self.counts.passing(answer, move |index, frame| {
            let kind = *kind.lock().unwrap_or_else(PoisonError::into_inner);
            match index {
                _ if index > header && kind == "watch" => entries_of_news(frame),
                _ if index > header => entries_of_part(frame),
                _ => {
                    let decoded = ResponseHeader::decode(frame).map(|header| header.reply);
                    if let (true, Ok(Err(error))) = (index == header, decoded) {
                        counts.note(format!("{kind} {:?}", error.code));
                    }
                    0
                }
            }
        })
    }
}

fn kind_of(header: &[u8]) -> &'static str {
    match RequestHeader::decode(header).map(|header| header.request) {
        Ok(Request::Hello(_)) => "hello",
        Ok(Request::SyncTree(_)) => "sync",
        Ok(Request::SendEntries(_)) => "push",
        Ok(Request::Watch(_)) => "watch",
        Ok(Request::CheckTrees(_)) => "check",
        Ok(Request::Peers(_)) => "peers",
        _ => "other",
    }
}

fn entries_of_part(frame: &[u8]) -> u64 {
    match Part::decode(frame) {
        Ok(Part::Batch(batch)) => entries_of(batch),
        _ => 0,
    }
}

fn entries_of_news(frame: &[u8]) -> u64 {
    match WatchFrame::decode(frame) {
        Ok(WatchFrame::Entries { batch, .. }) => entries_of(batch),
        _ => 0,
    }
}

/// Reads the count in a batch: it follows the mode and two lengths.
fn entries_of(batch: &[u8]) -> u64 {
    let mut rest = batch.get(1..).unwrap_or_default();
    let mut numbers = std::iter::from_fn(|| varint::take(&mut rest));
    numbers.nth(2).unwrap_or(0)
}
