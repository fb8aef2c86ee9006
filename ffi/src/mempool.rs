//! Pools of packet buffers.

use std::ffi::{CString, c_int};
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, PoisonError};

use crate::errno::{EEXIST, ENOBUFS, ENOMEM};
use crate::{Eal, Errno, HEADROOM, Mbuf, sys};

/// Why a pool was not made.
#[derive(Debug, thiserror::Error)]
pub enum MempoolError {
    /// The name cannot be used.
    #[error("{name:?} cannot name a packet pool: 1 to 25 bytes, none of them NUL")]
    Name {
        /// The name.
        name: String,
    },
    /// A pool of this name exists.
    #[error("a packet pool {name:?} exists already")]
    Exists {
        /// The name.
        name: String,
    },
    /// The cache is too large.
    #[error("a cache of {cache} buffers does not fit the packet pool {name:?} of {count}: at most {most}")]
    Cache {
        /// The pool's name.
        name: String,
        /// Wanted buffers a cache.
        cache: u32,
        /// Buffers of the pool.
        count: u32,
        /// The largest possible cache.
        most: u32,
    },
    /// The buffer is too large.
    #[error("{data_room} bytes of data room are too many for the packet pool {name:?}: at most {most}")]
    DataRoom {
        /// The pool's name.
        name: String,
        /// Wanted bytes a buffer.
        data_room: u16,
        /// The largest possible number.
        most: u16,
    },
    /// There is not enough memory.
    #[error(
        "no memory for the packet pool {name:?} ({count} buffers, some {megabytes} MB): ask for fewer buffers, grant \
         more huge pages (`sysctl vm.nr_hugepages`), or with `--no-huge` raise `-m`"
    )]
    Memory {
        /// The pool's name.
        name: String,
        /// Its buffers.
        count: u32,
        /// What it takes.
        megabytes: u64,
    },
    /// Any other failure.
    #[error("the packet pool {name:?} cannot be made: {errno}")]
    Failed {
        /// The pool's name.
        name: String,
        /// DPDK's error.
        errno: Errno,
    },
}

/// A pool of packet buffers of one size. Ports that receive into it keep it by `Arc`.
///
/// When the last handle goes while [`Mbuf`]s of it are about, or while other threads are registered, its memory stays
/// until they are back and gone.
#[derive(Debug)]
pub struct Mempool {
    raw: NonNull<sys::rte_mempool>,
    name: String,
    size: u32,
    data_room: u16,
    eal: Arc<Eal>,
}

// SAFETY: an rte_mempool (ring based, multi-producer and multi-consumer) is made for use by many threads; its
// caches belong to lcore ids, which `register_thread` hands out one a thread.
unsafe impl Send for Mempool {}
// SAFETY: as above.
unsafe impl Sync for Mempool {}

impl Mempool {
    /// Makes a pool of `count` buffers (one less than a power of two uses memory best). Each has `data_room` bytes
    /// for packet data behind [`HEADROOM`]. `cache` buffers a registered thread are kept out of the shared ring, at
    /// most 512. `socket` is the NUMA node, `None` for any.
    ///
    /// # Errors
    /// See [`MempoolError`].
    pub fn new(
        eal: &Arc<Eal>,
        name: &str,
        count: u32,
        cache: u32,
        data_room: u16,
        socket: Option<u32>,
    ) -> Result<Arc<Self>, MempoolError> {
        let name = name.to_owned();
        let c_name = CString::new(name.as_str()).ok().filter(|c| (1..=25).contains(&c.count_bytes()));
        let Some(c_name) = c_name else { return Err(MempoolError::Name { name }) };
        // DPDK lets a cache grow to one and a half of its size.
        let most = (count / 3 * 2).min(sys::DPDK_SYS_MEMPOOL_CACHE_MAX);
        if cache > most {
            return Err(MempoolError::Cache { name, cache, count, most });
        }
        let most = u16::MAX - HEADROOM;
        if data_room > most {
            return Err(MempoolError::DataRoom { name, data_room, most });
        }
        let socket = socket.map_or(-1, u32::cast_signed);
        eal.free_parked_pools();
        // The default operations are named so that no EAL argument puts others in their place: `Sync` relies on them.
        // SAFETY: the EAL is running, and both strings are NUL-terminated and copied by DPDK.
        let raw = unsafe {
            sys::rte_pktmbuf_pool_create_by_ops(
                c_name.as_ptr(),
                count,
                cache,
                0,
                data_room + HEADROOM,
                socket as c_int,
                c"ring_mp_mc".as_ptr(),
            )
        };
        let Some(raw) = NonNull::new(raw) else {
            return Err(match Errno::last() {
                EEXIST => MempoolError::Exists { name },
                ENOMEM | ENOBUFS => {
                    let each = u64::from(data_room) + u64::from(HEADROOM) + u64::from(sys::MBUF_SIZE) + 64;
                    MempoolError::Memory {
                        name,
                        count,
                        megabytes: (u64::from(count) * each).div_ceil(1 << 20),
                    }
                }
                errno => MempoolError::Failed { name, errno },
            });
        };
        Ok(Arc::new(Self { raw, name, size: count, data_room, eal: Arc::clone(eal) }))
    }

