//! Ports: NICs and virtual devices, from opening to removal.

mod config;
mod device;
mod error;
mod info;
mod setup;

use std::ffi::CStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use config::{Offloads, PortConfig};
pub(crate) use device::OpenPort;
pub use error::PortError;
pub use info::{Link, PortInfo, PortStats};

use self::config::FrameLimits;
use self::device::DeviceName;
use crate::{Eal, Errno, Mbuf, Mempool, log, sys};

/// A NIC or virtual device. It stays open until the port and all its queues are dropped; then it is stopped, closed
/// and removed, and what it made (a TAP interface, say) goes.
#[derive(Debug)]
pub struct Port {
    inner: Arc<PortInner>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Configured { rx_queues: u16, tx_queues: u16 },
    Started,
}

/// What a port shares with its queues.
#[derive(Debug)]
pub(crate) struct PortInner {
    device: String,
    port: OpenPort,
    /// Held over every control operation: ethdev leaves that to the program.
    control: Mutex<Control>,
    eal: Arc<Eal>,
}

/// What control operations leave behind for the port's end.
#[derive(Debug, Default)]
struct Control {
    /// The pools that the device receives into, the last one from now on.
    pools: Vec<Arc<Mempool>>,
    /// RX queues of the started port.
    rx_queues: u16,
}

impl PortInner {
    /// DPDK's port number.
    pub(crate) fn id(&self) -> u16 {
        self.port.id
    }

    /// The device's name.
    pub(crate) fn device(&self) -> &str {
        &self.device
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a control operation of DPDK's that returns a negative errno.
    fn call(&self, what: &'static str, operation: impl FnOnce(u16) -> i32) -> Result<(), PortError> {
        let mark = log::mark();
        Errno::check(operation(self.id())).map(drop).map_err(|errno| PortError::Refused {
            device: self.device.clone(),
            what,
            errno,
            log: log::complaints_since(mark),
        })
    }

    fn dev_info(&self) -> Result<sys::rte_eth_dev_info, PortError> {
        let mut info = sys::rte_eth_dev_info::default();
        // SAFETY: the port is open, and `info` is a valid place to write to.
        self.call("asking for its abilities", |id| unsafe { sys::rte_eth_dev_info_get(id, &raw mut info) })?;
        Ok(info)
    }

    /// Drops what waits in an RX queue.
    fn drain(&self, queue: u16) {
        let mut packets = [const { None::<Mbuf> }; 32];
        loop {
            // SAFETY: the port is started with this queue, and no handle of it is left when this is called. The
            // slots are empty and there are 32 of them.
            let n = unsafe { sys::shim_rx_burst(self.id(), queue, packets.as_mut_ptr().cast(), 32) };
            packets.fill_with(|| None);
            if n == 0 {
                return;
            }
        }
    }

    fn socket(&self) -> i32 {
        // SAFETY: the port is open.
        unsafe { sys::rte_eth_dev_socket_id(self.id()) }
    }
}

impl Drop for PortInner {
    fn drop(&mut self) {
        let rx_queues = self.control.get_mut().unwrap_or_else(PoisonError::into_inner).rx_queues;
        if self.dev_info().is_ok_and(|info| driver_name(&info) == "net_ring") {
            // This driver forgets the packets in its rings.
            (0..rx_queues).for_each(|queue| self.drain(queue));
        }
        // SAFETY: no queue is left, so nobody polls it; to stop a port that is not started is no error.
        unsafe { sys::rte_eth_dev_stop(self.id()) };
        device::release(&self.eal, self.port);
    }
}

impl Port {
    /// Opens a device: a PCI address (`0000:3b:00.0`, the domain may be left out) or a DPDK vdev string
    /// (`net_tap0,iface=lan0`), each with driver arguments behind commas.
    ///
    /// # Errors
    /// When there is no such device, no driver for it, or it is open already.
    pub fn open(eal: &Arc<Eal>, device: &str) -> Result<Self, PortError> {
        let device = DeviceName::parse(device)?;
        let port = device::claim(eal, &device)?;
        let control = Mutex::default();
        let inner = PortInner { device: device.name, port, control, eal: Arc::clone(eal) };
        Ok(Self { inner: Arc::new(inner), state: State::Open })
    }

