//! Requests that claim, list or unpack to more than a server accepts.

use bytes::{BufMut, Bytes, BytesMut};
use eidetica_dag::{EntryId, TreeId, varint};
use eidetica_proto::frame::FrameDecoder;
use eidetica_sync::proto::message::{
    Part, Request, RequestHeader, ResponseHeader, Sample, SendEntries, SyncTree,
};
use eidetica_sync::proto::proof;
use eidetica_sync::proto::tips::TipSet;

use super::put_frame;
use crate::nodes::Transport;

/// How many tips the request with too many of them lists.
const TIPS: u32 = 1_000_000;

/// How many of them there is room for in a frame of the largest size.
const TIPS_IN_A_FRAME: u32 = 32_000;

/// What a batch of a few bytes claims to unpack to.
const BOMB_BYTES: u64 = 1 << 20;

/// Returns how a request was refused, or what came back instead.
pub(super) fn refusal(answer: &[u8]) -> Result<String, String> {
    if answer.is_empty() {
        return Ok("closed".into());
    }
    let mut decoder = FrameDecoder::new();
    decoder.feed(answer);
    let frame = decoder.poll_frame().ok().flatten();
    match frame.and_then(|frame| ResponseHeader::decode(&frame).ok()) {
        None => Err(format!("{} bytes that are no answer", answer.len())),
        Some(ResponseHeader { reply: Ok(_), .. }) => Err("an answer".into()),
        Some(ResponseHeader {
            reply: Err(refusal),
            ..
        }) => Ok(refusal.to_string()),
    }
}

/// Returns the name and the body of each request.
pub(super) fn requests(transport: Transport, tree: TreeId) -> Vec<(&'static str, Bytes)> {
    let send = RequestHeader::new(Request::SendEntries(SendEntries { tree, entries: 1 })).encode();
    let sync = |tips| {
        let tips = TipSet::Listed((0..tips).map(id).collect());
        let request = SyncTree {
            tree,
            tips,
            sample: Sample::None,
            wants: vec![],
        };
        RequestHeader::new(Request::SyncTree(request)).encode()
    };
    let bomb = Part::Batch(&bomb()).encode();
    let body = |frames: &[Bytes]| {
        let mut body = BytesMut::new();
        if transport == Transport::Http {
            put_frame(&mut body, &proof::anonymous());
        }
        frames.iter().for_each(|frame| put_frame(&mut body, frame));
        body.freeze()
    };
    // Not the end mark of HTTP.
    let prefix = (u32::MAX - 1).to_le_bytes();
    vec![
        (
            "a frame of 4 GiB, its prefix",
            Bytes::copy_from_slice(&prefix),
        ),
        ("a million tips, 32 MB", body(&[sync(TIPS)])),
        ("32,000 tips, one frame", body(&[sync(TIPS_IN_A_FRAME)])),
        ("a batch that unpacks 20,000-fold", body(&[send, bomb])),
    ]
}

/// Makes ids that ascend.
fn id(number: u32) -> EntryId {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    EntryId::from_bytes(bytes)
}

/// Makes a batch of one entry whose compressed part is a few runs of zeros.
fn bomb() -> Bytes {
    let mut zeros = BytesMut::new();
    // A zstd frame (RFC 8878): magic number, a single segment with its size in four bytes, and
    // blocks that repeat one byte, 128 KiB each.
    zeros.put_u32_le(0xFD2F_B528);
    zeros.put_u8(0b1010_0000);
    zeros.put_u32_le(BOMB_BYTES as u32);
    let blocks = BOMB_BYTES >> 17;
    for block in 1..=blocks {
        let last = u64::from(block == blocks);
        zeros.put_uint_le(last | 1 << 1 | 1 << 17 << 3, 3);
        zeros.put_u8(0);
    }
    let mut batch = Vec::new();
    // Compressed; its sizes, one entry, one author, no parents outside.
    batch.put_u8(1);
    for count in [zeros.len() as u64, BOMB_BYTES, 1, 1, 0] {
        varint::put(&mut batch, count);
    }
    batch.put_bytes(7, 32 + 64);
    batch.put_slice(&zeros);
    batch.into()
}

#[cfg(test)]
mod tests {
    use eidetica_proto::batch::unpack;
    use eidetica_proto::error::BatchError;

    use super::*;

    #[test]
    fn the_bomb_is_one() {
        let tree = TreeId::from_root(id(1));
        assert_eq!(unpack(tree, &bomb()), Err(BatchError::RatioTooHigh));
    }
}
