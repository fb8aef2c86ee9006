//! turnpike's configuration in the circuit scenario.

use std::path::Path;

use crate::lab::Netns;
use crate::plan::{CUSTOMER_AS, LAN, NETDEVS, PEERINGS, RELAY_PORT, S_TAG};

/// In what one run of the scenario differs from another.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// TPID of the S-tag.
    pub outer_tpid: u16,
    /// Whether the private LAN has a VLAN tag, as the other always has.
    pub private_lan_tagged: bool,
    /// Workers, each on a core of its own as long as there are so many.
    pub workers: usize,
    /// The customer's router.
    pub speaker: crate::customer::Speaker,
}

impl Variant {
    /// VLAN of the LAN of peering `number`, if it has one.
    pub fn lan_vlan(&self, number: usize) -> Option<u16> {
        (number > 0 || self.private_lan_tagged).then_some(PEERINGS[number].lan_vlan)
    }
}

/// How long a lost session's routes stay, in seconds.
pub const RETAIN: u64 = 10;

/// The configuration, with the TAPs of each VRF in a namespace of its own.
pub fn circuit(variant: &Variant, netns: [&Netns; 2], socket: &Path) -> String {
    let mut text = String::new();
    for (number, (name, netdev)) in ["lan", "primary", "secondary"].iter().zip(NETDEVS).enumerate() {
        // As a NIC keeps its address over a restart.
        let device = format!("net_tap{number},iface={netdev},mac=02:00:5e:00:00:0{number}");
        text += &format!("[[port]]\nname = \"{name}\"\ndevice = \"{device}\"\n\n");
    }
    text += &format!(
        "[[circuit]]
name = \"er1\"
bandwidth = \"1G\"
encapsulation = \"qinq\"
s_tag = {S_TAG}
outer_tpid = {:#06x}
billing = \"metered\"

",
        variant.outer_tpid
    );
    for peering in PEERINGS {
        text += &format!("[[circuit.peering]]\nkind = \"{}\"\nc_tag = {}\n", peering.kind, peering.c_tag);
        for link in peering.links {
            text += &format!(
                "{} = {{ port = \"{0}\", v4 = \"{}\", v6 = \"{}\" }}\n",
                link.role, link.v4.prefix, link.v6.prefix
            );
        }
        text += "\n";
    }
    for (number, peering) in PEERINGS.iter().enumerate() {
        text +=
            &format!("[[vrf]]\nname = \"{}\"\nnamespace = \"{}\"\n\n", peering.kind, netns[number].name());
        text += &format!("[[interface]]\nname = \"lan-{}\"\nport = \"lan\"\nvrf = \"{0}\"\n", peering.kind);
        if let Some(vlan) = variant.lan_vlan(number) {
            text += &format!("vlan = {vlan}\n");
        }
        let address = |n: usize| format!("{}/{}", LAN[n].router, LAN[n].length);
        text += &format!("addresses = [\"{}\", \"{}\"]\n\n", address(0), address(1));
    }
    let relays = variant.speaker.relays();
    let listen = relays.iter().map(|r| match r.turnpike {
        v6 if v6.contains(':') => format!("\"[{v6}]:{RELAY_PORT}\""),
        v4 => format!("\"{v4}:{RELAY_PORT}\""),
    });
    text += &format!(
        "[bgp]
listen = [{}]
asn = {CUSTOMER_AS}
router_id = \"10.0.0.2\"
retain = {RETAIN}
hold_time = 9

",
        listen.collect::<Vec<_>>().join(", ")
    );
    for (number, peering) in PEERINGS.iter().enumerate() {
        for (session, relay) in relays.iter().enumerate() {
            text += &format!(
                "[[bgp.peer]]
name = \"customer-{0}-{session}\"
address = \"{1}\"
asn = {CUSTOMER_AS}
vrf = \"{0}\"
namespace = \"{2}\"

",
                peering.kind,
                relay.customer,
                netns[number].name()
            );
        }
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cores: Vec<_> = (0..variant.workers.min(cores)).map(|core| core.to_string()).collect();
    text += &common(socket).replace("[workers]", &format!("[workers]\ncores = [{}]", cores.join(", ")));
    text
}

/// Where the metrics are, in turnpike's namespace.
pub const METRICS: &str = "127.0.0.1:9477";

/// What every configuration of the suites ends with: one sleeping worker, no huge pages, an API socket of its own, and
/// the metrics.
pub fn common(socket: &Path) -> String {
    format!(
        "[workers]
idle = \"sleep\"

[memory]
huge_pages = \"never\"

[api]
socket = \"{}\"
metrics = \"{METRICS}\"
",
        socket.display()
    )
}
