//! The messages in frames: headers of requests and responses, and the parts after them.

use eidetica_dag::testing::fuzz::assert_entry;
use eidetica_dag::testing::key;
use eidetica_dag::{DagView, EntryId, MemoryDag, Role, SecretKey, TreeId};

use super::replicas::{genuine_frames, pairs};
use super::shortest::assert_shortest;
use super::{batches, filters, tips};
use crate::PROTOCOL_VERSION;
use crate::answer::{AnswerError, answer_sync};
use crate::batch::unpack;
use crate::check::{answer_check, digest};
use crate::cursor::Cursor;
use crate::error::{ERROR_TEXT_BYTES_MAX, ErrorCode, PeerFault, WireError};
use crate::filter::Filter;
use crate::message::{
    ADDRESSES_MAX, Alive, CHECKED_TREES_MAX, CheckTrees, Checked, GetEntries, Hello, InviteProof,
    Join, JoinReply, ListTrees, NOTE_BYTES_MAX, Part, Peers, Reply, Request, RequestHeader,
    ResponseHeader, Sample, SendEntries, SyncReply, SyncTree, TREES_MAX, TreeSummary, WANTS_MAX,
    WATCHED_TREES_MAX, Watch,
};
use crate::peers::{AddressRecord, RECORDS_PER_TREE_MAX};
use crate::received::Received;
use crate::testing::{LINK_LOG, MemoryTrees, Way};
use crate::tips::{EndTips, TIPS_LISTED_MAX, TIPS_MAX, TipDigest, TipSet, TipSketch};

/// Reads the header of a request: its lists keep their limits, it is written as it was read, and if
/// it asks for entries, it gets an answer.
pub fn request(data: &[u8]) -> bool {
    let header = match RequestHeader::decode(data) {
        Ok(header) => header,
        Err(error) => {
            assert_refusal(error);
            return false;
        }
    };
    let written = header.encode();
    assert_eq!(RequestHeader::decode(&written).as_ref(), Ok(&header));
    if !matches!(header.request, Request::Unknown(_)) {
        assert_shortest(data, &written);
    }
    match &header.request {
        Request::Hello(hello) => assert_hello(hello),
        Request::Join(join) => assert!(join.note.len() <= NOTE_BYTES_MAX),
        Request::SyncTree(sync) => {
            if let TipSet::Listed(ids) = &sync.tips {
                assert_ids(ids, TIPS_LISTED_MAX);
            }
            assert_ids(&sync.wants, WANTS_MAX);
            pairs().iter().for_each(|pair| assert_answer(&pair.b, sync));
        }
        Request::Watch(watch) => {
            assert!(watch.trees.len() <= WATCHED_TREES_MAX);
            assert!(watch.trees.is_sorted_by(|a, b| a.0 < b.0));
        }
        Request::CheckTrees(check) => {
            assert!(check.trees.len() <= CHECKED_TREES_MAX);
            let pairs = pairs().iter().map(|pair| pair.b.clone());
            let Ok(answered) = answer_check(&MemoryTrees::new(pairs), LINK_LOG, None, check);
            let reply = Reply::Checked(answered.checked);
            let written = ResponseHeader::encode(Ok(reply.clone()));
            let read = ResponseHeader::decode(&written).map(|header| header.reply);
            assert_eq!(read, Ok(Ok(reply)), "an answer keeps the rules of answers");
        }
        Request::Peers(peers) => assert!(peers.records.len() <= RECORDS_PER_TREE_MAX),
        _ => {}
    }
    true
}

/// Reads the header of a response: its lists keep their limits, and it is written as it was read.
pub fn response(data: &[u8]) -> bool {
    let Ok(header) = ResponseHeader::decode(data) else {
        return false;
    };
    let written = ResponseHeader::encode(header.reply.clone());
    let read = ResponseHeader::decode(&written).map(|header| header.reply);
    assert_eq!(read.as_ref(), Ok(&header.reply));
    // Version and capabilities are written as this version's own, and of an unknown one only the
    // kind is kept.
    let is_own = header.version == PROTOCOL_VERSION && header.capabilities.0 == 0;
    if is_own && !matches!(header.reply, Ok(Reply::Unknown(_))) {
        assert_shortest(data, &written);
    }
    match &header.reply {
        Ok(Reply::Hello(hello)) => assert_hello(hello),
        Ok(Reply::Trees(trees)) => {
            assert!(trees.len() <= TREES_MAX);
            assert!(trees.is_sorted_by(|a, b| a.tree < b.tree));
        }
        Ok(Reply::Stored(stored)) => assert_ids(&stored.missing, WANTS_MAX),
        Ok(_) => {}
        Err(error) => assert!(error.text.len() <= ERROR_TEXT_BYTES_MAX),
    }
    true
}

