//! A pool of large buffers.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// How many buffers are kept for the whole process: as many as one sync has in hand at a time,
/// with one step that is stored and one that arrives.
const KEPT_MAX: usize = 16;

/// Largest buffer that is kept, so that all together are no more than 8 MiB.
const KEPT_BYTES_MAX: usize = 512 << 10;

/// Smallest buffer that is kept. Allocators are good at smaller ones.
const KEPT_BYTES_MIN: usize = 64 << 10;

static KEPT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// A buffer that starts empty and returns to a process-wide pool when it is dropped.
///
/// Allocators give large buffers back to the system at once, and the system hands memory out zeroed
/// and page by page: with new buffers for each batch, that was a fifth of the time of unpacking.
#[derive(Debug, Default)]
pub struct Buffer(Vec<u8>);

impl Buffer {
    /// Returns an empty buffer with room for this many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        if bytes < KEPT_BYTES_MIN {
            return Self(Vec::with_capacity(bytes));
        }
        let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer = kept.unwrap_or_default();
        buffer.reserve(bytes);
        Self(buffer)
    }

    /// Makes what was written readable from several places. The buffer goes back when the last of
    /// them is dropped.
    pub fn freeze(mut self) -> Bytes {
        if self.is_worth_keeping() {
            Bytes::from_owner(self)
        } else {
            std::mem::take(&mut self.0).into()
        }
    }

    fn is_worth_keeping(&self) -> bool {
        (KEPT_BYTES_MIN..=KEPT_BYTES_MAX).contains(&self.0.capacity())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.is_worth_keeping() {
            let mut buffer = std::mem::take(&mut self.0);
            buffer.clear();
            let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < KEPT_MAX {
                kept.push(buffer);
            }
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_buffer_begins_empty() {
        for bytes in [10, KEPT_BYTES_MIN, KEPT_BYTES_MAX, KEPT_BYTES_MAX + 1] {
            for _ in 0..2 {
                let mut buffer = Buffer::with_capacity(bytes);
                assert!(buffer.is_empty() && buffer.capacity() >= bytes);
                buffer.extend_from_slice(b"some bytes");
                let frozen = buffer.freeze();
                let part = frozen.slice(5..);
                drop(frozen);
                assert_eq!(part, b"bytes".as_slice());
            }
        }
    }

    #[test]
    fn the_pool_has_a_limit() {
        let many: Vec<Buffer> = (0..2 * KEPT_MAX)
            .map(|_| Buffer::with_capacity(KEPT_BYTES_MIN))
            .collect();
        drop(many);
        let kept = KEPT.lock().unwrap();
        assert!(kept.len() <= KEPT_MAX);
        assert!(
            kept.iter()
                .all(|buffer| buffer.capacity() <= KEPT_BYTES_MAX)
        );
    }
}
