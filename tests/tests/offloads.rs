//! VLAN insert: two turnpikes, joined by a vhost socket, put their tags on by their ports once each has seen that the
//! other answers what they tagged.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use tests::echo;
use tests::lab::{Lab, Netns};
use tests::process::Daemon;
use tests::router::{Router, program};
use tests::settings;
use tests::wait;

/// How long a check may take on a busy machine: some four seconds on an idle one.
const CHECKED: Duration = Duration::from_mins(2);
/// VLANs on the link, and the priority that the first turnpike gives the second one.
const VLANS: [u16; 2] = [30, 31];
const PCP: u8 = 5;

/// The address that ends in `host` in a VLAN.
type Address = fn(vlan: u16, host: u8) -> IpAddr;

fn v4(vlan: u16, host: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, vlan as u8, host).into()
}

fn v6(vlan: u16, host: u8) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0, 0, vlan, 0, 0, 0, host.into()).into()
}

/// A turnpike with a sub-interface for each VLAN, whose address ends in `host`. `keys`: more keys of the second one.
fn config(device: &str, address: Address, host: u8, vrfs: &[Netns], keys: &str, socket: &Path) -> String {
    let mut text = format!("[[port]]\nname = \"p\"\noffloads = [\"vlan_insert\"]\ndevice = \"{device}\"\n\n");
    for (i, vlan) in VLANS.into_iter().enumerate() {
        text += &format!(
            "[[interface]]\nname = \"v{vlan}\"\nport = \"p\"\nvlan = {vlan}\naddresses = [\"{}/{}\"]\n{}",
            address(vlan, host),
            if address(vlan, host).is_ipv4() { 24 } else { 64 },
            if i == 1 { keys } else { "" }
        );
        if let Some(vrf) = vrfs.get(i) {
            let name = vrf.name();
            text += &format!("vrf = \"v{vlan}\"\n\n[[vrf]]\nname = \"v{vlan}\"\nnamespace = \"{name}\"\n");
        }
        text += "\n";
    }
    // Two metrics ports would need two namespaces; nobody asks for them here.
    text + &settings::common(socket).replace(&format!("metrics = \"{}\"\n", settings::METRICS), "")
}

fn insert(router: &Router) -> String {
    router.show("ports")[0]["offloads"]["vlan_insert"].as_str().unwrap_or_default().to_owned()
}

/// Captures frames of VLAN 31 to a file.
fn capture(lab: &Lab, router: &Router, netns: &Netns, direction: &str) -> Daemon {
    let mut command = netns.command(program());
    command.args(["capture", "--count", "15", "--interface", "v31", "--direction", direction]);
    command.arg("--write").arg(lab.path("capture")).arg("--socket").arg(router.socket());
    Daemon::start("a capture", &mut command, &lab.path("capture.log"))
}

#[test]
fn ports_put_tags_on_once_neighbours_answered_what_they_tagged() {
    put_on_tags(v4, 1472, [8, 0, 0x45]);
}

#[test]
fn ports_with_ipv6_neighbours_alone_do_so_too() {
    put_on_tags(v6, 1452, [0x86, 0xdd, 0x60]);
}

/// `size`: what a ping of 1500 bytes holds; `ip`: what stands behind the tag of an IP packet.
fn put_on_tags(address: Address, size: u16, ip: [u8; 3]) {
    let (lab, other) = (Lab::new(), Lab::new());
    let netns = lab.netns("A");
    let (far, hosts) = (other.netns("B"), VLANS.map(|vlan| other.netns(&format!("B{vlan}"))));
    let link = lab.path("vhost");
    let device = format!("net_vhost0,iface={}", link.display());
    let socket = lab.path("turnpike.sock");
    let text = config(&device, address, 1, &[], &format!("pcp = {PCP}\n"), &socket);
    let mut near = Router::start(&lab, &netns, &text, &socket);
    assert_eq!(insert(&near), "software (being checked)");

    let device = format!("net_virtio_user0,path={},mac=02:00:00:00:00:0b", link.display());
    let socket = other.path("turnpike.sock");
    let mut peer = Router::start(&other, &far, &config(&device, address, 2, &hosts, "", &socket), &socket);
    for (host, [here, there]) in hosts.iter().zip([[30, 31], [31, 30]]) {
        host.ip(&format!("route add {} via {}", address(there, 2), address(here, 1)));
    }
    // From one VLAN to the other and back, over the first turnpike.
    let target = address(31, 2);
    let ping = |size| echo::assert_pings(&hosts[0], None, target, size, 5);
    ping(56);
    wait::until_true(CHECKED, "both ports to put tags on", || {
        [&near, &peer].iter().all(|router| insert(router) == "in use")
    });

    let mut captures = [capture(&lab, &near, &netns, "out"), capture(&other, &peer, &far, "in")];
    wait::until_true(CHECKED, "both captures to have their frames", || {
        ping(size);
        captures.iter_mut().all(|capture| capture.status().is_some())
    });
    // What the port put on is what the first one shows, and what the second one received.
    let tag = [&[0x81, 0, PCP << 5, 31], &ip[..]].concat();
    for lab in [&lab, &other] {
        let frames = std::fs::read(lab.path("capture")).unwrap_or_default();
        let found = frames.windows(tag.len()).filter(|window| *window == tag).count();
        assert!(found >= 9, "{found} of 15 frames (some may be ARP)");
    }
    for router in [&mut near, &mut peer] {
        router.daemon().assert_alive();
        wait::until_true(CHECKED, "tags by the port still", || insert(router) == "in use");
        let log = router.daemon().log();
        assert!(log.contains("vlan_insert was seen to work") && !log.contains("panicked"), "{log}");
    }
}
