//! How the trees of an IPv6 table are built and taken down: their nodes, see `node6`.

use std::sync::atomic::{AtomicU32, Ordering};

use super::FibError;
use super::memory::{Cell, Memory};
use super::node6::{BLOCKS, ESCAPE, FORK_LINKS, LITERAL, Node, RUNS, TABLE_BITS, is_escape, run};
use super::routes::Value;
use super::sweep::{Goal, Run};

/// Children of a fork.
const WIDTH: usize = FORK_LINKS;
/// Runs of a leaf that is built under a fork: there is room for more.
const FILL: usize = 8;
/// How many more entries than runs a table may have, as bits.
const MORE_BITS: u32 = 2;
/// What it is worth, in bytes of a table, that a run is not under a fork.
const FORKED: usize = 64;
/// 64-bit words of a fork.
const FORK_WORDS: usize = 8;

/// The most 64-bit words that a tree of this many routes can take.
pub(super) fn most_words(routes: usize) -> usize {
    // A run that reaches into two entries of a table is a run of two leaves. A leaf takes at most 4/3 words a run, a
    // table two words a run (or a line), a fork 8 words for 6 runs or more, and shared leaves one word each.
    8 * (2 * routes + 1) + 32
}

/// The most blocks that such a tree has.
pub(super) fn most_blocks(routes: usize) -> usize {
    3 * (2 * routes + 1) + 4
}

/// The 64-bit words of a leaf.
fn leaf_words(lasts: usize, cells: usize) -> usize {
    (cells_at(lasts) + cells).div_ceil(2)
}

