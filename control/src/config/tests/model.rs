//! What a valid text becomes.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dataplane::ids::{PortId, SubIfId, VrfId};

use super::{COMPLETE, altered};
use crate::config::model::*;
use crate::config::{parse, warnings};
use dpdk_sys::Offloads;

fn complete() -> Config {
    parse("complete.toml", COMPLETE).unwrap_or_else(|e| panic!("{e}"))
}

fn sub<'a>(config: &'a Config, name: &str) -> &'a SubInterface {
    config.sub_interfaces.iter().find(|s| s.name == name).expect(name)
}

fn addresses(sub: &SubInterface) -> Vec<String> {
    sub.addresses.iter().map(ToString::to_string).collect()
}

#[test]
fn ports_and_vrfs_become_indices() {
    let config = complete();
    let ports: Vec<_> = config
        .ports
        .iter()
        .map(|p| (p.name.as_str(), p.device.as_str(), p.queues, p.mtu, p.descriptors))
        .collect();
    assert_eq!(
        ports,
        [
            ("wan0", "0000:3b:00.0", Some(2), 2000, 512),
            ("wan1", "0000:3b:00.1,arg=1", None, 1500, 1024),
            ("lan0", "net_tap0,iface=real0", None, 9000, 1024),
        ]
    );
    let all = Offloads { rx_checksum: true, vlan_strip: true, vlan_insert: true };
    let none = Offloads::default();
    assert_eq!(config.ports.iter().map(|p| p.offloads).collect::<Vec<_>>(), [all, none, none]);
    let vrfs: Vec<_> = config.vrfs.iter().map(|v| (v.name.as_str(), v.namespace.as_deref())).collect();
    assert_eq!(vrfs, [("default", None), ("private", Some("ns-private")), ("public", None)]);
}

#[test]
fn a_qinq_peering_becomes_two_links() {
    let config = complete();
    let names: Vec<_> = config.sub_interfaces.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "er1-private-primary",
            "er1-private-secondary",
            "er1-microsoft-primary",
            "er1-microsoft-secondary",
            "a-long-circuit-name-private-primary",
            "lan",
            "office",
            "double"
        ]
    );
    let qinq = |c_tag| Encapsulation::QinQ {
        outer: Tag { tpid: 0x88a8, vid: 10 },
        inner: Tag { tpid: 0x8100, vid: c_tag },
    };
    let first = sub(&config, "er1-private-primary");
    assert_eq!(first.encapsulation, qinq(100));
    assert_eq!((first.port, first.vrf, first.mtu, first.pcp), (PortId(0), VrfId(1), 1500, Some(5)));
    assert_eq!(addresses(first), ["10.0.0.1/30", "fd00::1/126"], "a network gives its first host");
    let second = sub(&config, "er1-private-secondary");
    assert_eq!(addresses(second), ["10.0.0.5/30", "fd00::5/126"], "our address is taken as it is");
    assert_eq!(
        second.link,
        Some(CircuitLink {
            circuit: 0,
            peering: PeeringKind::Private,
            role: LinkRole::Secondary,
            peer_asn: 12076
        })
    );
    let third = sub(&config, "er1-microsoft-primary");
    assert_eq!(third.encapsulation, qinq(200));
    assert_eq!(addresses(third), ["203.0.113.9/30", "2001:db8:1::1/126"]);
    assert_eq!((third.vrf, third.mtu, third.link.map(|l| l.peer_asn)), (VrfId(2), 1400, Some(12077)));
    assert_eq!(addresses(sub(&config, "er1-microsoft-secondary")), ["203.0.113.13/30"], "the upper half");
}

