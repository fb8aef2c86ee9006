//! The wire: joins one netdev (the kernel's end of a turnpike port) with TAPs, one for each combination of tags, puts
//! tags on and takes them off, and can be cut, watched and written to. The kernel here knows no VLANs, so this is
//! also the other side's switch.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::frame::{self, Tag};
use crate::lab::Netns;
use crate::sys::{self, PacketSocket};

/// IP MTU of the TAPs.
pub const MTU: u16 = 1500;
/// What a netdev has beside its IP MTU, for two tags and more.
const NETDEV_ROOM: u16 = 100;
/// How long the thread sleeps when nothing comes.
const IDLE_MILLIS: i32 = 20;
/// Frames served from one side before the other gets its turn.
const TURN: usize = 64;
/// Most frames that a recording keeps.
const RECORD_LIMIT: usize = 400_000;

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Sent by turnpike.
    FromRouter,
    /// Sent to turnpike.
    ToRouter,
}

/// One frame as it was on the wire, tags and all.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When.
    pub at: Instant,
    /// Which way.
    pub way: Way,
    /// All its bytes.
    pub frame: Vec<u8>,
}

/// One TAP at the far side of a wire, for the frames with exactly its tags.
#[derive(Debug)]
pub struct End {
    file: File,
    tags: Vec<Tag>,
    pcp: AtomicU8,
}

impl End {
    /// Makes the TAP `name` in `netns`, up, for frames with `tags` (outermost first, maybe none).
    #[track_caller]
    pub fn new(netns: &Netns, name: &str, tags: &[Tag]) -> Arc<Self> {
        Self::of_mtu(netns, name, tags, MTU)
    }

    /// The same for larger packets.
    #[track_caller]
    pub fn of_mtu(netns: &Netns, name: &str, tags: &[Tag], mtu: u16) -> Arc<Self> {
        let file =
            netns.enter(|| sys::tap(name).unwrap_or_else(|e| panic!("TAP {name} in {}: {e}", netns.name())));
        netns.ip(&format!("link set {name} mtu {mtu} txqueuelen 10000 up"));
        Arc::new(Self { file, tags: tags.to_vec(), pcp: AtomicU8::new(0) })
    }

    /// The priority that frames get on their way to turnpike, on all their tags.
    pub fn set_pcp(&self, pcp: u8) {
        self.pcp.store(pcp, Ordering::Relaxed);
    }

    fn sent_tags(&self) -> Vec<Tag> {
        let pcp = self.pcp.load(Ordering::Relaxed);
        self.tags.iter().map(|t| t.with_pcp(pcp)).collect()
    }

    fn takes(&self, tags: &[Tag]) -> bool {
        tags.len() == self.tags.len() && tags.iter().zip(&self.tags).all(|(a, b)| a.same_vlan(*b))
    }
}

/// What the wire's thread and its holder share.
#[derive(Debug)]
struct Shared {
    socket: PacketSocket,
    ends: Vec<Arc<End>>,
    cut: AtomicBool,
    stop: AtomicBool,
    recording: AtomicBool,
    seen: Mutex<Vec<Seen>>,
    unclaimed: AtomicU64,
    lost: AtomicU64,
}

/// One wire, working until dropped.
#[derive(Debug)]
pub struct Wire {
    name: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// Joins `netdev` of `netns` with `ends`. The kernel's own IP stack is kept away from the netdev.
    #[track_caller]
    pub fn attach(netns: &Netns, netdev: &str, ends: &[Arc<End>]) -> Self {
        Self::attach_of_mtu(netns, netdev, ends, MTU)
    }

    /// The same for larger packets.
    #[track_caller]
    pub fn attach_of_mtu(netns: &Netns, netdev: &str, ends: &[Arc<End>], mtu: u16) -> Self {
        let mtu = mtu + NETDEV_ROOM;
        netns.try_ip(&format!("link set {netdev} addrgenmode none"));
        netns.sysctl(&format!("ipv6/conf/{netdev}/disable_ipv6"), "1");
        netns.ip(&format!("link set {netdev} mtu {mtu} txqueuelen 10000 arp off promisc on up"));
        let socket = netns
            .enter(|| PacketSocket::open(netdev))
            .unwrap_or_else(|e| panic!("packet socket on {netdev}: {e}"));
        let shared = Arc::new(Shared {
            socket,
            ends: ends.to_vec(),
            cut: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            recording: AtomicBool::new(false),
            seen: Mutex::default(),
            unclaimed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        });
        let worker = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name(format!("wire {netdev}"))
            .spawn(move || worker.carry())
            .expect("a thread");
        Self { name: netdev.to_owned(), shared, thread: Some(thread) }
    }

