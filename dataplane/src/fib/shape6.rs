//! How an IPv6 table changes: its root, and the parts of its trees that a change touches.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use super::FibError;
use super::build6::{
    Range, blocks, build_entry, build_tree, count_runs, each_run, follow, leaf_runs, table_cell,
    uniform_value, unlink_entry, unlink_tree,
};
use super::memory::{Cell, Memory};
use super::node6::{
    ESCAPE, FIRST_MIDDLE, FIRST_NUMBER, MIDDLE, MIDDLE_BITS, MIDDLES, Node, STARTS, TOP_BITS, is_escape,
    link, rank, root_cell, run, tops,
};
use super::routes::Value;
use super::shape::Shape;
use super::sweep::{Goal, Run, push};

/// A table under an entry of another becomes a leaf when it has no more runs than this.
const FEW: usize = 12;
/// The entries of a second part but one: so many links more than a top entry's one.
const OTHERS: i64 = (1 << MIDDLE_BITS) - 1;

/// A second part of the root: where it is among all, and for how many routes it is there.
struct Middle {
    slot: u32,
    routes: usize,
}

impl Middle {
    fn place(&self) -> usize {
        FIRST_MIDDLE + self.slot as usize * MIDDLE
    }
}

/// The layout of an IPv6 table, and which parts of its root there are.
#[derive(Default)]
pub(super) struct Shape6 {
    /// The second parts where there are routes longer than the first, by the first 16 bits of the address.
    middles: HashMap<u16, Middle>,
    /// Second parts that are the same throughout, by the value of the routes, no longer than the first part, whose
    /// addresses lead there. What no such route covers leads to the zeros at 0.
    shared: HashMap<Value, Middle>,
}

impl Shape6 {
    /// The entry of the root for a chunk.
    fn cell(memory: &Memory, chunk: u32) -> usize {
        root_cell(tops(memory.pages()), chunk)
    }

    fn top(prefix: u128) -> u16 {
        (prefix >> (128 - TOP_BITS)) as u16
    }

    /// Leads a top entry to the second part that has this tree throughout.
    fn share(&self, memory: &Memory, top: u16, tree: u32) {
        let value = uniform_value(memory, Node(tree)).unwrap_or(0);
        let place = self.shared.get(&value).map_or(0, Middle::place);
        tops(memory.pages())[usize::from(top)].store(place as u32, Ordering::Release);
    }

    /// A new second part, all of whose entries are this tree.
    fn middle(memory: &mut Memory, tree: u32) -> Result<Middle, FibError> {
        let middle = Middle { slot: memory.slot(MIDDLES as u32)?, routes: 1 };
        let place = middle.place();
        for first in [place, place + FIRST_NUMBER - FIRST_MIDDLE] {
            if let Err(error) = memory.pages().commit(first * 4, (first + MIDDLE) * 4) {
                memory.return_slot(middle.slot);
                return Err(error);
            }
        }
        for cell in &memory.pages().heads()[place..place + MIDDLE] {
            cell.store(tree, Ordering::Relaxed);
        }
        Ok(middle)
    }
}

impl Shape for Shape6 {
    const STARTS: &'static [u8] = &STARTS;
    const WINDOWS: &'static [u8] = &[32, 32, 32, 4];
    const DEEP_UNIFORM: bool = true;
    const MARGIN: usize = 0;

    fn build(memory: &mut Memory, _level: usize, runs: &[Run]) -> Result<u32, FibError> {
        build_tree(memory, runs)
    }

    fn uniform_value(memory: &Memory, _level: usize, tree: u32) -> Option<Value> {
        uniform_value(memory, Node(tree))
    }

    fn unlink(memory: &mut Memory, _level: usize, tree: u32) -> Result<(), FibError> {
        unlink_tree(memory, Node(tree), Range::ALL)
    }

    fn link(memory: &Memory, tree: u32, suffix: u32) -> Option<Cell> {
        let (cells, mut node) = (blocks(memory), Node(tree));
        while let Some(at) = link(node, suffix) {
            node = follow(memory, Cell(at));
        }
        let said = run(cells, node, rank(cells, node, suffix));
        is_escape(said).then(|| Cell(node.at() + usize::from(said - ESCAPE)))
    }

