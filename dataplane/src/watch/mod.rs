//! Looking at packets on their way: sessions of `turnpike trace` and `turnpike capture`.
//!
//! Control makes a [`Session`] with all its memory, and publishes it with the tables. As long as there is none, a
//! worker's burst pays for two tests of a pointer. While there is one, the worker copies what matches into records that
//! lie ready, and control hands them on and gives them back. A worker never waits: without a free record it counts a
//! miss. What was matched is the sum of what was recorded and what was missed, exactly.

mod decided;
mod fields;
mod observer;
mod program;
mod record;
mod session;
mod wanted;

pub use fields::{Addresses, Fields};
pub(crate) use observer::Observer;
pub use program::{MAX_DEPTH, MAX_OPS, Op, Program, ProgramError, Side, Term};
pub use record::{Kind, Out, Record, SENT_HEAD};
pub use session::{Counts, Place, Session, What};

use std::sync::Arc;

/// Most sessions at once.
pub const MAX_SESSIONS: usize = 4;

/// The sessions that workers serve, at most [`MAX_SESSIONS`] of them: any further are ignored.
#[derive(Debug)]
pub struct Watch {
    sessions: Vec<Arc<Session>>,
}

impl Watch {
    /// These sessions.
    pub fn new(sessions: Vec<Arc<Session>>) -> Self {
        Self { sessions }
    }

    /// Each session with its place, which is below [`MAX_SESSIONS`].
    fn sessions(&self) -> impl Iterator<Item = (usize, &Session)> {
        self.sessions.iter().map(|session| &**session).take(MAX_SESSIONS).enumerate()
    }
}
