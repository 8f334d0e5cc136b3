//! Frames over blocking readers and writers.

use std::io::{self, ErrorKind, Read, Write};

use bytes::Bytes;

use super::{FRAME_BYTES_MAX, FRAME_PREFIX_BYTES, FrameIncomplete, FrameTooLarge, frame_prefix};

/// Reads frames from a blocking [`Read`], such as a socket or a slice.
///
/// It reads no byte after the frame that it returns, and allocates for bytes that arrived rather than
/// for those that a prefix claims. Each frame takes at least two reads, so a socket should be wrapped
/// in a [`BufReader`](std::io::BufReader).
///
/// ```
/// use eidetica_proto::frame::{FrameReader, write_frame};
///
/// let mut bytes = Vec::new();
/// write_frame(&mut bytes, b"one")?;
/// write_frame(&mut bytes, b"two")?;
///
/// let frames: Result<Vec<_>, _> = FrameReader::new(&bytes[..]).collect();
/// assert_eq!(frames?, ["one", "two"]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct FrameReader<R> {
    reader: R,
}

impl<R: Read> FrameReader<R> {
    /// Makes a reader of the frames that `reader` gives from here on.
    pub fn new(reader: R) -> Self {
        Self { reader }
    }

    /// Reads the next frame. Returns `None` if the stream ends before it.
    ///
    /// # Errors
    /// [`ErrorKind::UnexpectedEof`] if the stream ends within the frame, [`ErrorKind::InvalidData`] if
    /// its prefix claims more than [`FRAME_BYTES_MAX`], and those of the reader.
    pub fn read_frame(&mut self) -> io::Result<Option<Bytes>> {
        let prefix = self.read_up_to(FRAME_PREFIX_BYTES)?;
        let Ok(prefix) = <[u8; FRAME_PREFIX_BYTES]>::try_from(&prefix[..]) else {
            return match prefix.is_empty() {
                true => Ok(None),
                false => Err(io::Error::new(ErrorKind::UnexpectedEof, FrameIncomplete)),
            };
        };
        let claimed_bytes = u32::from_le_bytes(prefix) as usize;
        if claimed_bytes > FRAME_BYTES_MAX {
            let error = FrameTooLarge { claimed_bytes };
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
        let frame = self.read_up_to(claimed_bytes)?;
        match frame.len() == claimed_bytes {
            true => Ok(Some(frame.into())),
            false => Err(io::Error::new(ErrorKind::UnexpectedEof, FrameIncomplete)),
        }
    }

    fn read_up_to(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        let mut read = Vec::new();
        let reader = self.reader.by_ref();
        reader.take(bytes as u64).read_to_end(&mut read)?;
        Ok(read)
    }
}

impl<R: Read> Iterator for FrameReader<R> {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read_frame().transpose()
    }
}

/// Writes a frame with its prefix. It does not flush.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] if the frame exceeds [`FRAME_BYTES_MAX`], and those of the writer.
pub fn write_frame(writer: &mut (impl Write + ?Sized), frame: &[u8]) -> io::Result<()> {
    let too_large = |error| io::Error::new(ErrorKind::InvalidInput, error);
    writer.write_all(&frame_prefix(frame).map_err(too_large)?)?;
    writer.write_all(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_at_any_byte_is_an_error_except_between_frames() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, b"abc").expect("a vector takes all");
        write_frame(&mut bytes, b"").expect("a vector takes all");
        for cut in 0..=bytes.len() {
            let frames: Result<Vec<_>, _> = FrameReader::new(&bytes[..cut]).collect();
            match (cut, frames) {
                (0, Ok(frames)) => assert!(frames.is_empty()),
                (7, Ok(frames)) => assert_eq!(frames, ["abc"]),
                (11, Ok(frames)) => assert_eq!(frames, ["abc", ""]),
                (_, Err(error)) => assert_eq!(error.kind(), ErrorKind::UnexpectedEof),
                (cut, Ok(frames)) => panic!("cut at {cut}: {frames:?}"),
            }
        }
    }

    #[test]
    fn too_large_a_frame_is_neither_read_nor_written() {
        let prefix = (FRAME_BYTES_MAX as u32 + 1).to_le_bytes();
        let read = FrameReader::new(&prefix[..]).read_frame();
        assert_eq!(
            read.map_err(|error| error.kind()),
            Err(ErrorKind::InvalidData)
        );
        let mut written = Vec::new();
        let frame = vec![0; FRAME_BYTES_MAX + 1];
        let wrote = write_frame(&mut written, &frame);
        assert_eq!(
            wrote.map_err(|error| error.kind()),
            Err(ErrorKind::InvalidInput)
        );
        assert!(written.is_empty());
    }
}
