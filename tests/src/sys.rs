//! The system calls that the standard library does not offer: joining a namespace, TAPs, packet sockets, `poll`,
//! Ctrl-C. Each is wrapped here in a safe function and nowhere else.
#![allow(
    unsafe_code,
    reason = "system calls without a safe wrapper in std; nothing else in this crate is unsafe"
)]

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::from_mut;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{c_int, c_void};

/// `PACKET_AUXDATA` of `linux/if_packet.h`: tell of the tag that the kernel took off.
const PACKET_AUXDATA: c_int = 8;
/// `PACKET_IGNORE_OUTGOING`: only what arrives on the netdev.
const PACKET_IGNORE_OUTGOING: c_int = 23;
/// `TP_STATUS_VLAN_VALID`: `tp_vlan_tci` holds a tag.
const TP_STATUS_VLAN_VALID: u32 = 1 << 4;
/// `TP_STATUS_VLAN_TPID_VALID`: `tp_vlan_tpid` holds its TPID.
const TP_STATUS_VLAN_TPID_VALID: u32 = 1 << 6;

/// `struct tpacket_auxdata` of `linux/if_packet.h`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Auxdata {
    status: u32,
    len: u32,
    snaplen: u32,
    mac: u16,
    net: u16,
    vlan_tci: u16,
    vlan_tpid: u16,
}

/// Set by Ctrl-C and SIGTERM; every wait of the harness looks at it.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_: c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// From now on Ctrl-C and SIGTERM only set a flag, so that the tests end by unwinding and clean up.
pub fn catch_interrupts() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe, and lives for ever.
        unsafe { libc::signal(signal, on_signal as *const () as libc::sighandler_t) };
    }
}

