//! Several syncs among several replicas at the same time, interleaved in every order.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use eidetica_dag::testing::{Random, Shape, build, dag_of};
use eidetica_dag::{EntryId, MemoryDag, Role};
use eidetica_proto::answer::{acknowledge, answer_sync, check_access};
use eidetica_proto::message::{Request, RequestHeader};
use eidetica_proto::receiver::APPEND_AFTER_SILENCE_MS;
use eidetica_proto::testing::LINK_LOG;
use eidetica_proto::{
    EntryReceiver, EntrySelection, ReceiveStep, Received, Step, SyncFault, SyncOptions,
    SyncOutcome, SyncSession,
};
use proptest::prelude::*;

use crate::sync::random::{assert_whole, ids, replica};
use crate::sync::write;

/// A time after the silence at which a receiver stores what it has.
const EACH_PART: u64 = APPEND_AFTER_SILENCE_MS;

/// One sync of one replica with another, of which the smallest step can be made: one frame
/// delivered, one thing that the session says done.
struct Talk {
    client: usize,
    server: usize,
    session: SyncSession,
    /// What the client saw last.
    view: Option<MemoryDag>,
    /// Frames on their way to the server.
    request: VecDeque<Bytes>,
    receiver: Option<EntryReceiver>,
    /// Frames on their way to the client.
    response: VecDeque<Bytes>,
    ended: Option<Result<SyncOutcome, SyncFault>>,
}

fn frames(view: &MemoryDag, selection: Option<EntrySelection>) -> Vec<Bytes> {
    let mut frames = Vec::new();
    if let Some(mut entries) = selection.map(|selection| selection.outgoing()) {
        loop {
            let Ok(frame) = entries.poll_frame(view);
            match frame {
                Some((frame, _)) => frames.push(frame),
                None => break,
            }
        }
    }
    frames
}

impl Talk {
    fn new(client: usize, server: usize, dag: &MemoryDag, options: SyncOptions, seed: u64) -> Self {
        Self {
            client,
            server,
            session: SyncSession::new(dag.tree(), options, seed.to_le_bytes()),
            view: None,
            request: VecDeque::new(),
            receiver: None,
            response: VecDeque::new(),
            ended: None,
        }
    }

    fn step(&mut self, dags: &mut [MemoryDag]) {
        let result = match self.request.pop_front() {
            Some(frame) => {
                self.deliver(&frame, &mut dags[self.server]);
                Ok(None)
            }
            None => self.ask(&mut dags[self.client]),
        };
        self.ended = result.transpose();
    }

    fn deliver(&mut self, frame: &[u8], server: &mut MemoryDag) {
        let Some(receiver) = &mut self.receiver else {
            match RequestHeader::decode(frame).expect("a request").request {
                Request::SyncTree(sync) => {
                    check_access(server, None, Role::Read).expect("anyone may");
                    let answer = answer_sync(server, LINK_LOG, &sync).expect("well formed");
                    self.response.push_back(answer.header);
                    self.response.extend(frames(server, answer.entries));
                }
                Request::SendEntries(send) => {
                    check_access(server, None, Role::Write).expect("anyone may");
                    let mut receiver = EntryReceiver::new(send.tree);
                    receiver.begin(send.entries);
                    self.receiver = Some(receiver);
                }
                other => panic!("{other:?}"),
            }
            return;
        };
        let part = Received::from_frame(server.tree(), frame).expect("a part");
        receiver
            .handle_part(part, frame.len(), 0)
            .expect("in its place");
        while let ReceiveStep::Append { entries, .. } = receiver.poll_step(EACH_PART) {
            let outcome = server.append(entries);
            receiver.handle_appended(outcome).expect("genuine entries");
        }
        if receiver.is_done() {
            let Ok(header) = acknowledge(receiver, server, LINK_LOG);
            self.response.push_back(header);
            self.receiver = None;
        }
    }

