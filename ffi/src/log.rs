//! DPDK's log, caught line by line: kept for error messages, and handed to a sink of the program's.
//!
//! [`Eal::init`](crate::Eal::init) takes the log over, so that nothing of DPDK's reaches stderr or syslog by
//! itself. Without a sink only the last lines are kept.

use std::collections::VecDeque;
use std::ffi::{c_char, c_int, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use crate::sys;

/// DPDK's log levels, most severe first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The system is unusable, or must be attended to at once (`EMERG`, `ALERT`, `CRIT`).
    Critical,
    /// Something failed.
    Error,
    /// Something may fail.
    Warning,
    /// Normal but worth a look.
    Notice,
    /// What it does.
    Info,
    /// For those who debug DPDK.
    Debug,
}

impl Level {
    fn from_dpdk(level: u32) -> Self {
        match level {
            0..=sys::RTE_LOG_CRIT => Self::Critical,
            sys::RTE_LOG_ERR => Self::Error,
            sys::RTE_LOG_WARNING => Self::Warning,
            sys::RTE_LOG_NOTICE => Self::Notice,
            sys::RTE_LOG_INFO => Self::Info,
            _ => Self::Debug,
        }
    }

    fn to_dpdk(self) -> u32 {
        match self {
            Self::Critical => sys::RTE_LOG_CRIT,
            Self::Error => sys::RTE_LOG_ERR,
            Self::Warning => sys::RTE_LOG_WARNING,
            Self::Notice => sys::RTE_LOG_NOTICE,
            Self::Info => sys::RTE_LOG_INFO,
            Self::Debug => sys::RTE_LOG_DEBUG,
        }
    }
}

/// Receives each line, without its line end. Called on whichever thread DPDK logs from.
pub type Sink = dyn Fn(Level, &str) + Send + Sync;

/// Lines that are kept for error messages.
const KEPT: usize = 64;
/// Bytes of an unfinished line after which it counts as finished.
const LONGEST_LINE: usize = 4096;

struct State {
    unfinished: String,
    recent: VecDeque<(Level, String)>,
    written: u64,
    sink: Option<Arc<Sink>>,
}

static STATE: Mutex<State> =
    Mutex::new(State { unfinished: String::new(), recent: VecDeque::new(), written: 0, sink: None });

fn with_state<T>(f: impl FnOnce(&mut State) -> T) -> T {
    // A panic while the lock is held leaves at worst a line too few.
    f(&mut STATE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Hands every further line of DPDK's log to `sink`.
pub fn set_sink(sink: impl Fn(Level, &str) + Send + Sync + 'static) {
    with_state(|s| s.sink = Some(Arc::new(sink)));
}

/// Drops the sink: lines are only kept for error messages.
pub fn clear_sink() {
    with_state(|s| s.sink = None);
}

/// Has DPDK drop what is less severe than `level`.
pub fn set_level(level: Level) {
    // SAFETY: writes one integer of DPDK's log configuration.
    unsafe { sys::rte_log_set_global_level(level.to_dpdk()) };
}

/// A place in the log, to ask later what was said since.
#[derive(Clone, Copy)]
pub(crate) struct Mark(u64);

/// The end of the log as it is now.
pub(crate) fn mark() -> Mark {
    with_state(|s| Mark(s.written))
}

/// What DPDK complained about since `mark`, for an error message: `: DPDK says: ...`, or nothing.
pub(crate) fn complaints_since(mark: Mark) -> String {
    let lines: Vec<String> = with_state(|s| {
        let new = usize::try_from(s.written - mark.0).unwrap_or(usize::MAX).min(s.recent.len());
        let fresh = s.recent.range(s.recent.len() - new..);
        fresh.filter(|(level, _)| *level <= Level::Error).map(|(_, line)| line.clone()).collect()
    });
    if lines.is_empty() { String::new() } else { format!("; DPDK says: {}", lines.join(" / ")) }
}

/// Takes the log over from DPDK. Called once, before `rte_eal_init`.
pub(crate) fn install() {
    let functions = sys::cookie_io_functions_t { write: Some(write), ..Default::default() };
    // SAFETY: the mode is a constant C string, and the functions are plain functions that live as long as the
    // process. The stream is never closed by us: DPDK uses it until the process ends.
    let stream = unsafe { sys::fopencookie(std::ptr::null_mut(), c"w".as_ptr(), functions) };
    if !stream.is_null() {
        // SAFETY: `stream` is an open stream.
        unsafe { sys::rte_openlog_stream(stream) };
    }
}

/// stdio's write function for the log stream.
///
/// # Safety
/// `buf` must point to `size` readable bytes.
unsafe extern "C" fn write(_cookie: *mut c_void, buf: *const c_char, size: usize) -> sys::__ssize_t {
    // SAFETY: stdio passes its buffer and the number of bytes in it.
    let bytes = unsafe { std::slice::from_raw_parts(buf.cast::<u8>(), size) };
    // SAFETY: reads a thread-local variable of DPDK.
    let level = unsafe { sys::rte_log_cur_msg_loglevel() };
    let level = Level::from_dpdk(c_int::cast_unsigned(level));
    // A sink that panics must not unwind into C.
    let _ = std::panic::catch_unwind(|| take(level, &String::from_utf8_lossy(bytes)));
    size.cast_signed() as sys::__ssize_t
}

fn take(level: Level, text: &str) {
    let (lines, sink) = with_state(|s| {
        s.unfinished.push_str(text);
        let mut lines = Vec::new();
        while let Some(end) = s.unfinished.find('\n') {
            let line: String = s.unfinished.drain(..=end).collect();
            lines.push(line.trim_end().to_owned());
        }
        if s.unfinished.len() > LONGEST_LINE {
            lines.push(std::mem::take(&mut s.unfinished));
        }
        lines.retain(|l| !l.is_empty());
        for line in &lines {
            if s.recent.len() == KEPT {
                s.recent.pop_front();
            }
            s.recent.push_back((level, line.clone()));
            s.written += 1;
        }
        (lines, s.sink.clone())
    });
    // Without the lock, so that a sink may use this module.
    if let Some(sink) = sink {
        for line in lines {
            sink(level, &line);
        }
    }
}
