//! Ethernet II and VLAN tags (IEEE 802.3, 802.1Q section 9).

/// Length of an untagged Ethernet header, in bytes.
pub const HEADER_LEN: usize = 14;
/// Length of one VLAN tag, in bytes.
pub const TAG_LEN: usize = 4;

/// Ethertype of IPv4.
pub const IPV4: u16 = 0x0800;
/// Ethertype of ARP.
pub const ARP: u16 = 0x0806;
/// Ethertype of IPv6.
pub const IPV6: u16 = 0x86dd;
/// TPID of a C-tag, and of both tags by ExpressRoute's default.
pub const TPID_8021Q: u16 = 0x8100;
/// TPID of an S-tag by 802.1ad.
pub const TPID_8021AD: u16 = 0x88a8;
/// TPID of older QinQ equipment.
pub const TPID_9100: u16 = 0x9100;
/// Ethertype of the slow protocols, LACP among them.
pub const SLOW_PROTOCOLS: u16 = 0x8809;
/// Ethertype of LLDP.
pub const LLDP: u16 = 0x88cc;

/// Whether `ethertype` announces a VLAN tag.
pub const fn is_tpid(ethertype: u16) -> bool {
    matches!(ethertype, TPID_8021Q | TPID_8021AD | TPID_9100)
}

/// VLAN id of a TCI.
pub const fn vid(tci: u16) -> u16 {
    tci & 0x0fff
}

/// Priority code point of a TCI.
pub const fn pcp(tci: u16) -> u8 {
    (tci >> 13) as u8
}
