//! How a writer learns that no reader can still hold what it unlinked.

/// A source of grace periods (quiescent-state based reclamation).
///
/// The writer unlinks a block, draws a ticket, and frees the block once the ticket's period has passed.
pub trait GracePeriod: Send + Sync {
    /// A ticket for "now". Whatever was unlinked before the ticket was drawn may be freed when it has passed.
    /// Tickets never decrease, and a ticket's passing implies that of every smaller one.
    fn ticket(&self) -> u64;

    /// True once every reader has passed a quiescent state since the ticket was drawn.
    fn has_passed(&self, ticket: u64) -> bool;
}

/// The grace period of a table that nobody reads while it is written: always passed. For tests, for loading a
/// table before it is shared, and for single-threaded use.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoReaders;

impl GracePeriod for NoReaders {
    fn ticket(&self) -> u64 {
        0
    }

    fn has_passed(&self, _ticket: u64) -> bool {
        true
    }
}
