//! What the TAPs are like once started, and that nothing is left once stopped.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};

use control::kernel::netns::run_in;
use control::kernel::{KernelError, NetnsError};

use crate::harness::*;

#[test]
fn addresses_mac_and_mtu_are_there_and_usable_at_once() {
    let ns = Namespace::new();
    let mut spec = ns.spec(A, "er1-pri", &["192.0.2.1/30", "2001:db8::1/126"]);
    spec.mtu = 1400;
    let started = start(vec![spec]);

    // Before anything else, since a tentative IPv6 address cannot be bound.
    let index = started.side.kernel_index(A).unwrap();
    let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x0054, 0x50ff, 0xfe00, 0x0001);
    run_in::<_, NetnsError>(Some(&ns.0), || {
        for address in ["192.0.2.1:0", "[2001:db8::1]:0", "127.0.0.1:0", "[::1]:0"] {
            UdpSocket::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        }
        UdpSocket::bind(SocketAddr::V6(SocketAddrV6::new(link_local, 0, 0, index))).unwrap();
        Ok(())
    })
    .unwrap();

    let link = &ns.json("addr show dev er1-pri")[0];
    assert_eq!(link["address"], "02:54:50:00:00:01");
    assert_eq!(link["mtu"], 1400);
    assert_eq!(link["ifindex"], index);
    let flags = link["flags"].as_array().unwrap();
    assert!(
        flags.iter().any(|flag| flag == "UP") && flags.iter().any(|flag| flag == "LOWER_UP"),
        "{flags:?}"
    );
    let mut addresses: Vec<String> = link["addr_info"]
        .as_array()
        .unwrap()
        .iter()
        .map(|address| {
            assert!(address.get("tentative").is_none() && address.get("dadfailed").is_none(), "{address}");
            format!("{}/{}", address["local"].as_str().unwrap(), address["prefixlen"])
        })
        .collect();
    addresses.sort();
    assert_eq!(addresses, ["192.0.2.1/30", "2001:db8::1/126", "fe80::54:50ff:fe00:1/64"]);
}

#[test]
fn sysctls_are_set_on_the_tap_alone() {
    let ns = Namespace::new();
    let _started = start(vec![ns.spec(A, "er1-pri", &["192.0.2.1/30"])]);
    let read = |path: &str| {
        let path = format!("/proc/sys/net/{path}");
        run_in::<_, NetnsError>(Some(&ns.0), || Ok(std::fs::read_to_string(path).unwrap().trim().to_string()))
            .unwrap()
    };
    for (setting, value) in [
        ("ipv4/conf/er1-pri/arp_ignore", "1"),
        ("ipv4/conf/er1-pri/arp_announce", "2"),
        ("ipv4/conf/er1-pri/rp_filter", "0"),
        ("ipv6/conf/er1-pri/accept_ra", "0"),
        ("ipv6/conf/er1-pri/autoconf", "0"),
        ("ipv6/conf/er1-pri/accept_dad", "0"),
        ("ipv6/conf/er1-pri/addr_gen_mode", "0"),
        ("ipv6/conf/er1-pri/router_solicitations", "0"),
        ("ipv6/conf/er1-pri/keep_addr_on_down", "1"),
        ("ipv6/conf/er1-pri/disable_ipv6", "0"),
        ("ipv4/conf/lo/arp_ignore", "0"),
        ("ipv6/conf/lo/keep_addr_on_down", "0"),
    ] {
        assert_eq!(read(setting), value, "{setting}");
    }
}

#[test]
fn addresses_survive_down_and_up() {
    let ns = Namespace::new();
    let _started = start(vec![ns.spec(A, "lan", &["192.0.2.1/30", "2001:db8::1/126"])]);
    ns.ip("link set lan down");
    ns.ip("link set lan up");
    let mut addresses: Vec<String> = ns.json("addr show dev lan")[0]["addr_info"]
        .as_array()
        .unwrap()
        .iter()
        .map(|address| address["local"].as_str().unwrap().to_string())
        .collect();
    addresses.sort();
    assert_eq!(addresses, ["192.0.2.1", "2001:db8::1", "fe80::54:50ff:fe00:1"]);
}

