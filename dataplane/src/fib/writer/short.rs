//! Changes of short routes, which cover whole entries of the root.

use super::{Writer, top};
use crate::fib::FibError;
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
        self.ensure_spans(&spans)?;
        if let Some(value) = value {
            self.shape.hold(&mut self.memory, prefix, len, value)?;
        }
        for &(first, last) in &spans {
            self.fill(first, last, new)?;
        }
        if let Some(value) = value {
            self.short.set(top_bits, len, value)?;
        } else {
            self.short.unset(top_bits, len);
        }
        if let Some(old) = old {
            self.shape.release(&mut self.memory, prefix, len, old);
        }
        Ok(())
    }

    /// Makes sure that filling these spans of the root cannot fail half-way.
    fn ensure_spans(&mut self, spans: &[(u32, u32)]) -> Result<(), FibError> {
        let (mut words, mut blocks, mut parts, mut most) = (S::most_words(0, 2), 8, 8, 0);
        for &(first, last) in spans {
            let mut chunk = first;
            loop {
                let span = self.shape.span(chunk);
                blocks += 1;
                if span == 1
                    && let Some(found) = self.chunk(Self::chunk_key(chunk), 0)
                {
                    let count = found.routes.entries().len();
                    let (more_words, more_blocks) =
                        self.most_below(Self::chunk_key(chunk), 0, found.routes.entries());
                    words += S::most_words(0, count) + more_words;
                    let of_chunk = S::most_blocks(count.max(found.built as usize)) + more_blocks;
                    blocks += of_chunk;
                    parts += of_chunk;
                    most = most.max(of_chunk);
                }
                if last - chunk < span {
                    break;
                }
                chunk += span;
            }
        }
        // A tree has no more runs than it can have blocks, in IPv4 than there are addresses in a page.
        self.ensure_runs(most.max(260))?;
        self.memory.ensure_parts(parts)?;
        self.memory.ensure(words, blocks)
    }

    fn chunk_key(chunk: u32) -> u128 {
        u128::from(chunk) << (128 - S::STARTS[0])
    }

    /// Makes `value` the cover of the chunks `first..=last`, and rebuilds those with routes whose cover it was not.
    pub(super) fn fill(&mut self, first: u32, last: u32, value: Value) -> Result<(), FibError> {
        let mut chunk = first;
        loop {
            let span = self.shape.span(chunk);
            let prefix = Self::chunk_key(chunk);
            let old = self.shape.root(&self.memory, chunk);
            // Most of the root has no list of routes; a span that is wider than one entry never has.
            match self.find(prefix, 0).filter(|_| span == 1) {
                Some(id) => {
                    if self.chunks[id].cover != value {
                        self.chunks[id].cover = value;
                        let tree = self.build(id, prefix, 0)?;
                        self.shape.set_root(&self.memory, chunk, tree);
                        self.unlink(0, old);
                    }
                }
                None => {
                    if S::uniform_value(&self.memory, 0, old) != Some(value) {
                        let tree = self.uniform(0, value)?;
                        self.shape.set_root(&self.memory, chunk, tree);
                        self.unlink(0, old);
                    }
                }
            }
            if last - chunk < span {
                return Ok(());
            }
            chunk += span;
        }
    }
}
