//! The answering side by itself: what it does with requests and clients that a sync does not have.

use bytes::Bytes;
use eidetica_dag::testing::{Drawn, draw, key};
use eidetica_dag::{ArrivalSet, MemoryDag};
use eidetica_proto::message::{
    ListTrees, Reply, Request, RequestHeader, ResponseHeader, SendEntries,
};
use eidetica_proto::tips::EndTips;
use eidetica_proto::{
    AnswerSession, AnswerStep, Cursor, EntrySelection, ErrorCode, LogId, PeerFault, ReceiveStep,
    Received,
};

const LOG: LogId = LogId::from_bytes(*b"this log");

fn reply(step: AnswerStep) -> Result<Reply, ErrorCode> {
    let AnswerStep::Answer { header, .. } = step else {
        panic!("it has not answered");
    };
    let reply = ResponseHeader::decode(&header).expect("well formed").reply;
    reply.map_err(|error| error.code)
}

/// The request to send all entries of a drawing, and the frames after its header.
fn request(drawn: &Drawn) -> (Bytes, Vec<Bytes>) {
    let entries = ArrivalSet::all_below(3);
    let request = SendEntries {
        tree: drawn.tree(),
        entries: entries.len() as u32,
    };
    let header = RequestHeader::new(Request::SendEntries(request)).encode();
    let selection = EntrySelection::new(entries, EndTips::Untold, Cursor::NONE);
    let mut outgoing = selection.outgoing();
    let frames = std::iter::from_fn(|| {
        let Ok(frame) = outgoing.poll_frame(&drawn.dag);
        frame.map(|(frame, _)| frame)
    });
    (header, frames.collect())
}

#[test]
fn requests_that_it_does_not_serve_are_refused_without_a_view() {
    let list = Request::ListTrees(ListTrees { after: None });
    let mut session = AnswerSession::new(LOG, None);
    session.handle_header(&RequestHeader::new(list).encode());
    assert_eq!(reply(session.poll_step()), Err(ErrorCode::Unsupported));

    let mut session = AnswerSession::new(LOG, None);
    session.handle_header(b"not a header");
    assert!(reply(session.poll_step()).is_err());

    let mut empty = AnswerSession::new(LOG, None);
    assert_eq!(reply(empty.poll_step()), Err(ErrorCode::Malformed));
}

#[test]
fn a_tree_that_is_not_here_is_received_only_where_it_is_accepted() {
    let drawn = draw("A-B-C");
    let (header, frames) = request(&drawn);
    let client = Some(key(0).public());

    let mut refusing = AnswerSession::new(LOG, client);
    refusing.handle_header(&header);
    assert!(matches!(refusing.poll_step(), AnswerStep::View(tree) if tree == drawn.tree()));
    let Ok(()) = refusing.handle_view(&MemoryDag::new(drawn.tree()));
    assert_eq!(reply(refusing.poll_step()), Err(ErrorCode::NotFound));
    assert!(refusing.receiver().is_none(), "no entry is read");

    let mut dag = MemoryDag::new(drawn.tree());
    let mut accepting = AnswerSession::new(LOG, client).accept_trees();
    accepting.handle_header(&header);
    let Ok(()) = accepting.handle_view(&dag);
    assert!(matches!(accepting.poll_step(), AnswerStep::Receive));
    let receiver = accepting.receiver().expect("it receives");
    for frame in frames {
        let part = Received::from_frame(drawn.tree(), &frame).expect("well formed");
        receiver
            .handle_part(part, frame.len(), 0)
            .expect("as announced");
    }
    while let ReceiveStep::Append { entries, .. } = receiver.poll_step(0) {
        receiver
            .handle_appended(dag.append(entries))
            .expect("genuine");
    }
    // What is acknowledged is stored: the view comes after that.
    assert!(matches!(accepting.poll_step(), AnswerStep::View(_)));
    let Ok(()) = accepting.handle_view(&dag);
    match reply(accepting.poll_step()) {
        Ok(Reply::Stored(stored)) => {
            assert_eq!((stored.stored, stored.missing.len()), (3, 0));
            let Ok(end) = Cursor::at_end(LOG, &drawn.replica(&["C"]));
            assert_eq!(stored.cursor, end);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_that_breaks_off_is_refused() {
    let drawn = draw("A-B-C");
    let (header, _) = request(&drawn);
    let mut session = AnswerSession::new(LOG, Some(key(0).public()));
    session.handle_header(&header);
    let Ok(()) = session.handle_view(&drawn.dag);
    let receiver = session.receiver().expect("the author may write");
    let fault = receiver
        .handle_end()
        .expect_err("three entries are missing");
    assert_eq!(fault, PeerFault::Incomplete);
    receiver.handle_break();
    session.handle_fault(&fault.into());
    assert_eq!(reply(session.poll_step()), Err(ErrorCode::Malformed));
}
