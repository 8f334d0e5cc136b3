//! Numbers of variable length: unsigned LEB128 with seven bits in each byte, the lowest first.
//!
//! Every number has one form, the shortest. Longer forms and numbers of more than 64 bits are
//! refused, so that equal values are equal bytes.

/// Appends a number to `out`.
pub fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes a number from the front of `bytes`.
///
/// Returns `None`, with `bytes` unchanged, if the number is cut off, has more than 64 bits or is
/// not in its shortest form.
pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for (index, byte) in bytes.iter().copied().enumerate() {
        let shift = 7 * index as u32;
        // The tenth byte has room for one more bit.
        if shift > 63 || shift == 63 && byte > 1 {
            return None;
        }
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            if byte == 0 && index > 0 {
                return None;
            }
            *bytes = &bytes[index + 1..];
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive() {
        let powers = (0..64).map(|shift| 1 << shift);
        for number in powers
            .flat_map(|it: u64| [it - 1, it, it + 1])
            .chain([u64::MAX])
        {
            let mut bytes = vec![];
            put(&mut bytes, number);
            let bits = 64 - number.leading_zeros() as usize;
            assert_eq!(bytes.len(), bits.div_ceil(7).max(1));
            bytes.push(9);
            let mut rest = bytes.as_slice();
            assert_eq!(take(&mut rest), Some(number));
            assert_eq!(rest, [9]);
        }
    }

    #[test]
    fn other_forms_are_refused() {
        let refused: [&[u8]; 6] = [
            &[],
            &[0x80],
            // Longer forms of 0 and 1.
            &[0x80, 0],
            &[0x81, 0x80, 0],
            // 65 bits.
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
            &[
                0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1,
            ],
        ];
        for bytes in refused {
            let mut rest = bytes;
            assert_eq!(take(&mut rest), None, "{bytes:?}");
            assert_eq!(rest, bytes);
        }
    }
}
