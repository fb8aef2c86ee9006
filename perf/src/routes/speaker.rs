//! The sender: one BGP session that writes what was encoded before, as fast as the other side takes it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::lab::{Netns, Stop};

/// The AS of both sides.
pub const ASN: u16 = 65_010;
/// How long the session may take to come up.
const PATIENCE: Duration = Duration::from_secs(30);

/// An established session.
pub struct Speaker {
    stream: TcpStream,
    ended: Arc<Mutex<Option<String>>>,
    closing: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0xff; 16];
    message.extend(((19 + body.len()) as u16).to_be_bytes());
    message.push(kind);
    message.extend(body);
    message
}

/// OPEN with both families and four-byte AS numbers.
fn open(id: Ipv4Addr) -> Vec<u8> {
    let mut capabilities = vec![1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 65, 4];
    capabilities.extend(u32::from(ASN).to_be_bytes());
    let mut body = vec![4];
    body.extend(ASN.to_be_bytes());
    body.extend([0, 240]);
    body.extend(id.octets());
    body.extend([capabilities.len() as u8 + 2, 2, capabilities.len() as u8]);
    body.extend(capabilities);
    message(1, &body)
}

/// One message: its kind and body.
fn receive(stream: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 19];
    stream.read_exact(&mut head)?;
    let length = usize::from(u16::from_be_bytes([head[16], head[17]])).max(19);
    let mut body = vec![0; length - 19];
    stream.read_exact(&mut body)?;
    Ok((head[18], body))
}

impl Speaker {
    /// Connects from `netns` and the address `id`, again and again while nobody listens, and brings the session up.
    pub fn connect(netns: &Netns, to: SocketAddr, id: Ipv4Addr, stop: &Stop) -> Result<Self, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match netns.run(move || Self::try_connect(to, id))? {
                Ok(speaker) => return Ok(speaker),
                Err(error) if Instant::now() > deadline => {
                    return Err(format!("no BGP session with {to}: {error}"));
                }
                Err(_) => stop.sleep(Duration::from_millis(200))?,
            }
        }
    }

    fn try_connect(to: SocketAddr, id: Ipv4Addr) -> Result<Self, String> {
        let text = |error: std::io::Error| error.to_string();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).map_err(text)?;
        // A sender is known by its address, and there may be several.
        socket.bind(&SocketAddr::new(id.into(), 0).into()).map_err(text)?;
        socket.connect_timeout(&to.into(), Duration::from_secs(2)).map_err(text)?;
        let mut stream = TcpStream::from(socket);
        stream.set_nodelay(true).map_err(text)?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(text)?;
        stream.write_all(&open(id)).map_err(text)?;
        let keepalive = message(4, &[]);
        loop {
            match receive(&mut stream).map_err(text)? {
                (1, _) => stream.write_all(&keepalive).map_err(text)?,
                (4, _) => break,
                (3, body) => return Err(format!("NOTIFICATION {body:?}")),
                _ => {}
            }
        }
        let (ended, closing) = (Arc::new(Mutex::new(None)), Arc::new(AtomicBool::new(false)));
        let reader = {
            let mut stream = stream.try_clone().map_err(text)?;
            let (ended, closing) = (Arc::clone(&ended), Arc::clone(&closing));
            stream.set_read_timeout(None).map_err(text)?;
            std::thread::spawn(move || {
                let why = loop {
                    match receive(&mut stream) {
                        Ok((3, body)) => break format!("the peer sent NOTIFICATION {body:?}"),
                        Ok(_) => {}
                        Err(error) => break format!("the session was lost: {error}"),
                    }
                };
                if !closing.load(Ordering::Relaxed) {
                    *ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
                }
            })
        };
        Ok(Self { stream, ended, closing, reader: Some(reader) })
    }

    /// Why the session ended, if it has.
    pub fn check(&self) -> Result<(), String> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone().map_or(Ok(()), Err)
    }

    /// Writes messages; returns how long it took until the last one was in the socket.
    pub fn send(&mut self, bytes: &[u8]) -> Result<Duration, String> {
        let start = Instant::now();
        self.stream.write_all(bytes).map_err(|error| {
            let why = self.check().err();
            why.unwrap_or_else(|| format!("writing to the peer failed: {error}"))
        })?;
        Ok(start.elapsed())
    }

    /// Ends the connection without a word, as a speaker that dies does.
    pub fn cut(self) {
        self.closing.store(true, Ordering::Relaxed);
        // Lost or closed already: as good.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    /// Keeps the session alive in a pause.
    pub fn keepalive(&mut self) -> Result<(), String> {
        self.send(&message(4, &[])).map(|_| ())
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
        // Cease; whether it arrives does not matter.
        let _ = self.stream.write_all(&message(3, &[6, 2]));
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
