//! The bytes of every message, as other versions of this program write and read them.
//!
//! A change here is a change of the protocol: it needs another [`PROTOCOL_VERSION`].

use bytes::Bytes;
use eidetica_dag::testing::key;
use eidetica_dag::{EntryId, PublicKey, Role, Signature, TreeId};
use eidetica_proto::message::*;
use eidetica_proto::peers::AddressRecord;
use eidetica_proto::proof::{KnownPeer, Proving, read_request};
use eidetica_proto::tips::{EndTips, TipDigest, TipSet, TipSketch};
use eidetica_proto::{Cursor, ErrorCode, WireError};

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
        versions: (2, 3),
        addresses: vec!["http:localhost:80".parse().expect("an address")],
    }
}

fn cursor() -> Cursor {
    Cursor::from_bytes(&[0x55; 20]).expect("short enough")
}

fn record() -> AddressRecord {
    let addresses = ["http:192.0.2.1:80".parse().expect("an address")];
    AddressRecord::sign(&key(1), 7, 300, &addresses)
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
    let decoded = ResponseHeader::decode(&frame).expect("our own");
    assert_eq!((decoded.version, decoded.reply), (2, reply));
}

#[track_caller]
fn part(part: Part<'_>, golden: &str) {
    assert_eq!(short(&part.encode()), golden);
    assert_eq!(Part::decode(&part.encode()), Ok(part));
}

#[track_caller]
fn watch_frame(frame: WatchFrame<'_>, golden: &str) {
    assert_eq!(short(&frame.encode()), golden);
    assert_eq!(WatchFrame::decode(&frame.encode()), Ok(frame));
}

#[test]
fn requests() {
    request(
        Request::Hello(hello()),
        "020200002ed5511baec3cdfd4dfb169eb1d8f8979bc8dd9485721f38fd02dbb9f36577a202030111687474703a6c6f63616c686f73743a3830",
    );
    request(Request::ListTrees(ListTrees { after: None }), "0202000100");
    let after = Some(tree());
    request(Request::ListTrees(ListTrees { after }), "0202000101{11*32}");
    let sync = |tips, wants| {
        let (tree, sample) = (tree(), Sample::None);
        Request::SyncTree(SyncTree {
            tree,
            tips,
            sample,
            wants,
        })
    };
    let listed = TipSet::Listed(vec![id(0x22), id(0x33)]);
    request(
        sync(listed, vec![id(0x44)]),
        "02020002{11*32}004102{22*32}{33*32}000001{44*32}",
    );
    let digest = TipDigest::of(&[id(0x22)]);
    request(
        sync(TipSet::Digest(digest), vec![]),
        "02020002{11*32}01209f72ea0cf49536e3c66c787f705186df9a4378083753ae9536d65b3ad7fcddc4000000",
    );
    let (sketch, _) = TipSketch::new(digest, &[id(0x22), id(0x33)], *b"the seed");
    request(
        sync(TipSet::Sketch(sketch), vec![]),
        "02020002{11*32}02319f72ea0cf49536e3c66c787f705186df9a4378083753ae9536d65b3ad7fcddc47468652073656564020718ad48e5321720000000",
    );
    let (tree, entries) = (tree(), 300);
    request(
        Request::SendEntries(SendEntries { tree, entries }),
        "02020003{11*32}ac02",
    );
}

#[test]
fn live_requests() {
    let other = TreeId::from_root(id(0x12));
    let trees = vec![(tree(), cursor()), (other, Cursor::NONE)];
    request(
        Request::Watch(Watch { trees }),
        "0202000502{11*32}14{55*20}{12*32}00",
    );
    let check = CheckTrees {
        seed: [0x66; 8],
        trees: vec![(tree(), [0x77; 8])],
    };
    request(Request::CheckTrees(check), "02020006{66*8}01{11*32}{77*8}");
    let epoch = [0x88; 8];
    request(Request::Alive(Alive { epoch }), "02020008{88*8}");
    let get = GetEntries {
        tree: tree(),
        ids: vec![id(0x22), id(0x33)],
    };
    request(Request::GetEntries(get), "02020009{11*32}02{22*32}{33*32}");
    let (tree, records) = (tree(), vec![record()]);
    request(
        Request::Peers(Peers { tree, records }),
        "02020007{11*32}012ed5511baec3cdfd4dfb169eb1d8f8979bc8dd9485721f38fd02dbb9f36577a207ac020111687474703a3139322e302e322e313a38304043f8fd55481d4bab06736f9c4856d8ab6661acb6d530f812a1b48ce9cf7065ac8fb1bb4949e7c5666206878c91c82046afd7dc9f5dda6cb3d014a9d922b15307",
    );
}

