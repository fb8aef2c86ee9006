//! `turnpike demo`: the real router on virtual ports, with traffic from memory and routes from a small BGP speaker.
//!
//! Three `net_pcap` ports replay generated frames as fast as they are polled: a LAN with one VLAN for each peering,
//! and the two links of a circuit in QinQ. Nothing outside of this process is touched.

mod live;
mod traffic;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::cli::run::{start_log, stop_on_signals};
use crate::config;
use crate::router::Router;
use crate::source::bgp::demo::{DemoRoute, DemoSpeaker};

/// How the demo's network is numbered.
mod plan {
    use ipnetwork::IpNetwork;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    /// IPv4 prefixes of the cloud behind each peering.
    pub const V4_ROUTES: [u32; 2] = [4000, 500];
    /// IPv6 prefixes of the cloud behind each peering.
    pub const V6_ROUTES: [u32; 2] = [100, 50];
    /// Hosts on each LAN.
    pub const LAN_HOSTS: u8 = 32;

    /// The `i`th IPv4 /24 behind peering `peering`.
    pub fn cloud4(peering: usize, i: u32) -> Ipv4Addr {
        let base = if peering == 0 { 0x0a40_0000 } else { 0x3400_0000 };
        Ipv4Addr::from_bits(base + (i << 8))
    }

    /// The `i`th IPv6 /48 behind a peering.
    pub fn cloud6(peering: usize, i: u32) -> Ipv6Addr {
        let base: u128 = if peering == 0 { 0xfd40 << 112 } else { 0x2603_1000 << 96 };
        Ipv6Addr::from_bits(base + (u128::from(i) << 80))
    }

    /// Host `i` of a LAN.
    pub fn lan4(peering: usize, i: u8) -> Ipv4Addr {
        if peering == 0 { Ipv4Addr::new(10, 10, 0, 10 + i) } else { Ipv4Addr::new(198, 51, 100, 10 + i) }
    }

    /// The same in IPv6.
    pub fn lan6(peering: usize, i: u8) -> Ipv6Addr {
        let base: u128 = if peering == 0 { 0xfd10 << 112 } else { 0x2001_0db8 << 96 };
        Ipv6Addr::from_bits(base + 10 + u128::from(i))
    }

    /// The far side of link `link` (0 primary, 1 secondary) of a peering.
    pub fn edge(peering: usize, link: usize) -> [IpAddr; 2] {
        let last = 4 * link as u8 + 2;
        let v4 =
            if peering == 0 { Ipv4Addr::new(10, 255, 0, last) } else { Ipv4Addr::new(203, 0, 113, last) };
        let high: u128 = if peering == 0 { 0xfdff << 112 } else { 0x2001_0db8_ffff << 80 };
        [v4.into(), Ipv6Addr::from_bits(high + u128::from(last)).into()]
    }

    /// All prefixes behind a peering.
    pub fn prefixes(peering: usize) -> Vec<IpNetwork> {
        // Both lengths are within their families'.
        let v4 = (0..V4_ROUTES[peering]).filter_map(|i| IpNetwork::new(cloud4(peering, i).into(), 24).ok());
        let v6 = (0..V6_ROUTES[peering]).filter_map(|i| IpNetwork::new(cloud6(peering, i).into(), 48).ok());
        v4.chain(v6).collect()
    }
}

/// From where each peering's speaker connects.
const SPEAKERS: [Ipv4Addr; 2] = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)];

/// Runs the demo for so many seconds; 0: until Ctrl-C.
///
/// # Errors
/// Something that it needs cannot be had.
pub fn run(seconds: u64) -> Result<(), String> {
    start_log();
    let dir = tempfile::tempdir().map_err(|error| format!("cannot make a temporary folder: {error}"))?;
    traffic::write(dir.path()).map_err(|error| format!("cannot write the demo's frames: {error}"))?;
    let listen = free_port().map_err(|error| format!("no free TCP port on 127.0.0.1: {error}"))?;
    let text = configuration(dir.path(), listen);
    let config = config::parse("the demo's configuration", &text).map_err(|errors| errors.to_string())?;
    let socket = config.api.socket.clone();
    say(&format!(
        "A circuit with private and Microsoft peering in QinQ over two links, a LAN with a VLAN for each:\n\
         three virtual ports that replay frames from memory, and routes from a BGP speaker built in.\n\
         Ask it from another terminal: turnpike show interfaces --socket {}\n",
        socket.display()
    ));
    let stop = stop_on_signals()?;
    let mut router = Router::start(config).map_err(|error| error.to_string())?;
    let end = (seconds > 0).then(|| Instant::now() + Duration::from_secs(seconds));
    let helpers = {
        let stop = Arc::clone(&stop);
        std::thread::Builder::new().name("demo".into()).spawn(move || {
            let speakers = speak(listen);
            if let Err(error) = &speakers {
                tracing::error!("the demo's BGP speaker: {error}");
            }
            let result = live::watch(&socket, end, &stop);
            stop.store(true, Ordering::Relaxed);
            for speaker in speakers.into_iter().flatten() {
                speaker.close();
            }
            result
        })
    };
    let helpers = helpers.map_err(|error| format!("cannot start a thread: {error}"))?;
    let ran = router.run(&stop);
    stop.store(true, Ordering::Relaxed);
    let watched = helpers.join().unwrap_or_else(|_| Err("the live table ended by a fault of its own".into()));
    let last = router.finish();
    say(&live::summary(&watched?, &last));
    ran.map_err(|error| error.to_string())
}

