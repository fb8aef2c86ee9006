//! What can be wrong with a port, with the device's name and the way out.

use crate::Errno;

/// Why an operation on a port failed.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The device string cannot be used.
    #[error(
        "{device:?} is no device: give a PCI address (`0000:3b:00.0`) or a DPDK vdev string (`net_tap0,iface=lan0`)"
    )]
    BadName {
        /// As given.
        device: String,
    },
    /// The machine has no such PCI device.
    #[error("no such PCI device {device}: `dpdk-devbind.py --status` lists what there is")]
    NoSuchPciDevice {
        /// Its PCI address.
        device: String,
    },
    /// The kernel, or nobody, drives the device.
    #[error(
        "PCI device {device} is bound to {driver}, not to vfio-pci: `dpdk-devbind.py --bind=vfio-pci {device}` (after \
         `modprobe vfio-pci`) gives it to DPDK{log}"
    )]
    NotBound {
        /// Its PCI address.
        device: String,
        /// The kernel's driver.
        driver: String,
        /// What DPDK said.
        log: String,
    },
    /// No driver knows this kind of virtual device.
    #[error(
        "no DPDK driver takes the virtual device {device:?}: the name starts with the driver's, as in \
         `net_tap0,iface=lan0`, `net_pcap0,rx_pcap=FILE` or `net_null0`{log}"
    )]
    NoDriver {
        /// Its name.
        device: String,
        /// What DPDK said.
        log: String,
    },
    /// Another `Port` has it.
    #[error("{device} is open already: each device can be used once")]
    AlreadyOpen {
        /// Its name.
        device: String,
    },
    /// The driver did not take it.
    #[error("{device} cannot be opened: {errno}{log}")]
    Probe {
        /// Its name.
        device: String,
        /// DPDK's error.
        errno: Errno,
        /// What DPDK said.
        log: String,
    },
    /// It is there, but it is no NIC.
    #[error("{device} is there but has no Ethernet port: it is no NIC, or DPDK has no driver for it{log}")]
    NoPort {
        /// Its name.
        device: String,
        /// What DPDK said.
        log: String,
    },
    /// It has fewer queues than wanted.
    #[error(
        "{device} has {has} {direction} queues, {wanted} are wanted: ask for fewer `queues` or workers, or use another \
         device"
    )]
    TooFewQueues {
        /// Its name.
        device: String,
        /// `RX` or `TX`.
        direction: &'static str,
        /// Wanted queues.
        wanted: u16,
        /// The device's queues.
        has: u16,
    },
    /// No queue at all was asked for.
    #[error("{device} needs at least one RX and one TX queue")]
    NoQueues {
        /// Its name.
        device: String,
    },
    /// The MTU is more than the device can do.
    #[error("{device} cannot do an MTU of {mtu}: at most {most}")]
    Mtu {
        /// Its name.
        device: String,
        /// Wanted IP bytes.
        mtu: u16,
        /// Possible IP bytes.
        most: u16,
    },
    /// A frame does not fit a buffer.
    #[error(
        "frames of {device} can have {frame} bytes, more than the {room} of a buffer of pool {pool:?}: lower the MTU, \
         or make the pool with more data room"
    )]
    Buffers {
        /// The device's name.
        device: String,
        /// Bytes of the longest frame.
        frame: u32,
        /// Bytes in a buffer.
        room: u16,
        /// The pool's name.
        pool: String,
    },
    /// `configure` or `start` when started.
    #[error("{device} is started already: drop the port and its queues, and open it again")]
    Started {
        /// Its name.
        device: String,
    },
    /// `start` before `configure`.
    #[error("{device} must be configured before it is started")]
    NotConfigured {
        /// Its name.
        device: String,
    },
    /// DPDK or the driver refused something.
    #[error("{device}: {what} failed: {errno}{log}")]
    Refused {
        /// Its name.
        device: String,
        /// What was asked.
        what: &'static str,
        /// DPDK's error.
        errno: Errno,
        /// What DPDK said.
        log: String,
    },
}
