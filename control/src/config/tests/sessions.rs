//! Warnings of access lists that keep BGP from its interface.

use crate::config::{parse, warnings};

/// What is said of a list with these rules, at an interface with the peers and at a peering's link.
fn seen(rules: &[&str], bgp: &str) -> Vec<String> {
    let text = format!(
        "acl = [{{ name = \"list\", rules = {rules:?} }}]\n\
         port = [{{ name = \"p\", device = \"net_null0\" }}]\n\
         interface = [{{ name = \"lan\", port = \"p\", addresses = [\"192.0.2.1/24\", \"2001:db8::1/64\"], acl_in = \"list\" }}]\n\
         {bgp}"
    );
    warnings(&parse("t.toml", &text).unwrap_or_else(|e| panic!("{e}")))
}

fn bgp(listen: &str, peer: &str) -> String {
    format!(
        "[bgp]\nasn = 65001\nrouter_id = \"192.0.2.1\"\nlisten = \"{listen}\"\n[[bgp.peer]]\nasn = 65002\n{peer}\n"
    )
}

#[test]
fn a_list_that_keeps_a_peer_out_is_named_with_the_way_out() {
    let passive = bgp("0.0.0.0:1179", "address = \"192.0.2.9\"");
    let denied = seen(&["permit icmp"], &passive);
    assert_eq!(
        denied,
        [
            "\"lan\": acl_in \"list\" keeps out the BGP session with 192.0.2.9: add \"permit tcp from 192.0.2.9 to 192.0.2.1 \
          port 1179\" before what denies it"
        ]
    );
    let silent = |rules: &[&str]| assert_eq!(seen(rules, &passive), Vec::<String>::new(), "{rules:?}");
    silent(&["permit tcp from 192.0.2.9 to 192.0.2.1 port 1179"]);
    silent(&["deny tcp from any port 1-1023", "permit tcp from 192.0.2.0/24 dscp cs6"]);
    silent(&["count any", "deny udp", "permit ipv4"]);
    // The first segment has no ACK; the peer's own port is any, and not only bgp; and order counts.
    for rules in [
        &["permit tcp established"][..],
        &["permit tcp from 192.0.2.9 to any port bgp"],
        &["deny tcp to any port 1000-1200", "permit any"],
        &["permit tcp from 192.0.2.10"],
        &["permit tcp outer-vlan 5"],
        &["permit tcp from 2001:db8::/32"],
    ] {
        assert_eq!(seen(rules, &passive).len(), 1, "{rules:?}");
    }
}

#[test]
fn either_way_to_make_the_connection_is_enough() {
    let active = bgp("[::]:179", "address = \"2001:db8::9\"\nmode = \"active\"\nport = 1790");
    let both = bgp("[::]:179", "address = \"2001:db8::9\"\nmode = \"both\"");
    assert_eq!(seen(&["permit tcp established"], &active), Vec::<String>::new());
    assert_eq!(seen(&["permit tcp established"], &both), Vec::<String>::new());
    let denied = seen(&["permit tcp to any port bgp"], &active);
    assert!(denied[0].contains("\"permit tcp from 2001:db8::9 port 1790 to 2001:db8::1\""), "{denied:?}");
    assert_eq!(seen(&["permit tcp to any port bgp"], &both), Vec::<String>::new());
}

#[test]
fn what_the_configuration_does_not_tell_is_not_guessed() {
    let silent = |bgp: &str| assert_eq!(seen(&["deny any"], bgp), Vec::<String>::new(), "{bgp}");
    silent("");
    // Behind another router, in another namespace, over the loopback.
    silent(&bgp("0.0.0.0:179", "address = \"198.51.100.9\""));
    silent(&bgp("0.0.0.0:179", "address = \"192.0.2.9\"\nnamespace = \"other\""));
    silent(&bgp("127.0.0.1:179", "address = \"192.0.2.9\""));
}

#[test]
fn a_circuits_links_always_have_a_session() {
    let text = |rules: &str| {
        format!(
            "acl = [{{ name = \"list\", rules = {rules} }}]\nport = [{{ name = \"p\", device = \"net_null0\" }}, {{ name = \"q\", device = \"net_null1\" }}]\n\
             [[circuit]]\nname = \"er\"\nbandwidth = 50\nbilling = \"metered\"\nencapsulation = \"dot1q\"\n\
             [[circuit.peering]]\nkind = \"private\"\nc_tag = 7\nacl_in = \"list\"\n\
             v4 = \"172.16.0.0/29\"\nv6 = \"fd00::/125\"\n\
             primary = {{ port = \"p\" }}\nsecondary = {{ port = \"q\" }}\n"
        )
    };
    let seen = |rules: &str| warnings(&parse("t.toml", &text(rules)).unwrap_or_else(|e| panic!("{e}")));
    let denied = seen("[\"permit icmp\"]");
    let far = ["172.16.0.2", "fd00::2", "172.16.0.6", "fd00::6"];
    assert_eq!(denied.len(), far.len(), "{denied:?}");
    for (line, far) in denied.iter().zip(far) {
        assert!(line.contains(&format!("the BGP session with {far}")) && line.contains("port 179"), "{line}");
    }
    assert_eq!(seen("[\"permit tcp to any port bgp outer-vlan 7\"]"), Vec::<String>::new());
    assert_eq!(seen("[\"permit tcp from any port bgp established\"]"), Vec::<String>::new());
    assert_eq!(seen("[\"permit ipv4 tcp\"]").len(), 2);
}