    /// Cuts it, or mends it again when the guard is dropped: a cut wire loses all frames, both ways.
    #[must_use]
    pub fn cut(&self) -> Cut<'_> {
        self.shared.cut.store(true, Ordering::Relaxed);
        Cut(self)
    }

    /// Begins to record; what was recorded before is forgotten.
    pub fn record(&self) -> Recording<'_> {
        self.seen().clear();
        self.shared.recording.store(true, Ordering::Relaxed);
        Recording(self)
    }

    /// Sends one frame to turnpike, as it is. Waits while the netdev is full.
    #[track_caller]
    pub fn inject(&self, frame: &[u8]) {
        self.shared.note(Way::ToRouter, frame);
        for _ in 0..20_000 {
            match self.shared.socket.send(frame) {
                Ok(()) => return,
                Err(e) if e.kind() == ErrorKind::WouldBlock || e.raw_os_error() == Some(libc::ENOBUFS) => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(e) => panic!("{}: cannot send {} bytes: {e}", self.name, frame.len()),
            }
        }
        panic!("{}: nobody takes the frames", self.name);
    }

    /// Frames from turnpike whose tags no TAP has.
    pub fn unclaimed(&self) -> u64 {
        self.shared.unclaimed.load(Ordering::Relaxed)
    }

    /// Frames that the wire could not hand on, because the receiver's queue was full.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.shared.seen.lock().expect("the wire's thread does not panic")
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed where it happened.
            let _ = thread.join();
        }
    }
}

/// A cut wire; dropping this mends it.
#[derive(Debug)]
pub struct Cut<'a>(&'a Wire);

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        self.0.shared.cut.store(false, Ordering::Relaxed);
    }
}

/// A recording under way; dropping this ends it.
#[derive(Debug)]
pub struct Recording<'a>(&'a Wire);

impl Recording<'_> {
    /// The frames so far that went `way` and that `want` wants.
    pub fn frames(&self, way: Way, want: impl Fn(&[u8]) -> bool) -> Vec<Seen> {
        self.0.seen().iter().filter(|s| s.way == way && want(&s.frame)).cloned().collect()
    }

    /// How many frames so far went `way` and `want` wants.
    pub fn count(&self, way: Way, want: impl Fn(&[u8]) -> bool) -> usize {
        self.0.seen().iter().filter(|s| s.way == way && want(&s.frame)).count()
    }

    /// Forgets what was recorded so far.
    pub fn restart(&self) {
        self.0.seen().clear();
    }

    /// Writes all of it to a capture file, for a look with tshark.
    #[track_caller]
    pub fn save(&self, path: &Path) {
        let seen = self.0.seen();
        let start = seen.first().map_or_else(Instant::now, |s| s.at);
        let frames = seen.iter().map(|s| (s.at.duration_since(start).as_micros() as u64, s.frame.as_slice()));
        crate::pcap::write(path, frames).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        self.0.shared.recording.store(false, Ordering::Relaxed);
    }
}

impl Shared {
    /// The thread's loop.
    fn carry(&self) {
        let mut files = vec![self.socket.as_fd()];
        files.extend(self.ends.iter().map(|e| e.file.as_fd()));
        let mut buffer = vec![0; 65_536];
        sys::hurry();
        while !self.stop.load(Ordering::Relaxed) {
            let Ok(ready) = sys::readable(&files, IDLE_MILLIS) else { return };
            if ready[0] {
                self.take_from_router(&mut buffer);
            }
            for (end, _) in self.ends.iter().zip(&ready[1..]).filter(|(_, ready)| **ready) {
                self.send_to_router(end, &mut buffer);
            }
        }
    }

    fn take_from_router(&self, buffer: &mut [u8]) {
        for _ in 0..TURN {
            let Ok((length, stripped)) = self.socket.receive(buffer) else { return };
            // The kernel took the outer tag off; the wire had it.
            let whole = match stripped {
                Some((tpid, tci)) => frame::push(&buffer[..length], &[Tag::from_tci(tpid, tci)]),
                None => buffer[..length].to_vec(),
            };
            if self.cut.load(Ordering::Relaxed) {
                continue;
            }
            self.note(Way::FromRouter, &whole);
            let Some(ethernet) = frame::ethernet(&whole) else {
                self.unclaimed.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            match self.ends.iter().find(|e| e.takes(&ethernet.tags)) {
                None => drop(self.unclaimed.fetch_add(1, Ordering::Relaxed)),
                Some(end) => {
                    if (&end.file).write(&frame::pop(&whole, ethernet.tags.len())).is_err() {
                        self.lost.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }
    }

    fn send_to_router(&self, end: &End, buffer: &mut [u8]) {
        for _ in 0..TURN {
            let Ok(length) = (&end.file).read(buffer) else { return };
            if self.cut.load(Ordering::Relaxed) {
                continue;
            }
            let whole = frame::push(&buffer[..length], &end.sent_tags());
            self.note(Way::ToRouter, &whole);
            if self.socket.send(&whole).is_err() {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn note(&self, way: Way, frame: &[u8]) {
        if self.recording.load(Ordering::Relaxed)
            && let Ok(mut seen) = self.seen.lock()
            && seen.len() < RECORD_LIMIT
        {
            seen.push(Seen { at: Instant::now(), way, frame: frame.to_vec() });
        }
    }
}