#[test]
fn dot1q_and_lan_interfaces_have_their_tags() {
    let config = complete();
    let tag = |tpid, vid| Tag { tpid, vid };
    let dot1q = sub(&config, "a-long-circuit-name-private-primary");
    assert_eq!(dot1q.encapsulation, Encapsulation::Dot1q(tag(0x8100, 10)));
    assert_eq!((dot1q.vrf, dot1q.link.map(|l| l.circuit)), (VrfId(0), Some(1)));
    let lan = sub(&config, "lan");
    assert_eq!((lan.encapsulation, lan.mtu, lan.pcp), (Encapsulation::Untagged, 9000, None));
    let office = sub(&config, "office");
    assert_eq!(office.encapsulation, Encapsulation::Dot1q(tag(0x8100, 30)));
    assert_eq!((office.mtu, office.pcp), (1500, Some(3)));
    let double = sub(&config, "double");
    assert_eq!(double.encapsulation, Encapsulation::QinQ { outer: tag(0x88a8, 30), inner: tag(0x8100, 40) });
}

#[test]
fn taps_are_short_and_unique() {
    let config = complete();
    let taps: Vec<_> = config.sub_interfaces.iter().map(|s| s.tap.as_str()).collect();
    assert_eq!(taps[..4], ["er1-prv-p", "second", "er1-msf-p", "er1-msf-s"]);
    assert_eq!(taps[5..], ["lan", "office", "dbl"]);
    assert!(
        taps[4].starts_with("a-lon") && taps[4].ends_with("-prv-p") && taps[4].len() == 15,
        "{}",
        taps[4]
    );
}

#[test]
fn the_rest_of_the_sections() {
    let config = complete();
    assert_eq!(
        config.circuits,
        [
            Circuit { name: "er1".into(), bandwidth_mbps: 10_000, billing: Billing::Metered, premium: false },
            Circuit {
                name: "a-long-circuit-name".into(),
                bandwidth_mbps: 500,
                billing: Billing::Unlimited,
                premium: false
            }
        ]
    );
    let via = vec!["192.0.2.254".parse().unwrap(), "192.0.2.253".parse().unwrap()];
    assert_eq!(
        config.routes,
        [
            StaticRoute { vrf: VrfId(1), prefix: "10.20.0.0/16".parse().unwrap(), target: Target::Via(via) },
            StaticRoute {
                vrf: VrfId(0),
                prefix: "2001:db8:f::/48".parse().unwrap(),
                target: Target::Discard
            }
        ]
    );
    assert_eq!(
        config.neighbours,
        [
            StaticNeighbour {
                interface: SubIfId(1),
                address: "10.0.0.6".parse().unwrap(),
                mac: [0, 0x53, 0, 0, 0, 10]
            },
            StaticNeighbour {
                interface: SubIfId(5),
                address: "fe80::1".parse().unwrap(),
                mac: [0, 0x53, 0, 0, 0, 1]
            }
        ]
    );
    assert_eq!(config.workers, Workers { cores: vec![1, 2], idle: Idle::Sleep, hand_over: true });
    assert_eq!(
        config.sources,
        Sources {
            static_distance: 5,
            bgp_distance: 20,
            fpm_distance: 30,
            netlink_distance: 40,
            max_paths: 64
        }
    );
    assert_eq!(config.kernel, Kernel { taps: true });
    let metrics = Some("127.0.0.1:9477".parse().unwrap());
    assert_eq!(config.api, Api { socket: PathBuf::from("/run/t.sock"), metrics });
    let eal_args = vec!["--log-level=7".to_owned()];
    assert_eq!(config.memory, Memory { huge_pages: HugePages::Never, buffers: Some(4096), eal_args });
}

fn edge_filter() -> Filter {
    let prefix = |text: &str| PrefixMatch { prefix: text.parse().unwrap(), ge: 16, le: 24 };
    let rule = Rule {
        prefixes: vec![prefix("10.0.0.0/8"), prefix("172.16.0.0/12")],
        communities: vec![
            CommunityMatch::Standard([Some(12076), None]),
            CommunityMatch::Large([Some(65010), Some(1), Some(2)]),
        ],
        as_path: vec![12076],
        origin_as: vec![12076],
        permit: true,
        local_pref: Some(200),
        weight: Some(10),
        distance: Some(30),
    };
    Filter { name: "edge".into(), rules: vec![rule], permit_rest: true }
}

