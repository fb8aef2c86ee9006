//! How an IPv6 table is built: its nodes, see `node6`, and its root.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use super::FibError;
use super::memory::{Cell, Memory};
use super::node6::{
    BLOCKS, ESCAPE, FIRST_MIDDLE, FIRST_NUMBER, FORK_LINKS, LITERAL, MIDDLE, MIDDLE_BITS, MIDDLES, Node,
    ONLY, RUNS, STARTS, TOP_BITS, Top, child, is_escape, rank, run, tops,
};
use super::routes::Value;
use super::shape::{Shape, Splice};
use super::sweep::{Goal, Run, push};

/// Children of a fork.
const WIDTH: usize = FORK_LINKS;
/// Runs of a leaf that is built under a fork: there is room for more.
const FILL: usize = 8;
/// 64-bit words of a fork.
const FORK_WORDS: usize = 8;

/// The 64-bit words of a leaf.
fn leaf_words(lasts: usize, cells: usize) -> usize {
    (cells_at(lasts) + cells).div_ceil(2)
}

/// Where a leaf's cells begin, in 32-bit words.
fn cells_at(lasts: usize) -> usize {
    lasts + (lasts + 1).div_ceil(2)
}

/// The 32-bit words of the blocks.
fn blocks(memory: &Memory) -> &[AtomicU32] {
    &memory.pages().heads()[BLOCKS..]
}

/// Reads a 32-bit word of a block. Relaxed: there is one writer, and it is us.
fn cell(memory: &Memory, at: usize) -> u32 {
    blocks(memory)[at].load(Ordering::Relaxed)
}

/// How many cells a leaf has.
fn cells(memory: &Memory, leaf: Node) -> usize {
    let first = leaf.at() + leaf.lasts() as usize;
    let values = &blocks(memory)[first..first + (leaf.lasts() as usize + 1).div_ceil(2)];
    // The highest bit of each 16; the last is 0 where there is no value.
    values.iter().map(|two| (two.load(Ordering::Relaxed) & 0x8000_8000).count_ones() as usize).sum()
}

/// Where run `rank` of a leaf leads.
fn goal(memory: &Memory, leaf: Node, rank: u32) -> Goal {
    let said = run(blocks(memory), leaf, rank);
    if !is_escape(said) {
        return Goal::Value(said.into());
    }
    let found = cell(memory, leaf.at() + usize::from(said - ESCAPE));
    if found & LITERAL != 0 { Goal::Value(found & !LITERAL) } else { Goal::Tree(found) }
}

/// The last address of child or run `rank`, if it is stored.
fn last(memory: &Memory, node: Node, rank: u32) -> Option<u32> {
    (rank < node.lasts()).then(|| cell(memory, node.at() + rank as usize))
}

fn fork_link(fork: Node, rank: u32) -> Cell {
    Cell(fork.at() + FORK_LINKS + rank as usize)
}

fn build_leaf(memory: &mut Memory, runs: &[Run]) -> Result<u32, FibError> {
    // 10 last addresses, 11 values, 11 cells.
    let mut draft = [0u32; 28];
    let lasts = runs.len() - 1;
    let mut next_cell = cells_at(lasts);
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
        draft[lasts + at / 2] |= said << (at % 2 * 16);
    }
    let offset = memory.alloc(next_cell.div_ceil(2))?;
    fill(memory, offset, &draft[..next_cell]);
    Ok(Node::new(offset, lasts, false).0)
}

/// Fills a block that no reader has been led to yet; publishing the link to it orders this before.
fn fill(memory: &Memory, offset: u32, draft: &[u32]) {
    for (cell, &value) in blocks(memory)[offset as usize * 2..].iter().zip(draft) {
        cell.store(value, Ordering::Relaxed);
    }
}

/// A fork over some children: the last address of each, and its handle.
fn build_fork(memory: &mut Memory, children: &[(u32, u32)]) -> Result<u32, FibError> {
    let mut draft = [0; FORK_WORDS * 2];
    draft[..WIDTH].fill(u32::MAX);
    let lasts = children.len() - 1;
    for (at, &(last, tree)) in children.iter().enumerate() {
        if at < lasts {
            draft[at] = last;
        }
        draft[FORK_LINKS + at] = tree;
    }
    let offset = memory.alloc(FORK_WORDS)?;
    fill(memory, offset, &draft);
    Ok(Node::new(offset, lasts, true).0)
}

/// Cuts `count` things into nodes of at most `most`, as evenly as can be: the sizes.
fn cut(count: usize, most: usize) -> impl Iterator<Item = usize> {
    let nodes = count.div_ceil(most);
    (0..nodes).map(move |node| (node + 1) * count / nodes - node * count / nodes)
}

fn build_tree(memory: &mut Memory, mut runs: &[Run]) -> Result<u32, FibError> {
    if runs.len() <= RUNS {
        return build_leaf(memory, runs);
    }
    // Fuller leaves where that saves a level.
    let depth = |fill: usize| (1..12).find(|&depth| runs.len() <= fill * WIDTH.pow(depth));
    let fill = if depth(FILL) == depth(RUNS - 1) { FILL } else { RUNS - 1 };
    let mut nodes = Vec::with_capacity(runs.len() / fill + 1);
    for size in cut(runs.len(), fill) {
        let (leaf, rest) = runs.split_at(size);
        nodes.push((leaf[size - 1].end, build_leaf(memory, leaf)?));
        runs = rest;
    }
    while nodes.len() > 1 {
        let mut above = Vec::with_capacity(nodes.len() / WIDTH + 1);
        let mut rest = nodes.as_slice();
        for size in cut(nodes.len(), WIDTH) {
            let (children, others) = rest.split_at(size);
            above.push((children[size - 1].0, build_fork(memory, children)?));
            rest = others;
        }
        nodes = above;
    }
    Ok(nodes[0].1)
}

