use eidetica_dag::testing::Random;
use eidetica_dag::testing::fuzz::Input;
use proptest::prelude::*;

use super::*;

/// Bytes that compress somewhat: words out of a few, with noise in between.
fn text(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut byte = |below: u32| random.below(below) as u8;
    let words: Vec<Vec<u8>> = (0..24)
        .map(|_| (0..=byte(9)).map(|_| b'a' + byte(20)).collect())
        .collect();
    let mut raw = Vec::new();
    while raw.len() < bytes {
        raw.extend_from_slice(&words[usize::from(byte(24))]);
        if byte(5) == 0 {
            raw.push(byte(255));
        }
    }
    raw.truncate(bytes);
    raw
}

/// Compresses in every way that there is.
fn frames(raw: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = vec![compress_purely(raw)];
    let mut packed = vec![7];
    if compress(raw, &mut packed) {
        frames.push(packed);
    }
    frames
}

/// Returns what both decoders make of a frame.
fn both(packed: &[u8], raw_bytes: usize) -> [Option<Bytes>; 2] {
    [
        decompress(packed, raw_bytes),
        decompress_purely(packed, raw_bytes),
    ]
}

#[test]
fn decompression_gives_back_exactly_what_was_compressed() {
    let raw = b"again and again ".repeat(100);
    // The second round reuses what the first one left.
    for _ in 0..2 {
        for packed in frames(&raw) {
            assert!(packed.len() < raw.len());
            let expected = Some(Bytes::from(raw.clone()));
            assert_eq!(both(&packed, raw.len()), [expected.clone(), expected]);
            for raw_bytes in [0, raw.len() - 1, raw.len() + 1] {
                assert_eq!(both(&packed, raw_bytes), [None, None]);
            }
        }
    }
}

#[test]
fn nothing_but_one_whole_frame_is_decompressed() {
    let raw = text(1, 3_000);
    for packed in frames(&raw) {
        for end in 0..packed.len() {
            assert_eq!(both(&packed[..end], raw.len()), [None, None], "{end}");
        }
        let twice = [packed.as_slice(), &packed].concat();
        assert_eq!(both(&twice, raw.len() * 2), [None, None]);
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0], packed.as_slice()].concat();
        assert_eq!(both(&skippable, raw.len()), [None, None]);
    }
}

/// Makes a frame of the given header and blocks, with a checksum of nothing.
fn drawn(header: &[u8], blocks: &[&[u8]]) -> Vec<u8> {
    let magic = 0xFD2F_B528_u32.to_le_bytes();
    let checksum = [0x99, 0xe9, 0xd8, 0x51];
    [&magic, header, &blocks.concat(), &checksum].concat()
}

/// Makes a block of the given kind and size.
fn block(kind: u32, bytes: u32, content: &[u8]) -> Vec<u8> {
    let header = (bytes << 3 | kind << 1 | 1).to_le_bytes();
    [&header[..3], content].concat()
}

#[test]
fn a_frame_declares_no_more_than_the_batch_needs() {
    let empty = block(0, 0, &[]);
    let frame = |header: &[u8]| drawn(header, &[&empty]);
    assert_eq!(
        both(&frame(&[0x24, 0]), 0),
        [const { Some(Bytes::new()) }; 2]
    );
    for (header, why) in [
        (&[0x20, 0][..], "no checksum"),
        (&[0x25, 0, 0], "a dictionary"),
        (&[0x2c, 0], "a reserved bit"),
        (&[0x34, 0], "an unused bit"),
        (&[0x24, 1], "another size than the batch declares"),
        (&[0xe4, 0, 0, 0, 0, 0, 0, 0, 1], "a size that is too large"),
        (&[0x04, 81], "a window of more than a batch"),
        (&[0x04, 0xff], "the largest window that there is"),
    ] {
        assert!(!frame::is_sound(&frame(header), 0), "{why}");
    }
    assert!(
        frame::is_sound(&frame(&[0x04, 80]), 0),
        "a window of a batch"
    );
}

#[test]
fn a_block_declares_no_more_than_a_block_may_have() {
    const RAW_BYTES: usize = 1 << 20;
    // Without a size, and with a window of a whole batch.
    let is_sound = |block: &[u8]| frame::is_sound(&drawn(&[0x04, 80], &[block]), RAW_BYTES);
    let compressed = |content: &[u8]| block(2, content.len() as u32, content);
    for (sound, unsound, what) in [
        (
            block(1, 128 << 10, &[7]),
            block(1, (128 << 10) + 1, &[7]),
            "one byte repeated",
        ),
        (
            // One byte repeated as literals, and no sequence.
            compressed(&[0x0d, 0x00, 0x20, 7, 0]),
            compressed(&[0x1d, 0x00, 0x20, 7, 0]),
            "literals",
        ),
        (
            // No literals; sequences, and how they are coded.
            compressed(&[0x00, 0xff, 0xaa, 0x2b, 0x54]),
            compressed(&[0x00, 0xff, 0xab, 0x2b, 0x54]),
            "sequences",
        ),
        (
            compressed(&[0x00, 1, 0x54]),
            compressed(&[0x00, 1, 0x55]),
            "reserved bits",
        ),
        (
            compressed(&[0x00, 0]),
            compressed(&[0x00, 0, 0]),
            "bytes after no sequences",
        ),
    ] {
        assert!(is_sound(&sound), "{what}");
        assert!(!is_sound(&unsound), "{what}");
    }
    assert!(!is_sound(&block(3, 0, &[])), "a reserved kind");
    let sixteen = drawn(&[0x04, 80], &[&block(1, 16, &[7])]);
    assert!(frame::is_sound(&sixteen, 16));
    assert!(!frame::is_sound(&sixteen, 15));
}

/// A decoder finds out by itself that a block has more than was declared.
#[test]
fn no_decoder_gives_more_than_was_asked_for() {
    // Literals: one byte, repeated 32 times.
    let content = [0x05, 0x02, 7, 0];
    let packed = drawn(&[0x04, 80], &[&block(2, content.len() as u32, &content)]);
    assert!(frame::is_sound(&packed, 31));
    for raw_bytes in [0, 1, 31, 33, 4096] {
        assert_eq!(both(&packed, raw_bytes), [None, None], "{raw_bytes}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn both_decoders_agree(
        seed in any::<u64>(),
        bytes in prop_oneof![0..300_usize, 300..20_000_usize],
        edits in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..16), 24),
    ) {
        let raw = text(seed, bytes);
        for packed in frames(&raw) {
            let expected = Some(Bytes::from(raw.clone()));
            prop_assert_eq!(both(&packed, bytes), [expected.clone(), expected]);
            for (number, edit) in edits.iter().enumerate() {
                let cut = packed.len() * number / edits.len();
                prop_assert_eq!(both(&packed[..cut], bytes), [None, None]);

                let mut edited = packed.clone();
                Input::new(edit).edit(&mut edited);
                let [native, pure] = both(&edited, bytes);
                prop_assert_eq!(native, pure);
            }
        }
    }
}

/// Bits that a decoder in C leaves over change what it decodes: the checksum notices.
#[test]
fn every_flipped_bit_is_noticed() {
    let raw = text(3, 400);
    for packed in frames(&raw) {
        for bit in 0..packed.len() * 8 {
            let mut edited = packed.clone();
            edited[bit / 8] ^= 1 << (bit % 8);
            let [native, pure] = both(&edited, raw.len());
            assert_eq!(native, pure, "bit {bit}");
            assert!(native.is_none_or(|bytes| bytes == raw), "bit {bit}");
        }
    }
}