/// Whether Ctrl-C or SIGTERM came.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Whether this process is root.
pub fn is_root() -> bool {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Sends a signal to one process.
///
/// # Errors
/// As kill(2): ESRCH when it is gone.
pub fn kill(pid: u32, signal: c_int) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().filter(|p| *p > 1).ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: plain values; `pid` is above 1, so it names one process and never a group.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets this process have some more files open than `more`.
///
/// # Errors
/// What the kernel says.
pub fn allow_open_files(more: u64) -> io::Result<()> {
    let wanted = more + 1024;
    let limit = libc::rlimit { rlim_cur: wanted, rlim_max: wanted };
    // SAFETY: the kernel only reads the structure.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Gives the calling thread a better priority: it stands for hardware, which a busy machine does not slow down.
pub fn hurry() {
    // Without the right to it things go on as they are.
    // SAFETY: plain values; 0 means the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -15) };
}

/// Gives a socket a receive buffer of 8 MB, whatever the system's limit.
///
/// # Errors
/// As setsockopt(2): for want of rights.
pub fn large_buffer(socket: &impl AsFd) -> io::Result<()> {
    set(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 8 << 20)
}

/// Has a socket set Don't Fragment and refuse what is larger than the way, or fragment at will.
///
/// # Errors
/// As setsockopt(2).
pub fn fragment(socket: &impl AsFd, v6: bool, may: bool) -> io::Result<()> {
    let how = if may { libc::IP_PMTUDISC_DONT } else { libc::IP_PMTUDISC_DO };
    if v6 {
        set(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, how)
    } else {
        set(socket.as_fd(), libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, how)
    }
}

fn set(socket: BorrowedFd<'_>, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
    // SAFETY: the value is a live c_int of the length said; the descriptor is borrowed for the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Moves the calling thread into the network namespace behind `path`.
///
/// # Errors
/// When there is none, or for want of rights.
pub fn enter_netns(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    // SAFETY: `file` is an open descriptor for the length of the call.
    if unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Makes a TAP `name` in the calling thread's namespace. One read or write is one frame without any header, and
/// neither blocks. The netdev goes when the file is closed.
///
/// # Errors
/// As `TUNSETIFF`: no rights, name taken or longer than 15 bytes.
pub fn tap(name: &str) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    // SAFETY: all-zero is a valid ifreq (plain bytes and integers).
    let mut request: libc::ifreq = unsafe { zeroed() };
    if name.len() >= libc::IFNAMSIZ {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as i16;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which outlives the call; its name is zero-terminated.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, from_mut(&mut request)) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

/// Waits until one of `files` can be read, or `millis` have passed. Says which can (or have failed).
///
/// # Errors
/// As poll(2), but a signal counts as nothing ready.
pub fn readable(files: &[BorrowedFd<'_>], millis: i32) -> io::Result<Vec<bool>> {
    let mut fds: Vec<libc::pollfd> =
        files.iter().map(|f| libc::pollfd { fd: f.as_raw_fd(), events: libc::POLLIN, revents: 0 }).collect();
    // SAFETY: `fds` is a live array of as many pollfds as said; the descriptors are borrowed for the call.
    if unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, millis) } < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
        return Ok(vec![false; files.len()]);
    }
    Ok(fds.iter().map(|f| f.revents != 0).collect())
}

/// A raw packet socket on one netdev: whole frames in and out.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Opens one on `netdev` of the calling thread's namespace. It does not block.
    ///
    /// # Errors
    /// No such netdev, or no rights.
    pub fn open(netdev: &str) -> io::Result<Self> {
        let name = std::ffi::CString::new(netdev)?;
        // SAFETY: `name` is a zero-terminated string that outlives the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        // Protocol 0: nothing arrives before the bind below names the netdev.
        // SAFETY: plain values.
        let fd = unsafe {
            libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that was just made and that nobody else owns.
        let socket = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        set(socket.0.as_fd(), libc::SOL_PACKET, PACKET_AUXDATA, 1)?;
        set(socket.0.as_fd(), libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)?;
        set(socket.0.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 16 << 20)?;
        // SAFETY: all-zero is a valid sockaddr_ll (integers only).
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index.cast_signed();
        // SAFETY: the address is a live sockaddr_ll of the length said.
        let bound = unsafe {
            libc::bind(
                socket.0.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if bound == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
    }

    /// The next frame: its length in `buffer`, and the outer tag (TPID, TCI) that the kernel took out of it.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; else as recvmsg(2).
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Option<(u16, u16)>)> {
        let mut control = [0_u64; 16];
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: all-zero is a valid msghdr (null pointers and zero lengths).
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast::<c_void>();
        message.msg_controllen = size_of::<[u64; 16]>();
        // SAFETY: the message points to live buffers of the lengths said.
        let length = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut message, 0) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        let mut tag = None;
        // SAFETY: the CMSG macros walk `control` within the length that the kernel wrote, and it is aligned.
        unsafe {
            let mut header = libc::CMSG_FIRSTHDR(&raw const message);
            while let Some(h) = header.as_ref() {
                if h.cmsg_level == libc::SOL_PACKET
                    && h.cmsg_type == PACKET_AUXDATA
                    && h.cmsg_len >= libc::CMSG_LEN(size_of::<Auxdata>() as u32) as usize
                {
                    let data = libc::CMSG_DATA(header).cast::<Auxdata>().read_unaligned();
                    if data.status & TP_STATUS_VLAN_VALID != 0 {
                        let given = data.status & TP_STATUS_VLAN_TPID_VALID != 0;
                        tag = Some((if given { data.vlan_tpid } else { 0x8100 }, data.vlan_tci));
                    }
                }
                header = libc::CMSG_NXTHDR(&raw const message, header);
            }
        }
        Ok((length, tag))
    }

    /// Sends one frame as it is.
    ///
    /// # Errors
    /// As send(2): `EMSGSIZE` above the netdev's MTU, `ENETDOWN`, `ENOBUFS`; under 14 bytes `EINVAL`.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the frame is a live slice of the length said.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
