//! The time-stamp counter.

/// The time-stamp counter of this core; [`Eal::tsc_hz`](crate::Eal::tsc_hz) ticks make a second.
#[inline]
pub fn cycles() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: RDTSC is part of the x86-64 baseline and touches no memory.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: the shim reads a counter register and touches no memory.
    unsafe {
        crate::sys::shim_rdtsc()
    }
}