#[test]
fn responses() {
    response(
        Ok(Reply::Hello(hello())),
        "0200012ed5511baec3cdfd4dfb169eb1d8f8979bc8dd9485721f38fd02dbb9f36577a202030111687474703a6c6f63616c686f73743a3830",
    );
    let summary = TreeSummary {
        tree: tree(),
        name: "notes".to_owned(),
        entries: 7,
    };
    response(
        Ok(Reply::Trees(vec![summary])),
        "02000201{11*32}056e6f74657307",
    );
    response(
        Ok(Reply::Sync(SyncReply::Equal(cursor()))),
        "020003001514{55*20}",
    );
    response(Ok(Reply::Sync(SyncReply::Entries(300))), "0200030102ac02");
    response(Ok(Reply::Sync(SyncReply::SendFilter)), "0200030200");
    let stored = Stored {
        stored: 5,
        tips: TipDigest::of(&[id(0x22)]),
        missing: vec![id(0x33)],
        cursor: cursor(),
    };
    response(
        Ok(Reply::Stored(stored)),
        "020004059f72ea0cf49536e3c66c787f705186df9a4378083753ae9536d65b3ad7fcddc401{33*32}14{55*20}",
    );
}

#[test]
fn live_responses() {
    response(Ok(Reply::Watching), "020006");
    let checked = Checked {
        looked_at: 4,
        differ: vec![1, 3],
        absent: vec![0],
        equal: vec![cursor()],
    };
    response(Ok(Reply::Checked(checked)), "0200070402010301000114{55*20}");
    let epoch = [0x88; 8];
    response(Ok(Reply::Alive(Alive { epoch })), "020009{88*8}");
    response(
        Ok(Reply::Peers(vec![record()])),
        "020008012ed5511baec3cdfd4dfb169eb1d8f8979bc8dd9485721f38fd02dbb9f36577a207ac020111687474703a3139322e302e322e313a38304043f8fd55481d4bab06736f9c4856d8ab6661acb6d530f812a1b48ce9cf7065ac8fb1bb4949e7c5666206878c91c82046afd7dc9f5dda6cb3d014a9d922b15307",
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
    request(Request::Join(join.clone()), "02020004{11*32}010341646100");
    let signature = Signature::from_bytes([0x33; 64]);
    join.invite = Some(InviteProof {
        invite: PublicKey::from_bytes([0x22; 32]),
        signature,
    });
    request(
        Request::Join(join),
        "02020004{11*32}010341646101{22*32}40{33*64}",
    );
    response(
        Ok(Reply::Join(JoinReply::Granted(Role::Admin))),
        "020005000102",
    );
    response(Ok(Reply::Join(JoinReply::Pending)), "0200050100");
    response(Ok(Reply::Join(JoinReply::Rejected)), "0200050200");
}

#[test]
fn proofs() {
    let frames = |proving: Proving| proving.frames().map(|frame| short(&frame));
    let header = Bytes::from_static(b"header");
    let challenge = Proving::challenge([5; 16], None, header.clone());
    assert_eq!(frames(challenge), ["0201{05*16}", "686561646572"]);
    let to = KnownPeer {
        key: key(2).public(),
        epoch: [4; 8],
        clock_ahead_ms: -1,
    };
    let signed = Proving::sign(&key(1), &to, 301, [5; 16], header);
    let client = key(1).public();
    let [proof, _] = frames(signed.clone());
    let golden = format!("0202{client}{{04*8}}ac02{{05*16}}40");
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
    // Ed25519 signs alike each time, so these bytes pin the signed message.
    let pinned = [&proof[proof.len() - 8..], &answer[answer.len() - 8..]].map(hex);
    assert_eq!(pinned, ["efce9125abe94104", "89eb379146f70a03"]);
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
        ErrorCode::Unsupported,
        ErrorCode::Damaged,
        ErrorCode::Unknown(12),
    ];
    for (number, code) in codes.into_iter().enumerate() {
        response(
            Err(WireError::new(code, "why")),
            &format!("020000{number:02x}0377687900"),
        );
    }
    let busy = WireError {
        retry_after_ms: Some(1_000),
        ..WireError::new(ErrorCode::Busy, "")
    };
    response(Err(busy), "020000060001e807");
}

#[test]
fn parts() {
    part(Part::Batch(b"abc"), "00616263");
    let end = |tips, cursor| Part::End { tips, cursor };
    part(end(EndTips::Untold, Cursor::NONE), "010000");
    let listed = EndTips::Listed(vec![id(0x22)]);
    part(end(listed, cursor()), "010101{22*32}14{55*20}");
    let (places, others) = (vec![5], vec![id(0x22)]);
    part(
        end(EndTips::Shared { places, others }, cursor()),
        "0102010501{22*32}14{55*20}",
    );
    part(
        Part::Failed(WireError::new(ErrorCode::Internal, "why")),
        "02070377687900",
    );
}

#[test]
fn watch_frames() {
    let entries = WatchFrame::Entries {
        tree: 300,
        cursor: cursor(),
        batch: b"abc",
    };
    watch_frame(entries, "00ac0214{55*20}616263");
    watch_frame(WatchFrame::CompareFirst { tree: 300 }, "01ac02");
    watch_frame(WatchFrame::Gone { tree: 1 }, "0201");
    watch_frame(WatchFrame::Heartbeat, "03");
    let failed = WatchFrame::Failed(WireError::new(ErrorCode::Internal, "why"));
    watch_frame(failed, "04070377687900");
}
