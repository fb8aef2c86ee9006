//! Changes of short routes, which cover whole entries of the root.

use super::{Writer, top};
use crate::fib::FibError;
use crate::fib::chunks::Id;
use crate::fib::routes::{Value, mask32};
use crate::fib::shape::Shape;

impl<S: Shape> Writer<S> {
    /// Changes a short route: every chunk that it covers and no longer short route does.
    pub(super) fn change_short(
        &mut self,
        prefix: u128,
        len: u8,
        old: Option<Value>,
        value: Option<Value>,
    ) -> Result<(), FibError> {
        let top_bits = top(prefix);
        let new = value.unwrap_or_else(|| self.short.cover(top_bits, len - 1));
        let shift = 32 - S::STARTS[0];
        let end = top_bits | !mask32(len);
        self.short.reserve(top_bits, len)?;
        let most = self.short.under(top_bits, len, end).count() + 1;
        let mut spans = Vec::new();
        let bytes = most * size_of::<(u32, u32)>();
        spans.try_reserve_exact(most).map_err(|_| FibError::Memory { bytes })?;
        let mut next = u64::from(top_bits);
        for (start, nested, _) in self.short.under(top_bits, len, end) {
            if u64::from(start) >= next {
                if u64::from(start) > next {
                    spans.push(((next >> shift) as u32, (start - 1) >> shift));
                }
                next = u64::from(start | !mask32(nested)) + 1;
            }
        }
        if next <= u64::from(end) {
            spans.push(((next >> shift) as u32, end >> shift));
        }
        if let Some(value) = value {
            self.hold(prefix, len, value)?;
        }
        let filled = self.attempt(|writer| {
            spans.iter().try_for_each(|&span| writer.build_span(span, new))?;
            writer.memory.secure()?;
            for &span in &spans {
                writer.publish_span(span, new);
            }
            writer.memory.commit(S::publish);
            Ok(())
        });
        match value {
            Some(value) if filled.is_err() => self.shape.release(&mut self.memory, prefix, len, value),
            Some(value) => self.short.set(top_bits, len, value)?,
            None if filled.is_ok() => self.short.unset(top_bits, len),
            None => {}
        }
        filled?;
        if let Some(old) = old {
            self.shape.release(&mut self.memory, prefix, len, old);
        }
        Ok(())
    }

    fn chunk_key(chunk: u32) -> u128 {
        u128::from(chunk) << (128 - S::STARTS[0])
    }

    /// Calls `each` for the entries of the root from one to another, but once for those that change together.
    fn each_entry(
        &mut self,
        (first, last): (u32, u32),
        mut each: impl FnMut(&mut Self, u32, Option<Id>) -> Result<(), FibError>,
    ) -> Result<(), FibError> {
        let mut chunk = first;
        loop {
            let span = self.shape.span(chunk);
            // Most of the root has no list of routes; a span that is wider than one entry never has.
            let id = if span == 1 { self.find(Self::chunk_key(chunk), 0) } else { None };
            each(self, chunk, id)?;
            if last - chunk < span {
                return Ok(());
            }
            chunk += span;
        }
    }

    /// Makes `value` the cover of the chunks in a span, and builds the trees of those whose cover it was not.
    fn build_span(&mut self, span: (u32, u32), value: Value) -> Result<(), FibError> {
        self.each_entry(span, |writer, chunk, id| {
            if let Some(id) = id {
                if writer.chunks[id].cover != value {
                    writer.rebuild(id, Self::chunk_key(chunk), 0, value)?;
                }
                return Ok(());
            }
            let old = writer.shape.root(&writer.memory, chunk);
            if S::uniform_value(&writer.memory, 0, old) != Some(value) {
                writer.unlink(0, old)?;
                writer.uniform(0, value)?;
            }
            Ok(())
        })
    }

    /// Publishes them.
    fn publish_span(&mut self, span: (u32, u32), value: Value) {
        let uniform = self.memory.shared_tree(value);
        // Nothing in it fails.
        let _ = self.each_entry(span, |writer, chunk, id| {
            let tree = id.map_or(uniform, |id| Some(writer.chunks[id].tree));
            let old = writer.shape.root(&writer.memory, chunk);
            if let Some(tree) = tree
                && tree != old
            {
                writer.shape.set_root(&writer.memory, chunk, tree);
            }
            Ok(())
        });
    }
}
