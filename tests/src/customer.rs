//! The customer's router: FRR or BIRD on turnpike's TAPs, unaware of it, with BGP sessions to both edges through
//! them, and one over loopback on which it relays what it learned.

use crate::bird::Bird;
use crate::frr::Frr;
use crate::lab::{Lab, Netns};
use crate::plan::{CUSTOMER_AS, LAN, MICROSOFT_AS, ONE_RELAY, PeeringPlan, RELAY_PORT, Relay, TWO_RELAYS};

/// Which program it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// FRR.
    Frr,
    /// BIRD 2.
    Bird,
}

impl Speaker {
    /// The sessions on which it relays to turnpike.
    pub fn relays(self) -> &'static [Relay] {
        match self {
            Self::Frr => TWO_RELAYS,
            Self::Bird => ONE_RELAY,
        }
    }

    /// Gives `netns` the loopback addresses of those sessions.
    #[track_caller]
    pub fn prepare(self, netns: &Netns) {
        if self == Self::Frr {
            // On loopback the whole IPv4 prefix is local by the one address; IPv6 wants a route for that.
            netns.address("lo", &format!("{}/30", TWO_RELAYS[0].customer));
            netns.address("lo", &format!("{}/126", TWO_RELAYS[1].customer));
            netns.ip(&format!("-6 route add local {}/128 dev lo", TWO_RELAYS[1].turnpike));
        }
    }
}

/// The customer's router of one peering.
#[derive(Debug)]
pub enum Customer {
    /// An FRR.
    Frr(Frr),
    /// A BIRD.
    Bird(Bird),
}

impl Customer {
    /// Starts it in `netns`, where turnpike's TAPs are.
    #[track_caller]
    pub fn start(lab: &Lab, netns: &Netns, peering: &PeeringPlan, speaker: Speaker) -> Self {
        let name = format!("customer-{}", peering.letter);
        match speaker {
            Speaker::Frr => Self::Frr(Frr::start(lab, netns, &name, &frr_config(peering))),
            Speaker::Bird => Self::Bird(Bird::start(lab, netns, &name, &bird_config(peering))),
        }
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        match self {
            Self::Frr(frr) => frr.kill(),
            Self::Bird(bird) => bird.kill(),
        }
    }

    /// Starts it again, as a restart that kept forwarding.
    #[track_caller]
    pub fn resume(&mut self) {
        match self {
            Self::Frr(frr) => frr.resume(),
            Self::Bird(bird) => bird.resume(true),
        }
    }

    /// Whether its relay sessions are up.
    #[track_caller]
    pub fn relays(&self) -> bool {
        match self {
            Self::Frr(frr) => TWO_RELAYS.iter().all(|r| frr.established(r.turnpike)),
            Self::Bird(bird) => bird.established("relay"),
        }
    }

    /// Next hops of the paths that it holds for a prefix.
    #[track_caller]
    pub fn paths(&self, prefix: &str) -> Vec<String> {
        match self {
            Self::Frr(frr) => frr.paths(prefix),
            Self::Bird(bird) => bird.paths(prefix),
        }
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        match self {
            Self::Frr(frr) => frr.log_tail(lines),
            Self::Bird(bird) => bird.log_tail(lines),
        }
    }

    /// How a person talks to it.
    pub fn console(&self) -> String {
        match self {
            Self::Frr(frr) => format!("vtysh --vty_socket {}", frr.dir().display()),
            Self::Bird(bird) => format!("birdc -s {}", bird.socket().display()),
        }
    }
}

/// FRR's configuration. `update-delay`: after a restart it must not tell turnpike its end-of-RIB before it has heard
/// from the edges, or turnpike forgets what FRR has not learned again yet.
fn frr_config(peering: &PeeringPlan) -> String {
    let mut text = format!(
        "hostname customer
log stdout
bgp route-map delay-timer 0
router bgp {CUSTOMER_AS}
 bgp router-id 10.0.0.1
 update-delay 6 2
 no bgp default ipv4-unicast
 no bgp ebgp-requires-policy
 no bgp network import-check
 coalesce-time 10
"
    );
    for relay in TWO_RELAYS {
        let peer = relay.turnpike;
        text += &format!(
            " neighbor {peer} remote-as {CUSTOMER_AS}
 neighbor {peer} port {RELAY_PORT}
 neighbor {peer} update-source {}
 neighbor {peer} timers 3 9
 neighbor {peer} timers connect 1
 neighbor {peer} advertisement-interval 0
",
            relay.customer
        );
    }
    for link in peering.links {
        for peer in [link.v4.edge, link.v6.edge] {
            text += &format!(
                " neighbor {peer} remote-as {MICROSOFT_AS}
 neighbor {peer} timers 3 9
 neighbor {peer} timers connect 1
 neighbor {peer} advertisement-interval 0
"
            );
        }
    }
    for (number, family) in ["ipv4", "ipv6"].iter().enumerate() {
        text += &format!(
            " address-family {family} unicast\n  network {}\n  maximum-paths 2\n",
            LAN[number].prefix
        );
        for link in peering.links {
            let edge = [link.v4, link.v6][number].edge;
            text += &format!("  neighbor {edge} activate\n");
        }
        let peer = TWO_RELAYS[number].turnpike;
        text += &format!(
            "  neighbor {peer} activate
  neighbor {peer} addpath-tx-all-paths
 exit-address-family
"
        );
    }
    text
}

/// BIRD's configuration, for the same reason with graceful restart, which makes it wait for its peers.
fn bird_config(peering: &PeeringPlan) -> String {
    let mut text = format!(
        "router id 10.0.0.1;
graceful restart wait 5;
protocol device {{ }}
protocol kernel {{ ipv4 {{ import none; export where source = RTS_BGP; }}; merge paths yes; }}
protocol kernel {{ ipv6 {{ import none; export where source = RTS_BGP; }}; merge paths yes; }}
protocol static lan4 {{ ipv4; route {} blackhole; }}
protocol static lan6 {{ ipv6; route {} blackhole; }}
template bgp timed {{
  local as {CUSTOMER_AS};
  graceful restart yes;
  hold time 9; keepalive time 3; connect retry time 1; connect delay time 1; error wait time 1, 2;
}}
protocol bgp relay from timed {{
  neighbor {relay} port {RELAY_PORT} as {CUSTOMER_AS};
  source address {relay};
  ipv4 {{ import none; export where source = RTS_BGP; add paths tx; next hop keep; }};
  ipv6 {{ import none; export where source = RTS_BGP; add paths tx; next hop keep; }};
}}
",
        LAN[0].prefix,
        LAN[1].prefix,
        relay = ONE_RELAY[0].turnpike
    );
    for link in peering.links {
        for (family, edge) in [("ipv4", link.v4.edge), ("ipv6", link.v6.edge)] {
            text += &format!(
                "protocol bgp {}_{family} from timed {{
  neighbor {edge} as {MICROSOFT_AS};
  {family} {{ import all; export where source = RTS_STATIC; }};
}}
",
                link.role
            );
        }
    }
    text
}
