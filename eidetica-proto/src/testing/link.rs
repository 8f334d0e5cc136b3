//! Two replicas and a link between them, in one thread and without I/O.

use std::collections::VecDeque;

use bytes::Bytes;
use eidetica_dag::testing::Drawn;
use eidetica_dag::{AppendOutcome, DagView, EntryId, MemoryDag, PublicKey, VerifiedEntry};

use super::transcript::{describe_outcome, describe_part, describe_reply, describe_request};
use crate::answer_session::{AnswerSession, AnswerStep};
use crate::cursor::LogId;
use crate::error::PeerFault;
use crate::frame::{FrameDecoder, encode_frame};
use crate::outgoing::{EntrySelection, Outgoing};
use crate::received::Received;
use crate::receiver::{APPEND_AFTER_SILENCE_MS, EntryReceiver, ReceiveStep};
use crate::report::{Report, SyncOptions};
use crate::session::{Step, SyncSession};
use crate::sync_fault::SyncFault;

/// Names the log of B.
pub const LINK_LOG: LogId = LogId::from_bytes(*b"B's log!");

/// The direction of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client A to the server B.
    Asks,
    /// From B to A.
    Answers,
}

/// Why a sync over a [`Link`] did not reach its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// The link was cut, as the test asked.
    Cut,
    /// The session gave up.
    Fault(SyncFault),
}

impl<F: Into<SyncFault>> From<F> for Broken {
    fn from(fault: F) -> Self {
        Self::Fault(fault.into())
    }
}

/// What happened on a link.
#[derive(Debug)]
pub struct Run {
    /// How the sync ended.
    pub result: Result<Report, Broken>,
    /// One line for each frame that arrived and for each step of a store.
    pub transcript: Vec<String>,
    /// How many frames were sent in either direction.
    pub frames: usize,
    /// The bytes of the frames that arrived at B, without their prefixes.
    pub asked_bytes: usize,
    /// The bytes of the frames that arrived at A, without their prefixes.
    pub answered_bytes: usize,
}

impl Run {
    /// Returns the report.
    ///
    /// # Panics
    /// If the sync did not reach its end.
    pub fn report(&self) -> Report {
        match &self.result {
            Ok(report) => report.clone(),
            Err(broken) => panic!("{broken:?} after\n{}", self.transcript.join("\n")),
        }
    }

    /// Returns the fault.
    ///
    /// # Panics
    /// If there was none.
    pub fn fault(&self) -> SyncFault {
        match &self.result {
            Err(Broken::Fault(fault)) => fault.clone(),
            other => panic!("{other:?} after\n{}", self.transcript.join("\n")),
        }
    }

    /// Compares the transcript with the lines of a text, whose indentation does not count.
    ///
    /// # Panics
    /// If they differ.
    #[track_caller]
    pub fn assert_conversation(&self, wanted: &str) {
        let wanted = wanted
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty());
        let wanted: Vec<&str> = wanted.collect();
        assert_eq!(
            self.transcript.join("\n"),
            wanted.join("\n"),
            "{:?}",
            self.result
        );
    }
}

type Names<'a> = Box<dyn Fn(&EntryId) -> String + 'a>;
type Tamper<'a> = Box<dyn FnMut(Way, usize, Bytes) -> Vec<Bytes> + 'a>;
type Between<'a> = Box<dyn FnMut(usize, &mut MemoryDag, &mut MemoryDag) + 'a>;

/// Drives a [`SyncSession`] of replica A against the [`AnswerSession`]s of replica B, frame by
/// frame.
///
/// Every frame is encoded and decoded as on a real link, and a transcript records what happens, so
/// that a test draws two replicas and asserts the whole conversation. A link does what drivers with
/// I/O do: it reads each response to its end, and when a sync breaks off, both sides store what
/// arrived.
pub struct Link<'a> {
    a: &'a mut MemoryDag,
    b: &'a mut MemoryDag,
    session: SyncSession,
    client_key: Option<PublicKey>,
    server_key: Option<PublicKey>,
    names: Names<'a>,
    tamper: Tamper<'a>,
    between: Between<'a>,
    cut_after: Option<usize>,
    /// How long the sender of each part is silent after it.
    silence_ms: u64,
    outcome_delay_parts: usize,

    now_ms: u64,
    /// The view last handed to the session.
    view: Option<MemoryDag>,
    /// What A is storing, and after how many parts it will have.
    storing: Option<(Vec<VerifiedEntry>, usize)>,
    server: ServerSide,
    /// Frames that have arrived at A.
    inbox: VecDeque<Bytes>,
    run: Run,
}

