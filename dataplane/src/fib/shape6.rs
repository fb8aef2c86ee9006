//! The blocks of an IPv6 table, as the writer lays them out and readers read them.
//!
//! A chunk's tree is a search tree over the next 32 bits of the address. A *leaf* has up to 16 runs: the last
//! address of each but the final one, ascending, then a 16-bit value for each, then a 32-bit cell for each value
//! that does not fit in 15 bits. Up to 11 runs are one cache line. A *fork* has up to 16 children: one line with
//! the last address of each but the final one, one line with their handles. The child, or run, of an address is
//! how many of the last addresses are below it; one instruction compares with all of them.
//!
//! A handle is the block's offset, how many last addresses it has (4 bits), and whether it is a fork (1 bit). The
//! last address of a node as a whole is never stored, so that an address of all ones needs no special case.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::FibError;
use super::memory::{Cell, Memory};
use super::routes::Value;
use super::sweep::{Goal, Run, push};
use super::writer::{Shape, Splice};

/// Bits that index the first part of the root.
pub(super) const TOP_BITS: u8 = 16;
/// Bits that index the second part, where there is one.
const MIDDLE_BITS: u8 = 12;
/// Entries of a second part.
const MIDDLE: usize = 1 << MIDDLE_BITS;
/// A run's value from here on is the place of its cell: 32-bit words from the start of the leaf.
const ESCAPE: u32 = 0x8000;
/// A cell with this bit holds a value, else the handle of a deeper tree.
const LITERAL: u32 = 1 << 31;
/// Children of a fork, and the most runs of a leaf.
const WIDTH: usize = 16;
/// Runs of a leaf that fill a cache line; built so, there is room for more.
const FILL: usize = 11;
/// Words of a fork, and where its handles begin, in 32-bit words.
const FORK_WORDS: usize = 16;
const FORK_LINKS: usize = 16;

/// A handle, taken apart.
#[derive(Clone, Copy)]
pub(super) struct Node(u32);

impl Node {
    fn new(offset: u32, lasts: usize, fork: bool) -> Self {
        Self(offset << 5 | (lasts as u32) << 1 | u32::from(fork))
    }

    #[inline(always)]
    pub(super) fn offset(self) -> usize {
        (self.0 >> 5) as usize
    }

    /// How many last addresses it stores.
    #[inline(always)]
    pub(super) fn lasts(self) -> u32 {
        self.0 >> 1 & 15
    }

    #[inline(always)]
    pub(super) fn is_fork(self) -> bool {
        self.0 & 1 != 0
    }
}

/// The 32 bits of an address that a level's trees look at.
#[inline(always)]
pub(super) fn key(addr: u128, level: usize) -> u32 {
    (addr << Shape6::STARTS[level] >> 96) as u32
}

/// The tree under an address's entry of the root.
#[inline(always)]
pub(super) fn root(heads: &[AtomicU32], words: &[AtomicU64], addr: u128) -> u32 {
    let entry = heads[(addr >> (128 - TOP_BITS)) as usize].load(Ordering::Acquire);
    cell(words, entry_cell(entry, (addr >> (128 - TOP_BITS - MIDDLE_BITS)) as u32))
}

/// Asks for the memory of an address's entry of the root. What leads there is in the nearest cache: few of the
/// top's entries are in use.
#[inline(always)]
pub(super) fn prefetch_root(heads: &[AtomicU32], words: &[AtomicU64], addr: u128) {
    let entry = heads[(addr >> (128 - TOP_BITS)) as usize].load(Ordering::Acquire);
    let at = entry_cell(entry, (addr >> (128 - TOP_BITS - MIDDLE_BITS)) as u32);
    super::prefetch(words.as_ptr().wrapping_add(at / 2));
}

/// The cell that a top entry leads to: its only one, or that of `chunk` in its second part.
#[inline(always)]
fn entry_cell(entry: u32, chunk: u32) -> usize {
    let mask = (entry & 1).wrapping_neg() & (MIDDLE as u32 - 1);
    ((entry >> 1) + (chunk & mask)) as usize
}

/// The 32-bit word `at`. Acquire: it may lead to a block that was not there a moment ago.
#[inline(always)]
fn cell(words: &[AtomicU64], at: usize) -> u32 {
    (words[at / 2].load(Ordering::Acquire) >> (at % 2 * 32)) as u32
}