#[test]
fn a_small_mtu_goes_without_ipv6_and_says_so_when_asked_for_it() {
    let ns = Namespace::new();
    let mut spec = ns.spec(A, "small", &["192.0.2.1/30"]);
    spec.mtu = 1000;
    let started = start(vec![spec.clone()]);
    assert_eq!(ns.json("addr show dev small")[0]["addr_info"].as_array().unwrap().len(), 1);
    without_children(|| started.side.stop());
    spec.addresses.push("2001:db8::1/126".parse().unwrap());
    let (frames, neighbours) = (crossbeam::channel::bounded(1).0, crossbeam::channel::bounded(1).0);
    let error =
        without_children(|| control::kernel::KernelSide::start(vec![spec], frames, neighbours)).unwrap_err();
    assert!(matches!(error, KernelError::NoIpv6 { .. }), "{error}");
    assert!(!ns.has_link("small"));
}

#[test]
fn stop_removes_taps_and_threads() {
    let ns = Namespace::new();
    let other = Namespace::new();
    let started = start(vec![ns.spec(A, "lan", &["192.0.2.1/30"]), other.spec(B, "wan", &[])]);
    assert!(ns.has_link("lan") && other.has_link("wan"));
    let Started { side, frames, neighbours } = started;
    without_children(|| side.stop());
    assert!(!ns.has_link("lan") && !other.has_link("wan"));
    // The threads held the far ends.
    while frames.recv().is_ok() {}
    while neighbours.recv().is_ok() {}
    // And the names are free again.
    start(vec![ns.spec(A, "lan", &["192.0.2.1/30"]), other.spec(B, "wan", &[])]);
}

#[test]
fn stop_does_not_wait_for_a_consumer_that_does_not_read() {
    let ns = Namespace::new();
    let (frames, _frames) = crossbeam::channel::bounded(1);
    let (neighbours, _neighbours) = crossbeam::channel::bounded(1);
    let side =
        control::kernel::KernelSide::start(vec![ns.spec(A, "lan", &["192.0.2.1/24"])], frames, neighbours)
            .unwrap();
    for host in 2..20 {
        ns.ip(&format!("neigh add 192.0.2.{host} dev lan lladdr 02:00:00:00:00:01"));
    }
    let before = std::time::Instant::now();
    without_children(|| side.stop());
    assert!(before.elapsed() < std::time::Duration::from_secs(20), "{:?}", before.elapsed());
    assert!(!ns.has_link("lan"));
}

#[test]
fn carrier_follows_set_link() {
    let ns = Namespace::new();
    let started = start(vec![ns.spec(A, "lan", &["192.0.2.1/24"])]);
    let address = "192.0.2.9".parse().unwrap();
    ns.ip("neigh add 192.0.2.9 dev lan lladdr 02:ee:ee:00:00:02 nud reachable");
    let soon = std::time::Duration::from_secs(20);
    started.neighbour(soon, A, address, |state| state.mac() == Some(PEER_MAC));
    let no_carrier = || {
        let link = &ns.json("link show dev lan")[0];
        link["flags"].as_array().unwrap().iter().any(|flag| flag == "NO-CARRIER")
    };
    assert!(!no_carrier());
    started.side.set_link(A, false).unwrap();
    assert!(no_carrier());
    started.neighbour(soon, A, address, |state| state == control::kernel::NeighbourState::Gone);
    started.side.set_link(A, true).unwrap();
    assert!(!no_carrier());
    assert!(matches!(started.side.set_link(B, true), Err(KernelError::UnknownInterface(B))));
}

#[test]
fn without_a_namespace_the_tap_is_in_the_current_one() {
    let ns = Namespace::new();
    let name = format!("tpk{}", std::process::id());
    let mut spec = ns.spec(A, &name, &["203.0.113.1/30"]);
    spec.namespace = None;
    let path = format!("/sys/class/net/{name}");
    let started = start(vec![spec]);
    assert!(std::path::Path::new(&path).exists());
    assert!(!ns.has_link(&name));
    UdpSocket::bind("203.0.113.1:0").unwrap();
    without_children(|| started.side.stop());
    assert!(!std::path::Path::new(&path).exists());
}
