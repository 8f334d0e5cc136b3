//! Syncs two copies of a tree over blocking sockets of the standard library, with `eidetica-dag` and
//! `eidetica-proto` alone: both sides of the protocol, with no runtime and no transport.
//!
//! ```sh
//! cargo run -p eidetica-proto --example own_io                      # both sides, over TCP
//! cargo run -p eidetica-proto --example own_io -- 127.0.0.1:80 TREE # fetches a public tree from a node
//! ```
// Not `expect`: a test of another crate, which has other rules, contains this file.
#![allow(clippy::disallowed_types, reason = "an example does its own I/O")]
#![allow(clippy::disallowed_methods, reason = "an example reads the clock")]
#![allow(clippy::print_stdout, reason = "an example shows what it did")]

mod http;

use std::io::{self, BufReader, BufWriter, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::SystemTime;

use bytes::Bytes;
use eidetica_dag::{
    AccessChange, AccessRule, Body, Genesis, MemoryDag, PublicKey, Role, SecretKey, Subject,
    TreeId, sign_above_tips, sign_root,
};
use eidetica_proto::frame::{FrameReader, write_frame};
use eidetica_proto::{
    AnswerSession, AnswerStep, EntryReceiver, EntrySelection, LogId, ReceiveStep, Received, Report,
    Step, SyncOptions, SyncSession,
};

pub(crate) use http::NodeOverHttp;

/// What can go wrong: a connection, a peer, or neither.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The frames of a message, as they arrive.
pub(crate) type Frames = Box<dyn Iterator<Item = io::Result<Bytes>>>;

/// Makes a copy equal with a peer's, which has proved this key, if any. `exchange` sends a request and
/// returns the response.
pub(crate) fn sync(
    dag: &mut MemoryDag,
    peer: Option<PublicKey>,
    exchange: &mut dyn FnMut(Vec<Bytes>) -> Result<Frames>,
) -> Result<Report> {
    let seed = now_ns().to_le_bytes()[..8].try_into()?; // A real program takes random bytes.
    let mut session = SyncSession::new(dag.tree(), SyncOptions::default(), seed);
    session.handle_peer(peer);
    let mut response: Frames = Box::new(std::iter::empty());
    loop {
        match session.poll_step() {
            Step::View => session.handle_view(dag)??,
            Step::Exchange { header, entries } => {
                response = exchange(message(header, entries, dag)?)?
            }
            Step::ReceiveHeader => match response.next().transpose()? {
                Some(frame) => session.handle_header(&frame)?,
                None => session.handle_end()?,
            },
            Step::Receive => receive(session.receiver(), &mut response, dag)?,
            Step::Done(report) => return Ok(report),
        }
    }
}

/// Answers one request of a client without a key, and returns the response.
pub(crate) fn answer(dag: &mut MemoryDag, request: &mut Frames) -> Result<Vec<Bytes>> {
    let mut session = AnswerSession::new(LogId::from_bytes(*b"this log"), None);
    session.handle_header(&request.next().transpose()?.unwrap_or_default());
    loop {
        match session.poll_step() {
            AnswerStep::View(tree) if tree == dag.tree() => session.handle_view(dag)?,
            AnswerStep::View(tree) => session.handle_view(&MemoryDag::new(tree))?,
            AnswerStep::Receive => receive(session.receiver().expect("it receives"), request, dag)?,
            AnswerStep::Answer { header, entries } => return message(header, entries, dag),
        }
    }
}

/// Receives the entries of a message and stores them, alike for both sides.
fn receive(receiver: &mut EntryReceiver, frames: &mut Frames, dag: &mut MemoryDag) -> Result<()> {
    loop {
        let now_ms = 0; // Entries are stored in large steps, however slowly they arrive.
        match receiver.poll_step(now_ms) {
            ReceiveStep::ReceivePart => match frames.next().transpose()? {
                Some(frame) => {
                    let part = Received::from_frame(receiver.tree(), &frame)?;
                    receiver.handle_part(part, frame.len(), now_ms)?;
                }
                None => receiver.handle_end()?,
            },
            ReceiveStep::Append { entries, .. } => receiver.handle_appended(dag.append(entries))?,
            ReceiveStep::AwaitAppend => unreachable!("entries are stored at once"),
            ReceiveStep::Done => return Ok(()),
        }
    }
}

fn message(header: Bytes, entries: Option<EntrySelection>, dag: &MemoryDag) -> Result<Vec<Bytes>> {
    let mut frames = vec![header];
    if let Some(mut outgoing) = entries.map(|entries| entries.outgoing()) {
        while let Some((frame, _count)) = outgoing.poll_frame(dag)? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

/// Sends a message. Its end is the end of the stream.
fn send(stream: TcpStream, frames: Vec<Bytes>) -> Result<Frames> {
    let mut writer = BufWriter::new(&stream);
    frames
        .iter()
        .try_for_each(|frame| write_frame(&mut writer, frame))?;
    writer.flush()?;
    drop(writer);
    stream.shutdown(Shutdown::Write)?;
    Ok(Box::new(FrameReader::new(BufReader::new(stream))))
}

/// Unique, which is what matters here.
pub(crate) fn now_ns() -> u128 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default().as_nanos()
}

fn main() -> Result<()> {
    match &std::env::args().collect::<Vec<_>>()[..] {
        [_, address, tree] => fetch(address.parse()?, tree.parse()?),
        _ => both_sides(),
    }
}

/// Fetches a tree that anyone may read from a node that serves over HTTP.
fn fetch(address: SocketAddr, tree: TreeId) -> Result<()> {
    let mut node = NodeOverHttp::greet(address, SecretKey::from_bytes(&[2; 32]))?;
    let (key, mut dag) = (node.key(), MemoryDag::new(tree));
    let report = sync(&mut dag, Some(key), &mut |request| node.exchange(request))?;
    println!(
        "fetched {} entries from {key}: {report:?}",
        report.stats.stored
    );
    Ok(())
}

/// Fetches a tree from a server in another thread, then sends it an entry.
pub(crate) fn both_sides() -> Result<()> {
    // Keys come from a secure random source; this one is for show. Anyone may write to its tree.
    let (key, now_ms) = (
        SecretKey::from_bytes(&[1; 32]),
        (now_ns() / 1_000_000) as u64,
    );
    let access = vec![AccessChange::grant(Subject::Anyone, Role::Write)];
    let genesis = Genesis {
        access_rule: AccessRule::SENIORITY,
        nonce: [7; 16],
        name: "notes".into(),
        access,
    };
    let root = sign_root(&key, now_ms, genesis)?;
    let mut theirs = MemoryDag::new(root.get().tree());
    theirs.append(vec![root]);
    let mut ours = MemoryDag::new(theirs.tree());

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut connect = |request| send(TcpStream::connect(address)?, request);
    std::thread::spawn(move || -> Result<()> {
        for stream in listener.incoming() {
            let stream = stream?;
            let mut request: Frames =
                Box::new(FrameReader::new(BufReader::new(stream.try_clone()?)));
            drop(send(stream, answer(&mut theirs, &mut request)?)?);
        }
        Ok(())
    });

    println!("bootstrap: {:?}", sync(&mut ours, None, &mut connect)?);
    let entries = sign_above_tips(&ours, &key, now_ms, [Body::Data("milk".into())])?;
    ours.append(entries);
    println!("sent one entry: {:?}", sync(&mut ours, None, &mut connect)?);
    Ok(())
}
