//! Linux in turnpike's place: the same wires end in TAPs of each VRF's namespace, whose kernel forwards by what the
//! customer's router installs. It shows that the harness, the peers and the steps are right whatever turnpike does,
//! and what a step would see from the Linux router.

use crate::bird::Bird;
use crate::frame::Tag;
use crate::lab::{Lab, Netns};
use crate::plan::{CUSTOMER_AS, LAN, NETDEVS, PEERINGS, RELAY_PORT, S_TAG};
use crate::settings::Variant;
use crate::wire::{End, Wire};

/// What replaces turnpike.
#[derive(Debug)]
pub struct StandIn {
    /// Takes what the customer's router relays, in each VRF, as turnpike would.
    pub collectors: Vec<Bird>,
    _wires: Vec<Wire>,
}

impl StandIn {
    /// Makes the wire netdevs in `outside`, TAPs with turnpike's addresses in the VRFs' namespaces, and a BGP listener
    /// in each.
    #[track_caller]
    pub fn start(lab: &Lab, outside: &Netns, vrfs: [&Netns; 2], variant: &Variant) -> Self {
        let mut ends = vec![Vec::new(); NETDEVS.len()];
        let mut collectors = Vec::new();
        for (number, (peering, netns)) in PEERINGS.iter().zip(vrfs).enumerate() {
            netns.without_dad();
            netns.forwards();
            let lan_tags: Vec<Tag> =
                variant.lan_vlan(number).map(|v| Tag::new(0x8100, v)).into_iter().collect();
            ends[0].push(End::new(netns, "lan", &lan_tags));
            for site in LAN {
                netns.address("lan", &format!("{}/{}", site.router, site.length));
            }
            for (link, ends) in peering.links.iter().zip(&mut ends[1..]) {
                let tags = [Tag::new(variant.outer_tpid, S_TAG), Tag::new(0x8100, peering.c_tag)];
                ends.push(End::new(netns, link.role, &tags));
                for family in [link.v4, link.v6] {
                    netns.address(link.role, &format!("{}/{}", family.ours, family.length));
                }
            }
            collectors.push(Bird::start(
                lab,
                netns,
                &format!("collector-{}", peering.letter),
                &collector(*variant),
            ));
        }
        let wires = NETDEVS.iter().zip(ends).map(|(netdev, ends)| {
            let inside = format!("{netdev}-in");
            outside.sysctl("ipv6/conf/default/disable_ipv6", "1");
            outside.ip(&format!("link add {netdev} type veth peer name {inside}"));
            Wire::attach(outside, &inside, &ends)
        });
        let wires = wires.collect();
        Self { collectors, _wires: wires }
    }
}

fn collector(variant: Variant) -> String {
    let mut text = "router id 10.0.0.2;\nprotocol device { }\n".to_owned();
    for (number, relay) in variant.speaker.relays().iter().enumerate() {
        text += &format!(
            "protocol bgp customer{number} {{
  local {} port {RELAY_PORT} as {CUSTOMER_AS};
  neighbor {} as {CUSTOMER_AS};
  passive;
  hold time 9; keepalive time 3; error wait time 1, 2;
",
            relay.turnpike, relay.customer
        );
        for family in relay.families {
            text += &format!("  {family} {{ import all; export none; add paths rx; }};\n");
        }
        text += "}\n";
    }
    text
}
