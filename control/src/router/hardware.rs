//! DPDK's side: the EAL, the packet pool, and the ports with their queues dealt out to the workers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dataplane::dpdk::{DpdkIo, Outlet};
use dataplane::hand_over::INBOX;
use dataplane::ids::PortId;
use dataplane::offload::{Kinds, Offload, PortOffloads, State};
use dataplane::punt::PUNT_RING;
use dpdk_sys::{Eal, Mempool, Port, PortConfig, PortInfo};

use super::error::RouterError;
use super::offloads;
use crate::config::model::{Config, HugePages};

/// What must stay open while the router runs.
pub struct Hardware {
    /// The ports, in configuration order.
    pub ports: Vec<OpenPort>,
    /// The pool that all packets live in.
    pub pool: Arc<Mempool>,
    /// DPDK.
    pub eal: Arc<Eal>,
    _runtime_dir: RuntimeDir,
}

/// The empty folder that DPDK leaves behind where it runs without huge pages; gone when this is dropped.
struct RuntimeDir(PathBuf);

impl RuntimeDir {
    fn ours() -> Self {
        Self(Path::new("/var/run/dpdk").join(file_prefix()))
    }
}

impl Drop for RuntimeDir {
    fn drop(&mut self) {
        // It is not there with huge pages, and elsewhere for users other than root.
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// DPDK's name for this process.
fn file_prefix() -> String {
    format!("turnpike-{}", std::process::id())
}

/// A port that was started.
pub struct OpenPort {
    /// DPDK's handle.
    pub port: Port,
    /// What it said of itself when it was opened.
    pub info: PortInfo,
    /// RX queues in use.
    pub rx_queues: u16,
    /// Its offloads, and what workers saw of them.
    pub offloads: Arc<PortOffloads>,
    /// What was last told of each, and for what kinds of frames it is not used.
    pub told: [(State, Kinds); Offload::ALL.len()],
    /// Whether it was told to take tags off.
    pub takes_tags_off: bool,
}

/// Buffers that a thread keeps in its cache.
const CACHE: u32 = 256;
/// Bytes of overhead for each buffer, beyond its data.
const BUFFER_OVERHEAD: u64 = 512;
/// Memory that DPDK needs beside the buffers, in MiB.
const OTHER_MIB: u64 = 96;

/// Starts DPDK and all ports. Returns them with one set of queues for each of `workers` workers.
///
/// # Errors
/// DPDK, the pool or a port fails; what was opened is closed again.
pub fn open(config: &Config, workers: usize) -> Result<(Hardware, Vec<DpdkIo>), RouterError> {
    let plan = Plan::new(config, workers);
    forward_log();
    let eal = Eal::init(&plan.eal_args(config)).map_err(|error| match error {
        dpdk_sys::EalError::NoHugePages => RouterError::NoHugePages,
        error => error.into(),
    })?;
    let eal = Arc::new(eal);
    if !eal.huge_pages() && config.memory.huge_pages == HugePages::Auto {
        tracing::warn!(
            "no huge pages: running on ordinary ones, with more TLB misses, and physical NICs only behind an IOMMU. \
             To have some: echo 512 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
        );
    }
    let mut ports = Vec::new();
    for configured in &config.ports {
        let named = |source| RouterError::Port { name: configured.name.clone(), source };
        let port = Port::open(&eal, &configured.device).map_err(named)?;
        let info = port.info().map_err(named)?;
        ports.push((configured, port, info));
    }
    let pool = Mempool::new(&eal, "packets", plan.buffers, CACHE, plan.data_room, None)?;
    let mut ios: Vec<_> = (0..workers).map(|_| DpdkIo { rx: Vec::new(), tx: Vec::new() }).collect();
    let mut open = Vec::new();
    let mut next_worker = (0..workers).cycle();
    for (index, (configured, mut port, info)) in ports.into_iter().enumerate() {
        let named = |source| RouterError::Port { name: configured.name.clone(), source };
        let mut wanted = PortConfig {
            rx_queues: configured.queues.unwrap_or(workers as u16),
            tx_queues: workers as u16,
            rx_desc: configured.descriptors,
            tx_desc: configured.descriptors,
            mtu: configured.mtu,
            promiscuous: true,
            offloads: configured.offloads.and(info.offloads()),
        };
        for note in port.configure(&wanted, &pool).map_err(named)? {
            tracing::info!("port `{}`: {note}", configured.name);
        }
        let mut fixed = false;
        if wanted.offloads.vlan_strip {
            // Tags stay on until there is something to compare with.
            fixed = port.set_vlan_strip(false).is_err();
            if fixed {
                wanted.offloads.vlan_strip = false;
                port.configure(&wanted, &pool).map_err(named)?;
            }
        }
        let (rx, tx) = port.start().map_err(named)?;
        let offloads = Arc::new(offloads::of_port(configured, &info, wanted.rx_queues));
        if fixed {
            offloads.takes_tags_off(false);
        }
        for (queue, worker) in rx.into_iter().zip(&mut next_worker) {
            ios[worker].rx.push((PortId(index as u16), queue));
        }
        for (io, queue) in ios.iter_mut().zip(tx) {
            io.tx.push(Outlet {
                queue,
                puts_tags_on: wanted.offloads.vlan_insert.then(|| Arc::clone(&offloads)),
            });
        }
        let told = Offload::ALL.map(|offload| (offloads.state(offload), Kinds::NONE));
        let rx_queues = wanted.rx_queues;
        open.push(OpenPort { port, info, rx_queues, offloads, told, takes_tags_off: false });
    }
    let idle = ios.iter().filter(|io| io.rx.is_empty()).count();
    if idle > 0 && !config.workers.hand_over {
        tracing::warn!(
            "{idle} of {workers} workers have no RX queue to poll: raise `queues`, list fewer cores, or let the others \
             hand them flows (`hand_over` in [workers])"
        );
    }
    Ok((Hardware { ports: open, pool, eal, _runtime_dir: RuntimeDir::ours() }, ios))
}

/// DPDK's own log lines are for those who look for trouble.
fn forward_log() {
    dpdk_sys::log::set_sink(|_, line| tracing::debug!(target: "dpdk", "{line}"));
}

/// What the configuration asks of memory.
struct Plan {
    buffers: u32,
    data_room: u16,
    huge: bool,
}

impl Plan {
    fn new(config: &Config, workers: usize) -> Self {
        let workers = workers as u32;
        let on_ports: u32 = config
            .ports
            .iter()
            .map(|port| {
                let queues = u32::from(port.queues.unwrap_or(0)).max(workers) + workers;
                queues * u32::from(port.descriptors)
            })
            .sum();
        let in_flight = workers * (2 * PUNT_RING as u32 + 2 * CACHE) + 2 * CACHE;
        let handed = if config.workers.hand_over { workers * INBOX as u32 } else { 0 };
        let in_flight = in_flight + handed;
        let buffers = config.memory.buffers.unwrap_or(on_ports + in_flight).max(4 * CACHE);
        let mtu = config.ports.iter().map(|port| port.mtu).max().unwrap_or(1500);
        let data_room = mtu.saturating_add(26 + 38).max(2048).next_multiple_of(64);
        let mut plan = Self { buffers, data_room, huge: false };
        plan.huge = match config.memory.huge_pages {
            HugePages::Never => false,
            HugePages::Require => true,
            HugePages::Auto => dpdk_sys::free_huge_pages().bytes >> 20 >= plan.mib(),
        };
        plan
    }

    fn mib(&self) -> u64 {
        let each = u64::from(self.data_room) + u64::from(dpdk_sys::HEADROOM) + BUFFER_OVERHEAD;
        (u64::from(self.buffers) * each).div_ceil(1 << 20) + OTHER_MIB
    }

    fn eal_args(&self, config: &Config) -> Vec<String> {
        let mut args = vec!["--no-telemetry".to_string()];
        let pci: Vec<_> = config.ports.iter().filter(|port| is_pci(&port.device)).collect();
        if pci.is_empty() {
            args.push("--no-pci".into());
        }
        for port in pci {
            args.extend(["-a".into(), port.device.clone()]);
        }
        // Either way several turnpikes can run side by side.
        if self.huge {
            args.push("--in-memory".into());
        } else {
            let prefix = format!("--file-prefix={}", file_prefix());
            args.extend([
                "--no-huge".into(),
                "--no-shconf".into(),
                prefix,
                "-m".into(),
                self.mib().to_string(),
            ]);
        }
        args.extend(config.memory.eal_args.iter().cloned());
        args
    }
}

/// Whether a device string names a PCI device and not a virtual one.
fn is_pci(device: &str) -> bool {
    let address = device.split(',').next().unwrap_or_default();
    address.contains(':') && address.chars().all(|c| c.is_ascii_hexdigit() || c == ':' || c == '.')
}

#[cfg(test)]
mod tests {
    use super::is_pci;

    #[test]
    fn pci_addresses_are_told_from_vdevs() {
        assert!(is_pci("0000:3b:00.0"));
        assert!(is_pci("3b:00.1,representor=0"));
        assert!(!is_pci("net_tap0,iface=lan0"));
        assert!(!is_pci("net_virtio_user0,path=/dev/vhost-net,mac=02:00:00:00:00:01"));
    }
}
