//! Streams of frames, cut anywhere.

use eidetica_dag::testing::fuzz::Input;

use crate::frame::{
    FRAME_BYTES_MAX, FRAME_PREFIX_BYTES, FrameDecoder, FrameTooLarge, encode_frame,
};

/// Feeds a stream in pieces: the decoder finds the same frames as a reader of the whole stream,
/// refuses the same prefix, and writing the frames gives the stream again.
///
/// The input is a count, that many lengths of pieces, and the stream.
pub fn frames(data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let pieces = usize::from(input.byte()).min(16);
    let pieces = input.take(pieces);
    let stream = input.rest();
    let (wanted, wanted_end) = cut_whole(stream);

    let mut decoder = FrameDecoder::new();
    let mut frames = Vec::new();
    let mut end = Ok(());
    let mut rest = stream;
    let mut lengths = pieces.iter().map(|length| usize::from(*length)).cycle();
    while !rest.is_empty() && end.is_ok() {
        // Pieces of nothing are fed too, as long as one of something comes round.
        let length = match pieces.iter().any(|length| *length > 0) {
            true => lengths.next().unwrap_or(0).min(rest.len()),
            false => rest.len(),
        };
        let (piece, after) = rest.split_at(length);
        rest = after;
        decoder.feed(piece);
        end = loop {
            match decoder.poll_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
    }
    assert_eq!(frames, wanted);
    let written = frames.iter().map(|frame| encode_frame(frame));
    let written: Vec<u8> = written
        .flat_map(|frame| frame.expect("it was let in"))
        .collect();
    assert!(stream.starts_with(&written));
    match wanted_end {
        Ok(is_clean) => {
            assert_eq!(end, Ok(()));
            assert_eq!(decoder.finish().is_ok(), is_clean);
            assert_eq!(written.len() == stream.len(), is_clean);
        }
        Err(error) => assert_eq!(end, Err(error)),
    }
    !frames.is_empty()
}

/// Cuts a stream without a decoder. Returns with the frames whether it ended between two, or what
/// the first prefix was that announced too much.
fn cut_whole(mut stream: &[u8]) -> (Vec<&[u8]>, Result<bool, FrameTooLarge>) {
    let mut frames = Vec::new();
    while let Some((prefix, after)) = stream.split_first_chunk::<FRAME_PREFIX_BYTES>() {
        let claimed_bytes = u32::from_le_bytes(*prefix) as usize;
        if claimed_bytes > FRAME_BYTES_MAX {
            return (frames, Err(FrameTooLarge { claimed_bytes }));
        }
        let Some((frame, after)) = after.split_at_checked(claimed_bytes) else {
            break;
        };
        frames.push(frame);
        stream = after;
    }
    (frames, Ok(stream.is_empty()))
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let stream: Vec<u8> = [&b""[..], b"a", b"some bytes", &[7; 70]]
        .iter()
        .flat_map(|frame| encode_frame(frame).expect("small enough"))
        .collect();
    let cut = |pieces: &[u8], stream: &[u8]| [&[pieces.len() as u8], pieces, stream].concat();
    let too_large = [stream.as_slice(), &[0xff; 4]].concat();
    vec![
        cut(&[], &stream),
        cut(&[1], &stream),
        cut(&[3, 0, 7], &stream[..40]),
        cut(&[5, 2], &too_large),
    ]
}