fn announcement(prefix: &str) -> Announcement {
    let next_hop = Some("192.0.2.1".parse().unwrap());
    Announcement { prefix: prefix.parse().unwrap(), next_hop, communities: vec![0xfc00_0001] }
}

#[test]
fn a_peer_at_the_far_end_of_a_link_has_its_circuits_limits() {
    let peer = |address: &str, vrf: &str| {
        format!("\n[[bgp.peer]]\naddress = \"{address}\"\nasn = 12076\nvrf = \"{vrf}\"\n")
    };
    let limits = |text: &str, address: &str, vrf: &str| {
        let text = text.replace("\n[[bgp.filter]]", &format!("{}\n[[bgp.filter]]", peer(address, vrf)));
        let config = parse("t.toml", &text).unwrap_or_else(|e| panic!("{e}"));
        config.bgp.unwrap().peers.last().unwrap().announce_limits
    };
    let whole = crate::config::tests::COMPLETE;
    assert_eq!(limits(whole, "10.0.0.2", "private"), Some(AnnounceLimits::PRIVATE));
    assert_eq!(limits(whole, "192.0.2.99", "private"), None, "on the LAN");
    let premium = whole.replacen("[[circuit]]\n", "[[circuit]]\npremium = true\n", 1);
    assert_eq!(limits(&premium, "10.0.0.2", "private"), Some(AnnounceLimits::PRIVATE_PREMIUM));
}

#[test]
fn bgp_with_its_peers() {
    let bgp = complete().bgp.expect("[bgp] is there");
    assert_eq!(bgp.listen, ["127.0.0.1:1790".parse().unwrap(), "[::1]:1790".parse().unwrap()]);
    assert_eq!((bgp.asn, bgp.router_id), (64512, Ipv4Addr::new(192, 0, 2, 1)));
    assert_eq!((bgp.retain, bgp.hold_time), (Duration::from_mins(1), Duration::from_secs(30)));
    assert_eq!(
        bgp.peers,
        [
            BgpPeer {
                add_path: false,
                namespace: Some("ns-private".into()),
                ..BgpPeer::new("frr".into(), IpAddr::V4(Ipv4Addr::LOCALHOST), 64512, VrfId(1))
            },
            BgpPeer {
                mode: BgpMode::Both,
                port: 1179,
                local_address: Some("::2".parse().unwrap()),
                connect_retry: Duration::from_secs(5),
                password: Password::new("secret".into()),
                ttl_security: Some(1),
                max_prefix: MaxPrefix {
                    ipv4: Some(4000),
                    ipv6: Some(100),
                    warning: 80,
                    action: MaxPrefixAction::Restart(Duration::from_mins(1)),
                },
                import: Some(Arc::new(edge_filter())),
                announce: ["192.0.2.0/24", "2001:db8::/48"].map(announcement).to_vec(),
                announce_limits: Some(AnnounceLimits::MICROSOFT),
                ..BgpPeer::new("::1".into(), "::1".parse().unwrap(), 64513, VrfId(0))
            }
        ]
    );
}

#[test]
fn tables_that_others_fill() {
    let config = complete();
    let fpm = config.fpm.expect("[fpm] is there");
    assert_eq!(fpm.listen, "127.0.0.1:2621".parse().unwrap());
    assert_eq!((fpm.quiet, fpm.retain), (Duration::from_secs(3), Duration::from_secs(30)));
    let of_vrf = Some("ns-private".to_owned());
    assert_eq!(
        fpm.tables,
        [
            FpmTable { vrf: VrfId(1), table: 254, namespace: of_vrf.clone() },
            FpmTable { vrf: VrfId(2), table: 1001, namespace: Some("ns-frr".into()) }
        ]
    );
    let netlink = config.netlink.expect("[netlink] is there");
    assert_eq!(netlink.receive_buffer, 1 << 20);
    let protocols = Some(vec![12, 4, 250]);
    assert_eq!(
        netlink.tables,
        [
            NetlinkTable { vrf: VrfId(1), table: 254, namespace: of_vrf, protocols },
            NetlinkTable { vrf: VrfId(0), table: 100, namespace: None, protocols: None }
        ]
    );
}

