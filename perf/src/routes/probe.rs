//! Probes: UDP into turnpike's LAN, and what comes out at its WAN. Forwarding is what counts, not what a table says.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::feed::Prefix;
use super::lab::Netns;

/// From one probe of a destination to the next.
const INTERVAL: Duration = Duration::from_micros(500);
const PORT: u16 = 9009;

/// The address of a prefix that is probed.
pub fn address(prefix: Prefix) -> IpAddr {
    match prefix {
        Prefix::V4(addr, len) => Ipv4Addr::from_bits(addr | u32::from(len < 32)).into(),
        Prefix::V6(addr, len) => Ipv6Addr::from_bits(addr | u128::from(len < 128)).into(),
    }
}

#[derive(Default)]
struct Board {
    /// What is probed, each by its number.
    wanted: Vec<(u64, IpAddr)>,
    /// When its first probe came through.
    arrived: HashMap<u64, Instant>,
}

/// Threads that send probes and wait for them.
pub struct Probes {
    board: Arc<Mutex<Board>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    next: u64,
}

impl Probes {
    /// Starts them in the subject's namespace.
    pub fn start(netns: &Netns) -> Result<Self, String> {
        let open = || -> std::io::Result<[UdpSocket; 4]> {
            let receive4 = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
            let receive6 = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::DGRAM, None)?;
            receive6.set_only_v6(true)?;
            receive6.bind(&SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), PORT).into())?;
            let send4 = UdpSocket::bind((Ipv4Addr::new(192, 0, 2, 10), 0))?;
            let send6: IpAddr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10).into();
            let sockets = [receive4, receive6.into(), send4, UdpSocket::bind((send6, 0))?];
            for socket in &sockets {
                socket.set_read_timeout(Some(Duration::from_millis(50)))?;
            }
            Ok(sockets)
        };
        let sockets = netns.run(open)?.map_err(|error| format!("sockets for probes: {error}"))?;
        let [receive4, receive6, send4, send6] = sockets;
        let board = Arc::new(Mutex::new(Board::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for socket in [receive4, receive6] {
            let (board, stop) = (Arc::clone(&board), Arc::clone(&stop));
            threads.push(std::thread::spawn(move || receive(&socket, &board, &stop)));
        }
        let (board_too, stop_too) = (Arc::clone(&board), Arc::clone(&stop));
        threads.push(std::thread::spawn(move || send(&send4, &send6, &board_too, &stop_too)));
        Ok(Self { board, stop, threads, next: 0 })
    }

    fn board(&self) -> std::sync::MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Probes a prefix from now on until a probe arrives; gives its number.
    pub fn watch(&mut self, prefix: Prefix) -> u64 {
        self.next += 1;
        self.board().wanted.push((self.next, address(prefix)));
        self.next
    }

    /// When the first probe came through.
    pub fn arrived(&self, number: u64) -> Option<Instant> {
        self.board().arrived.get(&number).copied()
    }

    /// Gives up what has not arrived.
    pub fn forget(&self) {
        self.board().wanted.clear();
    }
}

fn send(send4: &UdpSocket, send6: &UdpSocket, board: &Mutex<Board>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let wanted = board.lock().unwrap_or_else(PoisonError::into_inner).wanted.clone();
        for (number, address) in wanted {
            let socket = if address.is_ipv4() { send4 } else { send6 };
            // A full queue is as good as a probe that is dropped because there is no route yet.
            let _ = socket.send_to(&number.to_be_bytes(), SocketAddr::new(address, PORT));
        }
        std::thread::sleep(INTERVAL);
    }
}

fn receive(socket: &UdpSocket, board: &Mutex<Board>, stop: &AtomicBool) {
    let mut bytes = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        let Ok(length) = socket.recv(&mut bytes) else { continue };
        let now = Instant::now();
        if let Ok(number) = bytes[..length].try_into().map(u64::from_be_bytes) {
            let mut board = board.lock().unwrap_or_else(PoisonError::into_inner);
            board.wanted.retain(|(wanted, _)| *wanted != number);
            board.arrived.entry(number).or_insert(now);
        }
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
