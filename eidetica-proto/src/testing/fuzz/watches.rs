//! Watches, frame by frame and whole, and address records.

use std::collections::BTreeMap;

use bytes::Bytes;
use eidetica_dag::testing::fuzz::Input;
use eidetica_dag::testing::key;
use eidetica_dag::{Arrival, DagView, EntryView, TreeId, VerifiedEntry, tip_ids};

use super::replicas::{Pair, pairs};
use super::shortest::assert_shortest;
use super::syncs::assert_sound;
use crate::cursor::Cursor;
use crate::error::{ERROR_TEXT_BYTES_MAX, ErrorCode, WireError};
use crate::message::WatchFrame;
use crate::peers::{AddressRecord, RECORD_ADDRESSES_MAX, Reach, ReadAccess, RecordBook, reach};
use crate::testing::{LINK_LOG, MemoryTrees, WatchLink};
use crate::watch::ReceivedNews;

const NOW_MS: u64 = 1_700_000_000_000;

/// Most frames that are tampered with in one watch.
const TAMPERED_MAX: usize = 4;

/// Frames are counted up to this number: no watch here has more.
const FRAMES_MAX: u8 = 16;

/// Reads a frame of a watch of one tree.
pub fn watch_frame(data: &[u8]) -> bool {
    let tree = pairs()[0].drawn.tree();
    let received = ReceivedNews::from_frame(&[tree], data);
    let Ok(frame) = WatchFrame::decode(data) else {
        assert!(received.is_err());
        return false;
    };
    let written = frame.encode();
    assert_eq!(WatchFrame::decode(&written).as_ref(), Ok(&frame));
    match frame {
        WatchFrame::Unknown(_) => {
            assert!(matches!(received, Ok(ReceivedNews::Heartbeat)));
            return true;
        }
        WatchFrame::Failed(error) => assert!(error.text.len() <= ERROR_TEXT_BYTES_MAX),
        WatchFrame::Entries { tree, .. }
        | WatchFrame::CompareFirst { tree }
        | WatchFrame::Gone { tree } => assert!(tree == 0 || received.is_err()),
        WatchFrame::Heartbeat => {}
    }
    assert_shortest(data, &written);
    received.is_ok()
}

/// Watches a small replica over a link that does harm, while the rest of the tree arrives there.
/// Whatever happens, the watcher holds genuine entries with all their parents; without harm it holds
/// all that the server does, and each entry came once.
///
/// The input is pair, steps, and for each frame that is tampered with its number, what is done to
/// it, and how many of the bytes after it say how.
pub fn watch(data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let Pair { drawn, a, b } = &pairs()[usize::from(input.byte()) % pairs().len()];
    let tree = drawn.tree();
    let step = usize::from(input.byte() % 4) + 1;
    let mut harm: BTreeMap<usize, (u8, &[u8])> = BTreeMap::new();
    while !input.is_empty() && harm.len() < TAMPERED_MAX {
        let (frame, kind) = (input.byte() % FRAMES_MAX, input.byte());
        let length = input.byte().into();
        harm.insert(frame.into(), (kind, input.take(length)));
    }
    // The server has what the watcher has, and gets what the other copy has more.
    let (mut watcher, mut server) = (MemoryTrees::new([a.clone()]), MemoryTrees::new([a.clone()]));
    let Ok(cursor) = Cursor::at_end(LINK_LOG, a);
    let mut link = WatchLink::open([(tree, cursor)], None, LINK_LOG, NOW_MS);
    let (mut last, mut number, mut is_sound) = (Bytes::new(), 0, true);
    let news: Vec<VerifiedEntry> = (0..b.entry_count()).map(|at| entry(b, at)).collect();
    'watch: for part in news.chunks(step) {
        link.append_at_b(&mut server, tree, part.to_vec(), None);
        while let Some(frame) = link.poll_frame(&server) {
            let before = std::mem::replace(&mut last, frame.clone());
            let frames = match harm.get(&number) {
                None => vec![frame],
                Some((kind, edits)) => match kind % 6 {
                    0 => vec![],
                    1 => vec![frame.clone(), frame],
                    2 => vec![before],
                    3 => vec![frame, before],
                    _ => {
                        let mut changed = frame.to_vec();
                        Input::new(edits).edit(&mut changed);
                        vec![changed.into()]
                    }
                },
            };
            number += 1;
            for frame in frames {
                if link.deliver(&mut watcher, &frame).is_err() {
                    is_sound = false;
                    break 'watch;
                }
            }
        }
    }
    assert_sound(drawn, &watcher.dag(tree));
    if harm.is_empty() {
        assert_eq!(tip_ids(&*watcher.dag(tree)), tip_ids(&*server.dag(tree)));
        assert_eq!(link.redundant, 0, "each entry came once");
    }
    is_sound
}

