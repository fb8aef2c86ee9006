//! A BGP peer on loopback that announces many routes to turnpike and withdraws them, over and over.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::hostile::bgp::{KEEPALIVE, UPDATE, connect, message, right_open};
use crate::lab::Netns;

/// Routes in a message of the longest length.
const EACH: u32 = 1000;
/// The first of the routes, each a /24.
const FIRST: u32 = 32 << 24;

/// The peer, at work until it is dropped.
#[derive(Debug)]
pub struct Feed {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    /// Connects in `netns` from 127.0.0.1, and begins with `routes` routes by way of `next_hop`.
    #[track_caller]
    pub fn start(netns: &Netns, routes: u32, next_hop: Ipv4Addr) -> Self {
        let stream = connect(netns, "127.0.0.1");
        stream.set_nonblocking(true).expect("a socket that does not block");
        let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut work = Work { stream, stop: Arc::clone(&stop), told: Instant::now() };
        let count = Arc::clone(&sent);
        let thread = std::thread::spawn(move || {
            let mut go_on = work.send(&right_open()) && work.send(&message(KEEPALIVE, &[]));
            while go_on {
                for announce in [true, false] {
                    for first in (0..routes).step_by(EACH as usize) {
                        go_on = go_on && work.send(&update(first, announce.then_some(next_hop)));
                        count.fetch_add(EACH.into(), Ordering::Relaxed);
                    }
                }
            }
        });
        Self { stop, sent, thread: Some(thread) }
    }

    /// Routes that it has announced and withdrawn.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Whether its session still stands.
    pub fn lives(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Its panic has been printed where it happened.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The thread's own.
struct Work {
    stream: TcpStream,
    stop: Arc<AtomicBool>,
    told: Instant,
}

impl Work {
    /// Sends a whole message, and word that it lives once a second. `false`: it is to stop, or the session has ended.
    fn send(&mut self, bytes: &[u8]) -> bool {
        let mut left = bytes.to_vec();
        if self.told.elapsed() > Duration::from_secs(1) {
            self.told = Instant::now();
            left.extend(message(KEEPALIVE, &[]));
        }
        let mut left = left.as_slice();
        while !left.is_empty() {
            // What the other side says is of no interest, but must be taken.
            match self.stream.read(&mut [0; 4096]) {
                Ok(0) => return false,
                Err(e) if e.kind() != ErrorKind::WouldBlock => return false,
                _ => {}
            }
            if self.stop.load(Ordering::Relaxed) {
                return false;
            }
            match self.stream.write(left) {
                Ok(written) => left = &left[written..],
                Err(e) if e.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(1)),
                Err(_) => return false,
            }
        }
        true
    }
}

/// An UPDATE (RFC 4271, section 4.3) that announces routes by way of a next hop, or withdraws them.
fn update(first: u32, next_hop: Option<Ipv4Addr>) -> Vec<u8> {
    let prefix = |i: u32| {
        let [a, b, c, _] = (FIRST + ((first + i) << 8)).to_be_bytes();
        [24, a, b, c]
    };
    let prefixes: Vec<u8> = (0..EACH).flat_map(prefix).collect();
    let mut body = Vec::new();
    if let Some(next_hop) = next_hop {
        // ORIGIN, an empty AS_PATH, NEXT_HOP, and LOCAL_PREF.
        let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 3, 4];
        attributes.extend(next_hop.octets());
        attributes.extend([0x40, 5, 4, 0, 0, 0, 100]);
        body.extend([0, 0]);
        body.extend((attributes.len() as u16).to_be_bytes());
        body.extend(attributes);
        body.extend(prefixes);
    } else {
        body.extend((prefixes.len() as u16).to_be_bytes());
        body.extend(prefixes);
        body.extend([0, 0]);
    }
    message(UPDATE, &body)
}
