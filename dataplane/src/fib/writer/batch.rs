//! Many changes in order. What a change reads is spread over the memory of the whole table, so the memory of later
//! ones is asked for while earlier ones are done, step by step: each step reads what the one before it asked for.

use super::Writer;
use crate::fib::FibError;
use crate::fib::routes::Value;
use crate::fib::shape::Shape;

/// A change: the prefix, left-aligned, its length, and its value, or `None` to withdraw it. Not the default route.
pub(in crate::fib) type Change = (u128, u8, Option<Value>);

/// How many changes one step of asking is ahead of the next.
const AHEAD: usize = 8;
/// After how many changes what they unlinked gets its ticket: taking one costs a memory fence.
const TICKET: usize = 64;

impl<S: Shape> Writer<S> {
    /// Does `changes` as [`change`](Self::change) for each would. `change` turns an item into a change, or does it by
    /// itself.
    pub(in crate::fib) fn apply<T>(
        &mut self,
        changes: &[T],
        mut change: impl FnMut(&T) -> Result<Option<Change>, FibError>,
        place: impl Fn(&T) -> (u128, u8),
    ) -> Result<(), (usize, FibError)> {
        let mut result = Ok(());
        for at in 0..changes.len() + 3 * AHEAD {
            let long = |item: &T| Some(place(item)).filter(|&(_, len)| Self::level(len).is_some());
            if let Some((prefix, _)) = changes.get(at).and_then(long) {
                self.ask_root(prefix);
            }
            let before = |steps: usize| at.checked_sub(steps * AHEAD).and_then(|at| changes.get(at));
            if let Some((prefix, _)) = before(1).and_then(long) {
                self.ask_chunk(prefix);
            }
            if let Some((prefix, _)) = before(2).and_then(long) {
                self.ask_routes(prefix);
            }
            let Some(item) = before(3) else { continue };
            let at = at - 3 * AHEAD;
            result = match change(item) {
                Ok(Some((prefix, len, value))) => self.change_only(prefix, len, value).map(|_| ()),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            }
            .map_err(|error| (at, error));
            if result.is_err() {
                break;
            }
            if at % TICKET == TICKET - 1 {
                self.memory.retire();
            }
        }
        self.memory.retire();
        result
    }

    fn ask_root(&self, prefix: u128) {
        if let Some(number) = self.shape.number(&self.memory, Self::index(prefix)) {
            crate::fib::prefetch(number);
        }
        self.shape.prefetch_root(&self.memory, Self::index(prefix));
    }

    fn ask_chunk(&self, prefix: u128) {
        if let Some(id) = self.find(prefix, 0) {
            self.chunks.prefetch(id);
        }
        let tree = self.shape.root(&self.memory, Self::index(prefix));
        S::prefetch(&self.memory, tree, Self::suffix(prefix, 0));
    }

    fn ask_routes(&self, prefix: u128) {
        if let Some(chunk) = self.chunk(prefix, 0) {
            let suffix = Self::suffix(prefix, 0);
            chunk.routes.prefetch(suffix);
            S::prefetch_part(&self.memory, chunk.tree, suffix);
        }
    }
}
