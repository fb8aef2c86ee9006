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

/// The same, read after everything before it is done and before anything after it begins: for timing a short stretch
/// of code without what surrounds it. Stores may still be on their way from the core's buffer.
#[inline]
pub fn fenced_cycles() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: LFENCE and RDTSC are part of the x86-64 baseline and touch no memory.
    unsafe {
        core::arch::x86_64::_mm_lfence();
        let now = core::arch::x86_64::_rdtsc();
        core::arch::x86_64::_mm_lfence();
        now
    }
    #[cfg(not(target_arch = "x86_64"))]
    cycles()
}