/// What B is doing.
enum ServerSide {
    Idle,
    Receives(Box<AnswerSession>),
    Answers {
        header: Option<Bytes>,
        entries: Option<Box<(MemoryDag, Outgoing)>>,
    },
}

impl<'a> Link<'a> {
    /// Makes a link on which nothing goes wrong. A asks about its tree.
    pub fn new(a: &'a mut MemoryDag, b: &'a mut MemoryDag) -> Self {
        let session = SyncSession::new(a.tree(), SyncOptions::default(), *b"the seed");
        let run = Run {
            result: Err(Broken::Cut),
            transcript: Vec::new(),
            frames: 0,
            asked_bytes: 0,
            answered_bytes: 0,
        };
        Self {
            a,
            b,
            session,
            client_key: None,
            server_key: None,
            names: Box::new(EntryId::short),
            tamper: Box::new(|_, _, frame| vec![frame]),
            between: Box::new(|_, _, _| ()),
            cut_after: None,
            silence_ms: 0,
            outcome_delay_parts: 0,
            now_ms: 0,
            view: None,
            storing: None,
            server: ServerSide::Idle,
            inbox: VecDeque::new(),
            run,
        }
    }

    /// Uses the names of a drawing in the transcript.
    #[must_use]
    pub fn named(mut self, drawn: &'a Drawn) -> Self {
        self.names = Box::new(|id| match drawn.dag.arrival(id) {
            Ok(Some(_)) => drawn.name_of(id).to_owned(),
            Ok(None) => "?".to_owned(),
        });
        self
    }

    /// Chooses what the sync does, and the seed of its filter.
    #[must_use]
    pub fn options(mut self, options: SyncOptions, seed: [u8; 8]) -> Self {
        self.session = SyncSession::new(self.a.tree(), options, seed);
        self
    }

    /// Sets the key that A has proved. By default it has proved none.
    #[must_use]
    pub fn client_key(mut self, key: PublicKey) -> Self {
        self.client_key = Some(key);
        self
    }

    /// Sets the key that B has proved. By default it has proved none.
    #[must_use]
    pub fn server_key(mut self, key: PublicKey) -> Self {
        self.server_key = Some(key);
        self
    }

    /// Cuts the link after this many frames in both directions together.
    #[must_use]
    pub fn cut_after(mut self, frames: usize) -> Self {
        self.cut_after = Some(frames);
        self
    }

    /// Lets A and B store after each part, because the next one is late, instead of in large steps.
    #[must_use]
    pub fn store_each_part(mut self) -> Self {
        self.silence_ms = APPEND_AFTER_SILENCE_MS;
        self
    }

    /// Lets up to this many parts arrive at A while a step of its store is under way.
    #[must_use]
    pub fn outcome_delay(mut self, parts: usize) -> Self {
        self.outcome_delay_parts = parts;
        self
    }

    /// Replaces a frame by frames of the test's choice: itself, another, none, several. Frames are
    /// counted from zero, in both directions together.
    #[must_use]
    pub fn tamper(mut self, tamper: impl FnMut(Way, usize, Bytes) -> Vec<Bytes> + 'a) -> Self {
        self.tamper = Box::new(tamper);
        self
    }

    /// Lets the replicas change after each frame.
    #[must_use]
    pub fn between(
        mut self,
        between: impl FnMut(usize, &mut MemoryDag, &mut MemoryDag) + 'a,
    ) -> Self {
        self.between = Box::new(between);
        self
    }

    /// Runs the sync to its end.
    pub fn run(mut self) -> Run {
        while self.step() {}
        self.finish()
    }

    /// Does one step, and returns whether there is another.
    pub fn step(&mut self) -> bool {
        match self.try_step() {
            Ok(None) => return true,
            Ok(Some(report)) => self.run.result = Ok(report),
            Err(broken) => {
                self.run.result = Err(broken);
                self.salvage();
            }
        }
        false
    }

    /// Returns what happened.
    pub fn finish(self) -> Run {
        self.run
    }

    fn try_step(&mut self) -> Result<Option<Report>, Broken> {
        match self.session.poll_step() {
            Step::View => {
                self.finish_response()?;
                let view = self.a.clone();
                let Ok(verdict) = self.session.handle_view(&view);
                self.view = Some(view);
                verdict?;
            }
            Step::Exchange { header, entries } => self.exchange(header, entries)?,
            Step::ReceiveHeader => match self.next_frame()? {
                Some(frame) => {
                    self.session.handle_peer(self.server_key);
                    self.session.handle_header(&frame)?;
                }
                None => self.session.handle_end()?,
            },
            Step::Receive => match self.session.receiver().poll_step(self.now_ms) {
                ReceiveStep::ReceivePart => self.receive_part()?,
                ReceiveStep::Append { entries, .. } => self.begin_store(entries)?,
                ReceiveStep::AwaitAppend => self.finish_store()?,
                ReceiveStep::Done => {}
            },
            Step::Done(report) => {
                self.finish_response()?;
                return Ok(Some(report));
            }
        }
        Ok(None)
    }

