//! VLAN insert: two turnpikes, joined by a vhost socket, put their tags on by their ports once each has seen that the
//! other answers what they tagged.

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

/// A turnpike with a sub-interface for each VLAN, whose address ends in `host`. `keys`: more keys of the second one.
fn config(device: &str, host: u8, vrfs: &[Netns], keys: &str, socket: &Path) -> String {
    let mut text = format!("[[port]]\nname = \"p\"\noffloads = [\"vlan_insert\"]\ndevice = \"{device}\"\n\n");
    for (i, vlan) in VLANS.iter().enumerate() {
        text += &format!(
            "[[interface]]\nname = \"v{vlan}\"\nport = \"p\"\nvlan = {vlan}\naddresses = [\"10.0.{vlan}.{host}/24\"]\n{}",
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
    let (lab, other) = (Lab::new(), Lab::new());
    let netns = lab.netns("A");
    let (far, hosts) = (other.netns("B"), VLANS.map(|vlan| other.netns(&format!("B{vlan}"))));
    let link = lab.path("vhost");
    let device = format!("net_vhost0,iface={}", link.display());
    let socket = lab.path("turnpike.sock");
    let text = config(&device, 1, &[], &format!("pcp = {PCP}\n"), &socket);
    let mut near = Router::start(&lab, &netns, &text, &socket);
    assert_eq!(insert(&near), "software (being checked)");

    let device = format!("net_virtio_user0,path={},mac=02:00:00:00:00:0b", link.display());
    let socket = other.path("turnpike.sock");
    let mut peer = Router::start(&other, &far, &config(&device, 2, &hosts, "", &socket), &socket);
    for (host, [here, there]) in hosts.iter().zip([[30, 31], [31, 30]]) {
        host.ip(&format!("route add 10.0.{there}.0/24 via 10.0.{here}.1"));
    }
    // From one VLAN to the other and back, over the first turnpike.
    let target = "10.0.31.2".parse().unwrap();
    let ping = |size| echo::assert_pings(&hosts[0], None, target, size, 5);
    ping(56);
    wait::until_true(CHECKED, "both ports to put tags on", || {
        [&near, &peer].iter().all(|router| insert(router) == "in use")
    });

    let mut captures = [capture(&lab, &near, &netns, "out"), capture(&other, &peer, &far, "in")];
    wait::until_true(CHECKED, "both captures to have their frames", || {
        ping(1472);
        captures.iter_mut().all(|capture| capture.status().is_some())
    });
    // What the port put on is what the first one shows, and what the second one received.
    let tag = [0x81, 0, PCP << 5, 31, 8, 0, 0x45];
    for lab in [&lab, &other] {
        let frames = std::fs::read(lab.path("capture")).expect("the capture");
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
