//! The client's side of the API.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{Reply, Request};
use crate::watch::WatchRequest;
use crate::watch::view::{End, Message, Traced};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens at the socket.
    #[error(
        "no turnpike answers at {0}: is it running? Start it with `turnpike run --config FILE`, or name its socket with --socket"
    )]
    NotRunning(String),
    /// We may not talk to it.
    #[error("not permitted to use {0}: run as root, or as its owner")]
    NotPermitted(String),
    /// The connection failed.
    #[error("talking to {0} failed: {1}")]
    Io(String, std::io::Error),
    /// The answer is not one.
    #[error("the answer from {0} cannot be read ({1}): are both of the same version?")]
    Garbled(String, serde_json::Error),
    /// turnpike refused.
    #[error("{0}")]
    Refused(String),
}

/// A connection to a turnpike.
pub struct Client {
    name: String,
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the turnpike at `socket`.
    ///
    /// # Errors
    /// It is not running, or not to be reached.
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        let name = socket.display().to_string();
        let failed = |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => ClientError::NotRunning(name.clone()),
            ErrorKind::PermissionDenied => ClientError::NotPermitted(name.clone()),
            _ => ClientError::Io(name.clone(), error),
        };
        let stream = UnixStream::connect(socket).map_err(failed)?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).map_err(failed)?;
        Ok(Self { stream: BufReader::new(stream), name })
    }

    /// Asks.
    ///
    /// # Errors
    /// The connection is lost, or there is no answer.
    pub fn ask<T: serde::Serialize>(&mut self, request: &T) -> Result<serde_json::Value, ClientError> {
        let failed = |error: std::io::Error| ClientError::Io(self.name.clone(), error);
        let garbled = |error: serde_json::Error| ClientError::Garbled(self.name.clone(), error);
        let mut line = serde_json::to_string(request).map_err(garbled)?;
        line.push('\n');
        self.stream.get_ref().write_all(line.as_bytes()).map_err(failed)?;
        let mut answer = String::new();
        self.stream.read_line(&mut answer).map_err(failed)?;
        if answer.is_empty() {
            return Err(ClientError::Io(self.name.clone(), ErrorKind::UnexpectedEof.into()));
        }
        match serde_json::from_str(&answer).map_err(garbled)? {
            Reply::Ok(value) => Ok(value),
            Reply::Error(why) => Err(ClientError::Refused(why)),
        }
    }
}

/// What comes of a trace or capture.
#[derive(Debug)]
pub enum Part {
    /// A packet.
    Packet(Box<Traced>),
    /// Bytes of the file.
    Bytes(Vec<u8>),
    /// No more.
    End(End),
}

/// A trace or capture under way.
pub struct Watched {
    client: Client,
}

impl Client {
    /// Starts a trace or capture.
    ///
    /// # Errors
    /// turnpike refuses, or the connection is lost.
    pub fn watch(mut self, request: &WatchRequest) -> Result<Watched, ClientError> {
        self.ask(request)?;
        let failed = |error| ClientError::Io(self.name.clone(), error);
        self.stream.get_ref().set_read_timeout(None).map_err(failed)?;
        Ok(Watched { client: self })
    }
}

impl Watched {
    /// A second handle of the connection. Shutting down its sending side asks for the end.
    ///
    /// # Errors
    /// There are no more file descriptors.
    pub fn connection(&self) -> std::io::Result<UnixStream> {
        self.client.stream.get_ref().try_clone()
    }

    /// Waits for what comes next.
    ///
    /// # Errors
    /// The connection is lost, or what comes is no part of a trace or capture.
    pub fn wait(&mut self) -> Result<Part, ClientError> {
        let name = &self.client.name;
        let failed = |error| ClientError::Io(name.clone(), error);
        let mut line = String::new();
        if self.client.stream.read_line(&mut line).map_err(failed)? == 0 {
            return Err(failed(ErrorKind::UnexpectedEof.into()));
        }
        let message =
            serde_json::from_str(&line).map_err(|error| ClientError::Garbled(name.clone(), error))?;
        Ok(match message {
            Message::Packet(packet) => Part::Packet(packet),
            Message::End(end) => Part::End(end),
            Message::Bytes(count) => {
                let mut bytes = Vec::new();
                let read = self.client.stream.by_ref().take(count as u64).read_to_end(&mut bytes);
                if read.map_err(failed)? < count {
                    return Err(failed(ErrorKind::UnexpectedEof.into()));
                }
                Part::Bytes(bytes)
            }
        })
    }
}

/// Asks the turnpike at `socket` one thing.
///
/// # Errors
/// It is not running, not to be reached, or has no answer.
pub fn ask(socket: &Path, request: &Request) -> Result<serde_json::Value, ClientError> {
    Client::connect(socket)?.ask(request)
}