    fn receive_part(&mut self) -> Result<(), Broken> {
        match &mut self.storing {
            Some((_, 0)) => self.finish_store()?,
            Some((_, parts)) => *parts -= 1,
            None => {}
        }
        match self.next_frame()? {
            Some(frame) => self.take_part(&frame),
            None => Ok(self.session.handle_end()?),
        }
    }

    /// Takes a part of the response at A.
    fn take_part(&mut self, frame: &[u8]) -> Result<(), Broken> {
        let part = Received::from_frame(self.session.tree(), frame)?;
        let receiver = self.session.receiver();
        receiver.handle_part(part, frame.len(), self.now_ms)?;
        self.now_ms += self.silence_ms;
        Ok(())
    }

    fn begin_store(&mut self, entries: Vec<VerifiedEntry>) -> Result<(), Broken> {
        assert!(self.storing.is_none(), "one step of a store at a time");
        self.storing = Some((entries, self.outcome_delay_parts));
        if self.outcome_delay_parts == 0 {
            self.finish_store()?;
        }
        Ok(())
    }

    fn finish_store(&mut self) -> Result<(), Broken> {
        let (entries, _) = self.storing.take().expect("a step of the store");
        let outcome = append(self.a, entries);
        let line = describe_outcome("A", self.a, &outcome, &self.names);
        self.run.transcript.push(line);
        Ok(self.session.receiver().handle_appended(outcome)?)
    }

    /// Stores what arrived before it broke.
    fn salvage(&mut self) {
        self.session.receiver().handle_break();
        if self.storing.is_some() {
            let _known_already = self.finish_store();
        }
        while let ReceiveStep::Append { entries, .. } =
            self.session.receiver().poll_step(self.now_ms)
        {
            self.storing = Some((entries, 0));
            let _known_already = self.finish_store();
        }
        if let ServerSide::Receives(mut session) =
            std::mem::replace(&mut self.server, ServerSide::Idle)
            && let Some(receiver) = session.receiver()
        {
            receiver.handle_break();
            let _known_already = self.store_at_b(receiver);
        }
    }

    /// Reads a response to its end: after its last part there may be nothing.
    fn finish_response(&mut self) -> Result<(), Broken> {
        while let Some(frame) = self.next_frame()? {
            self.take_part(&frame)?;
        }
        Ok(())
    }

    /// Sends a frame, and returns what arrives for it.
    fn carry(&mut self, way: Way, frame: Bytes) -> Result<Vec<Bytes>, Broken> {
        if self.cut_after == Some(self.run.frames) {
            return Err(Broken::Cut);
        }
        let number = self.run.frames;
        self.run.frames += 1;
        let arrived = (self.tamper)(way, number, frame);
        let mut decoder = FrameDecoder::new();
        for frame in &arrived {
            decoder.feed(&encode_frame(frame).expect("no machine makes too large a frame"));
            let decoded = decoder.poll_frame().expect("it was let through");
            assert_eq!(decoded.as_ref(), Some(frame));
            match way {
                Way::Asks => self.run.asked_bytes += frame.len(),
                Way::Answers => self.run.answered_bytes += frame.len(),
            }
        }
        decoder.finish().expect("whole frames were fed");
        (self.between)(number, self.a, self.b);
        Ok(arrived)
    }

    fn exchange(&mut self, header: Bytes, entries: Option<EntrySelection>) -> Result<(), Broken> {
        self.server = ServerSide::Idle;
        self.inbox.clear();
        for frame in self.carry(Way::Asks, header)? {
            self.answer(&frame);
        }
        let Some(selection) = entries else {
            return Ok(());
        };
        let mut entries = selection.outgoing();
        let view = self.view.take().expect("entries are chosen on a view");
        let (mut sent, mut sent_bytes) = (0, 0);
        loop {
            let Ok(frame) = entries.poll_frame(&view);
            // A peer that has answered already reads no further.
            let listens = matches!(self.server, ServerSide::Receives(_));
            let Some((frame, count)) = frame.filter(|_| listens) else {
                break;
            };
            sent += count as u64;
            sent_bytes += frame.len() as u64;
            for frame in self.carry(Way::Asks, frame)? {
                self.answer(&frame);
            }
        }
        self.end_request();
        self.session.handle_sent(sent, sent_bytes);
        Ok(())
    }

