//! Executes a piece of code one instruction at a time, and notes each. With the trap flag in its flags register set, an
//! x86-64 processor raises a debug exception after every instruction; Linux makes it a SIGTRAP, and takes the flag away
//! for as long as the handler runs. So a thread can watch itself: nobody has to be allowed to trace it.
#![allow(unsafe_code)] // A signal handler and the trap flag; each block says why it is sound.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

/// What the processor was about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The address of the instruction.
    pub instruction: u64,
    /// The stack pointer before it.
    pub stack: u64,
}

/// Steps that there is room for.
const ROOM: usize = 1 << 19;

/// Where the handler notes the steps: instruction and stack of each.
static NOTES: OnceLock<Box<[[AtomicU64; 2]]>> = OnceLock::new();
/// Steps so far, noted or not.
static TAKEN: AtomicUsize = AtomicUsize::new(0);
/// There is one place for notes, so one thread at a time.
static ONE: Mutex<()> = Mutex::new(());

/// Runs `code` step by step. The first instructions of it may be missed, and some of what is around it may be in.
///
/// # Errors
/// It takes more steps than there is room for, or this machine does not step.
pub fn steps(code: impl FnOnce()) -> Result<Vec<Step>, String> {
    steps_within(ROOM, code)
}

/// The same with less room.
fn steps_within(room: usize, code: impl FnOnce()) -> Result<Vec<Step>, String> {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let notes =
        NOTES.get_or_init(|| (0..ROOM).map(|_| [const { AtomicU64::new(0) }; 2]).collect::<Box<[_]>>());
    TAKEN.store(0, Ordering::Relaxed);
    catch()?;
    trap(true);
    code();
    trap(false);
    let taken = TAKEN.load(Ordering::Relaxed);
    let noted = notes.get(..taken).filter(|_| taken <= room);
    let noted = noted.ok_or_else(|| format!("{taken} steps, and room for {room}"))?;
    if noted.is_empty() {
        return Err("this machine does not let a program step itself (no SIGTRAP came)".into());
    }
    let [instruction, stack] = [0, 1];
    let read = |note: &[AtomicU64; 2], which: usize| note[which].load(Ordering::Relaxed);
    Ok(noted
        .iter()
        .map(|note| Step { instruction: read(note, instruction), stack: read(note, stack) })
        .collect())
}

/// Has SIGTRAP noted.
#[cfg(target_arch = "x86_64")]
fn catch() -> Result<(), String> {
    // SAFETY: all zero is a `sigaction` with no flags, an empty mask and the default action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let note: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = note;
    action.sa_sigaction = note as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: `note` has the signature that SA_SIGINFO asks for, and does only what a handler may: it reads what it is
    // given, and writes to atomics that are there before.
    match unsafe { libc::sigaction(libc::SIGTRAP, &raw const action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(format!("cannot wait for SIGTRAP: {}", std::io::Error::last_os_error())),
    }
}

/// Notes a step.
#[cfg(target_arch = "x86_64")]
extern "C" fn note(_signal: c_int, _info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: with SA_SIGINFO the kernel gives a handler the context that it interrupted.
    let registers = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let at = TAKEN.fetch_add(1, Ordering::Relaxed);
    if let Some([instruction, stack]) = NOTES.get().and_then(|notes| notes.get(at)) {
        instruction.store(registers[libc::REG_RIP as usize] as u64, Ordering::Relaxed);
        stack.store(registers[libc::REG_RSP as usize] as u64, Ordering::Relaxed);
    }
}

/// Has the processor trap after each instruction from now on, or no longer.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
fn trap(on: bool) {
    /// TF of the flags register.
    const TRAP: u64 = 1 << 8;
    let (set, keep) = if on { (TRAP, u64::MAX) } else { (0, !TRAP) };
    // SAFETY: changes one bit of the flags, by way of the stack; SIGTRAP is caught (see `steps`).
    unsafe {
        std::arch::asm!(
            "pushfq",
            "and [rsp], {keep}",
            "or [rsp], {set}",
            "popfq",
            keep = in(reg) keep,
            set = in(reg) set,
        );
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn catch() -> Result<(), String> {
    Err("only x86-64 processors are stepped".into())
}

#[cfg(not(target_arch = "x86_64"))]
fn trap(_on: bool) {}

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use super::*;

    /// As many instructions as `asm!` holds: one, and four for each of `turns`.
    fn loop_of(turns: u64) {
        // SAFETY: counts a register down.
        unsafe {
            std::arch::asm!("nop", "2:", "nop", "nop", "dec {turns}", "jnz 2b", turns = inout(reg) turns => _);
        }
    }

    #[test]
    fn each_instruction_is_a_step() {
        let count = |turns| steps(|| loop_of(std::hint::black_box(turns))).unwrap().len();
        let few = count(1);
        assert!((5..60).contains(&few), "{few}");
        assert_eq!(count(1001) - few, 4000);
        // And again.
        assert_eq!(count(1), few);
    }

    #[test]
    fn more_than_there_is_room_for_is_refused() {
        let error = steps_within(1000, || loop_of(250)).unwrap_err();
        assert!(error.ends_with(" steps, and room for 1000"), "{error}");
        assert!(steps_within(1000, || loop_of(200)).is_ok());
    }
}
