//! The two ways of an exchange, and what happens to frames on them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use eidetica_proto::{FrameStream, TransportError};
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::replay::is_served;
use super::state::Network;
use super::witness::Witness;

/// How long an exchange may stand still.
pub(super) const IDLE: Duration = Duration::from_secs(30);

pub(super) fn lost() -> TransportError {
    TransportError::connection_lost("the connection was lost")
}

/// Where an answer arrives. Dropping it ends the exchange.
pub(super) struct Arriving {
    pub(super) network: Network,
    pub(super) number: u64,
    pub(super) frames: mpsc::Receiver<(Instant, Option<Bytes>)>,
    pub(super) task: JoinHandle<()>,
    /// How many frames of the request have arrived.
    pub(super) request_frames: Arc<AtomicU64>,
    pub(super) has_ended: bool,
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.task.abort();
        self.network.end(self.number);
    }
}

impl Arriving {
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, TransportError>> {
        if self.has_ended {
            return None;
        }
        let mut seen = self.request_frames.load(Ordering::Relaxed);
        let arrived = loop {
            match timeout(IDLE, self.frames.recv()).await {
                Ok(arrived) => break arrived,
                Err(_) => {
                    let frames = self.request_frames.load(Ordering::Relaxed);
                    if frames == seen {
                        self.has_ended = true;
                        return Some(Err(TransportError::timed_out("no answer")));
                    }
                    seen = frames;
                }
            }
        };
        match arrived {
            Some((at, Some(frame))) => {
                sleep_until(at).await;
                Some(Ok(frame))
            }
            Some((at, None)) => {
                sleep_until(at).await;
                self.has_ended = true;
                None
            }
            None => {
                self.has_ended = true;
                Some(Err(lost()))
            }
        }
    }
}

/// One way of an exchange.
pub(super) struct Way {
    pub(super) network: Network,
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) is_answer: bool,
    pub(super) cut_after: Option<u32>,
}

impl Way {
    /// Carries a frame, and returns what arrives for it; and whether that is the end.
    async fn carry(&mut self, frame: Bytes) -> Option<(Vec<Bytes>, bool)> {
        if self.cut_after == Some(0) {
            return None;
        }
        self.cut_after = self.cut_after.map(|left| left - 1);
        let network = &self.network;
        let time = network.transfer_time(self.from, self.to, frame.len());
        if !time.is_zero() {
            sleep(time).await;
        }
        if !network
            .open(self.from, self.to, Instant::now() + IDLE)
            .await
        {
            return None;
        }
        match network.lie_of(self.from) {
            Some(lie) => {
                network.record.count("frames of liars");
                let is_answer = self.is_answer;
                Some(network.with_random(|random| lie.tell(&frame, is_answer, random)))
            }
            None => Some((vec![frame], false)),
        }
    }
}

/// The request as the service sees it.
pub(super) struct RequestWay {
    pub(super) way: Way,
    pub(super) frames: Option<FrameStream>,
    pub(super) arrived: VecDeque<Bytes>,
    pub(super) is_last: bool,
    pub(super) counted: Arc<AtomicU64>,
    pub(super) witness: Arc<Witness>,
    pub(super) kept: Option<mpsc::Sender<Bytes>>,
}

impl RequestWay {
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, TransportError>> {
        loop {
            if let Some(frame) = self.arrived.pop_front() {
                self.counted.fetch_add(1, Ordering::Relaxed);
                if let Some(kept) = &self.kept {
                    let _it_may_not_be_wanted = kept.try_send(frame.clone());
                }
                return Some(Ok(frame));
            }
            if self.is_last {
                return None;
            }
            let frame = self.frames.as_mut()?.next().await;
            match frame {
                None => {
                    self.frames = None;
                    return None;
                }
                Some(Err(_)) => {
                    self.frames = None;
                    return Some(Err(lost()));
                }
                Some(Ok(frame)) => {
                    self.witness.request(&frame);
                    match self.way.carry(frame).await {
                        None => {
                            self.frames = None;
                            return Some(Err(lost()));
                        }
                        Some((frames, is_last)) => {
                            self.arrived.extend(frames);
                            self.is_last = is_last;
                        }
                    }
                }
            }
        }
    }
}

/// The way of an answer.
pub(super) struct Answer {
    pub(super) way: Way,
    pub(super) witness: Arc<Witness>,
    pub(super) was_served: Arc<AtomicBool>,
    pub(super) sender: mpsc::Sender<(Instant, Option<Bytes>)>,
}

impl Answer {
    pub(super) async fn carry(mut self, mut frames: FrameStream) {
        let delay = self.way.network.delay(self.way.from, self.way.to);
        while let Some(frame) = frames.next().await {
            // The caller sees no more of an error than that the answer was cut.
            let Ok(frame) = frame else { return };
            self.witness.answer(&frame);
            if is_served(&frame) {
                self.was_served.store(true, Ordering::Relaxed);
            }
            let Some((frames, is_last)) = self.way.carry(frame).await else {
                return;
            };
            for frame in frames {
                let at = Instant::now() + delay;
                if self.sender.send((at, Some(frame))).await.is_err() {
                    return;
                }
            }
            if is_last {
                return;
            }
        }
        let _ = self.sender.send((Instant::now() + delay, None)).await;
    }
}
