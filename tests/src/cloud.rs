//! The cloud behind the two edges of a peering: one host that learns from both edges where the customer is, and
//! spreads its answers over them.

use crate::bird::Bird;
use crate::lab::{Lab, Netns};
use crate::plan::{self, CLOUD, LATER, MICROSOFT_AS, PeeringPlan};

/// The namespace of the cloud host of a peering, with its addresses.
#[track_caller]
pub fn netns(lab: &Lab, peering: &PeeringPlan) -> Netns {
    let netns = lab.netns(&format!("C{}", peering.letter));
    netns.without_dad();
    netns.sysctl("ipv4/fib_multipath_hash_policy", "1");
    netns.sysctl("ipv6/fib_multipath_hash_policy", "1");
    for site in [CLOUD, LATER].concat() {
        netns.address("lo", &format!("{}/{}", site.host, if site.host.contains(':') { 128 } else { 32 }));
    }
    netns
}

/// Starts its routing daemon, once both edges are joined to it.
#[track_caller]
pub fn start(lab: &Lab, netns: &Netns, peering: &PeeringPlan) -> Bird {
    let mut config = format!(
        "router id 10.255.255.9;
protocol device {{ }}
protocol kernel {{ ipv4 {{ import none; export where source = RTS_BGP; }}; merge paths yes; }}
protocol kernel {{ ipv6 {{ import none; export where source = RTS_BGP; }}; merge paths yes; }}
template bgp edge {{
  local as {MICROSOFT_AS};
  direct;
  hold time 9; keepalive time 3; connect retry time 1; connect delay time 1; error wait time 1, 2;
}}
"
    );
    for number in 0..2 {
        for (family, (_, edge)) in ["ipv4", "ipv6"].iter().zip(plan::cloud_veth(number)) {
            config += &format!(
                "protocol bgp e{number}{family} from edge {{
  neighbor {edge} as {MICROSOFT_AS};
  {family} {{ import all; export none; }};
}}
"
            );
        }
    }
    Bird::start(lab, netns, &format!("C{}", peering.letter), &config)
}
