//! One connection to the metrics' port: its request comes, its response goes, and what else it sends is thrown away.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::http::{self, Answer};

/// How long a request may take to come.
const ASKING: Duration = Duration::from_secs(5);
/// How long its response may take to go.
const ANSWERING: Duration = Duration::from_secs(10);
/// How long the other side may take to close, after that.
const LEAVING: Duration = Duration::from_secs(1);
/// Most that is read of what comes after a request: closing earlier could take the response away from its reader.
const SURPLUS: usize = 64 << 10;

/// How far it is.
enum State {
    Asking(Vec<u8>),
    Answering { response: Arc<Vec<u8>>, sent: usize },
    Leaving { read: usize },
}

/// The connection.
pub struct Connection {
    stream: TcpStream,
    state: State,
    deadline: Instant,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It waits.
    Wait,
    /// It is over.
    End,
}

impl Connection {
    /// A connection that was just accepted.
    ///
    /// # Errors
    /// The system's.
    pub fn new(stream: TcpStream, now: Instant) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, state: State::Asking(Vec::new()), deadline: now + ASKING })
    }

    /// By when what is under way must be over.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether it has not said yet what it wants.
    pub fn is_asking(&self) -> bool {
        matches!(self.state, State::Asking(_))
    }

    /// Whether it has its response.
    pub fn is_served(&self) -> bool {
        matches!(self.state, State::Leaving { .. })
    }

    /// What it waits for.
    pub fn awaits(&self) -> PollFlags {
        match self.state {
            State::Asking(_) | State::Leaving { .. } => PollFlags::IN,
            State::Answering { .. } => PollFlags::OUT,
        }
    }

    /// Goes on as far as it can without waiting. `respond` makes the response.
    pub fn go_on(&mut self, now: Instant, respond: impl FnOnce(Answer) -> Arc<Vec<u8>>) -> Next {
        if let State::Asking(received) = &mut self.state {
            match read_request(&mut self.stream, received) {
                Ok(None) => return Next::Wait,
                Ok(Some(answer)) => {
                    self.state = State::Answering { response: respond(answer), sent: 0 };
                    self.deadline = now + ANSWERING;
                }
                Err(Ended) => return Next::End,
            }
        }
        if let State::Answering { response, sent } = &mut self.state {
            match write(&mut self.stream, response, sent) {
                Ok(false) => return Next::Wait,
                Ok(true) if self.stream.shutdown(Shutdown::Write).is_ok() => {
                    self.state = State::Leaving { read: 0 };
                    self.deadline = now + LEAVING;
                }
                _ => return Next::End,
            }
        }
        if let State::Leaving { read } = &mut self.state {
            return throw_away(&mut self.stream, read);
        }
        Next::Wait
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// The other side has closed, or the connection is lost.
struct Ended;

/// Whether an error only means that there is nothing to do now.
fn not_now(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Reads on; `None`: it is not all there yet.
fn read_request(stream: &mut TcpStream, received: &mut Vec<u8>) -> Result<Option<Answer>, Ended> {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Err(Ended),
            Ok(count) => {
                received.extend(&buffer[..count]);
                if let Some(answer) = http::answer(received) {
                    return Ok(Some(answer));
                }
            }
            Err(error) if not_now(error.kind()) => return Ok(None),
            Err(_) => return Err(Ended),
        }
    }
}

/// Writes on; whether all of it went.
fn write(stream: &mut TcpStream, response: &[u8], sent: &mut usize) -> Result<bool, Ended> {
    while *sent < response.len() {
        match stream.write(&response[*sent..]) {
            Ok(0) => return Err(Ended),
            Ok(count) => *sent += count,
            Err(error) if not_now(error.kind()) => return Ok(false),
            Err(_) => return Err(Ended),
        }
    }
    Ok(true)
}

fn throw_away(stream: &mut TcpStream, read: &mut usize) -> Next {
    let mut buffer = [0; 4096];
    while *read < SURPLUS {
        match stream.read(&mut buffer) {
            Ok(0) => return Next::End,
            Ok(count) => *read += count,
            Err(error) if not_now(error.kind()) => return Next::Wait,
            Err(_) => return Next::End,
        }
    }
    Next::End
}