fn entry(dag: &eidetica_dag::MemoryDag, at: u32) -> VerifiedEntry {
    let Ok(entry) = dag.entry(Arrival(at));
    VerifiedEntry::verify(entry).expect("drawn entries are signed")
}

/// Reads an address record: it is kept only if its key signed it and all of it is of use.
pub fn address_record(data: &[u8]) -> bool {
    let Ok((record, [])) = postcard::take_from_bytes::<AddressRecord>(data) else {
        return false;
    };
    let written = postcard::to_stdvec(&record).expect("a vector takes every byte");
    assert_shortest(data, &written);
    let tree = TreeId::from_root(eidetica_dag::EntryId::from_bytes([1; 32]));
    let mut book = RecordBook::new(key(0).public());
    let kept = book.handle_record(tree, record.clone(), ReadAccess::Named, NOW_MS);
    if kept.is_err() {
        assert!(book.is_empty());
        return false;
    }
    // The fuzzer does not have the key, so the record is one of the seeds.
    assert_eq!(record.key(), &key(1).public());
    assert!(record.addresses().len() <= RECORD_ADDRESSES_MAX);
    assert!(
        record
            .addresses()
            .iter()
            .all(|it| reach(it) != Reach::Nowhere)
    );
    assert!(record.expires_ms() > NOW_MS);
    true
}

pub(super) fn frame_seeds() -> Vec<Vec<u8>> {
    let Pair { drawn, b, .. } = &pairs()[0];
    let mut link = WatchLink::open([(drawn.tree(), Cursor::NONE)], None, LINK_LOG, NOW_MS);
    let compare = link.poll_frame(&MemoryTrees::new([b.clone()]));
    let Ok(start) = Cursor::at(LINK_LOG, b, 0);
    let mut link = WatchLink::open([(drawn.tree(), start)], None, LINK_LOG, NOW_MS);
    let entries = link.poll_frame(&MemoryTrees::new([b.clone()]));
    let failed = WatchFrame::Failed(WireError::new(ErrorCode::Internal, "why"));
    let made = [WatchFrame::Heartbeat, WatchFrame::Gone { tree: 0 }, failed];
    let made = made.map(|frame| frame.encode());
    let made = made.into_iter().chain(compare).chain(entries);
    made.map(|frame| frame.to_vec()).collect()
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let each = (0..pairs().len() as u8).flat_map(|pair| (0..4).map(move |step| vec![pair, step]));
    each.collect()
}

pub(super) fn record_seeds() -> Vec<Vec<u8>> {
    let address = |text: &str| text.parse().expect("an address");
    let lists = [
        vec![],
        vec![address("http:192.0.2.1:80"), address("iroh:x")],
    ];
    let signed = |list: Vec<_>| AddressRecord::sign(&key(1), 7, NOW_MS + 1_000, &list);
    let records = lists.map(signed);
    records
        .map(|record| postcard::to_stdvec(&record).expect("a vector takes every byte"))
        .into()
}
