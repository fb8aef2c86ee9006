//! Threads of the program's own that DPDK knows by an lcore id.

use std::marker::PhantomData;
use std::sync::{Arc, PoisonError};

use crate::{Eal, Errno, sys};

/// Why a thread was not registered.
#[derive(Debug, thiserror::Error)]
pub enum ThreadError {
    /// It was registered before.
    #[error("this thread is registered with DPDK already")]
    Already,
    /// No lcore id is free, or the EAL's arguments forbid it.
    #[error(
        "DPDK has no lcore id for this thread: {0}. It has room for RTE_MAX_LCORE threads (128 in most builds)"
    )]
    Failed(Errno),
}

/// While it lives, the thread that made it has an lcore id, and with it a cache of its own in every mempool. It
/// cannot leave its thread.
#[derive(Debug)]
pub struct ThreadGuard {
    eal: Arc<Eal>,
    _not_send: PhantomData<*const ()>,
}

/// Gives the calling thread an lcore id. Pin the thread before or after, as you like: DPDK does not.
///
/// # Errors
/// When it has one already, or none is left.
pub fn register_thread(eal: &Arc<Eal>) -> Result<ThreadGuard, ThreadError> {
    if lcore_id().is_some() {
        return Err(ThreadError::Already);
    }
    // Held over both, so that no pool is freed between them: see `Mempool`'s drop.
    let mut threads = eal.registered_threads.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: the EAL is running, and this thread is not registered.
    if unsafe { sys::rte_thread_register() } < 0 {
        return Err(ThreadError::Failed(Errno::last()));
    }
    *threads += 1;
    drop(threads);
    Ok(ThreadGuard { eal: Arc::clone(eal), _not_send: PhantomData })
}

/// The calling thread's lcore id, if it is registered.
pub fn lcore_id() -> Option<u32> {
    // SAFETY: reads a thread-local variable of DPDK.
    let id = unsafe { sys::shim_lcore_id() };
    (id != sys::DPDK_SYS_LCORE_ID_ANY).then_some(id)
}

impl Drop for ThreadGuard {
    fn drop(&mut self) {
        // The lock hands over to whoever frees a pool what this thread wrote to its caches.
        let mut threads = self.eal.registered_threads.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the guard is not `Send`, so this is the thread that was registered.
        unsafe { sys::rte_thread_unregister() };
        *threads -= 1;
    }
}
