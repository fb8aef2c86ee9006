//! What a port is asked for, and the frame limit that follows from it.

use crate::sys;

/// What a NIC may do of a packet's work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Checks IPv4 header checksums of what it receives ([`Mbuf::checksum`](crate::Mbuf::checksum)).
    pub rx_checksum: bool,
    /// Takes the outermost VLAN tag off what it receives ([`Mbuf::stripped_vlan`](crate::Mbuf::stripped_vlan)).
    pub vlan_strip: bool,
    /// Puts the VLAN tag on what it sends ([`Mbuf::set_vlan_to_insert`](crate::Mbuf::set_vlan_to_insert)).
    pub vlan_insert: bool,
}

impl Offloads {
    /// Those that are in either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            rx_checksum: self.rx_checksum || other.rx_checksum,
            vlan_strip: self.vlan_strip || other.vlan_strip,
            vlan_insert: self.vlan_insert || other.vlan_insert,
        }
    }

    /// Those that are in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            rx_checksum: self.rx_checksum && other.rx_checksum,
            vlan_strip: self.vlan_strip && other.vlan_strip,
            vlan_insert: self.vlan_insert && other.vlan_insert,
        }
    }
}

/// How a port is to be set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// RX queues, one for each worker as a rule.
    pub rx_queues: u16,
    /// TX queues, one for each thread that sends.
    pub tx_queues: u16,
    /// RX descriptors a queue; rounded to what the device can do.
    pub rx_desc: u16,
    /// TX descriptors a queue; rounded to what the device can do.
    pub tx_desc: u16,
    /// Largest IP packet, in bytes. The frame limit leaves room for the Ethernet header and two tags.
    pub mtu: u16,
    /// Whether to receive frames to any MAC address.
    pub promiscuous: bool,
    /// What the NIC is to do of the work; it must be able to ([`PortInfo::offloads`](crate::PortInfo::offloads)).
    pub offloads: Offloads,
}

impl Default for PortConfig {
    fn default() -> Self {
        Self {
            rx_queues: 1,
            tx_queues: 1,
            rx_desc: 1024,
            tx_desc: 1024,
            mtu: 1500,
            promiscuous: true,
            offloads: Offloads::default(),
        }
    }
}

/// Ethernet header and frame check sequence, in bytes.
const ETHERNET: u32 = 14 + 4;
/// Two 802.1Q tags, in bytes.
const TWO_TAGS: u32 = 8;

/// More than this a driver does not count on top of its MTU, in bytes.
const MOST_ON_TOP: u32 = 64;

/// What a device says of its frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameLimits {
    /// Least MTU the driver takes.
    min_mtu: u32,
    /// Largest MTU the driver takes.
    max_mtu: u32,
    /// What the driver counts on top of the MTU: at least [`ETHERNET`], with tags in some.
    overhead: u32,
    /// Whether the MTU is also that of a kernel interface, where tags do not count.
    kernel_interface: bool,
}

/// An MTU as a driver is told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeviceMtu {
    /// The driver's MTU.
    pub mtu: u16,
    /// The longest frame, with its check sequence.
    pub frame: u32,
    /// Whether a full IP packet has no room for two tags.
    pub tight: bool,
}

impl FrameLimits {
    pub(super) fn of(info: &sys::rte_eth_dev_info, driver: &str) -> Self {
        let (longest, max_mtu) = (info.max_rx_pktlen, u32::from(info.max_mtu));
        // As ethdev reckons: a driver that states both says by the difference what it counts on top. Only that some
        // state a longest frame that has nothing to do with their MTU.
        let states_both = info.max_mtu != u16::MAX && longest > max_mtu;
        let overhead =
            Some(longest.saturating_sub(max_mtu)).filter(|on_top| states_both && *on_top <= MOST_ON_TOP);
        let overhead = overhead.unwrap_or(ETHERNET);
        Self {
            min_mtu: u32::from(info.min_mtu),
            max_mtu: max_mtu.min(longest.saturating_sub(overhead)),
            overhead,
            kernel_interface: driver == "net_tap",
        }
    }

    /// The largest MTU that [`device_mtu`](Self::device_mtu) accepts.
    pub(super) fn max_mtu(&self) -> u16 {
        self.max_mtu as u16
    }

    /// What to tell the driver for IP packets of `mtu` bytes; `None` when it cannot do them.
    pub(super) fn device_mtu(&self, mtu: u16) -> Option<DeviceMtu> {
        let ip = u32::from(mtu);
        if ip > self.max_mtu {
            return None;
        }
        let with_tags = (ip + ETHERNET + TWO_TAGS).saturating_sub(self.overhead).max(ip);
        let wanted = if self.kernel_interface { ip } else { with_tags };
        let told = wanted.min(self.max_mtu).max(self.min_mtu);
        let frame =
            (told + self.overhead).max(ip + ETHERNET + if self.kernel_interface { TWO_TAGS } else { 0 });
        Some(DeviceMtu { mtu: told as u16, frame, tight: told < wanted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(min_mtu: u32, max_mtu: u32, overhead: u32, kernel_interface: bool) -> FrameLimits {
        FrameLimits { min_mtu, max_mtu, overhead, kernel_interface }
    }

    #[test]
    fn two_tags_are_added_where_the_driver_does_not_count_them() {
        let got = limits(68, 9000, 18, false).device_mtu(1500).unwrap();
        assert_eq!(got, DeviceMtu { mtu: 1508, frame: 1526, tight: false });
    }

    #[test]
    fn a_driver_that_counts_tags_gets_the_mtu_as_it_is() {
        let got = limits(68, 9674, 26, false).device_mtu(1500).unwrap();
        assert_eq!(got, DeviceMtu { mtu: 1500, frame: 1526, tight: false });
    }

    #[test]
    fn at_the_limit_tags_do_not_fit() {
        let got = limits(68, 1500, 18, false).device_mtu(1500).unwrap();
        assert_eq!(got, DeviceMtu { mtu: 1500, frame: 1518, tight: true });
        assert_eq!(limits(68, 1500, 18, false).device_mtu(1501), None);
    }

    #[test]
    fn a_tap_has_the_mtu_of_its_ip_packets() {
        let got = limits(68, 1504, 18, true).device_mtu(1500).unwrap();
        assert_eq!(got, DeviceMtu { mtu: 1500, frame: 1526, tight: false });
    }

    #[test]
    fn the_overhead_is_what_the_driver_states() {
        let mut info = sys::rte_eth_dev_info { max_rx_pktlen: 9700, max_mtu: 9674, ..Default::default() };
        assert_eq!(FrameLimits::of(&info, "net_ice").overhead, 26);
        // As `net_vmxnet3` does.
        (info.max_rx_pktlen, info.max_mtu) = (16384, 9190);
        let got = FrameLimits::of(&info, "net_vmxnet3");
        assert_eq!((got.overhead, got.max_mtu), (18, 9190));
        assert_eq!(got.device_mtu(1500), Some(DeviceMtu { mtu: 1508, frame: 1526, tight: false }));
        info.max_rx_pktlen = 9700;
        // A driver that states no MTU: ethdev's default.
        info.max_mtu = u16::MAX;
        let got = FrameLimits::of(&info, "net_null");
        assert_eq!((got.overhead, got.max_mtu), (18, 9682));
    }
}
