//! The side of a table that control writes, the same for both families.

use std::sync::Arc;

use super::FibError;
use super::default::{DefaultRoute, DefaultWriter, value};
use super::routes::Value;
use super::shape::Shape;
use super::writer::{Load, Writer, mask128};
use crate::grace::GracePeriod;
use crate::ids::GroupId;

/// A table that workers read: [`Fib4`](super::Fib4) or [`Fib6`](super::Fib6).
pub trait Table {
    /// An address in host byte order.
    type Addr: Copy;
}

/// What one family's table is to its writer.
pub(super) trait Family: Table + Sized {
    type Shape: Shape;
    /// The bits of an address.
    const WIDTH: u8;
    /// The bytes of blocks that a table can grow to: address space, of which the kernel gives what is used.
    const MOST: usize;
    /// The 64-bit words of the block for "follow the default route".
    #[cfg(test)]
    const FIRST_BLOCK: usize;

    /// An empty table whose blocks take `most` bytes at most.
    fn empty(grace: Arc<dyn GracePeriod>, most: usize) -> Result<(Self, Writer<Self::Shape>), FibError>;
    fn default_route(&self) -> &DefaultRoute;
    /// An address, left-aligned.
    fn widen(addr: Self::Addr) -> u128;
    /// What to say of a prefix with bits behind its length.
    fn host_bits(prefix: Self::Addr, len: u8) -> FibError;
}

/// The side of a table that control writes. There is one for each table.
#[allow(private_bounds)] // There are two families, and both are here.
pub struct FibWriter<F: Family> {
    fib: Arc<F>,
    writer: Writer<F::Shape>,
    default: DefaultWriter,
}

#[allow(private_bounds)] // There are two families, and both are here.
impl<F: Family> FibWriter<F> {
    /// An empty table whose readers are watched by `grace`.
    ///
    /// # Errors
    /// [`FibError::Memory`] when there is no memory for the empty table.
    pub fn new(grace: Arc<dyn GracePeriod>) -> Result<Self, FibError> {
        Self::with_room(grace, F::MOST)
    }

    /// An empty table whose blocks take `most` bytes at most.
    pub(super) fn with_room(grace: Arc<dyn GracePeriod>, most: usize) -> Result<Self, FibError> {
        let (fib, writer) = F::empty(grace, most)?;
        Ok(Self { fib: Arc::new(fib), writer, default: DefaultWriter::default() })
    }

    /// The side for workers.
    pub fn reader(&self) -> Arc<F> {
        Arc::clone(&self.fib)
    }

    /// Announces `prefix/len` or replaces its group; returns the group it had.
    ///
    /// # Errors
    /// Any [`FibError`]; the table is unchanged then.
    pub fn insert(&mut self, prefix: F::Addr, len: u8, group: GroupId) -> Result<Option<GroupId>, FibError> {
        check::<F>(prefix, len)?;
        let value = value(group)?;
        if len == 0 {
            return Ok(self.default.change(self.fib.default_route(), Some(group)));
        }
        Ok(self.writer.change(F::widen(prefix), len, Some(value))?.map(group_of))
    }

    /// Withdraws `prefix/len`; returns the group it had.
    ///
    /// # Errors
    /// [`FibError::Length`], [`FibError::HostBits4`] or [`FibError::HostBits6`], or [`FibError::Memory`]: taking a route
    /// away can need a new block too. The table is unchanged then.
    pub fn remove(&mut self, prefix: F::Addr, len: u8) -> Result<Option<GroupId>, FibError> {
        check::<F>(prefix, len)?;
        if len == 0 {
            return Ok(self.default.change(self.fib.default_route(), None));
        }
        Ok(self.writer.change(F::widen(prefix), len, None)?.map(group_of))
    }

    /// Many changes in order: `Some` announces or replaces, `None` withdraws. The same as [`insert`](Self::insert) or
    /// [`remove`](Self::remove) for each, but the memory that they need is asked for ahead.
    ///
    /// # Errors
    /// Any [`FibError`], with the number of the change that was refused; the changes before it are done.
    pub fn apply(&mut self, changes: &[(F::Addr, u8, Option<GroupId>)]) -> Result<(), (usize, FibError)> {
        let (default, fib) = (&mut self.default, &self.fib);
        self.writer.apply(
            changes,
            |&(prefix, len, group)| {
                check::<F>(prefix, len)?;
                let value = group.map(value).transpose()?;
                if len == 0 {
                    default.change(fib.default_route(), group);
                    return Ok(None);
                }
                Ok(Some((F::widen(prefix), len, value)))
            },
            |&(prefix, len, _)| (F::widen(prefix), len),
        )
    }

    /// The group of exactly `prefix/len`.
    pub fn get(&self, prefix: F::Addr, len: u8) -> Option<GroupId> {
        if check::<F>(prefix, len).is_err() {
            return None;
        }
        if len == 0 { self.default.get() } else { self.writer.get(F::widen(prefix), len).map(group_of) }
    }

    /// Announces many routes at once: the same as an [`insert`](Self::insert) for each in order, but faster.
    ///
    /// # Errors
    /// Any [`FibError`]. The table is unchanged then, but for [`FibError::Memory`], after which some of the routes
    /// may be in.
    pub fn load(&mut self, routes: impl IntoIterator<Item = (F::Addr, u8, GroupId)>) -> Result<(), FibError> {
        let mut load = Load::default();
        let mut default = None;
        for (prefix, len, group) in routes {
            check::<F>(prefix, len)?;
            let value = value(group)?;
            if len == 0 {
                default = Some(group);
            } else {
                load.add(F::widen(prefix), len, value)?;
            }
        }
        self.writer.load(load)?;
        if default.is_some() {
            self.default.change(self.fib.default_route(), default);
        }
        Ok(())
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.writer.len() + usize::from(self.default.get().is_some())
    }

    /// Whether there is no route.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Frees what was unlinked and whose grace period has passed. Changes do this too; call it when there are
    /// none.
    pub fn reclaim(&mut self) {
        self.writer.reclaim();
    }

    /// Bytes that its blocks occupy, its root aside. Reads no table.
    pub fn block_bytes(&self) -> usize {
        self.writer.block_bytes()
    }

    /// Bytes that the control side's own copy of the routes occupies.
    pub fn control_memory(&self) -> usize {
        self.writer.control_bytes()
    }
}

fn group_of(value: Value) -> GroupId {
    GroupId(value - 1)
}

fn check<F: Family>(prefix: F::Addr, len: u8) -> Result<(), FibError> {
    if len > F::WIDTH {
        return Err(FibError::Length { len, max: F::WIDTH });
    }
    if F::widen(prefix) & !mask128(len) != 0 {
        return Err(F::host_bits(prefix, len));
    }
    Ok(())
}

#[cfg(test)]
#[allow(private_bounds)]
impl<F: Family> FibWriter<F> {
    /// Whether nothing is left of the routes that were ever here.
    pub(super) fn is_as_new(&mut self) -> bool {
        self.writer.is_as_new(F::FIRST_BLOCK)
    }

    /// Bytes that the kernel was asked for so far, for blocks.
    pub(super) fn committed(&self) -> usize {
        self.writer.committed()
    }
}
