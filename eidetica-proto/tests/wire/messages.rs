//! What a decoder lets through. Each limit is reached by a test.

use eidetica_dag::testing::key;
use eidetica_dag::{EntryId, TreeId};
use eidetica_proto::address::Address;
use eidetica_proto::error::ERROR_TEXT_BYTES_MAX;
use eidetica_proto::message::*;
use eidetica_proto::{ErrorCode, PROTOCOL_VERSION, PeerFault, WireError};
use proptest::prelude::*;

fn id(number: u32) -> EntryId {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    EntryId::from_bytes(bytes)
}

fn ids(count: usize) -> Vec<EntryId> {
    (0..count as u32).map(id).collect()
}

fn tree() -> TreeId {
    TreeId::from_root(id(9))
}

fn sync(tips: Vec<EntryId>, wants: Vec<EntryId>) -> Request {
    let tree = tree();
    Request::SyncTree(SyncTree {
        tree,
        tips,
        filter: None,
        wants,
    })
}

fn hello(versions: usize, addresses: usize) -> Hello {
    let address: Address = "http:localhost:1".parse().expect("an address");
    Hello {
        key: key(1).public(),
        versions: vec![1; versions],
        addresses: vec![address; addresses],
    }
}

fn code_of(request: Request) -> Option<ErrorCode> {
    let header = RequestHeader::new(request);
    let decoded = RequestHeader::decode(&header.encode());
    if let Ok(decoded) = &decoded {
        assert_eq!(*decoded, header);
    }
    decoded.err().map(|error| error.code)
}

fn fault_of(reply: Result<Reply, WireError>) -> Option<PeerFault> {
    let decoded = ResponseHeader::decode(&ResponseHeader::encode(reply.clone()));
    if let Ok(decoded) = &decoded {
        assert_eq!(decoded.reply, reply);
    }
    decoded.err()
}

#[test]
fn another_version_is_refused_whatever_follows() {
    let two = postcard::to_stdvec(&2_u16).expect("a number");
    for rest in [&[][..], &[0xff; 40], b"garbage"] {
        let frame = [two.as_slice(), rest].concat();
        let error = RequestHeader::decode(&frame).expect_err("another version");
        assert_eq!(error.code, ErrorCode::UnsupportedVersion);
        assert!(error.text.contains('2') && error.text.contains(&PROTOCOL_VERSION.to_string()));
    }
}

#[test]
fn unknown_messages_are_malformed() {
    let mut frame = postcard::to_stdvec(&PROTOCOL_VERSION).expect("a number");
    frame.push(100);
    let error = RequestHeader::decode(&frame).expect_err("no such request");
    assert_eq!(error.code, ErrorCode::Malformed);
    assert_eq!(
        RequestHeader::decode(&[]).map_err(|error| error.code),
        Err(ErrorCode::Malformed)
    );
    assert_eq!(
        ResponseHeader::decode(&[0, 100]),
        Err(PeerFault::NotAMessage)
    );
    assert_eq!(Part::decode(&[100]), Err(PeerFault::NotAMessage));
}

#[test]
fn bytes_behind_a_message_are_malformed() {
    let longer = |frame: bytes::Bytes| [frame.as_ref(), &[0]].concat();
    let request = longer(RequestHeader::new(sync(vec![], vec![])).encode());
    assert_eq!(
        RequestHeader::decode(&request).map_err(|error| error.code),
        Err(ErrorCode::Malformed)
    );
    let response = longer(ResponseHeader::encode(Ok(Reply::Sync(SyncReply::Equal))));
    assert_eq!(
        ResponseHeader::decode(&response),
        Err(PeerFault::NotAMessage)
    );
    let part = longer(Part::End { tips: vec![] }.encode());
    assert_eq!(Part::decode(&part), Err(PeerFault::NotAMessage));
}

