//! Rows of bits, one for each rule: which rules a value of a field satisfies.

use std::collections::HashMap;

use super::{AclError, MAX_BYTES};

/// Rules in a row of one cache line.
pub(super) const PER_ROW: usize = 512;

/// One cache line of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C, align(64))]
pub(super) struct Row(pub [u64; 8]);

impl Row {
    pub(super) const NONE: Self = Self([0; 8]);

    #[inline(always)]
    pub(super) fn and(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word &= other;
        }
    }

    /// The lowest bit; [`PER_ROW`] if there is none.
    #[inline(always)]
    pub(super) fn first(&self) -> usize {
        let nonzero = (0..8).fold(1u32 << 8, |nonzero, at| nonzero | u32::from(self.0[at] != 0) << at);
        let word = nonzero.trailing_zeros() as usize;
        // Without any: 8 words, and no bit in the next.
        let bits = if word == 8 { 0 } else { self.0[word & 7] };
        word * 64 + (bits.trailing_zeros() as usize & 63)
    }
}

/// A row over all rules of a list.
pub(super) type Wide = Box<[Row]>;

pub(super) fn set(row: &mut [Row], rule: usize, to: bool) {
    let bit = 1 << (rule % 64);
    if let Some(line) = row.get_mut(rule / PER_ROW) {
        let word = &mut line.0[rule % PER_ROW / 64];
        *word = if to { *word | bit } else { *word & !bit };
    }
}

/// Different rows, each with its number.
pub(super) struct Classes {
    numbers: HashMap<Wide, u16>,
    rows: Vec<Row>,
    /// Lines of a row.
    lines: usize,
}

/// Most different rows of one field; the bit above tells them from what is not one.
pub(super) const MAX_CLASSES: usize = 1 << 15;

impl Classes {
    pub(super) fn new(lines: usize) -> Self {
        Self { numbers: HashMap::new(), rows: Vec::new(), lines }
    }

    /// The number of this row.
    pub(super) fn number(&mut self, row: &[Row]) -> Result<u16, AclError> {
        if let Some(number) = self.numbers.get(row) {
            return Ok(*number);
        }
        let number = self.numbers.len();
        if number >= MAX_CLASSES || (self.rows.len() + self.lines) * size_of::<Row>() > MAX_BYTES {
            return Err(AclError::TooLarge);
        }
        self.rows.extend_from_slice(row);
        self.numbers.insert(row.into(), number as u16);
        Ok(number as u16)
    }

    /// All rows, one after another by their numbers.
    pub(super) fn into_rows(self) -> Box<[Row]> {
        self.rows.into()
    }
}