    /// The device's name: the PCI address or the vdev string up to its first comma.
    pub fn device(&self) -> &str {
        &self.inner.device
    }

    /// DPDK's number of the port, which received packets carry ([`Mbuf::input_port`](crate::Mbuf::input_port)).
    pub fn id(&self) -> u16 {
        self.inner.id()
    }

    /// What the device is and can do.
    ///
    /// # Errors
    /// When the driver does not say.
    pub fn info(&self) -> Result<PortInfo, PortError> {
        let info = {
            let _control = self.inner.control();
            self.inner.dev_info()?
        };
        let driver = driver_name(&info);
        Ok(PortInfo {
            device: self.inner.device.clone(),
            mac: self.mac()?,
            max_rx_queues: info.max_rx_queues,
            max_tx_queues: info.max_tx_queues,
            min_mtu: info.min_mtu,
            max_mtu: FrameLimits::of(&info, &driver).max_mtu(),
            rx_offloads: info.rx_offload_capa,
            tx_offloads: info.tx_offload_capa,
            hashes_flows: info.flow_type_rss_offloads & sys::DPDK_SYS_RSS_IP_TCP_UDP != 0,
            socket: u32::try_from(self.inner.socket()).ok(),
            link: self.link()?,
            driver,
        })
    }

    /// Its MAC address.
    ///
    /// # Errors
    /// When the driver does not say.
    pub fn mac(&self) -> Result<[u8; 6], PortError> {
        let mut mac = sys::rte_ether_addr::default();
        let _control = self.inner.control();
        // SAFETY: the port is open, and `mac` is a valid place to write to.
        let ask = |id| unsafe { sys::rte_eth_macaddr_get(id, &raw mut mac) };
        self.inner.call("asking for its MAC address", ask)?;
        Ok(mac.addr_bytes)
    }

    /// The state of its link, as the driver knows it without waiting.
    ///
    /// # Errors
    /// When the driver does not say.
    pub fn link(&self) -> Result<Link, PortError> {
        let (mut speed, mut up, mut full_duplex) = (0, false, false);
        let _control = self.inner.control();
        // SAFETY: the port is open, and the pointers are valid places to write to.
        self.inner.call("asking for its link", |id| unsafe {
            sys::shim_eth_link(id, &raw mut speed, &raw mut up, &raw mut full_duplex)
        })?;
        let speed_mbps = (speed != 0 && speed != u32::MAX).then_some(speed);
        Ok(Link { up, speed_mbps, full_duplex })
    }

    /// Its counters.
    ///
    /// # Errors
    /// When the driver has none.
    pub fn stats(&self) -> Result<PortStats, PortError> {
        let mut stats = sys::rte_eth_stats::default();
        let _control = self.inner.control();
        // SAFETY: the port is open, and `stats` is a valid place to write to.
        let ask = |id| unsafe { sys::rte_eth_stats_get(id, &raw mut stats) };
        self.inner.call("reading its counters", ask)?;
        Ok(PortStats {
            rx_packets: stats.ipackets,
            rx_bytes: stats.ibytes,
            rx_missed: stats.imissed,
            rx_errors: stats.ierrors,
            rx_no_buffer: stats.rx_nombuf,
            tx_packets: stats.opackets,
            tx_bytes: stats.obytes,
            tx_errors: stats.oerrors,
        })
    }
}

/// The name of the device's driver.
fn driver_name(info: &sys::rte_eth_dev_info) -> String {
    if info.driver_name.is_null() {
        return String::new();
    }
    // SAFETY: drivers give a constant C string.
    unsafe { CStr::from_ptr(info.driver_name) }.to_string_lossy().into_owned()
}
