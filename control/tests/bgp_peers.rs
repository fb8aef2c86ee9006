//! The real FRR bgpd and the real BIRD 2 as pushers of routes, on loopback: announce, withdraw, several paths,
//! End-of-RIB, refresh, restart, kill. They run in a temporary directory, by configuration and sockets of their
//! own, with ports of their own, and touch no kernel table.
//!
//! Where one of them is not installed its test is skipped, loudly; with `TURNPIKE_REQUIRE_PEERS` set it fails.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod bgp_common;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bgp_common::daemon::{Daemon, Rib, installed};
use bgp_common::{ASN, Rig, Script, WAIT, open, peer, up, update};
use control::source::{Family, Origin};

const BGPD: &str = "/usr/lib/frr/bgpd";
const BIRD: &str = "/usr/sbin/bird";

fn free_port(address: &str) -> u16 {
    TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port()
}

fn bird(rig: &Rig, address: &str, add_path: bool) -> Daemon {
    let (port, local_port) = (rig.address.port(), free_port(address));
    let tx = if add_path { "add paths tx;" } else { "" };
    let configuration = format!(
        r#"
log stderr all;
router id 10.255.0.3;
protocol device {{}}
protocol static a4 {{ ipv4; route 10.1.0.0/16 blackhole; route 10.2.0.0/16 blackhole; }}
protocol static b4 {{ ipv4 {{ preference 190; }}; route 10.1.0.0/16 blackhole; }}
protocol static a6 {{ ipv6; route 2001:db8:1::/48 blackhole; }}
filter out4 {{
  bgp_path.prepend(8075);
  bgp_path.prepend(12076);
  bgp_community.add((12076,5010));
  bgp_med = 7;
  if proto = "a4" then bgp_next_hop = 192.0.2.1; else bgp_next_hop = 192.0.2.5;
  accept;
}}
filter out6 {{ bgp_next_hop = 2001:db8::1; accept; }}
protocol bgp turnpike {{
  local {address} port {local_port} as {ASN};
  neighbor 127.0.0.1 port {port} as {ASN};
  strict bind;
  connect delay time 1; connect retry time 1; error wait time 1, 1; startup hold time 10;
  ipv4 {{ import none; export filter out4; {tx} }};
  ipv6 {{ import none; export filter out6; {tx} }};
}}
"#
    );
    Daemon::start(BIRD, &configuration, bird_arguments)
}

fn bird_arguments(directory: &Path) -> Vec<String> {
    let path = |name: &str| directory.join(name).display().to_string();
    ["-f", "-c", &path("conf"), "-s", &path("socket"), "-P", &path("pid")].map(str::to_owned).to_vec()
}

