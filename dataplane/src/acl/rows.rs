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

    /// What both have.
    pub(super) fn and(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] & other.0[word]))
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

    /// All rows, one after another by their numbers, in the words of each line.
    pub(super) fn rows(&self) -> impl Iterator<Item = &[Row]> {
        self.rows.chunks_exact(self.lines)
    }
}
