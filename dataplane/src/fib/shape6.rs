//! How an IPv6 table changes: its root, and the parts of its trees that a change touches.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use super::FibError;
use super::build6::{
    Range, blocks, build_entry, build_tree, count_runs, each_run, follow, leaf_runs, most_blocks, most_words,
    table_cell, uniform_value, unlink_entry, unlink_tree,
};
use super::memory::{Cell, Memory};
use super::node6::{
    CODE, ESCAPE, FIRST_MIDDLE, FIRST_NUMBER, MIDDLE, MIDDLE_BITS, MIDDLES, Node, STARTS, TOP_BITS,
    is_escape, link, rank, root_cell, run, tops,
};
use super::routes::Value;
use super::shape::Shape;
use super::sweep::{Goal, Run, push};

/// A table under an entry of another becomes a leaf when it has no more runs than this.
const FEW: usize = 12;

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

    fn most_words(_level: usize, routes: usize) -> usize {
        most_words(routes)
    }

    fn most_blocks(routes: usize) -> usize {
        most_blocks(routes)
    }

    fn build(memory: &mut Memory, _level: usize, runs: &[Run]) -> Result<u32, FibError> {
        build_tree(memory, runs)
    }

    fn uniform_value(memory: &Memory, _level: usize, tree: u32) -> Option<Value> {
        uniform_value(memory, Node(tree))
    }

    fn unlink(memory: &mut Memory, _level: usize, tree: u32) {
        unlink_tree(memory, Node(tree), Range::ALL);
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

    fn splice(memory: &mut Memory, tree: u32, (first, len): (u32, u8), runs: &[Run]) -> Result<(), FibError> {
        let span = Range { first, bits: 32 - u32::from(len) };
        let Some(shift) = Node(tree).table_shift() else { return Ok(()) };
        splice(memory, Node(tree), shift, span, runs)
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

    fn prefetch(memory: &Memory, tree: u32) {
        super::prefetch(blocks(memory).as_ptr().wrapping_add((tree & !CODE) as usize / 4));
        memory.prefetch((tree & !CODE) / 8);
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
        if len > TOP_BITS {
            self.middles.try_reserve(1).map_err(|_| error)?;
            let tree = self.root(memory, u32::from(top) << MIDDLE_BITS);
            let middle = Self::middle(memory, tree)?;
            if let Some(value) = uniform_value(memory, Node(tree)) {
                memory.link_uniform(value, MIDDLE - 1);
            }
            tops(memory.pages())[usize::from(top)].store(middle.place() as u32, Ordering::Release);
            self.middles.insert(top, middle);
        } else {
            self.shared.try_reserve(1).map_err(|_| error)?;
            let tree = uniform_tree(memory, value)?;
            memory.link_uniform(value, 1);
            let middle = Self::middle(memory, tree).inspect_err(|_| unlink_uniform(memory, value, tree))?;
            self.shared.insert(value, middle);
        }
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
                memory.unlink_uniform(value, MIDDLE - 1);
            }
        } else {
            self.shared.remove(&value);
            unlink_uniform(memory, value, tree);
        }
        memory.unlink_slot(slot);
    }
}

/// The shared leaf of a value.
fn uniform_tree(memory: &mut Memory, value: Value) -> Result<u32, FibError> {
    memory.uniform(value, |memory| build_tree(memory, &[Run { end: u32::MAX, goal: Goal::Value(value) }]))
}

/// Takes back one link to it.
fn unlink_uniform(memory: &mut Memory, value: Value, tree: u32) {
    if memory.unlink_uniform(value, 1) {
        unlink_tree(memory, Node(tree), Range::ALL);
    }
}

/// Replaces the runs of `span`, which is a prefix, in the tree of a table. As little of it is built again as holds them.
fn splice(
    memory: &mut Memory,
    table: Node,
    shift: u32,
    span: Range,
    mut runs: &[Run],
) -> Result<(), FibError> {
    for entry in span.first >> shift..=span.last() >> shift {
        let part = Range::entry(entry, shift);
        let link = table_cell(table, entry, shift);
        let node = follow(memory, link);
        let mut built = None;
        if part.bits <= span.bits {
            // The entry is within the span.
            let count = runs.partition_point(|run| run.end < part.last()) + 1;
            built = Some(build_entry(memory, part, &runs[..count])?);
            runs = &runs[count - usize::from(runs[count - 1].end > part.last())..];
        } else if let Some(deeper) = node.table_shift() {
            splice(memory, node, deeper, span, runs)?;
            if count_runs(memory, node, part, FEW + 1) <= FEW {
                let mut left = memory.take_runs();
                each_run(memory, node, part, &mut left);
                built = Some(build_entry(memory, part, &left)?);
                memory.return_runs(left);
            }
        } else {
            let mut new = memory.take_runs();
            splice_runs(memory, node, part, span, runs, &mut new);
            built = Some(build_entry(memory, part, &new)?);
            memory.return_runs(new);
        }
        if let Some(built) = built {
            Shape6::publish(memory, link, built);
            unlink_entry(memory, node, part, 1);
        }
    }
    Ok(())
}

/// The runs of a leaf, with others in a part of it: what comes before, up to where the span begins; then those of the
/// span; then what is left behind it.
fn splice_runs(memory: &Memory, leaf: Node, range: Range, span: Range, runs: &[Run], new: &mut Vec<Run>) {
    let mut start = range.first;
    for (last, goal) in leaf_runs(memory, leaf, range.last()) {
        if start < span.first {
            push(new, last.min(span.first - 1), goal);
        }
        start = last.saturating_add(1);
    }
    for run in runs {
        push(new, run.end.min(span.last()), run.goal);
    }
    for (last, goal) in leaf_runs(memory, leaf, range.last()).filter(|run| run.0 > span.last()) {
        push(new, last, goal);
    }
}
