//! One TCP connection of a session: bounded input, output that cannot block for ever, and the timers.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};

use super::protocol::{MAX_LENGTH, Timer};
use super::wake::{Waker, wait};

/// A whole message of the longest kind, and what one read may bring beyond it.
const INBOX_LENGTH: usize = MAX_LENGTH + 64 * 1024;
/// How long the peer may take nothing from us. We send little, so that its window is never full in good health.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Only for a socket that `poll` called readable and is not.
const READ_TIMEOUT: Duration = Duration::from_millis(100);
/// How long, and for how much, we still listen after our last word, so that it is not lost in a TCP reset.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_LENGTH: usize = 1 << 20;

/// A connection with its input buffer and timers.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    inbox: Box<[u8]>,
    start: usize,
    end: usize,
    hold: Option<Instant>,
    hold_time: Duration,
    keepalive: Option<Instant>,
}

/// What [`Connection::wait`] saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ready {
    /// There is something to read, or the connection is gone.
    Input,
    /// A timer expired, the waker was woken, or a signal came: look around.
    Other,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        // For the peer that negotiates no hold time and dies.
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(30))
            .with_interval(Duration::from_secs(10))
            .with_retries(3);
        SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        let inbox = vec![0; INBOX_LENGTH].into_boxed_slice();
        Ok(Self { stream, inbox, start: 0, end: 0, hold: None, hold_time: Duration::ZERO, keepalive: None })
    }

    /// What was read and not yet consumed.
    pub(super) fn input(&self) -> &[u8] {
        &self.inbox[self.start..self.end]
    }

    pub(super) fn consume(&mut self, length: usize) {
        self.start = self.end.min(self.start + length);
    }

    /// Reads once. `Ok(0)`: the peer closed the connection.
    pub(super) fn read(&mut self) -> io::Result<usize> {
        self.inbox.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let length = self.stream.read(&mut self.inbox[self.end..])?;
        self.end += length;
        Ok(length)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub(super) fn start_timer(&mut self, timer: Timer, after: Duration) {
        *self.timer(timer) = Some(Instant::now() + after);
        if timer == Timer::Hold {
            self.hold_time = after;
        }
    }

    /// Gives the peer its hold time once more, if one runs: nobody looked whether it said something.
    pub(super) fn renew_hold(&mut self) {
        if let Some(hold) = &mut self.hold {
            *hold = Instant::now() + self.hold_time;
        }
    }

    pub(super) fn stop_timer(&mut self, timer: Timer) {
        *self.timer(timer) = None;
    }

    /// Whether it ran out; then it is stopped.
    pub(super) fn expired(&mut self, timer: Timer) -> bool {
        self.timer(timer).take_if(|deadline| *deadline <= Instant::now()).is_some()
    }

    fn timer(&mut self, timer: Timer) -> &mut Option<Instant> {
        match timer {
            Timer::Hold => &mut self.hold,
            Timer::Keepalive => &mut self.keepalive,
        }
    }

    /// Waits for input, the next timer or the waker.
    pub(super) fn wait(&self, waker: &Waker) -> io::Result<Ready> {
        let deadline = self.hold.into_iter().chain(self.keepalive).min();
        let ready = wait(waker, &[self.stream.as_fd()], deadline)?;
        Ok(if ready == [true] { Ready::Input } else { Ready::Other })
    }

    /// Closes after a last word of ours: bytes of the peer that nobody read would make the kernel answer with a
    /// reset, which can overtake that word.
    pub(super) fn linger(mut self) {
        let end = Instant::now() + LINGER;
        if self.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let mut drained = 0;
        while Instant::now() < end && drained < LINGER_LENGTH {
            match self.stream.read(&mut self.inbox) {
                Ok(0) => return,
                Ok(length) => drained += length,
                Err(error) if is_retry(&error) => {}
                Err(_) => return,
            }
        }
    }
}

/// Errors of a read after which one reads again.
pub(super) fn is_retry(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
