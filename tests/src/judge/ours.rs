//! The router on trial: `turnpike run` on two of DPDK's TAP ports, with packet sockets on the kernel's ends of them.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use crate::frame::{self, Tag};
use crate::judge::linux::{families, text_mac};
use crate::judge::plan::{DISCARDED, MACS, PORT_MTU, Place};
use crate::lab::{Lab, Netns};
use crate::router::Router;
use crate::settings;
use crate::sys::{self, PacketSocket};
use crate::wait;

/// Room for two tags on the largest packet, and for frames that are too large.
const NETDEV_MTU: u16 = PORT_MTU + 200;
/// How long the answer to the last frame of a batch may take before it is asked for again.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is asked for.
const TRIES: usize = 5;

/// The running program with its wires.
#[derive(Debug)]
pub struct Ours {
    sockets: Vec<PacketSocket>,
    /// The program.
    pub router: Router,
    /// Batches so far.
    batches: u64,
    _outside: Netns,
}

impl Ours {
    /// Starts it.
    #[track_caller]
    pub fn start(lab: &Lab) -> Self {
        let outside = lab.netns("R");
        outside.sysctl("ipv6/conf/default/disable_ipv6", "1");
        let socket = lab.path("turnpike.sock");
        for port in ["a", "b"] {
            let (wire, own) = (format!("tp{port}0"), format!("tp{port}1"));
            outside.ip(&format!("link add {wire} type veth peer name {own}"));
            for netdev in [&wire, &own] {
                outside.ip(&format!(
                    "link set {netdev} mtu {NETDEV_MTU} arp off addrgenmode none promisc on up"
                ));
            }
        }
        let router = Router::start(lab, &outside, &config(&socket), &socket);
        let open = |netdev: &str| {
            outside
                .enter(|| PacketSocket::open(netdev))
                .unwrap_or_else(|e| panic!("packet socket on {netdev}: {e}"))
        };
        let sockets = ["tpa0", "tpb0"].map(open).into();
        Self { sockets, router, batches: 0, _outside: outside }
    }

    /// Sends frames to a port; all frames that came out of either port for them, with the port's number.
    ///
    /// A last frame of our own makes turnpike answer with an ICMP error when it has seen to all before it: a worker
    /// and the control thread each work in order.
    #[track_caller]
    pub fn forward(&mut self, port: usize, frames: &[Vec<u8>]) -> Vec<(usize, Vec<u8>)> {
        for frame in frames {
            self.send(port, frame);
        }
        let mut seen = Vec::new();
        for _ in 0..TRIES {
            self.batches += 1;
            let mark = [b"judge", &self.batches.to_be_bytes()[..]].concat();
            let place = Place { port, kind: 0 };
            let from = (place.host(false, 2), 1);
            let to = (Place { port: 1 - port, kind: 0 }.beyond(false, 0), 1);
            let last = frame::udp(from, to, 1, &mark);
            self.send(port, &frame::build(MACS[port], place.neighbour_mac(), &[], frame::IPV4, &last));
            if self.collect(port, &mark, &mut seen) {
                return seen;
            }
        }
        panic!("turnpike does not answer any more:\n{}", self.router.daemon().log_tail(30));
    }

    #[track_caller]
    fn send(&self, port: usize, frame: &[u8]) {
        for _ in 0..20_000 {
            match self.sockets[port].send(frame) {
                Ok(()) => return,
                Err(e) if e.kind() == ErrorKind::WouldBlock || e.raw_os_error() == Some(libc::ENOBUFS) => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(e) => panic!("cannot send {} bytes: {e}", frame.len()),
            }
        }
        panic!("nobody takes the frames");
    }

    /// Gathers frames until the error that quotes `mark` came. Whether it did.
    fn collect(&self, port: usize, mark: &[u8], seen: &mut Vec<(usize, Vec<u8>)>) -> bool {
        use std::os::fd::AsFd as _;
        let start = Instant::now();
        let mut buffer = vec![0; 65_536];
        let files: Vec<_> = self.sockets.iter().map(|s| s.as_fd()).collect();
        let mut marked = false;
        while !marked && start.elapsed() < PATIENCE {
            wait::check_interrupt();
            let _ = sys::readable(&files, 20);
            // The other port last: what it sends for this batch is sent before the answer.
            for number in [port, 1 - port] {
                while let Ok((length, stripped)) = self.sockets[number].receive(&mut buffer) {
                    let frame = match stripped {
                        Some((tpid, tci)) => frame::push(&buffer[..length], &[Tag::from_tci(tpid, tci)]),
                        None => buffer[..length].to_vec(),
                    };
                    // An old answer, to a question that was asked twice, belongs to nobody.
                    if is_answer(&frame) {
                        marked |= frame.ends_with(mark);
                    } else {
                        seen.push((number, frame));
                    }
                }
            }
        }
        marked
    }
}

/// Whether a frame is the answer to a last frame of a batch.
fn is_answer(frame: &[u8]) -> bool {
    frame.len() == 14 + 28 + 28 + 13 && frame[70..].starts_with(b"judge")
}

fn config(socket: &std::path::Path) -> String {
    let mut text = String::new();
    for (number, port) in ["a", "b"].iter().enumerate() {
        text += &format!(
            "[[port]]\nname = \"{port}\"\ndevice = \"net_pcap{number},rx_iface_in=tp{port}1,tx_iface=tp{port}1\"\n\
             mtu = {PORT_MTU}\n\n"
        );
    }
    for place in Place::all() {
        let (name, kind) = (place.name(), place.kind());
        let addresses: Vec<_> = families(place)
            .map(|v6| format!("\"{}/{}\"", place.ours(v6), if v6 { 64 } else { 24 }))
            .collect();
        text += &format!(
            "[[interface]]\nname = \"{name}\"\nport = \"{}\"\n{}\nmtu = {}\naddresses = [{}]\n\n",
            ["a", "b"][place.port],
            kind.keys,
            kind.mtu,
            addresses.join(", ")
        );
        for v6 in families(place) {
            let (via, mac) = (place.host(v6, 2), text_mac(place.neighbour_mac()));
            text +=
                &format!("[[neighbour]]\ninterface = \"{name}\"\naddress = \"{via}\"\nmac = \"{mac}\"\n\n");
            for prefix in place.prefixes(v6) {
                text += &format!("[[route]]\nprefix = \"{prefix}\"\nvia = [\"{via}\"]\n\n");
            }
        }
    }
    for prefix in DISCARDED {
        text += &format!("[[route]]\nprefix = \"{prefix}\"\ndiscard = true\n\n");
    }
    // Nothing is limited: what each limit does, other tests show.
    text += "[icmp]\nper_interface = 0\nper_destination = 0\n\n[punt]\n";
    for reason in [
        "ttl_expired",
        "exceeds_mtu",
        "fragment",
        "no_route",
        "ip_options",
        "hop_by_hop",
        "local",
        "multicast",
    ] {
        text += &format!("{reason} = 10000000\n");
    }
    text += "\n[kernel]\ntaps = false\n\n";
    text + &settings::common(socket)
}
