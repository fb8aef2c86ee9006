//! One wrong thing at a time within one section: its line, its key, what is said, and that nothing else is.

use super::{COMPLETE, altered, errors_of, one, one_error};
use crate::config::parse;

#[test]
fn the_complete_text_has_none() {
    assert_eq!(errors_of(COMPLETE), Vec::<String>::new());
}

#[test]
fn unknown_keys_with_the_nearest_known() {
    one("c_tag = 200", "c_tag = 200\nctag = 3", "circuit.peering.ctag", &["did you mean \"c_tag\"?"]);
    one("[workers]", "[wokers]", "wokers", &["unknown key", "\"workers\""]);
    one("[kernel]\ntaps", "[kernel]\ntap", "kernel.tap", &["did you mean \"taps\"?"]);
    one("idle = \"sleep\"", "\"i x\" = 1", "workers.\"i x\"", &["\"cores\", \"idle\""]);
    one(
        "port = \"wan1\"\n",
        "port = \"wan1\"\nv5 = 1\n",
        "circuit.peering.secondary.v5",
        &["unknown key; did you mean"],
    );
}

#[test]
fn types_and_brackets() {
    one("mtu = 2000", "mtu = \"2000\"", "port.mtu", &["must be an integer from 576 to 9600, found string"]);
    one("taps = true", "taps = \"yes\"", "kernel.taps", &["true or false, without quotes"]);
    one("[[vrf]]", "[vrf]", "vrf", &["[[vrf]] with double brackets"]);
    one("[workers]", "[[workers]]", "workers", &["[workers] with single brackets"]);
    one("[kernel]\ntaps = true", "[[kernel]]", "kernel", &["single brackets"]);
    one("device = \"net_tap0,iface=real0\"", "device = 7", "port.device", &["a string in quotes"]);
    one("name = \"office\"", "name = \"the office\"", "interface.name", &["is no name"]);
    one("via = [\"192.0.2.254\", \"192.0.2.253\"]", "via = [1]", "route.via", &["must be a string"]);
    assert!(errors_of("port = 3\ncircuit = [1]")[0].contains("must be tables, found integer"));
}

#[test]
fn syntax_errors_are_one_error_with_its_place() {
    let text = altered("queues = 2", "queues = = 2");
    let errors = parse("t.toml", &text).expect_err("no TOML");
    assert_eq!(errors.count(), 1);
    assert!(errors.to_string().starts_with("t.toml:4:10: not valid TOML: "), "{errors}");
    let twice = parse("t.toml", "a = 1\na = 2\n").expect_err("no TOML").to_string();
    assert!(twice.starts_with("t.toml:2:1: not valid TOML: duplicate key: `a`"), "{twice}");
}