/// Where a leaf's cells begin, in 32-bit words.
fn cells_at(lasts: usize) -> usize {
    lasts + (lasts + 1).div_ceil(2)
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

/// Says of each run of a tree of leaves and forks where it ends and leads. The tree ends at `last`.
pub(super) fn each_run(memory: &Memory, node: Node, last: u32, say: &mut impl FnMut(u32, Goal)) {
    if node.is_fork() {
        for rank in 0..children(memory, node) {
            let child = follow(memory, fork_link(node, rank));
            each_run(memory, child, fork_last(memory, node, rank).unwrap_or(last), say);
        }
        return;
    }
    for rank in 0..=node.lasts() {
        let stored = rank < node.lasts();
        let last = if stored { cell(memory, node.at() + rank as usize) } else { last };
        say(last, goal(memory, node, rank));
    }
}

/// How many children a fork has.
fn children(memory: &Memory, fork: Node) -> u32 {
    (0..WIDTH as u32).take_while(|&rank| fork_last(memory, fork, rank).is_some()).count() as u32 + 1
}

/// The last address of child `rank` of a fork, if it is stored. No address in a fork but the last of all is all ones.
pub(super) fn fork_last(memory: &Memory, fork: Node, rank: u32) -> Option<u32> {
    let stored = |rank: &u32| (*rank as usize) < WIDTH - 1;
    Some(rank)
        .filter(stored)
        .map(|rank| cell(memory, fork.at() + rank as usize))
        .filter(|&last| last < u32::MAX)
}

fn fork_link(fork: Node, rank: u32) -> Cell {
    Cell(fork.at() + FORK_LINKS + rank as usize)
}

/// The value of a leaf that is the same throughout.
pub(super) fn uniform_value(memory: &Memory, leaf: Node) -> Option<Value> {
    if leaf.is_fork() || leaf.table_shift().is_some() || leaf.lasts() > 0 {
        return None;
    }
    match goal(memory, leaf, 0) {
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
    Ok(Node::leaf(offset, lasts).0)
}

/// A fork over some children: the last address of each, and its handle.
fn build_fork(memory: &mut Memory, children: &[(u32, u32)]) -> Result<u32, FibError> {
    let mut draft = [0; FORK_WORDS * 2];
    draft[..WIDTH].fill(u32::MAX);
    for (at, &(last, tree)) in children.iter().enumerate() {
        if at + 1 < children.len() {
            draft[at] = last;
        }
        draft[FORK_LINKS + at] = tree;
    }
    let offset = memory.alloc(FORK_WORDS)?;
    fill(memory, offset, &draft);
    Ok(Node::fork(offset).0)
}

/// A tree of leaves and forks.
pub(super) fn build_forks(memory: &mut Memory, runs: &[Run]) -> Result<u32, FibError> {
    if runs.len() <= RUNS {
        return build_leaf(memory, runs);
    }
    // Fuller leaves where that saves a level.
    let depth = |fill: usize| (1..12).find(|&depth| runs.len() <= fill * WIDTH.pow(depth)).unwrap_or(12);
    let fill = if depth(FILL) == depth(RUNS - 1) { FILL } else { RUNS - 1 };
    // As few children as hold all, as even as can be.
    let below = fill * WIDTH.pow(depth(fill) - 1);
    let count = runs.len().div_ceil(below);
    let mut children = [(0, 0); WIDTH];
    for (child, place) in children.iter_mut().enumerate().take(count) {
        let part = &runs[child * runs.len() / count..(child + 1) * runs.len() / count];
        *place = (part[part.len() - 1].end, build_forks(memory, part)?);
    }
    build_fork(memory, &children[..count])
}

/// The bits of a table for these runs of a whole window: what is best in bytes, if a run that is under a fork, and so
/// takes longer to find, is worth [`FORKED`] bytes.
fn table_bits(runs: &[Run]) -> u32 {
    let most = (runs.len().ilog2() + MORE_BITS).min(*TABLE_BITS.end());
    let cost = |bits: u32| {
        let (mut forked, mut from) = (0, 0);
        while from < runs.len() {
            // The runs that begin in the entry of this one's end, which one run more may reach into.
            let entry = runs[from].end >> (32 - bits);
            let count = runs[from..].iter().take_while(|run| run.end >> (32 - bits) == entry).count();
            forked += if count >= RUNS { count } else { 0 };
            from += count;
        }
        (4 << bits) + forked * FORKED
    };
    (*TABLE_BITS.start()..=most).min_by_key(|&bits| cost(bits)).unwrap_or(*TABLE_BITS.start())
}

/// The tree of a whole window: one leaf, or a table of trees.
pub(super) fn build_tree(memory: &mut Memory, mut runs: &[Run]) -> Result<u32, FibError> {
    if runs.len() <= RUNS {
        return build_leaf(memory, runs);
    }
    let bits = table_bits(runs);
    let offset = memory.alloc(1 << (bits - 1))?;
    // The shared leaf that was linked last, and how many entries more lead to it.
    let (mut shared, mut more) = (None, 0);
    for entry in 0..1 << bits {
        let last = entry_last(entry, 32 - bits);
        // The run that an entry ends in may go on in the next.
        let count = runs.iter().take_while(|run| run.end < last).count() + 1;
        let value =
            if let Goal::Value(value) = runs[0].goal { Some(value).filter(|_| count == 1) } else { None };
        let tree = match shared {
            Some((same, tree)) if value == Some(same) => {
                more += 1;
                tree
            }
            _ => build_entry(memory, &runs[..count])?,
        };
        if let Some(value) = value
            && shared != Some((value, tree))
        {
            shared.inspect(|&(value, _)| memory.link_uniform(value, more));
            (shared, more) = (Some((value, tree)), 0);
        }
        blocks(memory)[offset as usize * 2 + entry as usize].store(tree, Ordering::Relaxed);
        runs = &runs[count - usize::from(runs[count - 1].end > last)..];
    }
    shared.inspect(|&(value, _)| memory.link_uniform(value, more));
    Ok(Node::table(offset, bits).0)
}

/// The last key of a table's entry.
pub(super) fn entry_last(entry: u32, shift: u32) -> u32 {
    entry << shift | ((1 << shift) - 1)
}

/// What an entry of a table leads to: where it is the same throughout, the shared leaf.
pub(super) fn build_entry(memory: &mut Memory, runs: &[Run]) -> Result<u32, FibError> {
    let [Run { goal: Goal::Value(value), .. }] = *runs else { return build_forks(memory, runs) };
    let tree = memory.uniform(value, |memory| build_leaf(memory, runs))?;
    memory.link_uniform(value, 1);
    Ok(tree)
}

/// Notes the nodes under an entry of a table as unlinked, or one link of each of `entries` to a shared leaf.
pub(super) fn unlink_entry(memory: &mut Memory, node: Node, entries: usize) {
    if uniform_value(memory, node).is_none_or(|value| memory.unlink_uniform(value, entries)) {
        unlink_tree(memory, node);
    }
}

/// Notes all nodes of a tree as unlinked.
pub(super) fn unlink_tree(memory: &mut Memory, node: Node) {
    if let Some(shift) = node.table_shift() {
        let child = |memory: &Memory, entry| follow(memory, Cell(node.line() + entry));
        let count = 1 << (32 - shift);
        let mut first = 0;
        while first < count {
            let leads = child(memory, first);
            let same = (first + 1..count).take_while(|&entry| child(memory, entry).0 == leads.0).count() + 1;
            unlink_entry(memory, leads, same);
            first += same;
        }
        memory.unlink(node.offset(), count / 2);
    } else if node.is_fork() {
        for rank in 0..children(memory, node) {
            let child = follow(memory, fork_link(node, rank));
            unlink_tree(memory, child);
        }
        memory.unlink(node.offset(), FORK_WORDS);
    } else {
        let words = leaf_words(node.lasts() as usize, cells(memory, node));
        memory.unlink(node.offset(), words);
    }
}

/// Builds a fork again with two leaves in the place of one that has become too long, child `at`, which ends at
/// `leaf_last`; `None` when the fork is full, or the runs are too many. The old fork is noted as unlinked.
pub(super) fn split(
    memory: &mut Memory,
    fork: Node,
    at: u32,
    leaf_last: u32,
    runs: &[Run],
) -> Result<Option<u32>, FibError> {
    let count = children(memory, fork);
    if count as usize == WIDTH || runs.len() > 2 * RUNS {
        return Ok(None);
    }
    let mut children = [(0, 0); WIDTH];
    let mut next = 0;
    for child in 0..count {
        // What the last child of all ends at is not stored, nor does it matter.
        let last = fork_last(memory, fork, child).unwrap_or(leaf_last);
        if child == at {
            let (low, high) = runs.split_at(runs.len() / 2);
            children[next] = (low[low.len() - 1].end, build_leaf(memory, low)?);
            children[next + 1] = (last, build_leaf(memory, high)?);
            next += 2;
        } else {
            children[next] = (last, follow(memory, fork_link(fork, child)).0);
            next += 1;
        }
    }
    let built = build_fork(memory, &children[..next])?;
    memory.unlink(fork.offset(), FORK_WORDS);
    Ok(Some(built))
}
