//! How an IPv6 table changes: its root, and the parts of its trees that a change touches.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use super::FibError;
use super::build6::{
    blocks, build_entry, build_forks, build_tree, each_run, entry_last, follow, fork_last, most_blocks,
    most_words, split, uniform_value, unlink_entry, unlink_tree,
};
use super::memory::{Cell, Memory};
use super::node6::{
    ESCAPE, FIRST_MIDDLE, FIRST_NUMBER, FORK_LINKS, MIDDLE, MIDDLE_BITS, MIDDLES, Node, ONLY, RUNS, STARTS,
    TOP_BITS, Top, is_escape, link, rank, run, tops,
};
use super::routes::Value;
use super::shape::{Shape, Splice};
use super::sweep::{Run, push};

/// A change that reaches over more entries of a table than this builds the table again.
const MOST_ENTRIES: u32 = 64;

/// The layout of an IPv6 table, and which parts of its root there are.
#[derive(Default)]
pub(super) struct Shape6 {
    /// The second parts of the root, by the first 16 bits of the address: where each is, and for how many routes.
    middles: HashMap<u16, (u32, usize)>,
}

impl Shape6 {
    fn entry(memory: &Memory, top: usize) -> Top {
        Top(tops(memory.pages())[top].load(Ordering::Relaxed))
    }

    /// The entry of the root for a chunk.
    fn cell(memory: &Memory, chunk: u32) -> usize {
        Self::entry(memory, (chunk >> MIDDLE_BITS) as usize).cell(chunk)
    }

    fn top(prefix: u128) -> u16 {
        (prefix >> (128 - TOP_BITS)) as u16
    }

    /// Leads a top entry to its only cell.
    fn set_only(memory: &Memory, top: usize, tree: u32) {
        let heads = memory.pages().heads();
        heads[ONLY + top].store(tree, Ordering::Release);
        tops(memory.pages())[top].store(Top::only(ONLY + top).0, Ordering::Release);
    }
}

impl Shape for Shape6 {
    const STARTS: &'static [u8] = &STARTS;
    const WINDOWS: &'static [u8] = &[32, 32, 32, 4];
    const DEEP_UNIFORM: bool = true;
    const SPLICES: bool = true;
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
        unlink_tree(memory, Node(tree));
    }

    fn link(memory: &Memory, tree: u32, suffix: u32) -> Option<Cell> {
        let (cells, mut node) = (blocks(memory), Node(tree));
        while let Some(at) = link(cells, node, suffix) {
            node = follow(memory, Cell(at));
        }
        let said = run(cells, node, rank(cells, node, suffix));
        is_escape(said).then(|| Cell(node.at() + usize::from(said - ESCAPE)))
    }

    fn publish(memory: &Memory, cell: Cell, tree: u32) {
        blocks(memory)[cell.0].store(tree, Ordering::Release);
    }

    fn splice(memory: &mut Memory, tree: u32, span: (u32, u32), runs: &[Run]) -> Result<Splice, FibError> {
        let table = Node(tree);
        let Some(shift) = table.table_shift() else {
            return splice_forks(memory, None, table, (0, u32::MAX), span, runs);
        };
        let (first, last) = (span.0 >> shift, span.1 >> shift);
        if last - first > MOST_ENTRIES {
            return Ok(Splice::Rebuild);
        }
        let mut runs = runs;
        for entry in first..=last {
            let (start, end) = (entry << shift, entry_last(entry, shift));
            let part = (span.0.max(start), span.1.min(end));
            let count = runs.partition_point(|run| run.end < part.1) + 1;
            let link = Cell(table.line() + entry as usize);
            let node = follow(memory, link);
            if matches!(
                splice_forks(memory, Some(link), node, (start, end), part, &runs[..count])?,
                Splice::Rebuild
            ) {
                return Ok(Splice::Rebuild);
            }
            runs = &runs[count - usize::from(runs[count - 1].end > part.1)..];
        }
        Ok(Splice::Done)
    }

    fn root(&self, memory: &Memory, chunk: u32) -> u32 {
        memory.pages().heads()[Self::cell(memory, chunk)].load(Ordering::Relaxed)
    }

    fn set_root(&self, memory: &Memory, chunk: u32, tree: u32) {
        let top = (chunk >> MIDDLE_BITS) as usize;
        if Self::entry(memory, top).has_middle() {
            memory.pages().heads()[Self::cell(memory, chunk)].store(tree, Ordering::Release);
        } else {
            Self::set_only(memory, top, tree);
        }
    }

    fn prefetch_root(&self, memory: &Memory, chunk: u32) {
        super::prefetch(memory.pages().heads().as_ptr().wrapping_add(Self::cell(memory, chunk)));
    }

    fn prefetch(memory: &Memory, tree: u32) {
        super::prefetch(blocks(memory).as_ptr().wrapping_add(Node(tree).line()));
        memory.prefetch(Node(tree).offset());
    }

    fn number<'a>(&self, memory: &'a Memory, chunk: u32) -> Option<&'a AtomicU32> {
        let has_middle = Self::entry(memory, (chunk >> MIDDLE_BITS) as usize).has_middle();
        let number = || &memory.pages().heads()[Self::cell(memory, chunk) + (FIRST_NUMBER - FIRST_MIDDLE)];
        has_middle.then(number)
    }

    fn span(&self, chunk: u32) -> u32 {
        if self.middles.contains_key(&((chunk >> MIDDLE_BITS) as u16)) { 1 } else { MIDDLE as u32 }
    }

    fn hold(&mut self, memory: &mut Memory, prefix: u128, len: u8) -> Result<(), FibError> {
        if len <= TOP_BITS {
            return Ok(());
        }
        let top = Self::top(prefix);
        if let Some((_, routes)) = self.middles.get_mut(&top) {
            *routes += 1;
            return Ok(());
        }
        let bytes = size_of::<(u16, (u32, usize))>();
        self.middles.try_reserve(1).map_err(|_| FibError::Memory { bytes })?;
        let slot = memory.slot(MIDDLES as u32)?;
        let middle = FIRST_MIDDLE + slot as usize * MIDDLE;
        let numbers = middle + FIRST_NUMBER - FIRST_MIDDLE;
        for first in [middle, numbers] {
            if let Err(error) = memory.pages().commit(first * 4, (first + MIDDLE) * 4) {
                memory.return_slot(slot);
                return Err(error);
            }
        }
        let heads = memory.pages().heads();
        let tree = heads[Self::entry(memory, usize::from(top)).place()].load(Ordering::Relaxed);
        for cell in &heads[middle..middle + MIDDLE] {
            cell.store(tree, Ordering::Relaxed);
        }
        if let Some(value) = Self::uniform_value(memory, 0, tree) {
            memory.link_uniform(value, MIDDLE - 1);
        }
        tops(memory.pages())[usize::from(top)].store(Top::middle(middle).0, Ordering::Release);
        self.middles.insert(top, (slot, 1));
        Ok(())
    }

    fn release(&mut self, memory: &mut Memory, prefix: u128, len: u8) {
        if len <= TOP_BITS {
            return;
        }
        let top = Self::top(prefix);
        let Some((slot, routes)) = self.middles.get_mut(&top) else { return };
        *routes -= 1;
        if *routes > 0 {
            return;
        }
        // No route is left below: all entries lead to the same shared leaf.
        let slot = *slot;
        self.middles.remove(&top);
        let tree = memory.pages().heads()[FIRST_MIDDLE + slot as usize * MIDDLE].load(Ordering::Relaxed);
        Self::set_only(memory, usize::from(top), tree);
        memory.unlink_slot(slot);
        if let Some(value) = Self::uniform_value(memory, 0, tree) {
            memory.unlink_uniform(value, MIDDLE - 1);
        }
    }
}

