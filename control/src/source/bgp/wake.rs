//! Waiting for a socket, a deadline, or another thread's word, whichever comes first.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

/// Lets one thread wake another out of [`wait`]. Once woken it stays so.
#[derive(Debug)]
pub(super) struct Waker(OwnedFd);

impl Waker {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    pub(super) fn wake(&self) {
        // It can only fail when the counter is full, and then the other is awake.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Puts it to sleep again.
    pub(super) fn reset(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

/// Waits until `output` can be written (or has failed). `false`: the waker was woken, or the deadline has passed.
pub(super) fn wait_writable(waker: &Waker, output: BorrowedFd<'_>, deadline: Instant) -> io::Result<bool> {
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(waker.0.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(output, PollFlags::OUT),
        ];
        match poll(&mut fds, Some(&left_until(deadline))) {
            Ok(_) => return Ok(fds[0].revents().is_empty() && !fds[1].revents().is_empty()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn left_until(deadline: Instant) -> Timespec {
    let left = deadline.saturating_duration_since(Instant::now());
    Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() }
}

/// Waits until one of `inputs` can be read (or has failed), the waker is woken, or the deadline has passed.
/// Returns for each input whether it is ready.
pub(super) fn wait(
    waker: &Waker,
    inputs: &[BorrowedFd<'_>],
    deadline: Option<Instant>,
) -> io::Result<Vec<bool>> {
    let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(inputs.len() + 1);
    fds.push(PollFd::from_borrowed_fd(waker.0.as_fd(), PollFlags::IN));
    fds.extend(inputs.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
    let left = deadline.map(left_until);
    match poll(&mut fds, left.as_ref()) {
        Ok(_) => {}
        // A signal: the caller looks around and waits again.
        Err(Errno::INTR) => return Ok(vec![false; inputs.len()]),
        Err(error) => return Err(error.into()),
    }
    Ok(fds[1..].iter().map(|fd| !fd.revents().is_empty()).collect())
}
