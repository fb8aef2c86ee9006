//! DPDK's environment: started once a process, stopped when the last user is gone.

use std::ffi::{CString, c_char, c_int, c_void};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::errno::{EACCES, EINVAL};
use crate::mempool::ParkedPool;
use crate::port::OpenPort;
use crate::{Errno, lcore_id, log, sys};

/// Whether `rte_eal_init` was called in this process; DPDK cannot be started twice, not even after a failure.
static STARTED: AtomicBool = AtomicBool::new(false);

/// Why DPDK did not start. The texts say the way out.
#[derive(Debug, thiserror::Error)]
pub enum EalError {
    /// A second [`Eal::init`].
    #[error("DPDK was started in this process before; it can be started only once")]
    AlreadyStarted,
    /// An argument with a NUL byte.
    #[error("the EAL argument {argument:?} has a NUL byte in it: remove it")]
    NulByte {
        /// The argument.
        argument: String,
    },
    /// Huge pages are wanted, and the kernel has granted none.
    #[error(
        "no free huge pages: grant some with `sysctl vm.nr_hugepages=1024` (2 MB each), or do without by `--no-huge` \
         (slower, and a physical NIC then needs an IOMMU)"
    )]
    NoHugePages,
    /// Another process uses the same run-time directory.
    #[error(
        "another DPDK process is running with the same file prefix: stop it, or give this one its own by \
         `--file-prefix=NAME` or `--in-memory`{log}"
    )]
    AnotherProcess {
        /// What DPDK said.
        log: String,
    },
    /// DPDK does not understand an argument.
    #[error("DPDK refuses the EAL arguments `{arguments}`{log}")]
    Arguments {
        /// The arguments, joined by spaces.
        arguments: String,
        /// What DPDK said.
        log: String,
    },
    /// It failed, and the process is not root.
    #[error(
        "DPDK did not start: {errno}. This process is not root, which DPDK needs for devices and huge pages: run it with sudo{log}"
    )]
    NotRoot {
        /// DPDK's error.
        errno: Errno,
        /// What DPDK said.
        log: String,
    },
    /// Any other failure.
    #[error("DPDK did not start: {errno}{log}")]
    Failed {
        /// DPDK's error.
        errno: Errno,
        /// What DPDK said.
        log: String,
    },
}

/// DPDK's process-wide environment. Ports, pools and thread guards keep it by `Arc`; the last one to go stops it.
#[derive(Debug)]
pub struct Eal {
    /// Held while ports are added and removed: DPDK's hot-plug is not meant for several threads at once.
    pub(crate) hotplug: Mutex<()>,
    /// The ports that a [`Port`](crate::Port) owns.
    pub(crate) open_ports: Mutex<Vec<OpenPort>>,
    /// Threads with an lcore id, hence with mempool caches. Held while a pool is freed.
    pub(crate) registered_threads: Mutex<usize>,
    /// Pools whose handle is gone while some of their buffers are not.
    pub(crate) parked_pools: Mutex<Vec<ParkedPool>>,
}

