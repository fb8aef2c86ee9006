//! What is wrong only in the light of another section: references, tags on a port, prefixes in a VRF.

use super::{COMPLETE, altered, errors_of, one, one_added};
use crate::config::parse;

const NONE: [String; 0] = [];

fn interface(name: &str, rest: &str, addresses: &str) -> String {
    format!("[[interface]]\nname = \"{name}\"\nport = \"lan0\"\n{rest}\naddresses = [\"{addresses}\"]\n")
}

#[test]
fn references_to_nothing_suggest_the_nearest() {
    one(
        "port = \"lan0\"\nvlan",
        "port = \"lam0\"\nvlan",
        "interface.port",
        &["a port; did you mean \"lan0\"?"],
    );
    one(
        "interface = \"er1-private-secondary\"",
        "interface = \"er1-privat-secondary\"",
        "neighbour.interface",
        &["did you mean \"er1-private-secondary\"?"],
    );
    one(
        "vrf = \"private\"\nvia",
        "vrf = \"privat\"\nvia",
        "route.vrf",
        &["VRF \"privat\"", "mean \"private\"?"],
    );
    one("vrf = \"private\"\nadd_path", "vrf = \"x\"\nadd_path", "bgp.peer.vrf", &["no interface or peering"]);
    one("name = \"private\"\nnamespace", "name = \"privat\"\nnamespace", "vrf.name", &["mean \"private\"?"]);
}

#[test]
fn a_vrf_without_interface_takes_no_routes_or_peers() {
    let port = "[[port]]\nname = \"lan0\"\ndevice = \"net_null0\"\n";
    let text = format!(
        "{port}{}[[route]]\nprefix = \"10.0.0.0/8\"\ndiscard = true\n[bgp]\nasn = 1\nrouter_id = \"1.1.1.1\"\n\
         [[bgp.peer]]\naddress = \"127.0.0.1\"\nasn = 1\n",
        interface("lan", "vrf = \"private\"", "192.0.2.1/24")
    );
    let errors = errors_of(&text);
    assert_eq!(errors.len(), 2, "{errors:#?}");
    assert!(errors[0].contains("route.vrf: no interface or peering is in VRF \"default\""), "{errors:#?}");
    assert!(errors[1].contains("bgp.peer.vrf: no interface or peering is in VRF \"default\""), "{errors:#?}");
}

#[test]
fn duplicates() {
    one_added("[[vrf]]\nname = \"private\"", 1, "vrf.name", &["stands on line 18 already"]);
    one_added(
        "[[port]]\nname = \"lan0\"\ndevice = \"net_null0\"",
        1,
        "port.name",
        &["a port already (line 13)"],
    );
    let again = interface("lan", "vlan = 99\ntap = \"x\"", "100.64.0.1/24");
    one_added(&again, 1, "interface.name", &["an interface already"]);
    one_added(
        "[[route]]\nvrf = \"private\"\nprefix = \"10.20.0.0/16\"\ndiscard = true",
        2,
        "route.prefix",
        &["already"],
    );
    let neighbour = "[[neighbour]]\ninterface = \"lan\"\naddress = \"fe80::1\"\nmac = \"00:53:00:00:00:01\"";
    one_added(neighbour, 2, "neighbour.address", &["has a MAC already"]);
    one_added(
        "[[bgp.peer]]\naddress = \"::1\"\nasn = 1\nname = \"b\"",
        1,
        "bgp.peer.address",
        &["is a peer already"],
    );
    one_added(
        "[[bgp.peer]]\naddress = \"::2\"\nasn = 1\nname = \"frr\"",
        3,
        "bgp.peer.name",
        &["peer already"],
    );
    let fine = "[[bgp.peer]]\naddress = \"::1\"\nasn = 1\nname = \"b\"\nnamespace = \"other\"\n";
    assert_eq!(errors_of(&format!("{COMPLETE}{fine}")), NONE, "another namespace tells them apart");
}

#[test]
fn tags_on_a_port() {
    let untagged = interface("b", "", "100.64.0.1/24");
    one_added(&untagged, 2, "interface.port", &["untagged on port \"lan0\" belongs to \"lan\""]);
    let single = interface("b", "vlan = 30", "100.64.0.1/24");
    one_added(&single, 3, "interface.vlan", &["VLAN 30 on port \"lan0\" belongs to \"office\""]);
    // The TPID is no part of the key.
    let double = interface("b", "s_tag = 30\nc_tag = 40", "100.64.0.1/24");
    one_added(&double, 4, "interface.c_tag", &["S-tag 30 with C-tag 40", "belongs to \"double\""]);
    // VLAN 30 stands in `COMPLETE` as a single tag and as an S-tag: the frames differ.
    let other = interface("b", "s_tag = 30\nc_tag = 41", "100.64.0.1/24");
    assert_eq!(errors_of(&format!("{COMPLETE}{other}")), NONE);
    // The same tags on another port are another key.
    let elsewhere = single.replace("lan0", "wan1");
    assert_eq!(errors_of(&format!("{COMPLETE}{elsewhere}")), NONE);
}

#[test]
fn private_and_microsoft_peering_never_share_a_vrf() {
    one("vrf = \"public\"\npeer_asn", "vrf = \"private\"\npeer_asn", "circuit.peering.vrf", &["its own VRF"]);
}