    fn publish(memory: &Memory, cell: Cell, tree: u32) {
        blocks(memory)[cell.0].store(tree, Ordering::Release);
    }

    fn splices(tree: u32) -> bool {
        Node(tree).table_shift().is_some()
    }

    fn splice(
        memory: &mut Memory,
        tree: u32,
        (first, len): (u32, u8),
        runs: &[Run],
    ) -> Result<bool, FibError> {
        splice(memory, Node(tree), Range { first, bits: 32 - u32::from(len) }, runs)
    }

    fn fold(memory: &mut Memory, tree: u32, suffix: u32) -> Result<(), FibError> {
        fold(memory, Node(tree), suffix)
    }

    fn root(&self, memory: &Memory, chunk: u32) -> u32 {
        memory.pages().heads()[Self::cell(memory, chunk)].load(Ordering::Relaxed)
    }

    fn set_root(&self, memory: &Memory, chunk: u32, tree: u32) {
        let top = (chunk >> MIDDLE_BITS) as u16;
        if self.middles.contains_key(&top) {
            memory.pages().heads()[Self::cell(memory, chunk)].store(tree, Ordering::Release);
        } else {
            self.share(memory, top, tree);
        }
    }

    fn prefetch_root(&self, memory: &Memory, chunk: u32) {
        super::prefetch(memory.pages().heads().as_ptr().wrapping_add(Self::cell(memory, chunk)));
    }

    fn prefetch(memory: &Memory, tree: u32, suffix: u32) {
        match link(Node(tree), suffix) {
            Some(at) => super::prefetch(blocks(memory).as_ptr().wrapping_add(at)),
            None => prefetch_leaf(memory, Node(tree)),
        }
    }

    fn prefetch_part(memory: &Memory, tree: u32, suffix: u32) {
        if let Some(at) = link(Node(tree), suffix) {
            let node = follow(memory, Cell(at));
            if node.table_shift().is_none() {
                prefetch_leaf(memory, node);
            }
        }
    }

    fn number<'a>(&self, memory: &'a Memory, chunk: u32) -> Option<&'a AtomicU32> {
        // Second parts that are shared have numbers too, all of them 0; only the zeros at 0 have none.
        let cell = Self::cell(memory, chunk).checked_sub(FIRST_MIDDLE)?;
        memory.pages().heads().get(FIRST_NUMBER + cell)
    }

    fn span(&self, chunk: u32) -> u32 {
        if self.middles.contains_key(&((chunk >> MIDDLE_BITS) as u16)) { 1 } else { MIDDLE as u32 }
    }

    fn hold(&mut self, memory: &mut Memory, prefix: u128, len: u8, value: Value) -> Result<(), FibError> {
        let top = Self::top(prefix);
        let held = if len > TOP_BITS { self.middles.get_mut(&top) } else { self.shared.get_mut(&value) };
        if let Some(middle) = held {
            middle.routes += 1;
            return Ok(());
        }
        let error = FibError::Memory { bytes: size_of::<(u32, Middle)>() };
        let (tree, links) = if len > TOP_BITS {
            self.middles.try_reserve(1).map_err(|_| error)?;
            (self.root(memory, u32::from(top) << MIDDLE_BITS), OTHERS)
        } else {
            self.shared.try_reserve(1).map_err(|_| error)?;
            (build_entry(memory, Range::ALL, &[Run { end: u32::MAX, goal: Goal::Value(value) }])?, 0)
        };
        if let Some(value) = uniform_value(memory, Node(tree)) {
            memory.link(value, links)?;
        }
        memory.secure()?;
        let middle = Self::middle(memory, tree)?;
        if len > TOP_BITS {
            tops(memory.pages())[usize::from(top)].store(middle.place() as u32, Ordering::Release);
            self.middles.insert(top, middle);
        } else {
            self.shared.insert(value, middle);
        }
        memory.commit(|_, _, _| ());
        Ok(())
    }

    fn release(&mut self, memory: &mut Memory, prefix: u128, len: u8, value: Value) {
        let top = Self::top(prefix);
        let held = if len > TOP_BITS { self.middles.get_mut(&top) } else { self.shared.get_mut(&value) };
        let Some(middle) = held else { return };
        middle.routes -= 1;
        if middle.routes > 0 {
            return;
        }
        let (slot, tree) = (middle.slot, memory.pages().heads()[middle.place()].load(Ordering::Relaxed));
        if len > TOP_BITS {
            // No route is left below: all entries lead to the same shared leaf.
            self.middles.remove(&top);
            self.share(memory, top, tree);
            if let Some(value) = uniform_value(memory, Node(tree)) {
                memory.unlink_now(value, OTHERS);
            }
        } else {
            self.shared.remove(&value);
            memory.unlink_now(value, 1);
        }
        memory.unlink_slot(slot);
    }
}

