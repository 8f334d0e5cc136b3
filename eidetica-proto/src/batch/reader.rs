//! Reading and writing the numbers and arrays of a batch.

use eidetica_dag::varint;

use crate::batch_error::BatchError;

/// Appends the difference between `number` and `before`, which is small in either direction.
pub(super) fn put_difference(out: &mut Vec<u8>, number: u64, before: u64) {
    let difference = number.wrapping_sub(before) as i64;
    varint::put(out, (difference << 1 ^ difference >> 63) as u64);
}

/// Reads a batch from front to back. Every read is checked against the rest.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes that have not been read.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(super) fn byte(&mut self) -> Result<u8, BatchError> {
        let (byte, rest) = self.0.split_first().ok_or(BatchError::Malformed)?;
        self.0 = rest;
        Ok(*byte)
    }

    pub(super) fn varint(&mut self) -> Result<u64, BatchError> {
        varint::take(&mut self.0).ok_or(BatchError::Malformed)
    }

    /// Reads a number that is at most `most`.
    pub(super) fn count(&mut self, most: usize) -> Result<usize, BatchError> {
        match usize::try_from(self.varint()?) {
            Ok(count) if count <= most => Ok(count),
            Ok(_) | Err(_) => Err(BatchError::TooLarge),
        }
    }

    /// Reads what [`put_difference`] wrote.
    pub(super) fn difference(&mut self, before: u64) -> Result<u64, BatchError> {
        let zigzag = self.varint()?;
        let difference = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        Ok(before.wrapping_add(difference as u64))
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], BatchError> {
        let (bytes, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(BatchError::Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// Reads `count` arrays.
    pub(super) fn array<const N: usize>(
        &mut self,
        count: usize,
    ) -> Result<&'a [[u8; N]], BatchError> {
        let bytes = self.bytes(count.checked_mul(N).ok_or(BatchError::Malformed)?)?;
        Ok(bytes.as_chunks().0)
    }

    /// Checks that nothing is left.
    pub(super) fn end(&self) -> Result<(), BatchError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(BatchError::Malformed)
        }
    }
}
