//! Frames: messages in a stream of bytes.
//!
//! A frame is its length (four bytes, little-endian) and that many bytes. Transports carry frames
//! without looking into them.

mod blocking;

use bytes::{Buf, BufMut, Bytes, BytesMut};

pub use blocking::{FrameReader, write_frame};

/// Most bytes in one frame, its length prefix not counted: an entry of the largest size, and
/// 4 KiB for what a batch puts around it.
pub const FRAME_BYTES_MAX: usize = (1 << 20) + 4096;

/// Length of the prefix that gives a frame's length.
pub const FRAME_PREFIX_BYTES: usize = 4;

/// A frame claims more than [`FRAME_BYTES_MAX`] bytes: the other side breaks the protocol. Nothing
/// was allocated for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {claimed_bytes} bytes exceeds the limit of {FRAME_BYTES_MAX}")]
pub struct FrameTooLarge {
    /// The length that the prefix gave.
    pub claimed_bytes: usize,
}

/// A stream ended within a frame: it was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream ended in the middle of a frame")]
pub struct FrameIncomplete;

/// Returns the prefix to write before `frame`.
///
/// # Errors
/// [`FrameTooLarge`] if the frame may not be sent.
pub fn frame_prefix(frame: &[u8]) -> Result<[u8; FRAME_PREFIX_BYTES], FrameTooLarge> {
    match u32::try_from(frame.len()) {
        Ok(len) if frame.len() <= FRAME_BYTES_MAX => Ok(len.to_le_bytes()),
        _ => Err(FrameTooLarge {
            claimed_bytes: frame.len(),
        }),
    }
}

/// Returns `frame` with its prefix before it, in one buffer.
///
/// # Errors
/// [`FrameTooLarge`] if the frame may not be sent.
pub fn encode_frame(frame: &[u8]) -> Result<Bytes, FrameTooLarge> {
    let mut bytes = BytesMut::with_capacity(FRAME_PREFIX_BYTES + frame.len());
    bytes.put_slice(&frame_prefix(frame)?);
    bytes.put_slice(frame);
    Ok(bytes.freeze())
}

/// Cuts a stream of bytes, fed in pieces of any size, into frames.
///
/// Feed it with [`FrameDecoder::feed`], then call [`FrameDecoder::poll_frame`] until it returns
/// `None`. When the stream has ended, [`FrameDecoder::finish`] checks that it ended between two frames.
/// A decoder never holds more than one frame and the last piece fed.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: BytesMut,
}

impl FrameDecoder {
    /// Makes a decoder at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.put_slice(bytes);
    }

    /// Returns the number of bytes that it holds of frames not given out.
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Returns the bytes of memory allocated for them.
    pub fn capacity_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// Returns the next frame, or `None` if more bytes are needed.
    ///
    /// # Errors
    /// [`FrameTooLarge`], as soon as the prefix is there. The stream cannot be read after that.
    pub fn poll_frame(&mut self) -> Result<Option<Bytes>, FrameTooLarge> {
        let Some(prefix) = self.buffer.first_chunk::<FRAME_PREFIX_BYTES>() else {
            return Ok(None);
        };
        let claimed_bytes = u32::from_le_bytes(*prefix) as usize;
        if claimed_bytes > FRAME_BYTES_MAX {
            return Err(FrameTooLarge { claimed_bytes });
        }
        if self.buffer.len() < FRAME_PREFIX_BYTES + claimed_bytes {
            return Ok(None);
        }
        self.buffer.advance(FRAME_PREFIX_BYTES);
        Ok(Some(self.buffer.split_to(claimed_bytes).freeze()))
    }

    /// Checks that the stream, now at its end, ended between two frames.
    ///
    /// # Errors
    /// [`FrameIncomplete`], if it ended within one.
    pub fn finish(&self) -> Result<(), FrameIncomplete> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        Err(FrameIncomplete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut_of_the_stream() {
        let frames: [&[u8]; 4] = [b"", b"a", b"two", &[7; 300]];
        let stream: Vec<u8> = frames
            .iter()
            .flat_map(|f| encode_frame(f).expect("small enough"))
            .collect();
        for piece in 1..stream.len() {
            let mut decoder = FrameDecoder::new();
            let mut seen = Vec::new();
            for bytes in stream.chunks(piece) {
                decoder.feed(bytes);
                while let Some(frame) = decoder.poll_frame().expect("well formed") {
                    seen.push(frame);
                }
            }
            assert_eq!(seen, frames, "in pieces of {piece} bytes");
            decoder.finish().expect("ended between two frames");
        }
    }

    #[test]
    fn an_oversize_frame_is_refused_on_its_prefix() {
        let mut decoder = FrameDecoder::new();
        let claimed_bytes = FRAME_BYTES_MAX + 1;
        decoder.feed(&(claimed_bytes as u32).to_le_bytes());
        assert_eq!(decoder.poll_frame(), Err(FrameTooLarge { claimed_bytes }));
        assert!(encode_frame(&vec![0; claimed_bytes]).is_err());
        assert!(encode_frame(&vec![0; FRAME_BYTES_MAX]).is_ok());
    }

    #[test]
    fn an_end_within_a_frame_is_noticed() {
        let mut decoder = FrameDecoder::new();
        decoder.feed(&encode_frame(b"abc").expect("small enough")[..5]);
        assert_eq!(decoder.poll_frame(), Ok(None));
        assert!(decoder.finish().is_err());
    }
}