/// How many of a node's last addresses are below `key`.
#[inline(always)]
pub(super) fn rank(words: &[AtomicU64], node: Node, key: u32) -> u32 {
    let mut below = 0;
    for (at, word) in words[node.offset()..node.offset() + 8].iter().enumerate() {
        let word = word.load(Ordering::Relaxed);
        below |= u32::from((word as u32) < key) << (at * 2);
        below |= u32::from(((word >> 32) as u32) < key) << (at * 2 + 1);
    }
    (below & ((1 << node.lasts()) - 1)).count_ones()
}

/// What a node says for the run or child `rank`: a leaf its 16 bits, a fork a handle.
#[inline(always)]
pub(super) fn step(words: &[AtomicU64], node: Node, rank: u32) -> u32 {
    let half = if node.is_fork() { (FORK_LINKS as u32 + rank) * 2 } else { node.lasts() * 2 + rank } as usize;
    let found = (words[node.offset() + half / 4].load(Ordering::Acquire) >> (half % 4 * 16)) as u32;
    if node.is_fork() { found } else { found & 0xFFFF }
}

/// Whether what a leaf says is the place of a cell.
#[inline(always)]
pub(super) fn is_escape(said: u32) -> bool {
    said >= ESCAPE
}

/// Goes on where a leaf of a level says `said`, to the value.
#[cold]
#[inline(never)]
pub(super) fn escape(words: &[AtomicU64], leaf: Node, said: u32, addr: u128, level: usize) -> Value {
    let found = cell(words, leaf.offset() * 2 + (said - ESCAPE) as usize);
    if found & LITERAL != 0 { found & !LITERAL } else { resolve(words, found, addr, level + 1) }
}

/// The value for an address, from a level's tree on.
#[inline]
pub(super) fn resolve(words: &[AtomicU64], tree: u32, addr: u128, level: usize) -> Value {
    let key = key(addr, level);
    let mut node = Node(tree);
    loop {
        let found = step(words, node, rank(words, node, key));
        if node.is_fork() {
            node = Node(found);
        } else if is_escape(found) {
            return escape(words, node, found, addr, level);
        } else {
            return found;
        }
    }
}

/// A handle as a node.
#[inline(always)]
pub(super) fn node(tree: u32) -> Node {
    Node(tree)
}

fn leaf_words(lasts: usize, cells: usize) -> usize {
    // A leaf of one run may be a shared one, which has a cell that leads to itself in its second word.
    if lasts == 0 { 2 } else { (cells_at(lasts) + cells).div_ceil(2) }
}

/// Where a leaf's cells begin, in 32-bit words.
fn cells_at(lasts: usize) -> usize {
    (lasts * 3 + 1).div_ceil(2)
}

/// How many cells a leaf has.
fn cells(memory: &Memory, leaf: Node) -> usize {
    (0..=leaf.lasts()).filter(|&rank| is_escape(step(memory.words(), leaf, rank))).count()
}

/// Where run `rank` of a leaf leads.
fn goal(memory: &Memory, leaf: Node, rank: u32) -> Goal {
    let said = step(memory.words(), leaf, rank);
    if !is_escape(said) {
        return Goal::Value(said);
    }
    let found = memory.cell(Cell(leaf.offset() * 2 + (said - ESCAPE) as usize));
    if found & LITERAL != 0 { Goal::Value(found & !LITERAL) } else { Goal::Tree(found) }
}

/// The last address of child or run `rank`, if it is stored.
fn last(memory: &Memory, node: Node, rank: u32) -> Option<u32> {
    (rank < node.lasts()).then(|| memory.cell(Cell(node.offset() * 2 + rank as usize)))
}

fn fork_link(fork: Node, rank: u32) -> Cell {
    Cell(fork.offset() * 2 + FORK_LINKS + rank as usize)
}

