//! What a decoder lets through. Each limit is reached by a test.

use eidetica_dag::testing::key;
use eidetica_dag::{EntryId, TreeId};
use eidetica_proto::address::Address;
use eidetica_proto::error::ERROR_TEXT_BYTES_MAX;
use eidetica_proto::frame::FRAME_BYTES_MAX;
use eidetica_proto::message::*;
use eidetica_proto::peers::{AddressRecord, RECORDS_PER_TREE_MAX};
use eidetica_proto::tips::{EndTips, TIPS_LISTED_MAX, TIPS_MAX, TipDigest, TipSet};
use eidetica_proto::{
    Cursor, ErrorCode, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN, PeerFault, WireError,
};
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
        tips: TipSet::Listed(tips),
        sample: Sample::None,
        wants,
    })
}

fn hello(addresses: usize) -> Hello {
    let address: Address = "http:localhost:1".parse().expect("an address");
    Hello {
        key: key(1).public(),
        versions: (PROTOCOL_VERSION_MIN, PROTOCOL_VERSION),
        addresses: vec![address; addresses],
    }
}

/// The trees with these many lowest ids.
fn trees(count: usize) -> Vec<TreeId> {
    ids(count).into_iter().map(TreeId::from_root).collect()
}

fn records(count: usize) -> Vec<AddressRecord> {
    let record = |n| AddressRecord::sign(&key(n), 1, 1, &[]);
    let mut records: Vec<_> = (0..count as u32).map(record).collect();
    records.sort_by_key(|record| *record.key());
    records
}