#[test]
fn defaults_fill_what_is_absent() {
    let text = format!(
        "{}\n{}\n[bgp]\nasn = 64512\nrouter_id = \"192.0.2.1\"\n",
        crate::config::sections::PORT_EXAMPLE,
        crate::config::sections::INTERFACE_EXAMPLE
    );
    let config = parse("t.toml", &text).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.workers, Workers { cores: vec![], idle: Idle::Poll, hand_over: false });
    assert_eq!(
        config.sources,
        Sources {
            static_distance: 1,
            bgp_distance: 200,
            fpm_distance: 150,
            netlink_distance: 160,
            max_paths: 64
        }
    );
    assert_eq!(config.kernel, Kernel { taps: true });
    assert_eq!(config.api, Api { socket: PathBuf::from("/run/turnpike.sock"), metrics: None });
    assert_eq!(config.memory, Memory { huge_pages: HugePages::Auto, buffers: None, eal_args: vec![] });
    let bgp = config.bgp.expect("[bgp] is there");
    assert_eq!(bgp.listen, ["127.0.0.1:1790".parse().unwrap()]);
    assert_eq!((bgp.retain, bgp.hold_time), (Duration::from_mins(2), Duration::from_secs(90)));
    assert_eq!((config.ports[0].mtu, config.ports[0].descriptors), (1500, 1024));
    assert_eq!((config.sub_interfaces[0].mtu, config.sub_interfaces[0].vrf), (1500, VrfId(0)));
    assert!(parse("t.toml", &text.replace("[bgp]", "[bgpx]")).is_err());
    assert_eq!((&config.fpm, &config.netlink), (&None, &None));
    let config = parse("t.toml", &format!("{text}[[fpm.table]]\n[[netlink.table]]\n")).unwrap();
    let fpm = config.fpm.expect("[fpm] is there");
    assert_eq!(fpm.listen, "127.0.0.1:2620".parse().unwrap());
    assert_eq!((fpm.quiet, fpm.retain), (Duration::from_secs(5), Duration::from_mins(2)));
    assert_eq!(fpm.tables, [FpmTable { vrf: VrfId(0), table: 254, namespace: None }]);
    assert_eq!(config.netlink.expect("[netlink] is there").receive_buffer, 16 << 20);
}

#[test]
fn a_circuit_on_a_small_port_takes_the_ports_mtu() {
    let config = parse("t.toml", &altered("mtu = 2000", "mtu = 1450")).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(sub(&config, "er1-private-primary").mtu, 1450);
    assert_eq!(sub(&config, "er1-private-secondary").mtu, 1500);
}

#[test]
fn warnings_name_what_is_seldom_meant() {
    let seen = warnings(&complete());
    assert_eq!(seen.len(), 4, "{seen:?}");
    assert!(seen[0].contains("a-long-circuit-name-private-primary") && seen[0].contains("no secondary"));
    assert!(
        seen[1..].iter().all(|line| line.contains("\"from-cloud\" keeps out the BGP session")),
        "{seen:?}"
    );

    let text = altered("via = [\"192.0.2.254\", \"192.0.2.253\"]", "via = \"192.168.7.7\"")
        .replace("taps = true", "taps = false")
        .replace("listen = [\"127.0.0.1:1790\", \"[::1]:1790\"]", "listen = \"127.0.0.1:1790\"");
    let text =
        text.replace("vlan = 30", "vlan = 31") + "[[port]]\nname = \"spare\"\ndevice = \"net_null0\"\n";
    let mut config = parse("t.toml", &text).unwrap_or_else(|e| panic!("{e}"));
    config.neighbours.clear();
    let seen = warnings(&config).join("\n");
    for part in ["\"spare\"", "192.168.7.7", "taps = false", "BGP peer \"::1\""] {
        assert!(seen.contains(part), "{part} in:\n{seen}");
    }
    config.bgp.as_mut().unwrap().peers.clear();
    assert!(warnings(&config).join("\n").contains("no [[bgp.peer]]"));
}
