//! How a change is done whole or not at all.

use super::Writer;
use crate::fib::FibError;
use crate::fib::chunks::Id;
use crate::fib::routes::Value;
use crate::fib::shape::Shape;

/// What a chunk had before a change.
pub(super) enum Undo {
    /// What a tree was built from, beside the routes, and how.
    Tree { id: Id, cover: Value, tree: u32, built: u32 },
    /// A route.
    Route { id: Id, suffix: u32, len: u8, value: Option<Value> },
}

impl<S: Shape> Writer<S> {
    /// Prepares the root for one more route, or changes nothing.
    pub(super) fn hold(&mut self, prefix: u128, len: u8, value: Value) -> Result<(), FibError> {
        self.attempt(|writer| writer.shape.hold(&mut writer.memory, prefix, len, value))
    }

    /// Does a change, which ends by [`finish`](Self::finish) or by the same two steps, or nothing of it.
    pub(super) fn attempt(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<(), FibError>,
    ) -> Result<(), FibError> {
        let done = change(self);
        if done.is_err() {
            for undo in self.undo.drain(..).rev() {
                match undo {
                    Undo::Tree { id, cover, tree, built } => {
                        let chunk = &mut self.chunks[id];
                        (chunk.cover, chunk.tree, chunk.built) = (cover, tree, built);
                    }
                    Undo::Route { id, suffix, len, value } => {
                        self.chunks[id].routes.put_back(suffix, len, value);
                    }
                }
            }
            self.memory.undo();
        }
        self.undo.clear();
        done
    }

    /// Publishes what the change under way has built, and a chunk's new tree if there is one. It fails before.
    pub(super) fn finish(&mut self, prefix: u128, level: usize, tree: Option<u32>) -> Result<(), FibError> {
        self.memory.secure()?;
        if let Some(tree) = tree {
            self.publish(prefix, level, tree);
        }
        self.memory.commit(S::publish);
        Ok(())
    }

    /// Room to note one thing more.
    pub(super) fn reserve_undo(&mut self) -> Result<(), FibError> {
        let error = FibError::Memory { bytes: (self.undo.len() + 1) * size_of::<Undo>() };
        self.undo.try_reserve(1).map_err(|_| error)
    }
}
