//! One Microsoft edge: FRR of AS 12076 in a namespace of its own, a TAP on the wire before it, and the cloud's fabric
//! behind it.

use std::sync::Arc;

use crate::frame::Tag;
use crate::frr::Frr;
use crate::lab::{Lab, Netns};
use crate::plan::{self, CLOUD, CUSTOMER_AS, LATER, LinkPlan, MICROSOFT_AS, PeeringPlan};
use crate::wire::End;

/// Route map on what the edge tells the customer.
const OUT: &str = "TO-CUSTOMER";
/// How many prefixes of its region the edge tells the customer besides, which nothing is behind: IPv4 and IPv6.
pub const REGION: [usize; 2] = [2000, 100];
/// The region's community, which all that it tells the customer has.
pub const COMMUNITY: &str = "12076:51004";

/// One edge router of one peering.
#[derive(Debug)]
pub struct Edge {
    /// zebra and bgpd.
    pub frr: Frr,
    /// Its TAP on the wire.
    pub end: Arc<End>,
    /// The link it is the far end of.
    pub link: LinkPlan,
    /// Where it lives.
    pub netns: Netns,
}

impl Edge {
    /// Edge `number` (0: primary) of a peering, joined with the cloud host's namespace.
    #[track_caller]
    pub fn start(lab: &Lab, peering: &PeeringPlan, number: usize, outer_tpid: u16, cloud: &Netns) -> Self {
        let link = peering.links[number];
        let name = format!("E{}{}", number + 1, peering.letter);
        let netns = lab.netns(&name);
        netns.without_dad();
        netns.forwards();
        let tags = [Tag::new(outer_tpid, plan::S_TAG), Tag::new(0x8100, peering.c_tag)];
        let end = End::new(&netns, "er0", &tags);
        for ends in [link.v4, link.v6] {
            netns.address("er0", &format!("{}/{}", ends.edge, ends.length));
        }
        netns.join("fabric", cloud, &format!("edge{}", number + 1));
        for ((host, edge), sites) in
            plan::cloud_veth(number).iter().zip([[CLOUD[0], LATER[0]], [CLOUD[1], LATER[1]]])
        {
            let length = if host.contains(':') { 64 } else { 30 };
            netns.address("fabric", &format!("{edge}/{length}"));
            cloud.address(&format!("edge{}", number + 1), &format!("{host}/{length}"));
            for site in sites {
                netns.ip(&format!("route add {} via {host}", site.prefix));
            }
        }
        let frr = Frr::start(lab, &netns, &name, &config(&name, number, &link));
        Self { frr, end, link, netns }
    }

    /// Announces a prefix, or withdraws it.
    #[track_caller]
    pub fn announce(&self, prefix: &str, yes: bool) {
        let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
        let no = if yes { "" } else { "no " };
        self.frr.configure(&[
            &format!("router bgp {MICROSOFT_AS}"),
            &format!("address-family {family} unicast"),
            &format!("{no}network {prefix}"),
        ]);
    }

    /// Prepends its AS eight times to all that it announces, as before maintenance; or stops that.
    #[track_caller]
    pub fn prepend(&self, yes: bool) {
        let path = [MICROSOFT_AS.to_string().as_str()].repeat(8).join(" ");
        let set =
            if yes { format!("set as-path prepend {path}") } else { "no set as-path prepend".to_owned() };
        self.frr.configure(&[&format!("route-map {OUT} permit 10"), &set]);
        self.frr.vtysh(&["clear bgp ipv4 unicast * soft out", "clear bgp ipv6 unicast * soft out"]);
    }

    /// Whether its sessions with the customer are up in both families.
    #[track_caller]
    pub fn established(&self) -> bool {
        self.frr.established(self.link.v4.ours) && self.frr.established(self.link.v6.ours)
    }
}

/// Prefix `number` of the region.
pub fn region(v6: bool, number: usize) -> String {
    if v6 {
        format!("2603:1000:{:x}::/48", number + 1)
    } else {
        format!("20.{}.{}.0/24", 64 + number / 256, number % 256)
    }
}

fn config(name: &str, number: usize, link: &LinkPlan) -> String {
    let [(cloud4, _), (cloud6, _)] = plan::cloud_veth(number);
    let (ours4, ours6) = (link.v4.ours, link.v6.ours);
    let mut text = format!(
        "hostname {name}
log stdout
bgp route-map delay-timer 0
route-map {OUT} permit 10
 set community {COMMUNITY}
ip prefix-list FABRIC deny 20.64.0.0/12 le 24
ip prefix-list FABRIC permit 0.0.0.0/0 le 32
ipv6 prefix-list FABRIC deny 2603:1000::/32 le 48
ipv6 prefix-list FABRIC permit ::/0 le 128
router bgp {MICROSOFT_AS}
 bgp router-id 10.255.255.{number}
 bgp graceful-restart-disable
 no bgp default ipv4-unicast
 no bgp ebgp-requires-policy
 no bgp network import-check
 coalesce-time 10
"
    );
    for (peer, asn) in
        [(ours4, CUSTOMER_AS), (ours6, CUSTOMER_AS), (&cloud4, MICROSOFT_AS), (&cloud6, MICROSOFT_AS)]
    {
        text += &format!(
            " neighbor {peer} remote-as {asn}
 neighbor {peer} timers 3 9
 neighbor {peer} timers connect 1
 neighbor {peer} advertisement-interval 0
"
        );
    }
    for (family, customer, cloud, site) in
        [("ipv4", ours4, &cloud4, CLOUD[0]), ("ipv6", ours6, &cloud6, CLOUD[1])]
    {
        text += &format!(
            " address-family {family} unicast
  network {}
  neighbor {customer} activate
  neighbor {customer} route-map {OUT} out
  neighbor {cloud} activate
  neighbor {cloud} next-hop-self
  neighbor {cloud} prefix-list FABRIC out
",
            site.prefix
        );
        let v6 = family == "ipv6";
        for number in 0..REGION[usize::from(v6)] {
            text += &format!("  network {}\n", region(v6, number));
        }
        text += " exit-address-family\n";
    }
    text
}