/// Writes to standard output. If nobody reads any more, the demo goes on until it is stopped.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush());
}

/// Connects one speaker for each peering and announces its routes over both links.
fn speak(listen: SocketAddr) -> Result<Vec<DemoSpeaker>, String> {
    let one = |(peering, source): (usize, Ipv4Addr)| {
        let speaker = DemoSpeaker::connect_from(source.into(), listen, 65001, source)?;
        let (primary, secondary) = (plan::edge(peering, 0), plan::edge(peering, 1));
        let route = |prefix: ipnetwork::IpNetwork| {
            let family = usize::from(prefix.is_ipv6());
            DemoRoute { prefix, next_hops: vec![primary[family], secondary[family]] }
        };
        let routes: Vec<_> = plan::prefixes(peering).into_iter().map(route).collect();
        speaker.announce(&routes)?;
        speaker.end_of_rib()?;
        Ok(speaker)
    };
    SPEAKERS
        .into_iter()
        .enumerate()
        .map(one)
        .collect::<Result<_, crate::source::bgp::BgpError>>()
        .map_err(|e| e.to_string())
}

/// A port that nobody listens on.
fn free_port() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// The demo's configuration, in the language of the circuit.
fn configuration(dir: &Path, listen: SocketAddr) -> String {
    let dir = dir.display();
    let mut text = format!(
        r#"
[[port]]
name = "lan"
device = "net_pcap0,rx_pcap={dir}/lan.pcap,infinite_rx=1"
[[port]]
name = "er-primary"
device = "net_pcap1,rx_pcap={dir}/primary.pcap,infinite_rx=1"
[[port]]
name = "er-secondary"
device = "net_pcap2,rx_pcap={dir}/secondary.pcap,infinite_rx=1"

[[circuit]]
name = "er1"
bandwidth = "10G"
encapsulation = "qinq"
s_tag = 100
billing = "metered"
[[circuit.peering]]
kind = "private"
c_tag = 10
primary = {{ port = "er-primary", v4 = "10.255.0.0/30", v6 = "fdff::/126" }}
secondary = {{ port = "er-secondary", v4 = "10.255.0.4/30", v6 = "fdff::4/126" }}
[[circuit.peering]]
kind = "microsoft"
c_tag = 20
primary = {{ port = "er-primary", v4 = "203.0.113.0/30", v6 = "2001:db8:ffff::/126" }}
secondary = {{ port = "er-secondary", v4 = "203.0.113.4/30", v6 = "2001:db8:ffff::4/126" }}

[[interface]]
name = "lan-private"
port = "lan"
vlan = 30
vrf = "private"
addresses = ["10.10.0.1/16", "fd10::1/64"]
[[interface]]
name = "lan-microsoft"
port = "lan"
vlan = 40
vrf = "microsoft"
addresses = ["198.51.100.1/24", "2001:db8::1/64"]

[bgp]
listen = ["{listen}"]
asn = 65001
router_id = "10.10.0.1"
[[bgp.peer]]
name = "speaker-private"
address = "{}"
asn = 65001
vrf = "private"
[[bgp.peer]]
name = "speaker-microsoft"
address = "{}"
asn = 65001
vrf = "microsoft"

[kernel]
taps = false
[api]
socket = "{dir}/turnpike.sock"
[memory]
huge_pages = "auto"
"#,
        SPEAKERS[0], SPEAKERS[1]
    );
    for (peering, name) in ["private", "microsoft"].into_iter().enumerate() {
        for (link, role) in ["primary", "secondary"].into_iter().enumerate() {
            for address in plan::edge(peering, link) {
                text.push_str(&neighbour(&format!("er1-{name}-{role}"), address, 0xe0 + link as u8));
            }
        }
        for host in 0..plan::LAN_HOSTS {
            let addresses: [IpAddr; 2] = [plan::lan4(peering, host).into(), plan::lan6(peering, host).into()];
            for address in addresses {
                text.push_str(&neighbour(&format!("lan-{name}"), address, 0x40 + host));
            }
        }
    }
    text
}

fn neighbour(interface: &str, address: IpAddr, last: u8) -> String {
    format!(
        "[[neighbour]]\ninterface = \"{interface}\"\naddress = \"{address}\"\nmac = \"02:00:00:00:00:{last:02x}\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_has_no_errors() {
        let listen = "127.0.0.1:1790".parse().unwrap();
        let config = config::parse("demo", &configuration(Path::new("/tmp/demo"), listen)).unwrap();
        assert_eq!(config.sub_interfaces.len(), 6);
        assert_eq!(config.neighbours.len(), 2 * (4 + 2 * usize::from(plan::LAN_HOSTS)));
    }
}