#[test]
fn lists_in_requests_have_limits() {
    assert_eq!(code_of(sync(ids(TIPS_MAX), ids(WANTS_MAX))), None);
    assert_eq!(
        code_of(sync(ids(TIPS_MAX + 1), vec![])),
        Some(ErrorCode::TooLarge)
    );
    assert_eq!(
        code_of(sync(vec![], ids(WANTS_MAX + 1))),
        Some(ErrorCode::TooLarge)
    );
    assert_eq!(
        code_of(Request::Hello(hello(VERSIONS_MAX, ADDRESSES_MAX))),
        None
    );
    for (versions, addresses) in [(VERSIONS_MAX + 1, 0), (1, ADDRESSES_MAX + 1)] {
        let hello = Request::Hello(hello(versions, addresses));
        assert_eq!(code_of(hello), Some(ErrorCode::TooLarge));
    }
}

#[test]
fn ids_in_requests_ascend() {
    for unsorted in [vec![id(2), id(1)], vec![id(1), id(1)]] {
        assert_eq!(
            code_of(sync(unsorted.clone(), vec![])),
            Some(ErrorCode::Malformed)
        );
        assert_eq!(code_of(sync(vec![], unsorted)), Some(ErrorCode::Malformed));
    }
}

#[test]
fn lists_in_responses_have_limits_and_ascend() {
    let bad = |fault: Option<PeerFault>| matches!(fault, Some(PeerFault::BadList(_)));
    let stored = |tips, missing| {
        Ok(Reply::Stored(Stored {
            stored: 1,
            tips,
            missing,
        }))
    };
    assert_eq!(fault_of(stored(ids(TIPS_MAX), ids(WANTS_MAX))), None);
    assert!(bad(fault_of(stored(ids(TIPS_MAX + 1), vec![]))));
    assert!(bad(fault_of(stored(vec![], ids(WANTS_MAX + 1)))));
    assert!(bad(fault_of(stored(vec![id(2), id(1)], vec![]))));
    assert!(bad(fault_of(stored(vec![], vec![id(1), id(1)]))));

    assert_eq!(
        fault_of(Ok(Reply::Hello(hello(VERSIONS_MAX, ADDRESSES_MAX)))),
        None
    );
    assert!(bad(fault_of(Ok(Reply::Hello(hello(VERSIONS_MAX + 1, 0))))));
    assert!(bad(fault_of(Ok(Reply::Hello(hello(1, ADDRESSES_MAX + 1))))));

    let trees = |count| {
        let summary = |id| TreeSummary {
            tree: TreeId::from_root(id),
            name: String::new(),
            entries: 0,
        };
        ids(count).into_iter().map(summary).collect::<Vec<_>>()
    };
    assert_eq!(fault_of(Ok(Reply::Trees(trees(TREES_MAX)))), None);
    assert!(bad(fault_of(Ok(Reply::Trees(trees(TREES_MAX + 1))))));
    assert!(bad(fault_of(Ok(Reply::Trees(
        trees(2).into_iter().rev().collect()
    )))));

    let end = |tips| Part::decode(&Part::End { tips }.encode()).map(drop).err();
    assert_eq!(end(ids(TIPS_MAX)), None);
    assert!(bad(end(ids(TIPS_MAX + 1))));
    assert!(bad(end(vec![id(1), id(1)])));
}

#[test]
fn texts_of_errors_have_a_limit() {
    let long = WireError::new(ErrorCode::Internal, "é".repeat(ERROR_TEXT_BYTES_MAX));
    assert_eq!(long.text.len(), ERROR_TEXT_BYTES_MAX);
    let longer = WireError {
        text: long.text.clone() + "!",
        ..long.clone()
    };
    assert_eq!(fault_of(Err(long.clone())), None);
    assert!(fault_of(Err(longer.clone())).is_some());
    assert!(Part::decode(&Part::Failed(long).encode()).is_ok());
    assert!(Part::decode(&Part::Failed(longer).encode()).is_err());
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _any = (RequestHeader::decode(&bytes), ResponseHeader::decode(&bytes), Part::decode(&bytes));
    }
}
