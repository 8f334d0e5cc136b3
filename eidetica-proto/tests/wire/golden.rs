//! The bytes of every message, as other versions of this program write and read them.
//!
//! A change here is a change of the protocol: it needs another [`PROTOCOL_VERSION`].

use eidetica_dag::testing::key;
use eidetica_dag::{EntryId, TreeId};
use eidetica_proto::message::*;
use eidetica_proto::{ErrorCode, WireError};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn id(fill: u8) -> EntryId {
    EntryId::from_bytes([fill; 32])
}

fn tree() -> TreeId {
    TreeId::from_root(id(0x11))
}

fn hello() -> Hello {
    Hello {
        key: key(1).public(),
        versions: vec![1],
        addresses: vec!["http:localhost:80".parse().expect("an address")],
    }
}

/// Writes long runs of one byte shorter: `{11*32}` stands for 32 times 11.
fn short(bytes: &[u8]) -> String {
    let runs = bytes.chunk_by(|a, b| a == b);
    runs.map(|run| match run.len() {
        8.. => format!("{{{:02x}*{}}}", run[0], run.len()),
        _ => hex(run),
    })
    .collect()
}

#[track_caller]
fn request(request: Request, golden: &str) {
    let header = RequestHeader::new(request);
    assert_eq!(short(&header.encode()), golden);
    assert_eq!(RequestHeader::decode(&header.encode()), Ok(header));
}

#[track_caller]
fn response(reply: Result<Reply, WireError>, golden: &str) {
    let frame = ResponseHeader::encode(reply.clone());
    assert_eq!(short(&frame), golden);
    assert_eq!(ResponseHeader::decode(&frame), Ok(ResponseHeader { reply }));
}

#[track_caller]
fn part(part: Part<'_>, golden: &str) {
    assert_eq!(short(&part.encode()), golden);
    assert_eq!(Part::decode(&part.encode()), Ok(part));
}

#[test]
fn requests() {
    request(
        Request::Hello(hello()),
        "01002ed5511baec3cdfd4dfb169eb1d8f8979bc8dd9485721f38fd02dbb9f36577a201010111687474703a6c6f63616c686f73743a3830",
    );
    request(Request::ListTrees(ListTrees { after: None }), "010100");
    request(
        Request::ListTrees(ListTrees {
            after: Some(tree()),
        }),
        "010101{11*32}",
    );
    let (tips, wants) = (vec![id(0x22), id(0x33)], vec![id(0x44)]);
    request(
        Request::SyncTree(SyncTree {
            tree: tree(),
            tips,
            filter: None,
            wants,
        }),
        "0102{11*32}02{22*32}{33*32}0001{44*32}",
    );
    request(
        Request::SendEntries(SendEntries {
            tree: tree(),
            entries: 300,
        }),
        "0103{11*32}ac02",
    );
}

#[test]
fn responses() {
    response(
        Ok(Reply::Hello(hello())),
        "00002ed5511baec3cdfd4dfb169eb1d8f8979bc8dd9485721f38fd02dbb9f36577a201010111687474703a6c6f63616c686f73743a3830",
    );
    let name = "notes".to_owned();
    let summary = TreeSummary {
        tree: tree(),
        name,
        entries: 7,
    };
    response(
        Ok(Reply::Trees(vec![summary])),
        "000101{11*32}056e6f74657307",
    );
    response(Ok(Reply::Sync(SyncReply::Equal)), "000200");
    response(Ok(Reply::Sync(SyncReply::Entries(300))), "000201ac02");
    response(Ok(Reply::Sync(SyncReply::SendFilter)), "000202");
    let stored = Stored {
        stored: 5,
        tips: vec![id(0x22)],
        missing: vec![id(0x33)],
    };
    response(Ok(Reply::Stored(stored)), "00030501{22*32}01{33*32}");
}

#[test]
fn errors() {
    let codes = [
        ErrorCode::Malformed,
        ErrorCode::UnsupportedVersion,
        ErrorCode::NotFound,
        ErrorCode::ReadOnly,
        ErrorCode::TooLarge,
        ErrorCode::EntryRefused,
        ErrorCode::Busy,
        ErrorCode::Internal,
    ];
    for (number, code) in codes.into_iter().enumerate() {
        response(
            Err(WireError::new(code, "why")),
            &format!("01{number:02x}0377687900"),
        );
    }
    let busy = WireError {
        retry_after_ms: Some(1_000),
        ..WireError::new(ErrorCode::Busy, "")
    };
    response(Err(busy), "01060001e807");
}

#[test]
fn parts() {
    part(Part::Batch(b"abc"), "0003616263");
    part(
        Part::End {
            tips: vec![id(0x22)],
        },
        "0101{22*32}",
    );
    part(
        Part::Failed(WireError::new(ErrorCode::Internal, "why")),
        "02070377687900",
    );
}
