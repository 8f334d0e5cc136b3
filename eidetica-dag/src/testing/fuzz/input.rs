//! Turns the bytes of a fuzzer into choices and into edits of genuine bytes.

/// Most edits of one input: a few find what a single one does not, more only make noise.
const EDITS_MAX: usize = 8;

/// Most bytes that one edit removes, writes or copies: two hashes.
const EDIT_BYTES_MAX: usize = 64;

/// Reads choices off the front of what a fuzzer made. After the end, every choice is zero, so that
/// any bytes are a plan.
#[derive(Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// Starts at the front of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Tells whether nothing is left.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes one byte.
    pub fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// Takes a number of two bytes.
    pub fn number(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// Takes a number below `limit`, which is from 1 to 65,536.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::from(self.number()) % limit
    }

    /// Takes `N` bytes.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.take(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    /// Takes up to `count` bytes.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Takes everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.take(self.0.len())
    }

    /// Changes `bytes` in up to eight places, as the input says; with nothing left, not at all.
    pub fn edit(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..EDITS_MAX {
            if self.is_empty() {
                return;
            }
            self.edit_once(bytes);
        }
    }

    fn edit_once(&mut self, bytes: &mut Vec<u8>) {
        let kind = self.byte() % 6;
        let place = usize::from(self.number()) % (bytes.len() + 1);
        match kind {
            0 => {
                let mask = self.byte();
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= mask;
                }
            }
            1 => bytes.insert(place, self.byte()),
            2 => {
                let end = bytes.len().min(place + 1 + self.below(EDIT_BYTES_MAX));
                bytes.drain(place..end);
            }
            3 => bytes.truncate(place),
            4 => {
                let count = self.below(EDIT_BYTES_MAX) + 1;
                let new = self.take(count);
                let end = bytes.len().min(place + new.len());
                bytes.splice(place..end, new.iter().copied());
            }
            // A part that is genuine, in another place.
            _ => {
                let from = usize::from(self.number()) % (bytes.len() + 1);
                let to = bytes.len().min(from + 1 + self.below(EDIT_BYTES_MAX));
                let copied = bytes[from..to].to_vec();
                let end = bytes.len().min(place + copied.len());
                bytes.splice(place..end, copied);
            }
        }
    }
}
