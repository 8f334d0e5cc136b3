//! Requests that claim, list or unpack to more than a server accepts.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use eidetica_dag::{EntryId, varint};
use eidetica_proto::frame::FrameDecoder;
use eidetica_sync::proto::message::{
    Part, Request, RequestHeader, ResponseHeader, Sample, SendEntries, SyncTree,
};
use eidetica_sync::proto::proof;
use eidetica_sync::proto::tips::TipSet;

use super::results::Results;
use super::{Server, http, iroh, put_frame};
use crate::nodes::TransportKind;

/// How many tips the request with too many of them lists.
const TIPS: u32 = 1_000_000;

/// How many of them there is room for in a frame of the largest size.
const TIPS_IN_A_FRAME: u32 = 32_000;

/// What a batch of a few bytes claims to unpack to.
const BOMB_BYTES: u64 = 1 << 20;

/// What came back.
pub(super) enum Answer {
    /// The connection was closed without a word.
    Closed,
    /// A frame with a refusal, or something that should not be there.
    Header(ResponseHeader),
    /// Something else.
    Unreadable(usize),
}

impl Answer {
    fn of(bytes: &[u8]) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.feed(bytes);
        match decoder.poll_frame() {
            _ if bytes.is_empty() => Self::Closed,
            Ok(Some(frame)) => match ResponseHeader::decode(&frame) {
                Ok(header) => Self::Header(header),
                Err(_) => Self::Unreadable(bytes.len()),
            },
            _ => Self::Unreadable(bytes.len()),
        }
    }

    /// Returns whether the request got nothing.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Closed => true,
            Self::Header(header) => header.reply.is_err(),
            Self::Unreadable(_) => false,
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed"),
            Self::Header(header) => match &header.reply {
                Ok(_) => f.write_str("an answer"),
                Err(refusal) => write!(f, "{:?}: {}", refusal.code, refusal.text),
            },
            Self::Unreadable(bytes) => write!(f, "{bytes} bytes that are no answer"),
        }
    }
}

/// Sends each of them.
pub(super) async fn measure(
    transport: TransportKind,
    server: &mut Server,
    results: &mut Results,
) -> Result<(), String> {
    let tree = server.tree;
    let send = RequestHeader::new(Request::SendEntries(SendEntries { tree, entries: 1 })).encode();
    let sync = |tips| {
        let request = SyncTree {
            tree,
            tips: TipSet::Listed((0..tips).map(id).collect()),
            sample: Sample::None,
            wants: vec![],
        };
        RequestHeader::new(Request::SyncTree(request)).encode()
    };
    let bomb = Part::Batch(&bomb()).encode();
    for (name, frames) in [
        ("a frame of 4 GiB, its prefix", vec![]),
        ("a million tips, 32 MB", vec![sync(TIPS)]),
        ("32,000 tips, one frame", vec![sync(TIPS_IN_A_FRAME)]),
        ("a batch that unpacks 20,000-fold", vec![send, bomb]),
    ] {
        let mut body = BytesMut::new();
        if transport == TransportKind::Http {
            put_frame(&mut body, &proof::anonymous());
        }
        for frame in &frames {
            put_frame(&mut body, frame);
        }
        if frames.is_empty() {
            body.clear();
            // Not the end mark of HTTP.
            body.put_u32_le(u32::MAX - 1);
        }
        server.side.begin_usage()?;
        let answer = match transport {
            TransportKind::Iroh => iroh::post(&server.address, &body).await?,
            _ => http::post(&server.address, &body).await?,
        };
        results.bomb(
            transport,
            name,
            &Answer::of(&answer),
            server.side.peak_bytes()?,
        );
    }
    Ok(())
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
    use eidetica_dag::TreeId;
    use eidetica_proto::batch::unpack;
    use eidetica_proto::error::BatchError;

    use super::*;

    #[test]
    fn the_bomb_is_one() {
        let tree = TreeId::from_root(id(1));
        assert_eq!(unpack(tree, &bomb()), Err(BatchError::RatioTooHigh));
    }
}
