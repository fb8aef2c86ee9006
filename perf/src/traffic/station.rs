//! The tester's own DPDK ports: opened by name, one queue each way, all polled by one core.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dpdk_sys::{Eal, EalError, Mbuf, Mempool, MempoolError, Port, PortConfig, PortError, PortInfo, RxQueue};
use dpdk_sys::{ThreadError, ThreadGuard, TxQueue};

use super::generator::BURST;
use super::stamp::{LONGEST, PATTERN};
use super::wire::Wire;

/// What to open.
#[derive(Clone, Debug)]
pub struct Setup {
    /// PCI addresses or virtual devices, as in turnpike's configuration.
    pub devices: Vec<String>,
    /// Further arguments for DPDK's EAL.
    pub eal_args: Vec<String>,
    /// RX and TX descriptors of each port.
    pub descriptors: u16,
    /// Queues on which each port receives: as many as the other side sends on, where those are one to one.
    pub rx_queues: u16,
    /// The longest IP packet, in bytes.
    pub packet: u16,
    /// Ordinary pages, whatever there is.
    pub no_huge: bool,
    /// What to do with frames that a port refuses.
    pub when_full: WhenFull,
}

/// What happens to a frame that a port has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum WhenFull {
    /// As the port is: a virtual device drops, a NIC waits.
    Auto,
    /// It is lost: the queue of a virtual device is the device's own, as a NIC's receive queue is.
    Drop,
    /// It goes later: a NIC sends as fast as its link allows.
    Wait,
}

/// Why the tester's ports cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StationError {
    /// DPDK does not start.
    #[error(transparent)]
    Eal(#[from] EalError),
    /// No memory for frames.
    #[error(transparent)]
    Pool(#[from] MempoolError),
    /// The thread is not DPDK's.
    #[error(transparent)]
    Thread(#[from] ThreadError),
    /// A port is not there, or not usable.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A physical NIC on ordinary pages.
    #[error(
        "no free huge pages, which {device} needs for its DMA: `sysctl vm.nr_hugepages=512` grants 1 GiB of them (or \
         give --no-huge, where an IOMMU serves)"
    )]
    NoHugePages {
        /// The device.
        device: String,
    },
    /// The link does not come up.
    #[error("{device}: the link is down after {seconds} s: {check}")]
    LinkDown {
        /// The device.
        device: String,
        /// How long was waited.
        seconds: u64,
        /// What to look at.
        check: &'static str,
    },
}

/// The empty folder that DPDK leaves behind where it runs without huge pages; gone when this is dropped.
#[derive(Debug)]
struct RuntimeDir(PathBuf);