/// Builds a fork again with two leaves in the place of one that has become too long, child `at`, which ends at
/// `leaf_last`; `None` when the fork is full, or the runs are too many. The old fork is noted as unlinked.
fn split(
    memory: &mut Memory,
    fork: Node,
    at: u32,
    leaf_last: u32,
    runs: &[Run],
) -> Result<Option<u32>, FibError> {
    if fork.lasts() as usize + 2 > WIDTH || runs.len() > 2 * RUNS {
        return Ok(None);
    }
    let mut children = Vec::with_capacity(WIDTH);
    for child in 0..=fork.lasts() {
        // What the last child of all ends at is not stored, nor does it matter.
        let last = last(memory, fork, child).unwrap_or(leaf_last);
        if child == at {
            let (low, high) = runs.split_at(runs.len() / 2);
            children.push((low[low.len() - 1].end, build_leaf(memory, low)?));
            children.push((last, build_leaf(memory, high)?));
        } else {
            children.push((last, cell(memory, fork_link(fork, child).0)));
        }
    }
    let built = build_fork(memory, &children)?;
    memory.unlink(fork.offset(), FORK_WORDS);
    Ok(Some(built))
}

/// Notes all nodes of a tree as unlinked.
fn unlink_tree(memory: &mut Memory, tree: u32) {
    let node = Node(tree);
    if node.is_fork() == 1 {
        for rank in 0..=node.lasts() {
            let child = cell(memory, fork_link(node, rank).0);
            unlink_tree(memory, child);
        }
        memory.unlink(node.offset(), FORK_WORDS);
    } else {
        let words = leaf_words(node.lasts() as usize, cells(memory, node));
        memory.unlink(node.offset(), words);
    }
}

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
        Self::entry(memory, (chunk >> MIDDLE_BITS) as usize).cell(u64::from(chunk) << (64 - STARTS[0]))
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
        let runs = 2 * routes + 1;
        let leaves = runs.div_ceil(FILL);
        leaves * leaf_words(RUNS - 1, RUNS) + (leaves / (WIDTH / 2) + 4) * FORK_WORDS
    }

    fn build(memory: &mut Memory, _level: usize, runs: &[Run]) -> Result<u32, FibError> {
        build_tree(memory, runs)
    }

    fn uniform_value(memory: &Memory, _level: usize, tree: u32) -> Option<Value> {
        let node = Node(tree);
        if node.is_fork() == 1 || node.lasts() > 0 {
            return None;
        }
        match goal(memory, node, 0) {
            Goal::Value(value) => Some(value),
            Goal::Tree(_) => None,
        }
    }

    fn unlink(memory: &mut Memory, _level: usize, tree: u32) {
        unlink_tree(memory, tree);
    }

    fn link(memory: &Memory, tree: u32, suffix: u32) -> Option<Cell> {
        let (cells, mut node) = (blocks(memory), Node(tree));
        while node.is_fork() == 1 {
            node = child(cells, node, rank(cells, node, suffix));
        }
        let said = run(cells, node, rank(cells, node, suffix));
        is_escape(said).then(|| Cell(node.at() + usize::from(said - ESCAPE)))
    }

    fn publish(memory: &Memory, cell: Cell, tree: u32) {
        blocks(memory)[cell.0].store(tree, Ordering::Release);
    }

    fn splice(
        memory: &mut Memory,
        tree: u32,
        (first, end): (u32, u32),
        runs: &[Run],
    ) -> Result<Splice, FibError> {
        let (mut node, mut link, mut node_first, mut node_last) = (Node(tree), None, 0, u32::MAX);
        let mut above = None;
        while node.is_fork() == 1 {
            let at = rank(blocks(memory), node, first);
            if at != rank(blocks(memory), node, end) {
                return Ok(Splice::Rebuild);
            }
            above = Some((node, at, link));
            link = Some(fork_link(node, at));
            if let Some(before) = at.checked_sub(1).and_then(|before| last(memory, node, before)) {
                node_first = before + 1;
            }
            node_last = last(memory, node, at).unwrap_or(node_last);
            node = child(blocks(memory), node, at);
        }
        let mut new = Vec::with_capacity(RUNS + 2 + runs.len());
        let old = |rank| (last(memory, node, rank).unwrap_or(node_last), goal(memory, node, rank));
        // What comes before, up to where the change begins; then the change; then what is left behind it.
        let mut start = node_first;
        for (last, goal) in (0..=node.lasts()).map(old) {
            if start >= first {
                break;
            }
            push(&mut new, last.min(first - 1), goal);
            start = last.saturating_add(1);
        }
        for run in runs {
            push(&mut new, run.end, run.goal);
        }
        for (last, goal) in (0..=node.lasts()).map(old).filter(|&(last, _)| last > end) {
            push(&mut new, last, goal);
        }
        let (built, link) = match above {
            Some((fork, at, link)) if new.len() > RUNS => {
                let Some(built) = split(memory, fork, at, node_last, &new)? else {
                    return Ok(Splice::Rebuild);
                };
                (built, link)
            }
            _ if new.len() > RUNS || (new.len() == 1 && link.is_none()) => return Ok(Splice::Rebuild),
            _ => (build_leaf(memory, &new)?, link),
        };
        let words = leaf_words(node.lasts() as usize, cells(memory, node));
        memory.unlink(node.offset(), words);
        let Some(link) = link else { return Ok(Splice::Tree(built)) };
        Self::publish(memory, link, built);
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
        super::prefetch(blocks(memory).as_ptr().wrapping_add(Node(tree).at()));
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