impl Eal {
    /// Starts DPDK with EAL arguments (`--no-huge`, `-a 0000:3b:00.0`, ...), without the program's name in front.
    ///
    /// No lcore threads are made and no thread is pinned: unless the arguments say otherwise, the EAL gets one
    /// lcore that floats on the CPUs this thread may use, and the calling thread is let go from it. Threads that
    /// carry packets register themselves with [`register_thread`](crate::register_thread).
    ///
    /// # Errors
    /// See [`EalError`]. After a failure DPDK cannot be started again in this process, except after
    /// [`EalError::NoHugePages`] and [`EalError::NulByte`], which are found before.
    pub fn init(args: &[String]) -> Result<Self, EalError> {
        let mut argv = vec![c"dpdk".to_owned()];
        for argument in args {
            let c = CString::new(argument.as_str());
            argv.push(c.map_err(|_| EalError::NulByte { argument: argument.clone() })?);
        }
        if !chooses_lcores(args) {
            argv.extend(one_floating_lcore());
        }
        let huge = !args.iter().any(|a| a == "--no-huge");
        if huge && free_huge_pages().pages == 0 {
            return Err(EalError::NoHugePages);
        }
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(EalError::AlreadyStarted);
        }
        start(argv).map_err(|(errno, log)| explain(errno, log, args))?;
        Ok(Self {
            hotplug: Mutex::new(()),
            open_ports: Mutex::new(Vec::new()),
            registered_threads: Mutex::new(0),
            parked_pools: Mutex::new(Vec::new()),
        })
    }

    /// Whether DPDK's memory is in huge pages.
    pub fn huge_pages(&self) -> bool {
        // SAFETY: reads one integer of the EAL's configuration.
        unsafe { sys::rte_eal_has_hugepages() != 0 }
    }

    /// Runs `f` unless a thread other than this one is registered; none can become so meanwhile.
    pub(crate) fn while_no_other_thread_has_caches<T>(&self, f: impl FnOnce() -> T) -> Option<T> {
        let threads = self.registered_threads.lock().unwrap_or_else(PoisonError::into_inner);
        let alone = *threads == usize::from(lcore_id().is_some());
        alone.then(f)
    }

    /// Frees the pools without a handle whose buffers have come back, if it can be known.
    pub(crate) fn free_parked_pools(&self) {
        self.while_no_other_thread_has_caches(|| {
            let mut parked = self.parked_pools.lock().unwrap_or_else(PoisonError::into_inner);
            parked.retain_mut(|pool| !pool.free_if_full());
        });
    }

    /// Ticks of [`cycles`](crate::cycles) a second.
    pub fn tsc_hz(&self) -> u64 {
        // SAFETY: reads one integer that rte_eal_init has set.
        unsafe { sys::rte_get_tsc_hz() }
    }
}

impl Drop for Eal {
    fn drop(&mut self) {
        // No port, pool or thread guard is left, as each of them keeps the `Eal`; but single `Mbuf`s may be.
        self.free_parked_pools();
        if !self.parked_pools.get_mut().unwrap_or_else(PoisonError::into_inner).is_empty() {
            // Cleaning up would unmap memory that those buffers are in. The process is about to end anyway.
            return;
        }
        park_the_interrupt_thread();
        // SAFETY: DPDK was started, nothing uses it any more, and it is not used again: `STARTED` stays set.
        unsafe { sys::rte_eal_cleanup() };
    }
}

