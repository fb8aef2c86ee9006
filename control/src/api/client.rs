//! The client's side of the API.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{Reply, Request};

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

/// Asks the turnpike at `socket`.
///
/// # Errors
/// It is not running, not to be reached, or has no answer.
pub fn ask(socket: &Path, request: &Request) -> Result<serde_json::Value, ClientError> {
    let name = socket.display().to_string();
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => ClientError::NotRunning(name.clone()),
        ErrorKind::PermissionDenied => ClientError::NotPermitted(name.clone()),
        _ => ClientError::Io(name.clone(), error),
    };
    let mut stream = UnixStream::connect(socket).map_err(failed)?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).map_err(failed)?;
    let mut line =
        serde_json::to_string(request).map_err(|error| ClientError::Garbled(name.clone(), error))?;
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).map_err(failed)?;
    if answer.is_empty() {
        return Err(ClientError::Io(name, ErrorKind::UnexpectedEof.into()));
    }
    match serde_json::from_str(&answer).map_err(|error| ClientError::Garbled(name.clone(), error))? {
        Reply::Ok(value) => Ok(value),
        Reply::Error(why) => Err(ClientError::Refused(why)),
    }
}