    /// An empty packet, or `None` when the pool is exhausted.
    #[inline]
    pub fn alloc(&self) -> Option<Mbuf> {
        // SAFETY: the pool is alive.
        let raw = unsafe { sys::shim_pktmbuf_alloc(self.raw.as_ptr()) };
        // SAFETY: a fresh mbuf of one segment, which nobody else has.
        NonNull::new(raw).map(|raw| unsafe { Mbuf::from_raw(raw) })
    }

    /// Fills every slot with an empty packet, dropping what was in it. With too few buffers left none is filled,
    /// and `false` returned.
    #[must_use]
    pub fn alloc_bulk(&self, out: &mut [Option<Mbuf>]) -> bool {
        out.fill_with(|| None);
        let Ok(n) = u32::try_from(out.len()) else { return false };
        // SAFETY: `Option<Mbuf>` is a nullable pointer to an mbuf. DPDK writes `n` valid ones on success, and on
        // failure none.
        unsafe { sys::shim_pktmbuf_alloc_bulk(self.raw.as_ptr(), out.as_mut_ptr().cast(), n) == 0 }
    }

    /// Buffers that are in the pool or its caches. Exact while no other thread uses the pool.
    pub fn available(&self) -> u32 {
        available(self.raw)
    }

    /// Buffers that are with somebody: packets in flight, and those that NICs hold for receiving.
    pub fn in_use(&self) -> u32 {
        self.size.saturating_sub(self.available())
    }

    /// Buffers in all.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Bytes for packet data in each buffer, behind [`HEADROOM`].
    pub fn data_room(&self) -> u16 {
        self.data_room
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::rte_mempool {
        self.raw.as_ptr()
    }
}

impl Drop for Mempool {
    fn drop(&mut self) {
        let mut pool = ParkedPool { raw: self.raw, size: self.size };
        // Another thread with a cache could be inside a free at this moment: then the count can be full already
        // while that thread still writes to its cache. Without such threads a full count is the last access.
        let freed = self.eal.while_no_other_thread_has_caches(|| pool.free_if_full());
        if freed != Some(true) {
            self.eal.parked_pools.lock().unwrap_or_else(PoisonError::into_inner).push(pool);
        }
    }
}

/// A pool without a handle.
#[derive(Debug)]
pub(crate) struct ParkedPool {
    raw: NonNull<sys::rte_mempool>,
    size: u32,
}

// SAFETY: see `Mempool`.
unsafe impl Send for ParkedPool {}

impl ParkedPool {
    /// Frees the pool when all its buffers are back; whether it did, after which `self` is not to be used. To be
    /// called when no other thread has mempool caches.
    pub(crate) fn free_if_full(&mut self) -> bool {
        if available(self.raw) < self.size {
            return false;
        }
        // Pairs with the ring's release of the last buffer that came back.
        fence(Ordering::Acquire);
        // SAFETY: every buffer is in the pool, so no `Mbuf` and no port refers to it, and nobody can take one out
        // without a handle. Those that came back did so through the ring, whose last write they have made.
        unsafe { sys::rte_mempool_free(self.raw.as_ptr()) };
        true
    }
}

fn available(pool: NonNull<sys::rte_mempool>) -> u32 {
    // SAFETY: the pool is alive; the count reads its ring's and its caches' lengths.
    unsafe { sys::rte_mempool_avail_count(pool.as_ptr()) }
}
