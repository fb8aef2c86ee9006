//! From nested prefixes to the runs of equal addresses that they make: what a block of the table is built from.

use super::FibError;
use super::memory::append;
use super::routes::{Entry, Value};

/// Where a run of a chunk's window leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Goal {
    /// To a value.
    Value(Value),
    /// To a deeper chunk's tree, by its handle.
    Tree(u32),
}

/// A run of equal addresses within a window: from where the run before it ended to `end`, inclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Run {
    pub(super) end: u32,
    pub(super) goal: Goal,
}

/// Appends a run, or lengthens the last one when that leads to the same value. Two deeper chunks never become one run,
/// even when both lead to the same shared tree: each needs a cell of its own, as one can change without the other.
pub(super) fn push(runs: &mut Vec<Run>, end: u32, goal: Goal) -> Result<(), FibError> {
    match runs.last_mut() {
        Some(last) if last.goal == goal && matches!(goal, Goal::Value(_)) => last.end = end,
        _ => append(runs, Run { end, goal })?,
    }
    Ok(())
}

/// Appends the runs of `first..=last`, given the value that covers all of it and the routes in it, sorted.
/// A window is `bits` wide, which is the length of the prefix at which a deeper chunk hangs; `deeper` gives the
/// handle of the one at a suffix, told what value covers it.
pub(super) fn sweep(
    runs: &mut Vec<Run>,
    (first, last): (u32, u32),
    cover: Value,
    entries: &[Entry],
    bits: u8,
    mut deeper: impl FnMut(u32, Value) -> Result<u32, FibError>,
) -> Result<(), FibError> {
    if entries.is_empty() {
        return push(runs, last, Goal::Value(cover));
    }
    // The routes that cover the current address, longest last, with their ends. Lengths differ, so 33 suffice.
    let mut open = [(last, cover); 34];
    let mut depth = 0;
    let mut next = u64::from(first);
    for &entry in entries {
        let start = entry.suffix();
        while open[depth].0 < start {
            let (end, value) = open[depth];
            if next <= u64::from(end) {
                push(runs, end, Goal::Value(value))?;
                next = u64::from(end) + 1;
            }
            depth -= 1;
        }
        if next < u64::from(start) {
            push(runs, start - 1, Goal::Value(open[depth].1))?;
            next = u64::from(start);
        }
        let len = if entry.is_deeper() { bits } else { entry.len() };
        let end = start | u32::MAX.checked_shr(u32::from(len)).unwrap_or(0);
        if entry.is_deeper() {
            push(runs, end, Goal::Tree(deeper(start, open[depth].1)?))?;
            next = u64::from(end) + 1;
        } else {
            depth += 1;
            open[depth] = (end, entry.value());
        }
    }
    for &(end, value) in open[..=depth].iter().rev() {
        if next <= u64::from(end) {
            push(runs, end, Goal::Value(value))?;
            next = u64::from(end) + 1;
        }
    }
    Ok(())
}