/// Has DPDK's interrupt thread stand still for good. `rte_eal_cleanup` wakes it (it takes out the handler of alarms, which
/// some drivers set), and unmaps at once the memory that the thread then looks at.
fn park_the_interrupt_thread() {
    static PARKED: AtomicBool = AtomicBool::new(false);
    extern "C" fn parked(_: *mut c_void) {
        PARKED.store(true, Ordering::Release);
        loop {
            std::thread::park();
        }
    }
    let Ok((reader, mut writer)) = std::io::pipe() else { return };
    // SAFETY: DPDK is running; the descriptor is open, and stays so since the reader is forgotten below; the function
    // lives for ever and takes no argument.
    let registered = unsafe { sys::shim_park_interrupt_thread(reader.as_raw_fd(), Some(parked)) };
    std::mem::forget(reader);
    if registered != 0 || writer.write_all(&[0]).is_err() {
        return;
    }
    // A thread that hangs elsewhere is no reason not to end.
    let end = Instant::now() + Duration::from_secs(5);
    while !PARKED.load(Ordering::Acquire) && Instant::now() < end {
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Calls `rte_eal_init`, and makes the calling thread an ordinary one again.
fn start(argv: Vec<CString>) -> Result<(), (Errno, String)> {
    log::install();
    let mark = log::mark();
    // DPDK reorders the array and keeps pointers into the strings, so they stay for the life of the process.
    let strings: Vec<*mut c_char> = argv.into_iter().map(CString::into_raw).collect();
    // A command line has far fewer than 2^31 words.
    let count = c_int::try_from(strings.len()).unwrap_or(c_int::MAX);
    let argv = strings.into_iter().chain([std::ptr::null_mut()]).collect::<Vec<_>>().leak();
    // SAFETY: `argv` holds `count` C strings and a null behind them, all leaked; `STARTED` makes this the only call.
    let ret = unsafe { sys::rte_eal_init(count, argv.as_mut_ptr()) };
    if ret < 0 {
        let errno = Errno::last();
        // DPDK prints its usage to stdout on a bad argument. It should come before our message, not at exit.
        // SAFETY: a null stream means all of them.
        unsafe { sys::fflush(std::ptr::null_mut()) };
        return Err((errno, log::complaints_since(mark)));
    }
    // The starting thread is DPDK's main lcore and has mempool caches of that lcore. `Mempool` relies on the rule
    // that only threads with a `ThreadGuard` have any.
    // SAFETY: resets this thread's lcore id; the lcore's role is not ours to release, and DPDK leaves it as it is.
    unsafe { sys::rte_thread_unregister() };
    Ok(())
}

/// Names the likeliest reason of a failed start.
fn explain(errno: Errno, log: String, args: &[String]) -> EalError {
    if log.contains("Is another primary process running") || (errno == EACCES && log.contains("lock")) {
        return EalError::AnotherProcess { log };
    }
    if errno == EINVAL {
        return EalError::Arguments { arguments: args.join(" "), log };
    }
    // A process's directory in /proc belongs to its effective user.
    let root = std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0);
    if root { EalError::Failed { errno, log } } else { EalError::NotRoot { errno, log } }
}

/// Whether the arguments say on which cores DPDK is to run.
fn chooses_lcores(args: &[String]) -> bool {
    args.iter().any(|a| {
        a.starts_with("--lcores")
            || ["-l", "-c", "-s", "-S"].iter().any(|o| a.starts_with(o) && !a.starts_with("--"))
    })
}

/// `--lcores=0@(CPUS)`: one lcore that may run wherever this thread may. By default the EAL would make a thread for
/// each CPU, and leave no lcore ids for ours.
fn one_floating_lcore() -> Option<CString> {
    let status = std::fs::read_to_string("/proc/thread-self/status").ok()?;
    let cpus = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:"))?.trim();
    CString::new(format!("--lcores=0@({cpus})")).ok()
}

/// What [`free_huge_pages`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FreeHugePages {
    /// Free pages of all sizes.
    pub pages: u64,
    /// Bytes in them.
    pub bytes: u64,
}

/// The huge pages that the kernel has granted and nobody uses, of all sizes. Needs no [`Eal`].
pub fn free_huge_pages() -> FreeHugePages {
    let mut found = FreeHugePages::default();
    let Ok(sizes) = std::fs::read_dir("/sys/kernel/mm/hugepages") else { return found };
    for size in sizes.flatten() {
        let name = size.file_name();
        let kilobytes = name.to_str().and_then(|n| n.strip_prefix("hugepages-")?.strip_suffix("kB"));
        let Some(kilobytes) = kilobytes.and_then(|k| k.parse::<u64>().ok()) else { continue };
        let free = std::fs::read_to_string(size.path().join("free_hugepages"));
        let free = free.ok().and_then(|f| f.trim().parse::<u64>().ok()).unwrap_or(0);
        found.pages += free;
        found.bytes += free.saturating_mul(kilobytes).saturating_mul(1024);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(args: &[&str]) -> Vec<String> {
        args.iter().map(|&a| a.to_owned()).collect()
    }

    #[test]
    fn lcores_are_only_added_when_nobody_chose_them() {
        for chosen in [&["-l", "0-3"][..], &["-l0"], &["--lcores=0@1"], &["--lcores", "1"], &["-c", "3"]] {
            assert!(chooses_lcores(&strings(chosen)), "{chosen:?}");
        }
        assert!(!chooses_lcores(&strings(&["--no-huge", "--log-level=8", "--socket-mem=64", "-m", "64"])));
    }

    #[test]
    fn the_floating_lcore_names_the_allowed_cpus() {
        let argument = one_floating_lcore().unwrap().into_string().unwrap();
        let cpus = argument.strip_prefix("--lcores=0@(").unwrap().strip_suffix(')').unwrap();
        assert!(cpus.starts_with(|c: char| c.is_ascii_digit()), "{argument}");
    }
}
