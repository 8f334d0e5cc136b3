//! Numbers of any length in a batch, and reading what somebody else wrote.

use crate::batch_error::BatchError;

/// Writes a number as LEB128.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Writes `number` as its difference to `before`, small in either direction.
pub(crate) fn put_difference(out: &mut Vec<u8>, number: u64, before: u64) {
    let difference = number.wrapping_sub(before) as i64;
    put_varint(out, (difference << 1 ^ difference >> 63) as u64);
}

/// Reads what a batch holds; every read is checked against what is left.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Returns what was not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn byte(&mut self) -> Result<u8, BatchError> {
        let (byte, rest) = self.0.split_first().ok_or(BatchError::Malformed)?;
        self.0 = rest;
        Ok(*byte)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, BatchError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(BatchError::Malformed)
    }

    pub(crate) fn count(&mut self, most: usize) -> Result<usize, BatchError> {
        match usize::try_from(self.varint()?) {
            Ok(count) if count <= most => Ok(count),
            Ok(_) | Err(_) => Err(BatchError::TooLarge),
        }
    }

    pub(crate) fn difference(&mut self, before: u64) -> Result<u64, BatchError> {
        let zigzag = self.varint()?;
        let difference = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        Ok(before.wrapping_add(difference as u64))
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], BatchError> {
        let (bytes, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(BatchError::Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        count: usize,
    ) -> Result<&'a [[u8; N]], BatchError> {
        let bytes = self.bytes(count.checked_mul(N).ok_or(BatchError::Malformed)?)?;
        Ok(bytes.as_chunks().0)
    }

    pub(crate) fn end(&self) -> Result<(), BatchError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(BatchError::Malformed)
        }
    }
}