/// A request header of other versions, followed by `rest`.
fn header_of(versions: &[u16], rest: &[u8]) -> Vec<u8> {
    let number = |number: &u16| postcard::to_stdvec(number).expect("a number");
    let mut frame: Vec<u8> = versions.iter().flat_map(number).collect();
    frame.extend_from_slice(rest);
    frame
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
fn versions_that_do_not_overlap_are_refused_by_name() {
    // Version 1 had no range: its headers began with a 1 and the kind of the request.
    for versions in [
        &[0, 9][..],
        &[1, 2],
        &[1, 0],
        &[3, 9],
        &[u16::MAX, u16::MAX],
    ] {
        for rest in [&[][..], &[0xff; 40], b"garbage"] {
            let frame = header_of(versions, rest);
            let error = RequestHeader::decode(&frame).expect_err("other versions");
            assert_eq!(error.code, ErrorCode::UnsupportedVersion, "{versions:?}");
            let named = format!("version {} is not supported", versions[0]);
            assert!(error.text.starts_with(&named), "{}", error.text);
            assert!(error.text.ends_with(&format!("version {PROTOCOL_VERSION}")));
        }
    }
}

/// A client of a later version that still understands this one is answered in this one.
#[test]
fn versions_that_overlap_are_understood() {
    let newer = RequestHeader {
        versions: (PROTOCOL_VERSION, 900),
        capabilities: Capabilities(u64::MAX),
        request: Request::ListTrees(ListTrees { after: None }),
    };
    assert_eq!(RequestHeader::decode(&newer.encode()), Ok(newer));
    let reversed = header_of(&[2, 1], &[0, 1, 0]);
    let code = RequestHeader::decode(&reversed).map_err(|error| error.code);
    assert_eq!(code, Err(ErrorCode::Malformed));
}

/// What later versions add is a value, whatever is in it.
#[test]
fn unknown_kinds_are_values() {
    for body in [&[][..], &[0xff; 40], b"of a later version"] {
        let request = [&[2, 2, 0, 0xac, 0x02], body].concat();
        let header = RequestHeader::decode(&request).expect("a request of a later kind");
        assert_eq!(header.request, Request::Unknown(300));
        let response = [&[2, 0, 0xac, 0x02], body].concat();
        let header = ResponseHeader::decode(&response).expect("a reply of a later kind");
        assert_eq!(header.reply, Ok(Reply::Unknown(300)));
        let frame = [&[0xac, 0x02], body].concat();
        assert_eq!(Part::decode(&frame), Ok(Part::Unknown(300)));
        assert_eq!(WatchFrame::decode(&frame), Ok(WatchFrame::Unknown(300)));
    }
    let request = sync(vec![], vec![]);
    let Request::SyncTree(mut sync) = request else {
        panic!("made above");
    };
    (sync.tips, sync.sample) = (TipSet::Unknown(9), Sample::Unknown(10));
    assert_eq!(code_of(Request::SyncTree(sync)), None);
    assert_eq!(fault_of(Ok(Reply::Sync(SyncReply::Unknown(9)))), None);
    assert_eq!(fault_of(Ok(Reply::Join(JoinReply::Unknown(9)))), None);
}

/// A later version's refusal is understood although its other answers are not.
#[test]
fn refusals_are_the_same_in_all_versions() {
    let refusal = [&[9, 7, 0, 99, 3], &b"why"[..], &[0]].concat();
    let header = ResponseHeader::decode(&refusal).expect("a refusal");
    let error = WireError::new(ErrorCode::Unknown(99), "why");
    assert_eq!((header.version, header.reply), (9, Err(error)));
    let reply = ResponseHeader::decode(&[9, 7, 6]);
    assert_eq!(reply, Err(PeerFault::OtherVersion(9)));
}

#[test]
fn what_is_not_a_message_is_malformed() {
    for frame in [
        &[][..],
        &[2],
        &[2, 2],
        &[2, 2, 0],
        &[2, 2, 0, 2],
        &[0xff; 9],
    ] {
        let code = RequestHeader::decode(frame).map_err(|error| error.code);
        assert_eq!(code, Err(ErrorCode::Malformed), "{frame:?}");
    }
    for frame in [&[][..], &[2], &[2, 0], &[2, 0, 1], &[2, 0, 3, 0, 0]] {
        assert_eq!(ResponseHeader::decode(frame), Err(PeerFault::NotAMessage));
    }
    for frame in [&[][..], &[1], &[2], &[0xff; 9]] {
        assert_eq!(Part::decode(frame), Err(PeerFault::NotAMessage));
    }
    for frame in [&[][..], &[0], &[1], &[2], &[3, 0], &[4], &[0xff; 9]] {
        assert_eq!(WatchFrame::decode(frame), Err(PeerFault::NotAMessage));
    }
}

#[test]
fn bytes_after_a_message_are_malformed() {
    let longer = |frame: bytes::Bytes| [frame.as_ref(), &[0]].concat();
    let request = longer(RequestHeader::new(sync(vec![], vec![])).encode());
    assert_eq!(
        RequestHeader::decode(&request).map_err(|error| error.code),
        Err(ErrorCode::Malformed)
    );
    let response = longer(ResponseHeader::encode(Ok(Reply::Sync(SyncReply::Equal(
        Cursor::NONE,
    )))));
    assert_eq!(
        ResponseHeader::decode(&response),
        Err(PeerFault::NotAMessage)
    );
    let part = longer(
        Part::End {
            tips: EndTips::Untold,
            cursor: Cursor::NONE,
        }
        .encode(),
    );
    assert_eq!(Part::decode(&part), Err(PeerFault::NotAMessage));
}

#[test]
fn lists_in_requests_have_limits() {
    assert_eq!(code_of(sync(ids(TIPS_LISTED_MAX), ids(WANTS_MAX))), None);
    assert_eq!(
        code_of(sync(ids(TIPS_LISTED_MAX + 1), vec![])),
        Some(ErrorCode::TooLarge)
    );
    assert_eq!(
        code_of(sync(vec![], ids(WANTS_MAX + 1))),
        Some(ErrorCode::TooLarge)
    );
    let of = |count| Request::Hello(hello(count));
    assert_eq!(code_of(of(ADDRESSES_MAX)), None);
    assert_eq!(code_of(of(ADDRESSES_MAX + 1)), Some(ErrorCode::TooLarge));
    let watch = |count| {
        let watched = |tree| (tree, Cursor::from_bytes(&[7; 20]).expect("short"));
        let trees = trees(count).into_iter().map(watched).collect();
        Request::Watch(Watch { trees })
    };
    let check = |count| {
        Request::CheckTrees(CheckTrees {
            seed: [0; 8],
            trees: trees(count)
                .into_iter()
                .map(|tree| (tree, [7; 8]))
                .collect(),
        })
    };
    let peers = |count| {
        let (tree, records) = (tree(), records(count));
        Request::Peers(Peers { tree, records })
    };
    type Make<'a> = &'a dyn Fn(usize) -> Request;
    let limits: [(Make<'_>, usize); 3] = [
        (&watch, WATCHED_TREES_MAX),
        (&check, CHECKED_TREES_MAX),
        (&peers, RECORDS_PER_TREE_MAX),
    ];
    for (make, most) in limits {
        assert_eq!(code_of(make(most)), None);
        let longest = RequestHeader::new(make(most)).encode().len();
        assert!(longest <= FRAME_BYTES_MAX, "{longest} bytes in one frame");
        assert_eq!(code_of(make(most + 1)), Some(ErrorCode::TooLarge));
    }
}

#[test]
fn trees_and_records_in_requests_ascend() {
    for unsorted in [[2, 1], [1, 1]] {
        let trees = unsorted.map(|n| TreeId::from_root(id(n)));
        let watch = Request::Watch(Watch {
            trees: trees.map(|tree| (tree, Cursor::NONE)).into(),
        });
        let check = Request::CheckTrees(CheckTrees {
            seed: [0; 8],
            trees: trees.map(|tree| (tree, [0; 8])).into(),
        });
        assert_eq!(code_of(watch), Some(ErrorCode::Malformed));
        assert_eq!(code_of(check), Some(ErrorCode::Malformed));
    }
    let mut records = records(2);
    records.reverse();
    let peers = Peers {
        tree: tree(),
        records: records.clone(),
    };
    assert_eq!(code_of(Request::Peers(peers)), Some(ErrorCode::Malformed));
    assert!(fault_of(Ok(Reply::Peers(records))).is_some());
}

/// Each tree of a check is in one list, and no index is out of range.
#[test]
fn a_check_names_each_tree_once() {
    let fault = |looked_at, differ: &[u16], absent: &[u16], equal| {
        fault_of(Ok(Reply::Checked(Checked {
            looked_at,
            differ: differ.into(),
            absent: absent.into(),
            equal: vec![Cursor::NONE; equal],
        })))
    };
    assert_eq!(fault(4, &[1, 3], &[0], 1), None);
    assert_eq!(fault(0, &[], &[], 0), None);
    for wrong in [
        fault(3, &[1, 3], &[], 1),
        fault(4, &[3, 1], &[], 2),
        fault(4, &[1], &[1], 2),
        fault(4, &[1], &[2], 1),
        fault(4, &[1], &[2], 3),
        fault(
            CHECKED_TREES_MAX as u32 + 1,
            &[],
            &[],
            CHECKED_TREES_MAX + 1,
        ),
    ] {
        assert!(matches!(wrong, Some(PeerFault::BadList(_))), "{wrong:?}");
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
    let stored = |missing| {
        Ok(Reply::Stored(Stored {
            stored: 1,
            tips: TipDigest::of(&[]),
            missing,
            cursor: Cursor::NONE,
        }))
    };
    assert_eq!(fault_of(stored(ids(WANTS_MAX))), None);
    assert!(bad(fault_of(stored(ids(WANTS_MAX + 1)))));
    assert!(bad(fault_of(stored(vec![id(2), id(1)]))));
    assert!(bad(fault_of(stored(vec![id(1), id(1)]))));

    let of = |count| Ok(Reply::Hello(hello(count)));
    assert_eq!(fault_of(of(ADDRESSES_MAX)), None);
    assert!(bad(fault_of(of(ADDRESSES_MAX + 1))));
    let of = |count| Ok(Reply::Peers(records(count)));
    assert_eq!(fault_of(of(RECORDS_PER_TREE_MAX)), None);
    assert!(bad(fault_of(of(RECORDS_PER_TREE_MAX + 1))));

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

    for named in [EndTips::Listed, |others| EndTips::Shared {
        places: vec![],
        others,
    }] {
        let end = |tips| {
            let (tips, cursor) = (named(tips), Cursor::NONE);
            Part::decode(&Part::End { tips, cursor }.encode())
                .map(drop)
                .err()
        };
        assert_eq!(end(ids(TIPS_MAX)), None);
        assert!(bad(end(ids(TIPS_MAX + 1))));
        assert!(bad(end(vec![id(1), id(1)])));
    }
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
        let _any = (RequestHeader::decode(&bytes), ResponseHeader::decode(&bytes));
        let _any = (Part::decode(&bytes), WatchFrame::decode(&bytes));
    }
}
