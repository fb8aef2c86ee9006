//! Memory as packets have it: an array in DPDK's heap, which is on huge pages where they are granted.
#![allow(unsafe_code)] // DPDK's allocator is a C function; each block says why it is sound.

use std::ffi::c_void;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

unsafe extern "C" {
    fn packet_memory(bytes: usize) -> *mut c_void;
    fn free_packet_memory(memory: *mut c_void);
}

/// What DPDK aligns the memory to.
const LINE: usize = 64;

/// An array of fixed length.
pub struct PacketMemory<T: Copy> {
    start: NonNull<T>,
    len: usize,
}

// SAFETY: the memory belongs to this value alone, as a box's does; DPDK's heap may be used from any thread.
unsafe impl<T: Copy + Send> Send for PacketMemory<T> {}
// SAFETY: as above; a shared reference gives only shared references to the values.
unsafe impl<T: Copy + Sync> Sync for PacketMemory<T> {}

impl<T: Copy> PacketMemory<T> {
    /// Room for `len` values, each of them `value` at first. DPDK runs.
    ///
    /// # Errors
    /// DPDK has no memory for it.
    pub fn filled(len: usize, value: T) -> Result<Self, String> {
        const { assert!(align_of::<T>() <= LINE) };
        let bytes = len * size_of::<T>();
        // SAFETY: allocates memory of its own.
        let start = NonNull::new(unsafe { packet_memory(bytes.max(LINE)) }).ok_or_else(|| {
            format!(
                "DPDK has no {bytes} bytes for packets or addresses: grant more huge pages (vm.nr_hugepages)"
            )
        })?;
        let start = start.cast::<T>();
        for at in 0..len {
            // SAFETY: there is room for `len` values, aligned to a cache line.
            unsafe { start.add(at).write(value) };
        }
        Ok(Self { start, len })
    }

    /// These values.
    ///
    /// # Errors
    /// DPDK has no memory for them.
    pub fn of(values: &[T]) -> Result<Self, String> {
        let Some(&first) = values.first() else {
            return Ok(Self { start: NonNull::dangling(), len: 0 });
        };
        let mut memory = Self::filled(values.len(), first)?;
        memory.copy_from_slice(values);
        Ok(memory)
    }
}

impl<T: Copy> Deref for PacketMemory<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `len` values that were written, which live as long as `self`; of none, any aligned place will do.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Copy> DerefMut for PacketMemory<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and they are this value's alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T: Copy> Drop for PacketMemory<T> {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: memory that `filled` allocated, of which no slice is left.
            unsafe { free_packet_memory(self.start.as_ptr().cast()) }
        }
    }
}