fn birdc(daemon: &Daemon, command: &str) -> String {
    let mut birdc = Command::new("/usr/sbin/birdc");
    let output = birdc.arg("-s").arg(daemon.path("socket")).args(command.split(' ')).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn bird_announces_withdraws_and_is_killed() {
    if !installed(&[BIRD, "/usr/sbin/birdc"]) {
        return;
    }
    let rig = Rig::new(vec![peer("bird", "127.0.2.3", ASN)]);
    let mut daemon = bird(&rig, "127.0.2.3", true);
    let mut rib = Rib::default();
    rib.until(&rig, "both ends of RIB", |rib| rib.ends.len() == 2);
    assert_eq!(rib.next_hops("10.1.0.0/16"), ["192.0.2.1", "192.0.2.5"], "two paths");
    assert_eq!(rib.next_hops("10.2.0.0/16"), ["192.0.2.1"]);
    assert_eq!(rib.next_hops("2001:db8:1::/48"), ["2001:db8::1"]);
    let attributes = rib.paths.iter().find(|((prefix, _), _)| prefix == "10.2.0.0/16").unwrap().1;
    assert_eq!((attributes.as_path.as_slice(), attributes.as_path_len), ([12_076, 8075].as_slice(), 2));
    assert_eq!((attributes.med, attributes.local_pref, attributes.origin), (7, 100, Origin::Igp));
    assert_eq!(attributes.communities, [0x2f2c_1392]);
    let status = rig.peer("bird");
    let negotiated = status.negotiated.unwrap();
    assert_eq!(negotiated.add_path_receive, [Family::Ipv4, Family::Ipv6]);
    assert!(negotiated.four_byte_as && negotiated.route_refresh);
    assert_eq!((status.prefixes, status.malformed), (4, 0));

    birdc(&daemon, "disable b4");
    rib.until(&rig, "one path gone", |rib| rib.next_hops("10.1.0.0/16") == ["192.0.2.1"]);
    birdc(&daemon, "enable b4");
    rib.until(&rig, "and back", |rib| rib.next_hops("10.1.0.0/16").len() == 2);
    birdc(&daemon, "disable a4");
    rib.until(&rig, "all of a4 gone", |rib| rib.next_hops("10.2.0.0/16").is_empty());
    assert_eq!(rib.next_hops("10.1.0.0/16"), ["192.0.2.5"]);
    birdc(&daemon, "enable a4");
    rib.until(&rig, "and back", |rib| rib.next_hops("10.2.0.0/16") == ["192.0.2.1"]);
    // All of it once more, on the same session.
    let announced = rig.peer("bird").announced;
    birdc(&daemon, "reload out turnpike");
    rib.until(&rig, "reload", |_| rig.peer("bird").announced >= announced + 4);
    assert_eq!((rib.ups, rib.downs.len()), (1, 0));

    // Killed and started again: lost once, then all there again.
    daemon.kill();
    rib.until(&rig, "down", |rib| rib.downs.len() == 1);
    rib = Rib::default();
    daemon.child = Daemon::spawn(BIRD, daemon.directory.path(), &bird_arguments);
    rib.until(&rig, "back again", |rib| rib.ends.len() == 2);
    assert_eq!((rib.ups, rib.paths.len(), rib.downs.len()), (1, 4, 0));
    // We stop: BIRD is told.
    rig.speaker.stop();
    let end = Instant::now() + WAIT;
    while !daemon.log().contains("Administrative shutdown") {
        assert!(Instant::now() < end, "BIRD heard nothing");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn bird_without_add_path_sends_its_best() {
    if !installed(&[BIRD, "/usr/sbin/birdc"]) {
        return;
    }
    let rig = Rig::new(vec![peer("bird", "127.0.2.4", ASN)]);
    let daemon = bird(&rig, "127.0.2.4", false);
    let mut rib = Rib::default();
    rib.until(&rig, "both ends of RIB", |rib| rib.ends.len() == 2);
    assert_eq!(rib.next_hops("10.1.0.0/16"), ["192.0.2.1"]);
    assert!(rib.paths.keys().all(|(_, path_id)| *path_id == 0));
    birdc(&daemon, "disable a4");
    rib.until(&rig, "the other path", |rib| rib.next_hops("10.1.0.0/16") == ["192.0.2.5"]);
    assert_eq!(rig.peer("bird").negotiated.unwrap().add_path_receive, []);
}

/// FRR as the customer's router: two edges of AS 12076 (scripted) are its neighbours, and it relays to us by iBGP.
fn frr(rig: &Rig, address: &str, port: u16, edges: [&str; 2]) -> Daemon {
    let turnpike = rig.address.port();
    let [primary, secondary] = edges;
    let configuration = format!(
        "
router bgp {ASN}
 bgp router-id 10.255.0.3
 no bgp ebgp-requires-policy
 no bgp network import-check
 bgp bestpath as-path multipath-relax
 neighbor 127.0.0.1 remote-as {ASN}
 neighbor 127.0.0.1 port {turnpike}
 neighbor 127.0.0.1 update-source {address}
 neighbor 127.0.0.1 timers 3 9
 neighbor 127.0.0.1 timers connect 1
 neighbor {primary} remote-as 12076
 neighbor {primary} ebgp-multihop 4
 neighbor {primary} passive
 neighbor {primary} advertisement-interval 0
 neighbor {secondary} remote-as 12076
 neighbor {secondary} ebgp-multihop 4
 neighbor {secondary} passive
 neighbor {secondary} advertisement-interval 0
 address-family ipv4 unicast
  neighbor 127.0.0.1 addpath-tx-all-paths
 exit-address-family
 address-family ipv6 unicast
  neighbor 127.0.0.1 activate
  neighbor 127.0.0.1 addpath-tx-all-paths
  network 2001:db8:1::/48 route-map NEXTHOP6
 exit-address-family
exit
route-map NEXTHOP6 permit 10
 set ipv6 next-hop global 2001:db8::1
exit
"
    );
    Daemon::start(BGPD, &configuration, frr_arguments(address, port))
}

fn frr_arguments(address: &str, port: u16) -> impl Fn(&Path) -> Vec<String> {
    let address = address.to_owned();
    move |directory| {
        let path = |name: &str| directory.join(name).display().to_string();
        let vty = directory.display().to_string();
        [
            "-S",
            "-Z",
            "-n",
            "-l",
            &address,
            "-p",
            &port.to_string(),
            "-P",
            "0",
            "-f",
            &path("conf"),
            "-i",
            &path("pid"),
            "--vty_socket",
            &vty,
            "--log",
            "stdout",
        ]
        .map(str::to_owned)
        .to_vec()
    }
}

fn vtysh(daemon: &Daemon, commands: &[&str]) -> String {
    let mut vtysh = Command::new("/usr/bin/vtysh");
    vtysh.arg("--vty_socket").arg(daemon.directory.path()).args(["-d", "bgpd"]);
    for command in commands {
        vtysh.args(["-c", command]);
    }
    let output = vtysh.output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// An edge of AS 12076, up with FRR; FRR has to listen first.
fn edge(from: &str, to: SocketAddr) -> Script {
    let end = Instant::now() + WAIT;
    while std::net::TcpStream::connect(to).is_err() {
        assert!(Instant::now() < end, "FRR does not listen");
        std::thread::sleep(Duration::from_millis(50));
    }
    let id = from.parse::<std::net::Ipv4Addr>().unwrap().octets();
    Script::establish(from, to, &open(12_076, 0, id))
}

/// 10.1.0.0/16 and 10.2.0.0/16 by way of 192.0.2.`next_hop`, the AS 12076 so many times in the path.
fn advertise(next_hop: u8, asns: u8) -> Vec<u8> {
    let mut bytes = vec![0x40, 1, 1, 0, 0x40, 2, 2 + 4 * asns, 2, asns];
    for _ in 0..asns {
        bytes.extend(12_076u32.to_be_bytes());
    }
    bytes.extend([0x40, 3, 4, 192, 0, 2, next_hop]);
    update(&[], &bytes, &[16, 10, 1, 16, 10, 2])
}

#[test]
fn frr_relays_two_edges_and_is_killed() {
    if !installed(&[BGPD, "/usr/bin/vtysh"]) {
        return;
    }
    let rig = Rig::new(vec![peer("frr", "127.0.3.3", ASN)]);
    let port = free_port("127.0.3.3");
    let mut daemon = frr(&rig, "127.0.3.3", port, ["127.0.3.1", "127.0.3.2"]);
    let to = SocketAddr::new("127.0.3.3".parse().unwrap(), port);
    let mut primary = edge("127.0.3.1", to);
    let mut secondary = edge("127.0.3.2", to);
    let mut rib = Rib::default();
    rib.until(&rig, "both ends of RIB", |rib| rib.ends.len() == 2);
    // FRR marks the end before it has read all of its own file.
    rib.until(&rig, "its network", |rib| rib.next_hops("2001:db8:1::/48") == ["2001:db8::1"]);
    let negotiated = rig.peer("frr").negotiated.unwrap();
    assert_eq!(negotiated.add_path_receive, [Family::Ipv4, Family::Ipv6]);
    assert!(negotiated.four_byte_as && negotiated.extended_messages && negotiated.enhanced_route_refresh);
    assert_eq!(negotiated.hold_time, 9);

    let both = |rib: &Rib| {
        ["10.1.0.0/16", "10.2.0.0/16"].iter().all(|p| rib.next_hops(p) == ["192.0.2.1", "192.0.2.5"])
    };
    primary.send(&advertise(1, 1));
    secondary.send(&advertise(5, 1));
    rib.until(&rig, "both paths of both prefixes", both);
    // The primary drains by prepending: its paths stay, and are longer.
    primary.send(&advertise(1, 9));
    let length = |rib: &Rib, next_hop: &str| {
        let path = rib.paths.values().find(|a| a.next_hops[0].address.to_string() == next_hop).unwrap();
        (path.as_path_len, path.as_path.clone())
    };
    rib.until(&rig, "prepended", |rib| both(rib) && length(rib, "192.0.2.1") == (9, vec![12_076; 9]));
    assert_eq!(length(&rib, "192.0.2.5").0, 1);
    // It withdraws one prefix with the session up, then goes.
    primary.send(&update(&[16, 10, 1], &[], &[]));
    rib.until(&rig, "withdrawn", |rib| rib.next_hops("10.1.0.0/16") == ["192.0.2.5"]);
    assert_eq!(rib.next_hops("10.2.0.0/16").len(), 2);
    drop(primary);
    rib.until(&rig, "edge lost", |rib| rib.next_hops("10.2.0.0/16") == ["192.0.2.5"]);
    // FRR is asked for a soft clear, and to withdraw what it originates.
    vtysh(&daemon, &["clear bgp * soft"]);
    let said = vtysh(
        &daemon,
        &[
            "configure terminal",
            &format!("router bgp {ASN}"),
            "address-family ipv6 unicast",
            "no network 2001:db8:1::/48",
        ],
    );
    rib.until(&rig, &format!("network removed ({said})"), |rib| rib.next_hops("2001:db8:1::/48").is_empty());
    assert_eq!((rib.ups, rib.downs.len(), rig.peer("frr").malformed), (1, 0, 0));

    // A hard reset is a loss with its reason; then FRR comes back of its own.
    vtysh(&daemon, &["clear bgp *"]);
    rib.until(&rig, "reset", |rib| rib.downs.len() == 1);
    assert!(rib.downs[0].contains("6/"), "{:?}", rib.downs);
    rib.until(&rig, "back", |rib| rib.ups == 2);
    // Killed, and started again while we would still hold the session: in at once.
    daemon.kill();
    rib.until(&rig, "killed", |rib| rib.downs.len() == 2);
    let mut rib = Rib::default();
    daemon.child = Daemon::spawn(BGPD, daemon.directory.path(), &frr_arguments("127.0.3.3", port));
    rib.until(&rig, "started again", |rib| rib.ends.len() == 2);
    rib.until(&rig, "its network", |rib| rib.next_hops("2001:db8:1::/48") == ["2001:db8::1"]);
    assert!(up(&rig.peer("frr")));
    drop(secondary);
}

#[test]
fn frr_stopped_without_a_word_loses_its_session_by_hold_time() {
    if !installed(&[BGPD, "/usr/bin/vtysh"]) {
        return;
    }
    let rig = Rig::new(vec![peer("frr", "127.0.3.4", ASN)]);
    let port = free_port("127.0.3.4");
    let daemon = frr(&rig, "127.0.3.4", port, ["127.0.3.5", "127.0.3.6"]);
    let mut rib = Rib::default();
    rib.until(&rig, "up", |rib| rib.ends.len() == 2);
    let stop = |signal: &str| {
        let status = Command::new("kill").args([signal, &daemon.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    };
    let start = Instant::now();
    stop("-STOP");
    rib.until(&rig, "hold time", |rib| rib.downs.len() == 1);
    assert!(rib.downs[0].contains("4/0"), "{:?}", rib.downs);
    assert!((5..45).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    stop("-CONT");
    rib.until(&rig, "comes back", |rib| rib.ups == 2);
}