impl Drop for RuntimeDir {
    fn drop(&mut self) {
        // With huge pages it is not there.
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// A port of the tester.
struct Line {
    rx: Vec<RxQueue>,
    tx: TxQueue,
    /// Frames that the port had no room for, in front.
    waiting: [Option<Mbuf>; BURST],
    waits: bool,
    port: Port,
    info: PortInfo,
}

/// All ports of the tester, with their memory. It belongs to the thread that opened it.
pub struct Station {
    lines: Vec<Line>,
    pool: Arc<Mempool>,
    burst: [Option<Mbuf>; 64],
    hz: u64,
    descriptors: u16,
    // Dropped last, in this order: the thread's cache goes before DPDK does.
    _thread: ThreadGuard,
    _eal: Arc<Eal>,
    _runtime_dir: RuntimeDir,
}

/// A port that the tester uses no more: its link goes down when this is dropped.
pub struct Cable(#[expect(dead_code, reason = "held, not used")] Line);

/// Buffers in the cache of this thread.
const CACHE: u32 = 256;

impl Station {
    /// Starts DPDK and opens the ports. The calling thread is the one that uses them: pin it
    /// afterwards, so that DPDK's own threads stay free to run elsewhere.
    ///
    /// # Errors
    /// See [`StationError`].
    pub fn open(setup: &Setup) -> Result<Self, StationError> {
        // Ethernet and two tags in front of the packet.
        let data_room = ((usize::from(setup.packet) + 22).clamp(2040, LONGEST) as u16).next_multiple_of(64);
        let queues = u32::from(setup.rx_queues.max(1));
        let count = setup.devices.len() as u32 * (u32::from(setup.descriptors) * queues + 1024) + 1023;
        let megabytes = ((u64::from(count) * 2 * (u64::from(data_room) + 640)) >> 20) + 64;
        let huge = !setup.no_huge && dpdk_sys::free_huge_pages().bytes >> 20 >= megabytes;
        let physical = setup.devices.iter().find(|device| is_pci(device));
        if let (Some(device), false, false) = (physical, huge, setup.no_huge) {
            return Err(StationError::NoHugePages { device: device.clone() });
        }
        let prefix = format!("perf-{}", std::process::id());
        let runtime_dir = RuntimeDir(PathBuf::from("/var/run/dpdk").join(&prefix));
        let eal = Arc::new(Eal::init(&eal_args(setup, huge, megabytes, &prefix))?);
        let thread = dpdk_sys::register_thread(&eal)?;
        // Frames that come go to another pool than those that leave, whose buffers keep their pattern.
        let pool = Mempool::new(&eal, "perf-tx", count, CACHE, data_room, None)?;
        let rx_pool = Mempool::new(&eal, "perf-rx", count, CACHE, data_room, None)?;
        fill(&pool);
        fill(&rx_pool);
        let mut lines = Vec::new();
        for device in &setup.devices {
            let mut port = Port::open(&eal, device)?;
            let config = PortConfig {
                rx_queues: setup.rx_queues,
                rx_desc: setup.descriptors,
                tx_desc: setup.descriptors,
                mtu: setup.packet.max(1500),
                ..PortConfig::default()
            };
            port.configure(&config, &rx_pool)?;
            let (rx, mut tx) = port.start()?;
            let info = port.info()?;
            let waits = match setup.when_full {
                WhenFull::Auto => is_pci(device),
                WhenFull::Drop => false,
                WhenFull::Wait => true,
            };
            if let Some(tx) = tx.pop() {
                lines.push(Line { rx, tx, waiting: [const { None }; BURST], waits, port, info });
            }
        }
        let hz = eal.tsc_hz();
        Ok(Self {
            lines,
            pool,
            burst: [const { None }; 64],
            hz,
            descriptors: setup.descriptors,
            _thread: thread,
            _eal: eal,
            _runtime_dir: runtime_dir,
        })
    }

    /// Takes out the last port, whose cable is pulled when it is dropped.
    pub fn take_last(&mut self) -> Option<Cable> {
        self.lines.pop().map(Cable)
    }

    /// What the ports are.
    pub fn infos(&self) -> impl Iterator<Item = &PortInfo> {
        self.lines.iter().map(|line| &line.info)
    }

    /// RX and TX descriptors of each port.
    pub fn descriptors(&self) -> u16 {
        self.descriptors
    }

    /// The link speed of a physical port in bit/s, where it is known. Virtual devices make up theirs.
    pub fn speed(&self, port: usize) -> Option<f64> {
        let line = self.lines.get(port)?;
        if !is_pci(&line.info.device) {
            return None;
        }
        Some(f64::from(line.port.link().ok()?.speed_mbps?) * 1e6)
    }

    /// Waits until the links of all ports are up.
    ///
    /// # Errors
    /// [`StationError::LinkDown`] after `limit`; `alive` may end the wait earlier, by an error of its own.
    pub fn wait_for_links<E: From<StationError>>(
        &self,
        limit: Duration,
        mut alive: impl FnMut() -> Result<(), E>,
    ) -> Result<(), E> {
        let start = Instant::now();
        for line in &self.lines {
            loop {
                alive()?;
                if line.port.link().map_err(StationError::from)?.up {
                    break;
                }
                if start.elapsed() >= limit {
                    let (device, seconds) = (line.info.device.clone(), limit.as_secs());
                    let check = advice(&line.info.driver);
                    return Err(StationError::LinkDown { device, seconds, check }.into());
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }
}

fn advice(driver: &str) -> &'static str {
    match driver {
        "net_memif" => {
            "the peer of the memif socket must run, with the other role and the same id and socket"
        }
        "net_virtio_user" | "net_vhost" => "the peer of the vhost socket must run, with the same socket path",
        _ => "check the cable, the transceiver, and that the other side's port is up",
    }
}

/// Whether a device string names a PCI device and not a virtual one.
pub fn is_pci(device: &str) -> bool {
    let address = device.split(',').next().unwrap_or_default();
    address.contains(':') && address.chars().all(|c| c.is_ascii_hexdigit() || c == ':' || c == '.')
}

fn eal_args(setup: &Setup, huge: bool, megabytes: u64, prefix: &str) -> Vec<String> {
    let mut args = vec!["--no-telemetry".to_string()];
    let pci: Vec<_> = setup.devices.iter().filter(|device| is_pci(device)).collect();
    if pci.is_empty() {
        args.push("--no-pci".into());
    }
    for device in pci {
        args.extend(["-a".into(), device.clone()]);
    }
    if huge {
        args.push("--in-memory".into());
    } else {
        let memory = megabytes.to_string();
        let prefix = format!("--file-prefix={prefix}");
        args.extend(["--no-huge".into(), "--no-shconf".into(), prefix, "-m".into(), memory]);
    }
    args.extend(setup.eal_args.iter().cloned());
    args
}

/// Writes the pattern into all buffers of a pool. They keep it: a frame's head is written anew for each.
fn fill(pool: &Mempool) {
    let mut all: Vec<Option<Mbuf>> = Vec::new();
    while let Some(mut buffer) = pool.alloc() {
        let room = buffer.tailroom().min(LONGEST);
        if let Some(bytes) = buffer.append(room) {
            bytes.copy_from_slice(&PATTERN[..room]);
        }
        all.push(Some(buffer));
    }
}

impl Line {
    /// Hands on what waits; whether nothing is left.
    fn flush(&mut self) -> bool {
        if self.waiting[0].is_none() {
            return true;
        }
        let sent = self.tx.burst(&mut self.waiting);
        self.waiting.rotate_left(sent);
        self.waiting[0].is_none()
    }
}

impl Wire for Station {
    #[inline]
    fn now(&mut self) -> u64 {
        dpdk_sys::cycles()
    }

    fn hz(&self) -> u64 {
        self.hz
    }

    #[inline]
    fn room(&mut self, port: usize, most: usize) -> usize {
        if self.lines.get_mut(port).is_some_and(Line::flush) { most } else { 0 }
    }

    #[inline]
    fn send(&mut self, port: usize, lens: &[u16], mut fill: impl FnMut(usize, &mut [u8])) -> usize {
        let Some(line) = self.lines.get_mut(port) else { return 0 };
        let n = lens.len().min(BURST);
        // The pool has more buffers than all queues hold, so that it is empty only when a driver keeps some for good:
        // then these frames are refused.
        let enough = self.pool.alloc_bulk(&mut line.waiting[..n]);
        for (i, (slot, len)) in line.waiting.iter_mut().zip(lens).enumerate() {
            match slot.as_mut().and_then(|buffer| buffer.append(usize::from(*len))) {
                Some(frame) => fill(i, frame),
                None => fill(i, &mut []),
            }
        }
        if !enough {
            return n;
        }
        let sent = line.tx.burst(&mut line.waiting[..n]);
        if sent == n {
            return 0;
        }
        if line.waits {
            line.waiting.rotate_left(sent);
            return 0;
        }
        line.waiting.fill_with(|| None);
        n - sent
    }

    #[inline]
    fn receive(&mut self, port: usize, mut each: impl FnMut(&[u8], u64)) -> usize {
        let Some(line) = self.lines.get_mut(port) else { return 0 };
        let mut all = 0;
        for rx in &mut line.rx {
            let n = rx.burst(&mut self.burst);
            if n == 0 {
                continue;
            }
            let now = dpdk_sys::cycles();
            for packet in self.burst[..n].iter().flatten() {
                packet.prefetch();
            }
            for packet in self.burst[..n].iter().flatten() {
                each(packet.bytes(), now);
            }
            Mbuf::free_burst(&mut self.burst[..n]);
            all += n;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses_are_told_from_virtual_devices() {
        assert!(is_pci("0000:3b:00.0"));
        assert!(is_pci("3b:00.1,representor=0"));
        assert!(!is_pci("net_memif0,role=server"));
        assert!(!is_pci("net_virtio_user0,mac=02:00:00:00:00:01"));
    }
}