#[test]
fn missing_sections_show_the_smallest_example() {
    let errors = errors_of("[workers]\ncores = 1\n");
    assert_eq!(errors.len(), 2, "{errors:#?}");
    assert!(errors[0].starts_with("1 interface: there is no [[interface]]"), "{errors:#?}");
    assert!(errors[1].starts_with("1 port: there is no [[port]]"), "{errors:#?}");
    let examples: Vec<&str> = errors.iter().filter_map(|e| e.split("the smallest: ").nth(1)).collect();
    parse("t.toml", &examples.join("\n")).unwrap_or_else(|e| panic!("{e}"));

    let no_peering =
        "[[circuit]]\nname = \"e\"\nbandwidth = \"1G\"\nbilling = \"metered\"\nencapsulation = \"dot1q\"\n";
    let ports =
        "port = [{ name = \"wan0\", device = \"net_null0\" }, { name = \"wan1\", device = \"net_null1\" }]\n";
    let errors = errors_of(&format!("{ports}{no_peering}"));
    assert_eq!(errors.len(), 1, "{errors:#?}");
    let example = errors[0].split("the smallest: ").nth(1).expect("an example");
    parse("t.toml", &format!("{ports}{no_peering}{example}\n")).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn missing_keys() {
    one_error("name = \"er1\"\n", "", "[[circuit]]", "circuit.name", &["missing", "name = \"er1\""]);
    one_error("s_tag = 10\n", "", "[[circuit]]", "circuit.s_tag", &["missing", "s_tag = 10"]);
    one_error("asn = 64513\n", "", "[[bgp.peer]]\naddress", "bgp.peer.asn", &["missing"]);
    one_error("router_id = \"192.0.2.1\"\n", "", "[bgp]", "bgp.router_id", &["missing"]);
    one_error("discard = true\n", "", "[[route]]\nprefix = \"2001", "route.via", &["discard = true"]);
    one("addresses = \"198.51.100.1/24\"", "addresses = []", "interface.addresses", &["missing; add"]);
    one(
        "primary = { port = \"wan0\", v4 = \"10.9.0.0/30\" }",
        "primary = { port = \"wan0\" }",
        "circuit.peering.primary",
        &["has no address", "/29"],
    );
}

#[test]
fn ranges() {
    one("c_tag = 200", "c_tag = 4095", "circuit.peering.c_tag", &["VLAN id: 4095", "1 to 4094"]);
    one("vlan = 30", "vlan = 0", "interface.vlan", &["VLAN id: 0"]);
    one("pcp = 3", "pcp = 8", "interface.pcp", &["0 to 7"]);
    one("mtu = 9000", "mtu = 9601", "port.mtu", &["576 to 9600"]);
    one("descriptors = 512", "descriptors = 500", "port.descriptors", &["power of two", "512"]);
    one("bandwidth = \"10G\"", "bandwidth = \"10Gbit\"", "circuit.bandwidth", &["\"10G\", \"500M\""]);
    one("bandwidth = 500", "bandwidth = -1", "circuit.bandwidth", &["-1 is no bandwidth"]);
    one("retain = \"60s\"", "retain = \"1m\"", "bgp.retain", &["120 or \"120s\""]);
    one("hold_time = 30", "hold_time = 2", "bgp.hold_time", &["at least 3"]);
    one("static_distance = 5", "static_distance = 0", "routes.static_distance", &["1 to 255"]);
    one("bgp_distance = 20", "bgp_distance = 5", "routes.bgp_distance", &["two sources have distance 5"]);
    one("cores = [1, 2]", "cores = [1, 1]", "workers.cores", &["core 1 is listed twice"]);
    one("socket = \"/run/t.sock\"", "socket = \"t.sock\"", "api.socket", &["absolute path"]);
    one("metrics = \"127.0.0.1:9477\"", "metrics = 9477", "api.metrics", &["a string"]);
    one("metrics = \"127.0.0.1:9477\"", "metrics = \"localhost\"", "api.metrics", &["address with a port"]);
    one(
        "encapsulation = \"dot1q\"",
        "encapsulation = \"dotq\"",
        "circuit.encapsulation",
        &["mean \"dot1q\"?"],
    );
    one(
        "s_tag = 10\nouter_tpid = 0x88a8",
        "s_tag = 10\nouter_tpid = 0x9100",
        "circuit.outer_tpid",
        &["0x9100", "0x8100 or 0x88a8"],
    );
}

#[test]
fn reserved_as_numbers() {
    for asn in ["0", "23456", "65515", "65518", "65520", "65535", "4294967295"] {
        one("asn = 64513", &format!("asn = {asn}"), "bgp.peer.asn", &[&format!("AS {asn} is ")]);
        one("peer_asn = 12077", &format!("peer_asn = {asn}"), "circuit.peering.peer_asn", &["AS "]);
        one("asn = 64512\nrouter_id", &format!("asn = {asn}\nrouter_id"), "bgp.asn", &["AS "]);
    }
    for asn in ["1", "23455", "65514", "65521", "65534", "4294967294"] {
        assert_eq!(errors_of(&altered("asn = 64513", &format!("asn = {asn}"))), Vec::<String>::new());
    }
}

#[test]
fn the_links_addresses() {
    let links = |v4: &str| format!("v4 = \"{v4}\", tap");
    let key = "circuit.peering.secondary.v4";
    let from = "v4 = \"10.0.0.5/30\", tap";
    one(from, &links("10.0.0.6/30"), key, &["Microsoft's end", "\"10.0.0.5/30\"", "\"10.0.0.4/30\""]);
    one(from, &links("10.0.0.7/30"), key, &["no host's", "\"10.0.0.5/30\""]);
    one(from, &links("10.0.0.5/24"), key, &["each link has a /30, not a /24"]);
    one(from, &links("10.0.0.0/29"), key, &["the peering's own `v4`"]);
    one(from, &links("10.0.0.5"), key, &["no prefix length"]);
    one(from, &links("10.0.0.256/30"), key, &["is no prefix"]);
    one(from, &links("224.0.0.4/30"), key, &["multicast"]);
    one(from, &links("fd00:1::/126"), key, &["put it under `v6`"]);
    one(
        "v6 = \"2001:db8:1::1/126\"",
        "v6 = \"2001:db8:1::2/126\"",
        "circuit.peering.primary.v6",
        &["Microsoft's end", "\"2001:db8:1::1/126\""],
    );
    let whole = "circuit.peering.v4";
    one("v4 = \"203.0.113.8/29\"", "v4 = \"203.0.113.8/30\"", whole, &["/29 network", "`primary`"]);
    one("v4 = \"203.0.113.8/29\"", "v4 = \"203.0.113.9/29\"", whole, &["without host bits"]);
    one(
        "port = \"wan1\"\n",
        "port = \"wan1\"\nv4 = \"203.0.113.12/30\"\n",
        "circuit.peering.secondary.v4",
        &["given twice", "keep one"],
    );
}

#[test]
fn circuit_tags_and_names() {
    one(
        "encapsulation = \"dot1q\"",
        "encapsulation = \"dot1q\"\ns_tag = 20",
        "circuit.s_tag",
        &["for encapsulation = \"qinq\""],
    );
    one(
        "c_tag = 200",
        "c_tag = 100",
        "circuit.peering.c_tag",
        &["S-tag 10 with C-tag 100", "er1-private-primary"],
    );
    one("kind = \"microsoft\"", "kind = \"Microsoft\"", "circuit.peering.kind", &["mean \"microsoft\"?"]);
    one(
        "name = \"a-long-circuit-name\"",
        "name = \"er1\"",
        "circuit.name",
        &["is the name of a circuit already"],
    );
    one("name = \"office\"", "name = \"er1-private-primary\"\ntap = \"x\"", "interface.name", &["already"]);
    one(
        "tap = \"second\"",
        "tap = \"er1-prv-p\"",
        "circuit.peering.secondary.tap",
        &["taken by another TAP"],
    );
    one("tap = \"dbl\"", "tap = \"real0\"", "interface.tap", &["a port's device", "(line 14)"]);
    one("tap = \"dbl\"", "tap = \"sixteen-bytes-xx\"", "interface.tap", &["16 bytes", "at most 15"]);
    one("tap = \"dbl\"", "tap = \"lo\"", "interface.tap", &["kernel uses itself"]);
}

#[test]
fn two_peerings_of_one_kind() {
    let text = altered("kind = \"microsoft\"", "kind = \"private\"");
    let errors = errors_of(&text);
    assert!(errors[0].contains("has a private peering already"), "{errors:#?}");
}

#[test]
fn tags_of_interfaces() {
    one("vlan = 30", "vlan = 30\ns_tag = 1\nc_tag = 2", "interface.vlan", &["only tag"]);
    one_error(
        "s_tag = 30\nc_tag = 40\n",
        "s_tag = 30\n",
        "s_tag = 30",
        "interface.s_tag",
        &["needs `c_tag`"],
    );
    one_error(
        "s_tag = 30\nc_tag = 40\n",
        "c_tag = 40\n",
        "c_tag = 40",
        "interface.c_tag",
        &["needs `s_tag`"],
    );
    let untagged =
        altered("vlan = 30\n", "").replace("port = \"lan0\"\nvrf = \"private\"", "port = \"lan0\"\npcp = 1");
    assert!(errors_of(&untagged).iter().any(|e| e.contains("interface.pcp: there is no tag to carry it")));
    one("vlan = 30", "outer_tpid = 0x8100\nvlan = 30", "interface.outer_tpid", &["two tags"]);
}

#[test]
fn addresses_of_interfaces() {
    let change = |to: &str, parts: &[&str]| {
        one(
            "addresses = \"198.51.100.1/24\"",
            &format!("addresses = [\"{to}\"]"),
            "interface.addresses",
            parts,
        );
    };
    change("198.51.100.0/24", &["the subnet's own address", "the first host is \"198.51.100.1/24\""]);
    change("198.51.100.255/24", &["broadcast address"]);
    change("2001:db8:9::/64", &["the subnet's own address", "\"2001:db8:9::1/64\""]);
    change("fe80::1/64", &["link-local"]);
    change("ff02::1/64", &["multicast"]);
    change("127.0.0.1/8", &["loopback"]);
    change("240.0.0.1/8", &["reserved"]);
    change("0.0.0.0/8", &["unspecified"]);
    change("198.51.100.1/33", &["0 to 32"]);
    change("198.51.100.1/+8", &["0 to 32"]);
    change("198.51.100.1/0", &["whole Internet"]);
    change("::ffff:1.2.3.4/120", &["write it as IPv4"]);
    for fine in ["198.51.100.0/31", "198.51.100.7/32", "2001:db8:9::/127", "2001:db8:9::7/128"] {
        let text = altered("198.51.100.1/24", fine);
        assert_eq!(errors_of(&text), Vec::<String>::new(), "{fine}: RFC 3021, RFC 6164");
    }
}

#[test]
fn devices() {
    let change = |to: &str, parts: &[&str]| {
        one("device = \"net_tap0,iface=real0\"", &format!("device = \"{to}\""), "port.device", parts);
    };
    change("3b:00.0", &["lacks the PCI domain", "\"0000:3b:00.0\""]);
    change("eth1", &["net_af_packet0,iface=NAME"]);
    change("0000:3b:00.8", &["neither a PCI address"]);
    change("net_tap0, iface=x", &["white space"]);
    change("", &["must not be empty"]);
    change("net_tap0\\u0000", &["zero byte"]);
    change("0000:3b:00.1", &["serves another port already (line 10)"]);
}