fn build_leaf(memory: &mut Memory, runs: &[Run]) -> Result<u32, FibError> {
    // 15 last addresses, 16 values, 16 cells: 160 bytes.
    let mut halves = [0u16; 80];
    let lasts = runs.len() - 1;
    let mut next_cell = cells_at(lasts);
    for (at, run) in runs.iter().enumerate() {
        if at < lasts {
            halves[at * 2] = run.end as u16;
            halves[at * 2 + 1] = (run.end >> 16) as u16;
        }
        let cell = match run.goal {
            Goal::Value(value) if value < ESCAPE => {
                halves[lasts * 2 + at] = value as u16;
                continue;
            }
            Goal::Value(value) => value | LITERAL,
            Goal::Tree(tree) => tree,
        };
        halves[lasts * 2 + at] = (ESCAPE as usize + next_cell) as u16;
        halves[next_cell * 2] = cell as u16;
        halves[next_cell * 2 + 1] = (cell >> 16) as u16;
        next_cell += 1;
    }
    let words = leaf_words(lasts, next_cell - cells_at(lasts));
    let offset = memory.alloc(words)?;
    let tree = Node::new(offset, lasts, false).0;
    if lasts == 0 {
        halves[4] = tree as u16;
        halves[5] = (tree >> 16) as u16;
    }
    for (at, four) in halves.chunks_exact(4).take(words).enumerate() {
        let word = four.iter().rev().fold(0, |word, &half| word << 16 | u64::from(half));
        memory.set_word(offset as usize + at, word);
    }
    Ok(tree)
}

/// A fork over some children: the last address of each, and its handle.
fn build_fork(memory: &mut Memory, children: &[(u32, u32)]) -> Result<u32, FibError> {
    let offset = memory.alloc(FORK_WORDS)?;
    let lasts = children.len() - 1;
    let last = |at: usize| if at < lasts { u64::from(children[at].0) } else { 0 };
    let link = |at: usize| children.get(at).map_or(0, |child| u64::from(child.1));
    for at in 0..FORK_WORDS / 2 {
        memory.set_word(offset as usize + at, last(at * 2) | last(at * 2 + 1) << 32);
        memory.set_word(offset as usize + FORK_LINKS / 2 + at, link(at * 2) | link(at * 2 + 1) << 32);
    }
    Ok(Node::new(offset, lasts, true).0)
}

/// Cuts `count` things into nodes of at most `most`, as evenly as can be: the sizes.
fn cut(count: usize, most: usize) -> impl Iterator<Item = usize> {
    let nodes = count.div_ceil(most);
    (0..nodes).map(move |node| (node + 1) * count / nodes - node * count / nodes)
}

