//! The bytes of every message, as other versions of this program write and read them.
//!
//! A change here is a change of the protocol: it needs another [`PROTOCOL_VERSION`].

use bytes::Bytes;
use eidetica_dag::testing::key;
use eidetica_dag::{EntryId, PublicKey, Role, Signature, TreeId};
use eidetica_proto::message::*;
use eidetica_proto::proof::{KnownPeer, Proving, read_request};
use eidetica_proto::tips::{EndTips, TipDigest, TipSet, TipSketch};
use eidetica_proto::{ErrorCode, WireError};

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
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
            tips: TipSet::Listed(tips),
            sample: Sample::None,
            wants,
        }),
        "0102{11*32}0002{22*32}{33*32}0001{44*32}",
    );
    let digest = TipDigest::of(&[id(0x22)]);
    let digest_hex = "9f72ea0cf49536e3c66c787f705186df9a4378083753ae9536d65b3ad7fcddc4";
    let sync = |tips| {
        let sample = Sample::None;
        Request::SyncTree(SyncTree {
            tree: tree(),
            tips,
            sample,
            wants: vec![],
        })
    };
    request(
        sync(TipSet::Digest(digest)),
        &format!("0102{{11*32}}01{digest_hex}0000"),
    );
    let (sketch, _) = TipSketch::new(digest, &[id(0x22), id(0x33)], *b"the seed");
    request(
        sync(TipSet::Sketch(sketch)),
        &format!("0102{{11*32}}02{digest_hex}7468652073656564020718ad48e53217200000"),
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
        tips: TipDigest::of(&[id(0x22)]),
        missing: vec![id(0x33)],
    };
    let digest = "9f72ea0cf49536e3c66c787f705186df9a4378083753ae9536d65b3ad7fcddc4";
    response(
        Ok(Reply::Stored(stored)),
        &format!("000305{digest}01{{33*32}}"),
    );
}

#[test]
fn joining() {
    let mut join = Join {
        tree: tree(),
        role: Role::Write,
        note: "Ada".into(),
        invite: None,
    };
    request(Request::Join(join.clone()), "0104{11*32}010341646100");
    let signature = Signature::from_bytes([0x33; 64]);
    join.invite = Some(InviteProof {
        invite: PublicKey::from_bytes([0x22; 32]),
        signature,
    });
    let golden = "0104{11*32}010341646101{22*32}40{33*64}";
    request(Request::Join(join), golden);
    response(Ok(Reply::Join(JoinReply::Granted(Role::Admin))), "00040002");
    response(Ok(Reply::Join(JoinReply::Pending)), "000401");
    response(Ok(Reply::Join(JoinReply::Rejected)), "000402");
}

#[test]
fn proofs() {
    let frames = |proving: Proving| proving.frames().map(|frame| short(&frame));
    let header = Bytes::from_static(b"header");
    let challenge = Proving::challenge([5; 16], None, header.clone());
    assert_eq!(frames(challenge), ["0101{05*16}", "686561646572"]);
    let to = KnownPeer {
        key: key(2).public(),
        epoch: [4; 8],
        clock_ahead_ms: -1,
    };
    let signed = Proving::sign(&key(1), &to, 301, [5; 16], header);
    let asker = key(1).public();
    let [proof, _] = frames(signed.clone());
    let golden = format!("0102{asker}{{04*8}}ac02{{05*16}}40");
    assert_eq!(proof.strip_prefix(&golden).map(str::len), Some(128));
    let [proof, header] = signed.frames();
    let (answering, _) = read_request(proof.clone(), header).expect("a request");
    let answer = answering
        .prove(&key(2), [4; 8], 300, b"yes")
        .expect("asked for");
    let golden = format!("{}{{04*8}}ac0240", key(2).public());
    assert_eq!(
        short(&answer).strip_prefix(&golden).map(str::len),
        Some(128)
    );
    // Ed25519 signs alike each time, so these bytes pin what is signed.
    let pinned = [&proof[proof.len() - 8..], &answer[answer.len() - 8..]].map(hex);
    assert_eq!(pinned, ["aa10e92893c5190a", "fee8ada84a842e0e"]);
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
        ErrorCode::Unproven,
        ErrorCode::StaleProof,
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
            tips: EndTips::Untold,
        },
        "0100",
    );
    let listed = EndTips::Listed(vec![id(0x22)]);
    part(Part::End { tips: listed }, "010101{22*32}");
    let (places, others) = (vec![5], vec![id(0x22)]);
    let shared = EndTips::Shared { places, others };
    part(Part::End { tips: shared }, "0102010501{22*32}");
    part(
        Part::Failed(WireError::new(ErrorCode::Internal, "why")),
        "02070377687900",
    );
}
