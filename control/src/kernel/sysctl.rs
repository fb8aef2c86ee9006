//! The interface settings that exist only under `/proc/sys/net`, as seen from the calling thread's namespace.

use std::path::Path;

use super::error::KernelError;

/// Per interface, IPv4.
const IPV4: &[(&str, &str)] = &[
    // Answer ARP only for addresses of this very interface: several TAPs may share a namespace.
    ("arp_ignore", "1"),
    // Ask with an address of the target's own prefix.
    ("arp_announce", "2"),
    // Paths are asymmetric: both links of a circuit are active.
    ("rp_filter", "0"),
];

/// Per interface, IPv6.
const IPV6: &[(&str, &str)] = &[
    ("disable_ipv6", "0"),
    // Addresses and routes come from our configuration, not from the wire.
    ("accept_ra", "0"),
    ("autoconf", "0"),
    ("accept_redirects", "0"),
    ("router_solicitations", "0"),
    // No address waits for DAD.
    ("accept_dad", "0"),
    ("dad_transmits", "0"),
    // `ip link set TAP down` and up again must not lose the addresses.
    ("keep_addr_on_down", "1"),
    // No link-local address as it first comes up: the kernel would have it tentative for a moment.
    ("addr_gen_mode", "1"),
];

/// Per interface, of the neighbour table of each family. What waits for a neighbour who does not answer takes buffer
/// space from all else that the kernel's own ICMP and TCP sockets send: two dozen small packets, or one large one.
const NEIGHBOURS: &[(&str, &str)] = &[("unres_qlen_bytes", "16384")];

/// From then on, the link-local address comes from the MAC (RFC 4291, appendix A) each time the TAP comes up.
const LINK_LOCAL: &[(&str, &str)] = &[("addr_gen_mode", "0")];

/// Whether this kernel has IPv6.
pub(super) fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").is_dir()
}

/// Sets what the TAP `name` needs.
pub(super) fn configure(name: &str, ipv6: bool) -> Result<(), KernelError> {
    set_all("ipv4/conf", name, IPV4)?;
    set_all("ipv4/neigh", name, NEIGHBOURS)?;
    if ipv6 {
        set_all("ipv6/conf", name, IPV6)?;
        set_all("ipv6/neigh", name, NEIGHBOURS)?;
    }
    Ok(())
}

/// Lets the kernel care for the link-local address of the TAP `name`. To be called when it has one.
pub(super) fn keep_link_local(name: &str) -> Result<(), KernelError> {
    set_all("ipv6/conf", name, LINK_LOCAL)
}

/// Logs what the namespace as a whole imposes on our TAPs: the kernel takes the stricter of `all` and the interface.
pub(super) fn warn_about_strict_rp_filter(place: &super::netns::Place) {
    let path = "/proc/sys/net/ipv4/conf/all/rp_filter";
    if std::fs::read_to_string(path).is_ok_and(|value| value.trim() == "1") {
        tracing::warn!(
            "{place} has net.ipv4.conf.all.rp_filter = 1: the kernel drops packets to us that come over the other \
             link; set it to 0 or 2 there"
        );
    }
}

fn set_all(table: &str, name: &str, settings: &[(&str, &'static str)]) -> Result<(), KernelError> {
    for &(setting, value) in settings {
        let path = format!("/proc/sys/net/{table}/{name}/{setting}");
        // Containers often have /proc/sys read-only; that is fine where the value is right already.
        if std::fs::read_to_string(&path).is_ok_and(|current| current.trim() == value) {
            continue;
        }
        std::fs::write(&path, value).map_err(|source| KernelError::Sysctl { path, value, source })?;
    }
    Ok(())
}
