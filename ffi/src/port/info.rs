//! What a port says of itself.

use super::Offloads;
use crate::sys;

/// What a device is and can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortInfo {
    /// The PCI address or the virtual device's name.
    pub device: String,
    /// DPDK's driver, e.g. `net_ice`.
    pub driver: String,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// RX queues it can have.
    pub max_rx_queues: u16,
    /// TX queues it can have.
    pub max_tx_queues: u16,
    /// Least MTU, in IP bytes.
    pub min_mtu: u16,
    /// Largest MTU, in IP bytes; two tags may not fit in addition.
    pub max_mtu: u16,
    /// Offloads it could do on receiving (`RTE_ETH_RX_OFFLOAD_*`). None is used unless asked for.
    pub rx_offloads: u64,
    /// Offloads it could do on sending (`RTE_ETH_TX_OFFLOAD_*`). None is used unless asked for.
    pub tx_offloads: u64,
    /// Whether it can deal packets out to its RX queues by a hash of their flows (RSS).
    pub hashes_flows: bool,
    /// Its NUMA node; `None` where there is no telling, as for some virtual devices.
    pub socket: Option<u32>,
    /// Its state.
    pub link: Link,
}

impl PortInfo {
    /// Which offloads it could do.
    pub fn offloads(&self) -> Offloads {
        let can = |offload| self.rx_offloads & offload != 0;
        Offloads {
            rx_checksum: can(sys::DPDK_SYS_RX_OFFLOAD_IPV4_CKSUM),
            vlan_strip: can(sys::DPDK_SYS_RX_OFFLOAD_VLAN_STRIP),
            vlan_insert: self.tx_offloads & sys::DPDK_SYS_TX_OFFLOAD_VLAN_INSERT != 0,
        }
    }
}

/// The state of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Whether it carries frames.
    pub up: bool,
    /// Mbit/s, where the driver knows.
    pub speed_mbps: Option<u32>,
    /// Whether both sides may send at once.
    pub full_duplex: bool,
}

/// Counters since the port was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received, without the frame check sequence in most drivers.
    pub rx_bytes: u64,
    /// Packets that the NIC dropped since the queue was full: the workers are too slow.
    pub rx_missed: u64,
    /// Packets received with errors.
    pub rx_errors: u64,
    /// Packets dropped since the pool was empty.
    pub rx_no_buffer: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
}