fn build_tree(memory: &mut Memory, mut runs: &[Run]) -> Result<u32, FibError> {
    if runs.len() <= WIDTH {
        return build_leaf(memory, runs);
    }
    // Fuller leaves where that saves a level.
    let depth = |fill: usize| (1..).find(|&depth| runs.len() <= fill * WIDTH.pow(depth));
    let fill = if depth(FILL) == depth(FILL + 3) { FILL } else { FILL + 3 };
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

/// The layout of an IPv6 table, and which parts of its root there are.
#[derive(Default)]
pub(super) struct Shape6 {
    /// The second parts of the root, by the first 16 bits of the address: where each is, and for how many routes.
    middles: HashMap<u16, (u32, usize)>,
}

impl Shape6 {
    fn entry(memory: &Memory, top: usize) -> u32 {
        memory.pages().heads()[top].load(Ordering::Relaxed)
    }

    fn top(prefix: u128) -> u16 {
        (prefix >> (128 - TOP_BITS)) as u16
    }

    /// The cell in a shared leaf that leads to the leaf itself.
    fn self_cell(tree: u32) -> u32 {
        (Node(tree).offset() as u32 * 2 + 2) << 1
    }
}

impl Shape for Shape6 {
    const STARTS: &'static [u8] = &[TOP_BITS + MIDDLE_BITS, 60, 92, 124];
    const WINDOWS: &'static [u8] = &[32, 32, 32, 4];
    const DEEP_UNIFORM: bool = true;

    fn most_words(_level: usize, routes: usize) -> usize {
        let runs = 2 * routes + 1;
        let leaves = runs.div_ceil(FILL);
        leaves * leaf_words(WIDTH - 1, WIDTH) + (leaves / (WIDTH / 2) + 4) * FORK_WORDS
    }

    fn build(memory: &mut Memory, _level: usize, runs: &[Run]) -> Result<u32, FibError> {
        build_tree(memory, runs)
    }

    fn uniform_value(memory: &Memory, _level: usize, tree: u32) -> Option<Value> {
        let node = Node(tree);
        if node.is_fork() || node.lasts() > 0 {
            return None;
        }
        match goal(memory, node, 0) {
            Goal::Value(value) => Some(value),
            Goal::Tree(_) => None,
        }
    }

    fn unlink(memory: &mut Memory, level: usize, tree: u32) {
        let node = Node(tree);
        if node.is_fork() {
            for rank in 0..=node.lasts() {
                let child = memory.cell(fork_link(node, rank));
                Self::unlink(memory, level, child);
            }
            memory.unlink(node.offset() as u32, FORK_WORDS);
        } else {
            let words = leaf_words(node.lasts() as usize, cells(memory, node));
            memory.unlink(node.offset() as u32, words);
        }
    }

    fn link(memory: &Memory, _level: usize, tree: u32, suffix: u32) -> Option<Cell> {
        let mut node = Node(tree);
        loop {
            let found = step(memory.words(), node, rank(memory.words(), node, suffix));
            if node.is_fork() {
                node = Node(found);
            } else {
                let cell = || Cell(node.offset() * 2 + (found - ESCAPE) as usize);
                return is_escape(found).then(cell);
            }
        }
    }

    fn splice(
        memory: &mut Memory,
        _level: usize,
        tree: u32,
        (first, end): (u32, u32),
        runs: &[Run],
    ) -> Result<Splice, FibError> {
        let (mut node, mut link, mut node_first, mut node_last) = (Node(tree), None, 0, u32::MAX);
        while node.is_fork() {
            let child = rank(memory.words(), node, first);
            if child != rank(memory.words(), node, end) {
                return Ok(Splice::Rebuild);
            }
            link = Some(fork_link(node, child));
            if let Some(before) = child.checked_sub(1).and_then(|before| last(memory, node, before)) {
                node_first = before + 1;
            }
            node_last = last(memory, node, child).unwrap_or(node_last);
            node = Node(step(memory.words(), node, child));
        }
        let mut new = Vec::with_capacity(2 * WIDTH + runs.len());
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
        if new.len() > WIDTH || (new.len() == 1 && link.is_none()) {
            return Ok(Splice::Rebuild);
        }
        let leaf = build_leaf(memory, &new)?;
        let words = leaf_words(node.lasts() as usize, cells(memory, node));
        memory.unlink(node.offset() as u32, words);
        let Some(link) = link else { return Ok(Splice::Tree(leaf)) };
        memory.publish(link, leaf);
        Ok(Splice::Done)
    }

    fn root(&self, memory: &Memory, chunk: u32) -> u32 {
        let entry = Self::entry(memory, (chunk >> MIDDLE_BITS) as usize);
        memory.cell(Cell(entry_cell(entry, chunk)))
    }

    fn set_root(&self, memory: &Memory, chunk: u32, tree: u32) {
        let top = (chunk >> MIDDLE_BITS) as usize;
        let entry = Self::entry(memory, top);
        if entry & 1 == 0 {
            memory.pages().heads()[top].store(Self::self_cell(tree), Ordering::Release);
        } else {
            memory.publish(Cell(entry_cell(entry, chunk)), tree);
        }
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
        let middle = memory.alloc(MIDDLE / 2)?;
        let tree = memory.cell(Cell(entry_cell(Self::entry(memory, usize::from(top)), 0)));
        for word in 0..MIDDLE / 2 {
            memory.set_word(middle as usize + word, u64::from(tree) << 32 | u64::from(tree));
        }
        if let Some(value) = Self::uniform_value(memory, 0, tree) {
            memory.link_uniform(value, MIDDLE - 1);
        }
        memory.pages().heads()[usize::from(top)].store(middle << 2 | 1, Ordering::Release);
        self.middles.insert(top, (middle, 1));
        Ok(())
    }

    fn release(&mut self, memory: &mut Memory, prefix: u128, len: u8) {
        if len <= TOP_BITS {
            return;
        }
        let top = Self::top(prefix);
        let Some((middle, routes)) = self.middles.get_mut(&top) else { return };
        *routes -= 1;
        if *routes > 0 {
            return;
        }
        // No route is left below: all entries lead to the same shared leaf.
        let middle = *middle;
        self.middles.remove(&top);
        let tree = memory.cell(Cell(middle as usize * 2));
        memory.pages().heads()[usize::from(top)].store(Self::self_cell(tree), Ordering::Release);
        memory.unlink(middle, MIDDLE / 2);
        if let Some(value) = Self::uniform_value(memory, 0, tree) {
            memory.unlink_uniform(value, MIDDLE - 1);
        }
    }
}
