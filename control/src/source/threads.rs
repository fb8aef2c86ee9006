//! The threads of a source, which end with it.

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crate::kernel::wake::Wake;

/// Threads that are told to end, and waited for, when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Threads(Vec<(Arc<Wake>, JoinHandle<()>)>);

impl Threads {
    /// Starts one more. `work` ends when the wake that it was given says so.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(crate) fn spawn(
        &mut self,
        name: &str,
        wake: Arc<Wake>,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        self.0.push((wake, Builder::new().name(name.to_owned()).spawn(work)?));
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        for (wake, _) in &self.0 {
            wake.stop();
        }
        for (_, handle) in self.0.drain(..) {
            // One that panicked was logged by the panic hook.
            let _ = handle.join();
        }
    }
}