/// Reads a part after a header, and takes it as a session does.
pub fn part(data: &[u8]) -> bool {
    let tree = batches::tree();
    let received = Received::from_frame(tree, data);
    let Ok(part) = Part::decode(data) else {
        assert!(received.is_err());
        return false;
    };
    let written = part.encode();
    assert_eq!(Part::decode(&written).as_ref(), Ok(&part));
    if !matches!(part, Part::Unknown(_)) {
        assert_shortest(data, &written);
    }
    match (part, received) {
        (Part::Batch(batch), received) => {
            let unpacked = unpack(tree, batch);
            assert_eq!(received.is_ok(), unpacked.is_ok());
            let (Ok(Received::Entries(batch)), Ok(unpacked)) = (received, unpacked) else {
                return false;
            };
            let genuine = batch.verified.iter().map(|entry| entry.get());
            assert!(genuine.chain(&batch.unproven).eq(&unpacked));
        }
        (
            Part::End { tips, cursor },
            Ok(Received::End {
                tips: received,
                cursor: at,
            }),
        ) => {
            assert_ids(tips.listed(), TIPS_MAX);
            assert_eq!((&tips, cursor), (&received, at));
            let own: Vec<EntryId> = (0..20).map(|n| EntryId::from_bytes([n; 32])).collect();
            let resolved = tips.resolve(&own);
            assert!(resolved.is_sorted_by(|a, b| a < b));
            assert!(resolved.len() <= TIPS_MAX + own.len());
        }
        (Part::Failed(error), Ok(Received::Failed(received))) => {
            assert!(error.text.len() <= ERROR_TEXT_BYTES_MAX);
            assert_eq!(error, received);
        }
        (Part::Unknown(_), Err(PeerFault::UnknownKind { .. })) => {}
        (part, received) => panic!("{part:?} was taken for {received:?}"),
    }
    true
}

/// Checks the answer to nonsense: it must be readable.
fn assert_refusal(error: WireError) {
    assert!(error.text.len() <= ERROR_TEXT_BYTES_MAX);
    let written = ResponseHeader::encode(Err(error.clone()));
    let read = ResponseHeader::decode(&written).map(|header| header.reply);
    assert_eq!(read, Ok(Err(error)));
}

/// Answers a request, whatever it says: refused, or with as many entries as announced, all of the
/// tree and parents first among themselves, and with tips at the end.
fn assert_answer(view: &MemoryDag, sync: &SyncTree) {
    let answer = match answer_sync(view, LINK_LOG, sync) {
        Ok(answer) => answer,
        Err(AnswerError::Refuse(error)) => return assert_refusal(error),
        Err(AnswerError::View(never)) => match never {},
    };
    let header = ResponseHeader::decode(&answer.header).expect("our own");
    let Some(selection) = answer.entries else {
        assert!(matches!(
            header.reply,
            Ok(Reply::Sync(SyncReply::Equal(_) | SyncReply::SendFilter))
        ));
        return;
    };
    let announced = selection.entry_count();
    assert_eq!(header.reply, Ok(Reply::Sync(SyncReply::Entries(announced))));
    let mut frames = selection.outgoing();
    let (mut sent, mut ended, mut last) = (0, false, None);
    while let Ok(Some((frame, _))) = frames.poll_frame(view) {
        assert!(!ended, "nothing follows the end");
        match Part::decode(&frame).expect("our own") {
            Part::Batch(batch) => {
                for entry in unpack(view.tree(), batch).expect("our own") {
                    assert_entry(&entry);
                    let Ok(at) = view.arrival(&entry.id());
                    assert!(at.is_some() && at > last, "in the order of arrival");
                    (sent, last) = (sent + 1, at);
                }
            }
            Part::End { .. } => ended = true,
            Part::Failed(error) => panic!("{error}"),
            Part::Unknown(kind) => panic!("a part of kind {kind}"),
        }
    }
    assert!(ended && sent == announced);
}

fn assert_hello(hello: &Hello) {
    assert!(hello.addresses.len() <= ADDRESSES_MAX);
}

fn assert_ids(ids: &[EntryId], most: usize) {
    assert!(ids.len() <= most && ids.is_sorted_by(|a, b| a < b));
}

fn cursor() -> Cursor {
    Cursor::from_bytes(&[7; 20]).expect("short enough")
}

fn hello() -> Hello {
    let addresses = ["http:localhost:80", "iroh:x"].map(|text| text.parse().expect("an address"));
    Hello {
        key: key(1).public(),
        versions: (1, 2),
        addresses: addresses.into(),
    }
}

