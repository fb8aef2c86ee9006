//! One connection of a zebra: bounded input, frame by frame.

use std::io::{self, ErrorKind, Read};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};

use super::frame::{FrameError, MAX_FRAME, frame};
use crate::source::rtnl::{Replica, RtnlError, decode, messages};

/// A whole frame of the longest kind, and what one read may bring beyond it.
const INBOX: usize = MAX_FRAME + 256 * 1024;

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    inbox: Box<[u8]>,
    start: usize,
    end: usize,
    /// When it was made.
    pub since: Instant,
    /// When something came last.
    pub heard: Instant,
    /// When to look whether all was told again; none: that is done.
    pub look: Option<Instant>,
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ending {
    /// zebra closed it.
    #[error("zebra closed the connection")]
    Closed,
    /// It was lost.
    #[error("the connection was lost: {0}")]
    Lost(io::Error),
    /// What came cannot be read.
    #[error("{0}")]
    Frame(#[from] FrameError),
}

impl Connection {
    pub(super) fn new(stream: TcpStream, quiet: Duration) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        // For the zebra whose machine dies.
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(10))
            .with_interval(Duration::from_secs(3))
            .with_retries(3);
        SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        let now = Instant::now();
        Ok(Self {
            stream,
            inbox: vec![0; INBOX].into_boxed_slice(),
            start: 0,
            end: 0,
            since: now,
            heard: now,
            look: Some(now + quiet),
        })
    }

    /// Whether anything came yet.
    pub(super) fn has_spoken(&self) -> bool {
        self.heard > self.since
    }

    /// Reads once, and hands all whole frames to the replica. Returns how many messages were wrong, and the last
    /// error; messages behind a wrong one in its frame are lost.
    pub(super) fn read(&mut self, replica: &mut Replica) -> Result<(usize, Option<RtnlError>), Ending> {
        self.inbox.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        match self.stream.read(&mut self.inbox[self.end..]) {
            Ok(0) => return Err(Ending::Closed),
            Ok(length) => self.end += length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok((0, None));
            }
            Err(error) => return Err(Ending::Lost(error)),
        }
        self.heard = Instant::now();
        replica.arrives(self.heard);
        let (mut wrong, mut last) = (0, None);
        while let Some((payload, taken)) = frame(&self.inbox[self.start..self.end])? {
            for message in messages(payload) {
                match message.and_then(|message| decode(&message)) {
                    Ok(event) => replica.take(&event),
                    Err(error) => (wrong, last) = (wrong + 1, Some(error)),
                }
            }
            self.start += taken;
        }
        Ok((wrong, last))
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