/// Replaces the runs of `span` in the tree of leaves and forks at `node`, which covers `range` and hangs in an entry
/// of a table, `entry`, or is a chunk's whole tree. As little of it is built again as holds the span.
fn splice_forks(
    memory: &mut Memory,
    entry: Option<Cell>,
    mut node: Node,
    (mut node_first, mut node_last): (u32, u32),
    (first, end): (u32, u32),
    runs: &[Run],
) -> Result<Splice, FibError> {
    let (mut link, mut above) = (entry, None);
    while node.is_fork() {
        let at = rank(blocks(memory), node, first);
        if at != rank(blocks(memory), node, end) {
            break;
        }
        above = Some((node, at, link));
        if let Some(before) = at.checked_sub(1).and_then(|before| fork_last(memory, node, before)) {
            node_first = before + 1;
        }
        node_last = fork_last(memory, node, at).unwrap_or(node_last);
        let cell = Cell(node.at() + FORK_LINKS + at as usize);
        link = Some(cell);
        node = follow(memory, cell);
    }
    // What comes before, up to where the change begins; then the change; then what is left behind it.
    let mut new = memory.take_runs();
    let mut start = node_first;
    each_run(memory, node, node_last, &mut |last, goal| {
        if start < first {
            push(&mut new, last.min(first - 1), goal);
        }
        start = last.saturating_add(1);
    });
    for run in runs {
        push(&mut new, run.end.min(end), run.goal);
    }
    each_run(memory, node, node_last, &mut |last, goal| {
        if last > end {
            push(&mut new, last, goal);
        }
    });
    let built = match above {
        Some((fork, at, above)) if new.len() > RUNS && !node.is_fork() => {
            split(memory, fork, at, node_last, &new)?.map(|built| (built, above))
        }
        _ => None,
    };
    let built = match built {
        Some(built) => Some(built),
        None if above.is_some() => Some((build_forks(memory, &new)?, link)),
        None if entry.is_some() => Some((build_entry(memory, &new)?, link)),
        // The whole tree has become the same throughout: the shared one, which is not built here.
        None if new.len() == 1 => None,
        None => Some((build_tree(memory, &new)?, link)),
    };
    memory.return_runs(new);
    let Some((built, link)) = built else { return Ok(Splice::Rebuild) };
    if above.is_some() {
        unlink_tree(memory, node);
    } else {
        unlink_entry(memory, node, 1);
    }
    let Some(link) = link else { return Ok(Splice::Tree(built)) };
    Shape6::publish(memory, link, built);
    Ok(Splice::Done)
}
