//! How the trees of an IPv6 table are built and taken down: their nodes, see `node6`.

use std::sync::atomic::{AtomicU32, Ordering};

use super::FibError;
use super::memory::{Cell, Memory};
use super::node6::{BLOCKS, ESCAPE, LITERAL, Node, RUNS, SHIFTS, TABLE_BITS, is_escape, run};
use super::routes::Value;
use super::sweep::{Goal, Run, push};

/// How many more entries than runs a table may have, as bits.
const MORE_BITS: u32 = 6;
/// What it is worth, in bytes of a table, that a run is not under another table.
const DEEPER: usize = 256;

/// A part of a tree's keys: the first of them, and how many bits of the key differ within it.
#[derive(Clone, Copy)]
pub(super) struct Range {
    pub(super) first: u32,
    pub(super) bits: u32,
}

impl Range {
    pub(super) const ALL: Self = Self { first: 0, bits: 32 };

    /// The entry of a table that has `shift` bits behind its index.
    pub(super) fn entry(entry: u32, shift: u32) -> Self {
        Self { first: entry << shift, bits: shift }
    }

    pub(super) fn last(self) -> u32 {
        self.first | u32::MAX.checked_shr(32 - self.bits).unwrap_or(0)
    }

    /// The indexes of a table's entries.
    fn entries(self, shift: u32) -> std::ops::RangeInclusive<u32> {
        self.first >> shift..=self.last() >> shift
    }
}

/// The 64-bit words of a leaf.
fn leaf_words(room: usize, cells: usize) -> usize {
    (cells_at(room) + cells).div_ceil(2)
}

/// Where a leaf's cells begin, in 32-bit words.
fn cells_at(room: usize) -> usize {
    room + (room + 1).div_ceil(2)
}

/// The 32-bit words of the blocks.
pub(super) fn blocks(memory: &Memory) -> &[AtomicU32] {
    &memory.pages().heads()[BLOCKS..]
}

/// Reads a 32-bit word of a block. Relaxed: there is one writer, and it is us.
fn cell(memory: &Memory, at: usize) -> u32 {
    blocks(memory)[at].load(Ordering::Relaxed)
}

/// The node that a cell leads to.
pub(super) fn follow(memory: &Memory, link: Cell) -> Node {
    Node(cell(memory, link.0))
}

/// How many cells a leaf has.
fn cells(memory: &Memory, leaf: Node) -> usize {
    let first = leaf.at() + leaf.lasts() as usize;
    let values = &blocks(memory)[first..first + (leaf.lasts() as usize + 1).div_ceil(2)];
    // The highest bit of each 16; those that are no run's are 0.
    values.iter().map(|two| (two.load(Ordering::Relaxed) & 0x8000_8000).count_ones() as usize).sum()
}

/// Where a run of a leaf leads, by its value.
fn goal(memory: &Memory, leaf: Node, said: u16) -> Goal {
    if !is_escape(said) {
        return Goal::Value(said.into());
    }
    let found = cell(memory, leaf.at() + usize::from(said - ESCAPE));
    if found & LITERAL != 0 { Goal::Value(found & !LITERAL) } else { Goal::Tree(found) }
}

/// The runs of a leaf.
pub(super) struct LeafRuns {
    runs: [Run; RUNS],
    count: usize,
}

impl std::ops::Deref for LeafRuns {
    type Target = [Run];

    fn deref(&self) -> &[Run] {
        &self.runs[..self.count]
    }
}

/// Reads the runs of a leaf that ends at `last`.
pub(super) fn leaf_runs(memory: &Memory, leaf: Node, last: u32) -> LeafRuns {
    let room = leaf.lasts() as usize;
    let (lasts, values) = blocks(memory)[leaf.at()..][..cells_at(room)].split_at(room);
    let mut read = LeafRuns { runs: [Run { end: last, goal: Goal::Value(0) }; RUNS], count: room + 1 };
    for (rank, run) in read.runs.iter_mut().enumerate().take(room + 1) {
        run.goal = goal(memory, leaf, (values[rank / 2].load(Ordering::Relaxed) >> (rank % 2 * 16)) as u16);
        match lasts.get(rank).map(|last| last.load(Ordering::Relaxed)) {
            Some(last) if last < u32::MAX => run.end = last,
            // What fills a leaf up is all ones, which is no run's last address but the final one's.
            _ => {
                read.count = rank + 1;
                break;
            }
        }
    }
    read
}