    fn ask(&mut self, client: &mut MemoryDag) -> Result<Option<SyncOutcome>, SyncFault> {
        match self.session.poll_step() {
            Step::View => {
                let Ok(verdict) = self.session.handle_view(client);
                verdict?;
                self.view = Some(client.clone());
            }
            Step::Exchange { header, entries } => {
                let view = self.view.take().expect("a view comes before a request");
                self.request.push_back(header);
                self.request.extend(frames(&view, entries));
            }
            Step::ReceiveHeader => match self.response.pop_front() {
                Some(frame) => self.session.handle_header(&frame)?,
                None => self.session.handle_end()?,
            },
            Step::Receive => {
                let receiver = self.session.receiver();
                match receiver.poll_step(0) {
                    ReceiveStep::ReceivePart => match self.response.pop_front() {
                        Some(frame) => {
                            let part = Received::from_frame(client.tree(), &frame)?;
                            receiver.handle_part(part, frame.len(), 0)?;
                        }
                        None => receiver.handle_end()?,
                    },
                    ReceiveStep::Append { entries, .. } => {
                        receiver.handle_appended(client.append(entries))?;
                    }
                    ReceiveStep::AwaitAppend => unreachable!("stored at once"),
                    ReceiveStep::Done => {}
                }
            }
            Step::Done(report) => return Ok(Some(report.outcome)),
        }
        Ok(None)
    }
}

fn options() -> impl Strategy<Value = SyncOptions> {
    let options = |filter_at_once| SyncOptions {
        push: true,
        filter_at_once,
    };
    any::<bool>().prop_map(options)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Three replicas, up to six syncs at once, writing meanwhile: no sync fails, every replica is
    /// whole at every instant, and when the writing has ended, one more sync each way makes all
    /// equal to the union.
    #[test]
    fn any_order_of_concurrent_syncs_converges(
        shape in proptest::sample::select(Shape::ALL.to_vec()),
        size in 1..60_u32,
        seed in any::<u64>(),
        pairs in prop::collection::vec((0..3_usize, 1..3_usize), 1..6),
        options in options(),
    ) {
        let mut random = Random::new(seed);
        let history = build(&shape.parents(size, seed));
        let whole = dag_of(history.clone());
        let mut dags: Vec<MemoryDag> = (0..3)
            .map(|_| {
                let head = eidetica_dag::Arrival(random.below(size));
                let mut order: Vec<u32> = (0..size).collect();
                random.shuffle(&mut order);
                replica(&whole, &history, &[head], &order)
            })
            .collect();
        let mut talks: Vec<Talk> = pairs
            .iter()
            .enumerate()
            .map(|(n, (client, offset))| {
                let server = (client + offset) % 3;
                Talk::new(*client, server, &whole, options, seed ^ n as u64)
            })
            .collect();
        let mut written = 0;
        while talks.iter().any(|talk| talk.ended.is_none()) {
            let at = random.below(talks.len() as u32) as usize;
            if talks[at].ended.is_some() {
                continue;
            }
            talks[at].step(&mut dags);
            if random.below(12) == 0 && written < 8 {
                written += 1;
                let writer = random.below(3) as usize;
                if !ids(&dags[writer]).is_empty() {
                    write(&mut dags[writer], &format!("meanwhile {written}"));
                }
            }
            dags.iter().for_each(assert_whole);
        }
        for talk in &talks {
            let ended = talk.ended.as_ref().expect("all have ended");
            prop_assert!(ended.is_ok(), "{ended:?}");
        }
        let union: BTreeSet<EntryId> = dags.iter().flat_map(ids).collect();
        for (client, server) in [(0, 1), (1, 2), (0, 1)] {
            let mut talk = Talk::new(client, server, &whole, options, seed);
            while talk.ended.is_none() {
                talk.step(&mut dags);
            }
            prop_assert_eq!(talk.ended, Some(Ok(SyncOutcome::Equal)));
        }
        for dag in &dags {
            prop_assert_eq!(ids(dag), union.clone());
        }
    }
}