pub(super) fn request_seeds() -> Vec<Vec<u8>> {
    let tree = batches::tree();
    let (pair, ids) = (&pairs()[0], pairs()[0].drawn.ids(&["A", "B"]));
    let many = (0..TIPS_LISTED_MAX as u8).map(|number| EntryId::from_bytes([number; 32]));
    let many = many.collect();
    let filters = filters::filter_seeds();
    let filter: Filter = postcard::from_bytes(&filters[1]).expect("our own");
    let sketches = tips::sketch_seeds();
    let sketch: TipSketch = postcard::from_bytes(&sketches[2]).expect("our own");
    let sync = |tips, sample, mut wants: Vec<EntryId>| {
        wants.sort_unstable();
        Request::SyncTree(SyncTree {
            tree: pair.drawn.tree(),
            tips,
            sample,
            wants,
        })
    };
    let join = |invite: Option<SecretKey>| {
        Request::Join(Join {
            tree,
            role: Role::Write,
            note: "Ada".to_owned(),
            invite: invite.map(|invite| InviteProof::new(&invite, tree, &key(1).public())),
        })
    };
    let other = TreeId::from_root(EntryId::from_bytes([9; 32]));
    let mut watched = vec![(tree, cursor()), (other, Cursor::NONE)];
    watched.sort_unstable();
    let mut checked: Vec<_> = pairs()
        .iter()
        .map(|pair| {
            let Ok(tips) = TipDigest::of_view(&pair.a);
            (pair.drawn.tree(), digest([3; 8], &tips))
        })
        .collect();
    checked.sort_unstable();
    checked.dedup_by_key(|(tree, _)| *tree);
    let record = AddressRecord::sign(&key(1), 7, 300, &hello().addresses);
    let requests = [
        Request::Watch(Watch { trees: watched }),
        Request::CheckTrees(CheckTrees {
            seed: [3; 8],
            trees: checked,
        }),
        Request::Peers(Peers {
            tree,
            records: vec![record],
        }),
        Request::Alive(Alive { epoch: [5; 8] }),
        Request::GetEntries(GetEntries {
            tree,
            ids: vec![EntryId::from_bytes([1; 32]), EntryId::from_bytes([2; 32])],
        }),
        Request::Unknown(300),
        join(None),
        join(Some(key(2))),
        Request::Hello(hello()),
        Request::ListTrees(ListTrees { after: None }),
        Request::ListTrees(ListTrees { after: Some(tree) }),
        Request::SendEntries(SendEntries { tree, entries: 300 }),
        sync(TipSet::Listed(vec![]), Sample::None, vec![]),
        sync(TipSet::Listed(vec![]), Sample::None, ids),
        sync(TipSet::Listed(many), Sample::None, vec![]),
        sync(TipSet::Sketch(sketch), Sample::Small(filter), vec![]),
    ];
    let made = requests.map(|request| RequestHeader::new(request).encode().to_vec());
    understood(made.into(), Way::Asks, request)
}

pub(super) fn response_seeds() -> Vec<Vec<u8>> {
    let summary = TreeSummary {
        tree: batches::tree(),
        name: "notes".to_owned(),
        entries: 7,
    };
    let busy = WireError {
        retry_after_ms: Some(1_000),
        ..WireError::new(ErrorCode::Busy, "too much to do")
    };
    let checked = Checked {
        looked_at: 4,
        differ: vec![1, 3],
        absent: vec![0],
        equal: vec![cursor()],
    };
    let record = AddressRecord::sign(&key(1), 7, 300, &hello().addresses);
    let replies = [
        Ok(Reply::Watching),
        Ok(Reply::Checked(checked)),
        Ok(Reply::Peers(vec![record])),
        Ok(Reply::Alive(Alive { epoch: [5; 8] })),
        Ok(Reply::Sync(SyncReply::Equal(cursor()))),
        Ok(Reply::Unknown(300)),
        Ok(Reply::Hello(hello())),
        Ok(Reply::Trees(vec![summary])),
        Ok(Reply::Sync(SyncReply::SendFilter)),
        Ok(Reply::Join(JoinReply::Granted(Role::Read))),
        Ok(Reply::Join(JoinReply::Pending)),
        Err(busy),
    ];
    let made = replies.map(|reply| ResponseHeader::encode(reply).to_vec());
    understood(made.into(), Way::Answers, response)
}

pub(super) fn part_seeds() -> Vec<Vec<u8>> {
    let others = vec![EntryId::from_bytes([0x22; 32])];
    let places = vec![5];
    let batches = batches::batch_seeds();
    let batches = batches.iter().map(|batch| Part::Batch(batch));
    let parts = [
        Part::End {
            tips: EndTips::Untold,
            cursor: Cursor::NONE,
        },
        Part::End {
            tips: EndTips::Shared { places, others },
            cursor: cursor(),
        },
        Part::Failed(WireError::new(ErrorCode::Internal, "why")),
    ];
    let made = parts.into_iter().chain(batches);
    let made = made.map(|part| part.encode().to_vec()).collect();
    understood(made, Way::Answers, part)
}

/// Adds the frames of real syncs to those that were made, as far as they are of the kind.
fn understood(mut made: Vec<Vec<u8>>, way: Way, check: fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
    for frame in genuine_frames(way) {
        if check(&frame) && !made.contains(&frame) {
            made.push(frame);
        }
    }
    made
}