/// How many runs a leaf has.
fn leaf_len(memory: &Memory, leaf: Node) -> usize {
    let lasts = &blocks(memory)[leaf.at()..][..leaf.lasts() as usize];
    lasts.iter().take_while(|last| last.load(Ordering::Relaxed) < u32::MAX).count() + 1
}

/// Appends the runs of a tree.
pub(super) fn each_run(
    memory: &Memory,
    node: Node,
    range: Range,
    runs: &mut Vec<Run>,
) -> Result<(), FibError> {
    let Some(shift) = node.table_shift() else {
        return leaf_runs(memory, node, range.last())
            .iter()
            .try_for_each(|run| push(runs, run.end, run.goal));
    };
    range.entries(shift).try_for_each(|entry| {
        let child = follow(memory, table_cell(node, entry, shift));
        each_run(memory, child, Range::entry(entry, shift), runs)
    })
}

/// How many runs a tree has, but at most `limit`: no more is counted then.
pub(super) fn count_runs(memory: &Memory, node: Node, range: Range, limit: usize) -> usize {
    let Some(shift) = node.table_shift() else { return leaf_len(memory, node) };
    let (mut count, mut before) = (0, None);
    for entry in range.entries(shift) {
        let child = follow(memory, table_cell(node, entry, shift));
        // Tables that follow each other in memory too have equal handles.
        if before != Some(child) || child.table_shift().is_some() {
            count += count_runs(memory, child, Range::entry(entry, shift), limit - count.min(limit));
            before = Some(child);
        }
        if count >= limit {
            break;
        }
    }
    count
}

/// The cell of a table's entry.
pub(super) fn table_cell(table: Node, entry: u32, shift: u32) -> Cell {
    Cell(table.entry(entry << shift, shift))
}

/// The value of a leaf that is the same throughout.
pub(super) fn uniform_value(memory: &Memory, leaf: Node) -> Option<Value> {
    if leaf.table_shift().is_some() || leaf.lasts() > 0 {
        return None;
    }
    match goal(memory, leaf, run(blocks(memory), leaf, 0)) {
        Goal::Value(value) => Some(value),
        Goal::Tree(_) => None,
    }
}

/// Fills a block that no reader has been led to yet; publishing the link to it orders this before.
fn fill(memory: &Memory, offset: u32, draft: &[u32]) {
    for (cell, &value) in blocks(memory)[offset as usize * 2..].iter().zip(draft) {
        cell.store(value, Ordering::Relaxed);
    }
}

fn build_leaf(memory: &mut Memory, runs: &[Run]) -> Result<u32, FibError> {
    // 16 last addresses, 17 values, 17 cells.
    let mut draft = [0u32; 42];
    let (lasts, room) = (runs.len() - 1, Node::room(runs.len() - 1));
    draft[lasts..room].fill(u32::MAX);
    let mut next_cell = cells_at(room);
    for (at, run) in runs.iter().enumerate() {
        if at < lasts {
            draft[at] = run.end;
        }
        let said = match run.goal {
            Goal::Value(value) if value < ESCAPE.into() => value,
            Goal::Value(value) => {
                draft[next_cell] = value | LITERAL;
                next_cell += 1;
                u32::from(ESCAPE) + next_cell as u32 - 1
            }
            Goal::Tree(tree) => {
                draft[next_cell] = tree;
                next_cell += 1;
                u32::from(ESCAPE) + next_cell as u32 - 1
            }
        };
        draft[room + at / 2] |= said << (at % 2 * 16);
    }
    let offset = memory.alloc(next_cell.div_ceil(2))?;
    fill(memory, offset, &draft[..next_cell]);
    Ok(Node::leaf(offset, room).0)
}