/// Asks for a leaf, and for what says that it is in use.
fn prefetch_leaf(memory: &Memory, leaf: Node) {
    let first = blocks(memory).as_ptr().wrapping_add(leaf.at());
    super::prefetch(first);
    // The values of a long one are in the next line.
    super::prefetch(first.wrapping_add(leaf.lasts() as usize));
    memory.prefetch(leaf.offset());
}

/// Builds what replaces the runs of `span`, which is a prefix, in the tree of a table: as little as holds them. Whether
/// there may now be few enough under one of the tables that led there.
fn splice(memory: &mut Memory, mut table: Node, span: Range, mut runs: &[Run]) -> Result<bool, FibError> {
    let mut under = false;
    loop {
        let Some(shift) = table.table_shift() else { return Ok(false) };
        let (entry, part) = (span.first >> shift, Range::entry(span.first >> shift, shift));
        let link = table_cell(table, entry, shift);
        let node = follow(memory, link);
        if part.bits <= span.bits {
            // Whole entries are within the span.
            for entry in entry..=span.last() >> shift {
                let part = Range::entry(entry, shift);
                let link = table_cell(table, entry, shift);
                let count = runs.partition_point(|run| run.end < part.last()) + 1;
                replace(memory, link, part, &runs[..count])?;
                runs = &runs[count - usize::from(runs[count - 1].end > part.last())..];
            }
            return Ok(under);
        }
        if node.table_shift().is_none() {
            let (mut new, old) = (memory.take_runs(), leaf_runs(memory, node, part.last()));
            splice_runs(&old, part.first, span, runs, &mut new)?;
            replace(memory, link, part, &new)?;
            under &= new.len() < old.len();
            memory.return_runs(new);
            return Ok(under);
        }
        (table, under) = (node, true);
    }
}

/// Builds what an entry of a table will lead to.
fn replace(memory: &mut Memory, link: Cell, part: Range, runs: &[Run]) -> Result<(), FibError> {
    let old = follow(memory, link);
    let built = build_entry(memory, part, runs)?;
    memory.store(link, built)?;
    unlink_entry(memory, old, part, 1)
}

/// Makes a leaf of the uppermost table under another, on the way to `key`, that has few runs.
fn fold(memory: &mut Memory, mut table: Node, key: u32) -> Result<(), FibError> {
    while let Some(shift) = table.table_shift() {
        let (link, part) = (table_cell(table, key >> shift, shift), Range::entry(key >> shift, shift));
        let node = follow(memory, link);
        if node.table_shift().is_some() && count_runs(memory, node, part, FEW + 1) <= FEW {
            let mut left = memory.take_runs();
            each_run(memory, node, part, &mut left)?;
            replace(memory, link, part, &left)?;
            memory.return_runs(left);
            return Ok(());
        }
        table = node;
    }
    Ok(())
}

/// The runs of a leaf from address `start` on, with others in a part of it: what comes before, up to where the span
/// begins; then those of the span; then what is left behind it.
fn splice_runs(
    old: &[Run],
    mut start: u32,
    span: Range,
    runs: &[Run],
    new: &mut Vec<Run>,
) -> Result<(), FibError> {
    for run in old {
        if start >= span.first {
            break;
        }
        push(new, run.end.min(span.first - 1), run.goal)?;
        start = run.end.saturating_add(1);
    }
    for run in runs {
        push(new, run.end.min(span.last()), run.goal)?;
    }
    old.iter().filter(|run| run.end > span.last()).try_for_each(|run| push(new, run.end, run.goal))
}