    /// Takes a frame at B.
    fn answer(&mut self, frame: &Bytes) {
        match std::mem::replace(&mut self.server, ServerSide::Idle) {
            ServerSide::Idle => {
                self.run
                    .transcript
                    .push(describe_request(frame, &self.names));
                let mut session = Box::new(AnswerSession::new(LINK_LOG, self.client_key));
                session.handle_header(frame);
                self.advance(session);
            }
            ServerSide::Receives(mut session) => {
                let receiver = session.receiver().expect("it receives");
                let tree = receiver.tree();
                let line = describe_part("A -> B", tree, frame, &self.names);
                self.run.transcript.push(line);
                let taken = Received::from_frame(tree, frame)
                    .map_err(SyncFault::from)
                    .and_then(|part| receiver.handle_part(part, frame.len(), self.now_ms));
                self.now_ms += self.silence_ms;
                if taken.is_err() {
                    receiver.handle_break();
                }
                let stored = self.store_at_b(receiver).map_err(SyncFault::from);
                match stored.and(taken) {
                    Ok(()) => self.server = ServerSide::Receives(session),
                    Err(fault) => {
                        session.handle_fault(&fault);
                        self.advance(session);
                    }
                }
            }
            // What the client sends after that is not read.
            answers @ ServerSide::Answers { .. } => self.server = answers,
        }
    }

    /// Does at B what the session says, until it waits for entries or has answered.
    fn advance(&mut self, mut session: Box<AnswerSession>) {
        let mut view = MemoryDag::new(self.b.tree());
        self.server = loop {
            match session.poll_step() {
                AnswerStep::View(tree) => {
                    view = match self.b.tree() == tree {
                        true => self.b.clone(),
                        false => MemoryDag::new(tree),
                    };
                    let Ok(()) = session.handle_view(&view);
                }
                AnswerStep::Receive => break ServerSide::Receives(session),
                AnswerStep::Answer { header, entries } => {
                    break ServerSide::Answers {
                        header: Some(header),
                        entries: entries.map(|entries| Box::new((view, entries.outgoing()))),
                    };
                }
            }
        };
    }

    fn store_at_b(&mut self, receiver: &mut EntryReceiver) -> Result<(), PeerFault> {
        while let ReceiveStep::Append { entries, .. } = receiver.poll_step(self.now_ms) {
            let outcome = append(self.b, entries);
            let line = describe_outcome("B", self.b, &outcome, &self.names);
            self.run.transcript.push(line);
            receiver.handle_appended(outcome)?;
        }
        Ok(())
    }

    /// Ends the request at B.
    fn end_request(&mut self) {
        match std::mem::replace(&mut self.server, ServerSide::Idle) {
            ServerSide::Receives(mut session) => {
                let receiver = session.receiver().expect("it receives");
                if let Err(fault) = receiver.handle_end() {
                    session.handle_fault(&fault.into());
                }
                self.advance(session);
            }
            other => self.server = other,
        }
    }

    /// Returns the next frame of the response at A, or `None` at its end.
    fn next_frame(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            if let Some(frame) = self.inbox.pop_front() {
                return Ok(Some(frame));
            }
            let ServerSide::Answers { header, entries } = &mut self.server else {
                return Ok(None);
            };
            let is_header = header.is_some();
            let frame = match (header.take(), entries) {
                (Some(header), _) => Some(header),
                (None, Some(source)) => {
                    let (view, entries) = &mut **source;
                    let Ok(frame) = entries.poll_frame(view);
                    frame.map(|(frame, _)| frame)
                }
                (None, None) => None,
            };
            let Some(frame) = frame else {
                self.server = ServerSide::Idle;
                return Ok(None);
            };
            let tree = self.session.tree();
            for (index, frame) in self.carry(Way::Answers, frame)?.into_iter().enumerate() {
                self.run.transcript.push(match is_header && index == 0 {
                    true => describe_reply(&frame, &self.names),
                    false => describe_part("B -> A", tree, &frame, &self.names),
                });
                self.inbox.push_back(frame);
            }
        }
    }
}

/// Stores entries and checks that the tree is still closed under ancestors.
pub(super) fn append(dag: &mut MemoryDag, entries: Vec<VerifiedEntry>) -> AppendOutcome {
    let outcome = dag.append(entries);
    for at in outcome.stored.clone().map(eidetica_dag::Arrival) {
        let Ok(node) = dag.node(at);
        assert!(node.parents.iter().all(|parent| *parent < at));
        assert_eq!(node.parents.is_empty(), at.0 == 0, "only the root has none");
    }
    outcome
}