/// How many bits are to be behind the index of a table for these runs of a range: what is best in bytes, if a run that
/// is under another table, and so takes longer to find, is worth [`DEEPER`] bytes.
fn table_shift(runs: &[Run], range: Range) -> u32 {
    let most = (runs.len().ilog2() + MORE_BITS).min(*TABLE_BITS.end());
    let cost = |shift: u32| {
        let (mut deeper, mut from) = (0, 0);
        while from < runs.len() {
            // The runs that begin in the entry of this one's end, which one run more may reach into.
            let entry = runs[from].end >> shift;
            let count = runs[from..].iter().take_while(|run| run.end >> shift == entry).count();
            deeper += if count >= RUNS { count } else { 0 };
            from += count;
        }
        (4 << (range.bits - shift)) + deeper * DEEPER
    };
    let fits =
        |&shift: &u32| shift < range.bits && (*TABLE_BITS.start()..=most).contains(&(range.bits - shift));
    // There is always one: these runs differ in 5 bits or more.
    SHIFTS.into_iter().map(u32::from).filter(fits).min_by_key(|&shift| cost(shift)).unwrap_or(0)
}

/// The tree of a whole window: one leaf, or a table of trees.
pub(super) fn build_tree(memory: &mut Memory, runs: &[Run]) -> Result<u32, FibError> {
    if runs.len() <= RUNS { build_leaf(memory, runs) } else { build_table(memory, Range::ALL, runs) }
}

fn build_table(memory: &mut Memory, range: Range, mut runs: &[Run]) -> Result<u32, FibError> {
    let shift = table_shift(runs, range);
    let offset = memory.alloc(1 << (range.bits - shift - 1))?;
    let table = Node::table(offset, range.first, shift);
    // The shared leaf that was linked last, and how many entries more lead to it.
    let (mut shared, mut more) = (None, 0);
    for entry in range.entries(shift) {
        let part = Range::entry(entry, shift);
        // The run that an entry ends in may go on in the next.
        let count = runs.iter().take_while(|run| run.end < part.last()).count() + 1;
        let value =
            if let Goal::Value(value) = runs[0].goal { Some(value).filter(|_| count == 1) } else { None };
        let tree = match shared {
            Some((same, tree)) if value == Some(same) => {
                more += 1;
                tree
            }
            _ => build_entry(memory, part, &runs[..count])?,
        };
        if let Some(value) = value
            && shared != Some((value, tree))
        {
            shared.map_or(Ok(()), |(value, _)| memory.link(value, more))?;
            (shared, more) = (Some((value, tree)), 0);
        }
        blocks(memory)[table_cell(table, entry, shift).0].store(tree, Ordering::Relaxed);
        runs = &runs[count - usize::from(runs[count - 1].end > part.last())..];
    }
    shared.map_or(Ok(()), |(value, _)| memory.link(value, more))?;
    Ok(table.0)
}

/// What an entry of a table leads to: where it is the same throughout, the shared leaf. The last run may end behind it.
pub(super) fn build_entry(memory: &mut Memory, range: Range, runs: &[Run]) -> Result<u32, FibError> {
    if let [Run { goal: Goal::Value(value), .. }] = *runs {
        memory.uniform(value, |memory| build_leaf(memory, runs))
    } else if runs.len() <= RUNS {
        build_leaf(memory, runs)
    } else {
        build_table(memory, range, runs)
    }
}

/// Notes the nodes under an entry of a table as unlinked, or one link of each of `entries` to a shared leaf.
pub(super) fn unlink_entry(
    memory: &mut Memory,
    node: Node,
    range: Range,
    entries: u32,
) -> Result<(), FibError> {
    match uniform_value(memory, node) {
        Some(value) => memory.link(value, -i64::from(entries)),
        None => unlink_tree(memory, node, range),
    }
}

/// Notes all nodes of a tree as unlinked.
pub(super) fn unlink_tree(memory: &mut Memory, node: Node, range: Range) -> Result<(), FibError> {
    let Some(shift) = node.table_shift() else {
        let words = leaf_words(node.lasts() as usize, cells(memory, node));
        return memory.unlink(node.offset(), words);
    };
    let (mut entry, last) = range.entries(shift).into_inner();
    loop {
        let child = |memory: &Memory, entry| follow(memory, table_cell(node, entry, shift));
        let leads = child(memory, entry);
        // Tables that follow each other in memory too have equal handles.
        let most = if leads.table_shift().is_some() { entry } else { last };
        let same = (entry..=most).take_while(|&entry| child(memory, entry) == leads).count() as u32;
        unlink_entry(memory, leads, Range::entry(entry, shift), same)?;
        if last - entry + 1 == same {
            break;
        }
        entry += same;
    }
    memory.unlink((table_cell(node, range.first >> shift, shift).0 / 2) as u32, 1 << (range.bits - shift - 1))
}
