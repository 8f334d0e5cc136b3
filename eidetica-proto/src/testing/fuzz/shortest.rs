//! One encoding for each message.

/// Checks bytes against what was read from them, written again. postcard reads some numbers in
/// longer forms than it writes; nothing else has two encodings.
pub(super) fn assert_shortest(read: &[u8], written: &[u8]) {
    assert!(written.len() <= read.len(), "it grew by being read");
    if written.len() == read.len() {
        assert_eq!(read, written, "it changed by being read");
    }
}
