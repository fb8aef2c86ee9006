//! What the writer asks of a family's layout of blocks, IPv4's in `shape4` and IPv6's in `shape6`.

use std::sync::atomic::AtomicU32;

use super::FibError;
use super::memory::{Cell, Memory};
use super::routes::Value;
use super::sweep::Run;

/// What a [`Shape::patch`] has come to.
pub(super) enum Patched {
    /// It is not done for such a tree or such runs.
    No,
    /// The new tree.
    Tree(u32),
    /// The tree is the same throughout now, and not built: there is one for each value.
    Uniform(Value),
}

/// How one family lays its blocks out.
pub(super) trait Shape {
    /// Where each level's window begins, in bits from the left; the first is what indexes the root.
    const STARTS: &'static [u8];
    /// How many bits each level's window has. A deeper chunk hangs at a prefix that is a full window long.
    const WINDOWS: &'static [u8];
    /// Whether a tree that is the same throughout is also shared when it is a deeper chunk's.
    const DEEP_UNIFORM: bool;
    /// Whether trees of the first level can be [patched](Self::patch).
    const PATCHES: bool = false;
    /// How many 64-bit words behind a block's start readers may read, whatever the block holds.
    const MARGIN: usize;

    /// Builds the blocks for runs that cover the whole window, and returns their handle.
    fn build(memory: &mut Memory, level: usize, runs: &[Run]) -> Result<u32, FibError>;
    /// The value of a tree that is the same throughout, of which there is one for each value.
    fn uniform_value(memory: &Memory, level: usize, tree: u32) -> Option<Value>;
    /// Notes all blocks of a tree, but not of the deeper trees in it, as unlinked.
    fn unlink(memory: &mut Memory, level: usize, tree: u32) -> Result<(), FibError>;
    /// The cell that leads from a tree to the deeper tree at `suffix`.
    fn link(memory: &Memory, tree: u32, suffix: u32) -> Option<Cell>;
    /// Publishes a deeper tree by its cell: readers that see the link see what it leads to.
    fn publish(memory: &Memory, cell: Cell, tree: u32);
    /// Builds a tree of the first level that is like an old one but for the runs of a prefix (within the window); or
    /// says that all of it is to be built from its routes.
    fn patch(_: &mut Memory, _: u32, _: (u32, u8), _: &[Run]) -> Result<Patched, FibError> {
        Ok(Patched::No)
    }
    /// Whether a part of a tree can be replaced without building all of it again.
    fn splices(tree: u32) -> bool;
    /// Builds what replaces the runs of a prefix (within the window) in such a tree, and notes where it is to be
    /// published. Whether the tree may [fold](Self::fold) then.
    fn splice(memory: &mut Memory, tree: u32, prefix: (u32, u8), runs: &[Run]) -> Result<bool, FibError>;
    /// Builds a smaller form of the part of a tree where `suffix` is, if it should have one, and notes where.
    fn fold(memory: &mut Memory, tree: u32, suffix: u32) -> Result<(), FibError>;

    /// The tree under an entry of the root.
    fn root(&self, memory: &Memory, chunk: u32) -> u32;
    /// Asks for the memory of an entry of the root.
    fn prefetch_root(&self, memory: &Memory, chunk: u32);
    /// Asks for the memory of a tree's first block where it will be read for `suffix`, and of what says that it is in use.
    fn prefetch(memory: &Memory, tree: u32, suffix: u32);
    /// Asks for what that block leads to.
    fn prefetch_part(memory: &Memory, tree: u32, suffix: u32);
    /// Publishes the tree under an entry of the root.
    fn set_root(&self, memory: &Memory, chunk: u32, tree: u32);
    /// The word beside an entry of the root in which the writer keeps the number of the chunk there, 0 for none; `None`
    /// where the root has no such entry.
    fn number<'a>(&self, memory: &'a Memory, chunk: u32) -> Option<&'a AtomicU32>;
    /// How many entries of the root, from `chunk` on, are one word and change together.
    fn span(&self, chunk: u32) -> u32;
    /// Prepares the root for one more route of this length and value, before it is added: a change of its own.
    fn hold(&mut self, memory: &mut Memory, prefix: u128, len: u8, value: Value) -> Result<(), FibError>;
    /// Takes back a [`hold`](Self::hold), after the route is gone. Memory was [secured](Memory::secure) before.
    fn release(&mut self, memory: &mut Memory, prefix: u128, len: u8, value: Value);
}