#[test]
fn prefixes_within_a_vrf() {
    let same = interface("b", "vlan = 50\nvrf = \"private\"", "192.0.2.129/25");
    one_added(
        &same,
        5,
        "interface.addresses",
        &["192.0.2.129/25 overlaps 192.0.2.1/24 of \"lan\"", "same VRF"],
    );
    let wider = interface("b", "vlan = 50\nvrf = \"private\"", "192.0.0.1/8");
    one_added(&wider, 5, "interface.addresses", &["192.0.0.1/8 overlaps 192.0.2.1/24"]);
    let v6 = interface("b", "vlan = 50\nvrf = \"private\"", "fd00::5:0:0:1/48");
    let errors = errors_of(&format!("{COMPLETE}{v6}"));
    assert_eq!(errors.len(), 2, "one for each link that it covers: {errors:#?}");
    let beside = interface("b", "vlan = 50\nvrf = \"private\"", "192.0.3.1/24");
    assert_eq!(errors_of(&format!("{COMPLETE}{beside}")), NONE);
    let second = altered("\"2001:db8::1/64\"]", "\"2001:db8::1/64\", \"192.0.2.2/24\"]");
    assert_eq!(errors_of(&second), NONE, "a second address of the same interface");
}

#[test]
fn prefixes_of_vrfs_that_share_a_namespace() {
    // "public" and "default" share the namespace in which turnpike starts.
    let shared = interface("b", "vlan = 50", "198.51.100.9/24");
    one_added(&shared, 4, "interface.addresses", &["share a network namespace", "namespace = \"default\""]);
    let text = format!("{COMPLETE}{shared}");
    assert_eq!(errors_of(&text.replace("taps = true", "taps = false")), NONE, "no kernel to confuse");
    let apart = format!("{text}[[vrf]]\nname = \"public\"\nnamespace = \"ns-public\"\n");
    assert_eq!(errors_of(&apart), NONE, "VRFs may overlap, each in its namespace");
}

#[test]
fn mtus() {
    one("mtu = 1400", "mtu = 1501", "circuit.peering.mtu", &["larger than its port's 1500"]);
    one("mtu = 1400", "mtu = 1279", "circuit.peering.mtu", &["too small for its IPv6", "1280"]);
    one("mtu = 1500\npcp = 3", "mtu = 9001\npcp = 3", "interface.mtu", &["9000 (line 15)"]);
    assert_eq!(errors_of(&altered("mtu = 1500\npcp = 3", "mtu = 576\npcp = 3")), NONE, "IPv4 only");
}

#[test]
fn routes() {
    let via = "via = [\"192.0.2.254\", \"192.0.2.253\"]";
    one(
        "prefix = \"10.20.0.0/16\"",
        "prefix = \"10.20.1.0/16\"",
        "route.prefix",
        &["host bits", "\"10.20.0.0/16\""],
    );
    one(via, "via = \"192.0.2.1\"", "route.via", &["our own address on \"lan\""]);
    one(via, "via = \"2001:db8::2\"", "route.via", &["not of the family of 10.20.0.0/16"]);
    one(via, "via = \"192.0.2.2\"\ndiscard = true", "route.discard", &["either"]);
    one(via, "via = []", "route.via", &["no gateway"]);
    one(via, "via = [\"192.0.2.2\", \"192.0.2.2\"]", "route.via", &["in the list already"]);
    one(via, "via = \"fe80::1\"", "route.via", &["link-local"]);
    one(via, "via = \"192.0.2.2/24\"", "route.via", &["is no IP address"]);
    assert_eq!(
        errors_of(&altered(via, "via = \"172.31.0.1\"")),
        NONE,
        "resolves over BGP, perhaps: a warning"
    );
}

#[test]
fn neighbours() {
    let address = |to: &str, parts: &[&str]| {
        one("address = \"10.0.0.6\"", &format!("address = \"{to}\""), "neighbour.address", parts);
    };
    address("10.0.0.9", &["is not on \"er1-private-secondary\"", "10.0.0.4/30, fd00::4/126"]);
    address("10.0.0.5", &["our own address"]);
    address("10.0.0.7", &["no host"]);
    address("224.0.0.1", &["multicast"]);
    let mac = |to: &str, parts: &[&str]| {
        one("mac = \"00:53:00:00:00:0A\"", &format!("mac = \"{to}\""), "neighbour.mac", parts);
    };
    mac("01:00:5e:00:00:01", &["multicast"]);
    mac("ff:ff:ff:ff:ff:ff", &["multicast or broadcast"]);
    mac("00:00:00:00:00:00", &["no host's MAC"]);
    mac("00:53:00:00:00", &["six bytes"]);
    mac("00:53:00:00:00:01:02", &["six bytes"]);
    mac("0:53:00:00:00:01", &["six bytes"]);
}

#[test]
fn all_errors_come_at_once_in_the_order_of_the_text() {
    let text = COMPLETE
        .replace("mtu = 2000", "mtu = 1")
        .replace("c_tag = 200", "c_tag = 5000")
        .replace("10.0.0.5/30", "10.0.0.6/30")
        .replace("vlan = 30", "vlna = 30")
        .replace("10.20.0.0/16", "10.20.0.1/16")
        .replace("asn = 64513", "asn = 65515")
        .replace("huge_pages", "huge-pages");
    let errors = parse("er.toml", &text).expect_err("seven errors");
    let keys: Vec<&str> = errors.iter().map(|e| e.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "port.mtu",
            "circuit.peering.secondary.v4",
            "circuit.peering.c_tag",
            "interface.port",
            "interface.vlna",
            "interface.pcp",
            "route.prefix",
            "bgp.peer.asn",
            "memory.huge-pages"
        ][..]
    );
    let shown = errors.to_string();
    assert!(shown.ends_with("9 errors"), "{shown}");
    assert!(shown.lines().next().unwrap().starts_with("er.toml:5:7: port.mtu: 1 is out of range"), "{shown}");
}
