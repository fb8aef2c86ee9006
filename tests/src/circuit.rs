//! The whole scenario: a circuit with private and Microsoft peering, two edges each, the cloud behind them, the
//! customer's router and LAN on this side, and in the middle turnpike, or Linux in its place.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::bird::Bird;
use crate::customer::Customer;
use crate::echo;
use crate::edge::Edge;
use crate::frame::Tag;
use crate::lab::{Lab, Netns};
use crate::plan::{CLOUD, LAN, NETDEVS, PEERINGS, PeeringPlan};
use crate::router::Router;
use crate::settings::{self, Variant};
use crate::standin::StandIn;
use crate::suite::{Fixture, SOON};
use crate::wait;
use crate::wire::{End, Wire};

/// What stands in the middle.
#[derive(Debug)]
pub enum Middle {
    /// The program under test.
    Turnpike(Router),
    /// The Linux router.
    Linux(StandIn),
}

/// One peering with its people.
#[derive(Debug)]
pub struct Peering {
    /// Its numbers.
    pub plan: PeeringPlan,
    /// The customer's router; `None` until the middle stands.
    pub customer: Option<Customer>,
    /// Primary, then secondary.
    pub edges: [Edge; 2],
    /// What the cloud host runs.
    pub fabric: Bird,
    /// The cloud host.
    pub cloud: Netns,
    /// The LAN host.
    pub lan: Netns,
    /// The LAN host's TAP on the wire.
    pub lan_end: Arc<End>,
    /// Where the VRF's TAPs and the customer's router are.
    pub vrf: Netns,
}

/// The scenario. Its parts go in the order in which they stand here.
#[derive(Debug)]
pub struct Circuit {
    /// LAN, primary, secondary.
    pub wires: Vec<Wire>,
    /// Private, then Microsoft.
    pub peerings: Vec<Peering>,
    /// turnpike or Linux; `None` while it is stopped.
    pub middle: Option<Middle>,
    /// Where it runs, with the kernel's ends of its ports.
    pub outside: Netns,
    /// How this run differs.
    pub variant: Variant,
    /// Names and files.
    pub lab: Lab,
}

impl Circuit {
    /// Starts the rest with turnpike in the middle, up to the point where routes are there and packets pass.
    #[track_caller]
    pub fn start_with_turnpike(&mut self) {
        self.start_turnpike();
        self.open();
    }

    /// Starts the rest with Linux in the middle.
    #[track_caller]
    pub fn start_with_linux(&mut self) {
        let vrfs = [&self.peerings[0].vrf, &self.peerings[1].vrf];
        let standin = StandIn::start(&self.lab, &self.outside, vrfs, &self.variant);
        self.middle = Some(Middle::Linux(standin));
        self.attach();
        self.open();
    }

    /// All but the middle, the wires and the customer's routers.
    #[track_caller]
    pub fn around(variant: Variant) -> Self {
        let lab = Lab::new();
        let outside = lab.netns("R");
        // The wires are no business of the kernel's IP stack.
        outside.sysctl("ipv6/conf/default/disable_ipv6", "1");
        let peerings = PEERINGS.iter().enumerate().map(|(n, plan)| peering(&lab, n, plan, variant)).collect();
        Self { wires: Vec::new(), peerings, middle: None, outside, variant, lab }
    }

    /// Starts turnpike and joins the wires to its ports.
    #[track_caller]
    pub fn start_turnpike(&mut self) {
        let socket = self.lab.path("turnpike.sock");
        let config =
            settings::circuit(&self.variant, [&self.peerings[0].vrf, &self.peerings[1].vrf], &socket);
        let router = Router::start(&self.lab, &self.outside, &config, &socket);
        self.middle = Some(Middle::Turnpike(router));
        self.attach();
    }

    #[track_caller]
    fn attach(&mut self) {
        let ends = |of: fn(&Peering) -> Arc<End>| self.peerings.iter().map(of).collect::<Vec<_>>();
        let sides =
            [ends(|p| p.lan_end.clone()), ends(|p| p.edges[0].end.clone()), ends(|p| p.edges[1].end.clone())];
        let attach = |(netdev, ends): (&&str, Vec<Arc<End>>)| Wire::attach(&self.outside, netdev, &ends);
        self.wires = NETDEVS.iter().zip(sides).map(attach).collect();
    }

    /// Starts the customer's routers and waits until every session is up, and packets pass.
    #[track_caller]
    fn open(&mut self) {
        let speaker = self.variant.speaker;
        for peering in &mut self.peerings {
            peering.customer = Some(Customer::start(&self.lab, &peering.vrf, &peering.plan, speaker));
        }
        self.settle();
    }

    /// Waits until every session is up, each site's prefixes have come by both links, and the hosts reach each other
    /// in both families.
    #[track_caller]
    pub fn settle(&self) {
        for peering in &self.peerings {
            let kind = peering.plan.kind;
            for edge in &peering.edges {
                let what = format!("{kind}: BGP of the customer with the {} edge", edge.link.role);
                wait::until_true(SOON, &what, || edge.established());
            }
            wait::until_true(SOON, &format!("{kind}: the relay session"), || peering.customer().relays());
            for site in CLOUD {
                let what = format!("{kind}: both paths to {} at the customer", site.prefix);
                wait::until_true(SOON, &what, || peering.customer().paths(site.prefix).len() == 2);
            }
            for (lan, cloud) in LAN.iter().zip(CLOUD) {
                let what = format!("{kind}: the cloud's route to {}", lan.prefix);
                wait::until_true(SOON, &what, || peering.fabric.paths(lan.host).len() == 2);
                let what = format!("{kind}: ping from {} to {}", lan.host, cloud.host);
                wait::until_true(SOON, &what, || peering.lan_pings(cloud.address()));
            }
        }
    }

    /// turnpike; panics when Linux is in its place.
    #[track_caller]
    pub fn turnpike(&mut self) -> &mut Router {
        match &mut self.middle {
            Some(Middle::Turnpike(router)) => router,
            _ => panic!("turnpike is not in the middle"),
        }
    }

    /// Whether the middle has a route to a prefix in a peering's VRF.
    #[track_caller]
    pub fn knows(&self, peering: usize, prefix: &str) -> bool {
        let Peering { plan, vrf, .. } = &self.peerings[peering];
        match &self.middle {
            Some(Middle::Turnpike(router)) => {
                let routes = router.show("routes");
                let fits = |r: &serde_json::Value| r["prefix"] == prefix && r["vrf"] == plan.kind;
                routes.as_array().is_some_and(|all| all.iter().any(fits))
            }
            Some(Middle::Linux(_)) => {
                let family = if prefix.contains(':') { "-6" } else { "-4" };
                !vrf.ip(&format!("{family} route show {prefix}")).is_empty()
            }
            None => false,
        }
    }

    /// The LAN's wire.
    pub fn lan_wire(&self) -> &Wire {
        &self.wires[0]
    }

    /// The wire of a link, by its number (0: primary).
    pub fn link_wire(&self, number: usize) -> &Wire {
        &self.wires[number + 1]
    }

    /// The tags that a frame of a peering must have on the circuit.
    pub fn circuit_tags(&self, peering: usize) -> [Tag; 2] {
        let c_tag = PEERINGS[peering].c_tag;
        [Tag::new(self.variant.outer_tpid, crate::plan::S_TAG), Tag::new(0x8100, c_tag)]
    }
}

impl Peering {
    /// The customer's router.
    #[track_caller]
    pub fn customer(&self) -> &Customer {
        self.customer.as_ref().expect("the customer's router has been started")
    }

    /// Whether one ping from the LAN host is answered.
    pub fn lan_pings(&self, target: IpAddr) -> bool {
        let patience = Duration::from_millis(500);
        let plan = echo::Plan { source: None, target, size: 56, count: 1, patience, fragments: false };
        echo::send(&self.lan, &plan).answered == 1
    }
}

#[track_caller]
fn peering(lab: &Lab, number: usize, plan: &PeeringPlan, variant: Variant) -> Peering {
    let cloud = crate::cloud::netns(lab, plan);
    let edge = |n: usize| Edge::start(lab, plan, n, variant.outer_tpid, &cloud);
    let edges = [edge(0), edge(1)];
    let fabric = crate::cloud::start(lab, &cloud, plan);
    let lan = lab.netns(&format!("L{}", plan.letter));
    lan.without_dad();
    let tags: Vec<Tag> = variant.lan_vlan(number).map(|v| Tag::new(0x8100, v)).into_iter().collect();
    let lan_end = End::new(&lan, "eth0", &tags);
    for site in LAN {
        lan.address("eth0", &format!("{}/{}", site.host, site.length));
        lan.ip(&format!("route add default via {}", site.router));
    }
    let vrf = lab.netns(if number == 0 { "P" } else { "M" });
    variant.speaker.prepare(&vrf);
    Peering { plan: *plan, customer: None, edges, fabric, cloud, lan, lan_end, vrf }
}

impl Fixture for Circuit {
    fn describe(&self) -> String {
        let mut text = format!(
            "\nturnpike and the wires {NETDEVS:?}: ip netns exec {} bash\nfiles: {}\n",
            self.outside.name(),
            self.lab.dir().display()
        );
        if let Some(Middle::Turnpike(router)) = &self.middle {
            text += &format!("turnpike show ports --socket {}\n", router.socket().display());
        }
        for p in &self.peerings {
            text += &format!("{} peering, S {} C {}\n", p.plan.kind, crate::plan::S_TAG, p.plan.c_tag);
            let console = p.customer.as_ref().map_or_else(String::new, Customer::console);
            text += &format!("  customer's router in {}: {console}\n", p.vrf.name());
            for edge in &p.edges {
                let (role, netns, dir) = (edge.link.role, edge.netns.name(), edge.frr.dir().display());
                text += &format!("  {role} edge in {netns}: vtysh --vty_socket {dir}\n");
            }
            text += &format!("  LAN host {}: ip netns exec {} bash\n", LAN[0].host, p.lan.name());
            text += &format!("  cloud host {}: ip netns exec {} bash\n", CLOUD[0].host, p.cloud.name());
        }
        text
    }

    fn recover(&mut self) {
        for peering in &mut self.peerings {
            peering.edges.iter_mut().for_each(|e| e.frr.resume());
            if let Some(customer) = &mut peering.customer {
                customer.resume();
            }
        }
        self.settle();
    }

    fn diagnose(&mut self) -> String {
        let mut text = String::new();
        for (wire, name) in self.wires.iter().zip(NETDEVS) {
            text += &format!(
                "wire {name}: {} frames with unknown tags, {} lost\n",
                wire.unclaimed(),
                wire.lost()
            );
        }
        for peering in &self.peerings {
            if let Some(customer) = &peering.customer {
                text += &format!("-- customer, {}:\n{}\n", peering.plan.kind, customer.log_tail(4));
            }
        }
        if let Some(Middle::Turnpike(router)) = &mut self.middle {
            for what in ["ports", "interfaces", "routes", "neighbours", "groups", "drops"] {
                let shown = router.try_show(what).map_or_else(|| "no answer".to_owned(), |v| v.to_string());
                text +=
                    &format!("-- turnpike show {what}: {}\n", shown.chars().take(6000).collect::<String>());
            }
            text += &format!("-- turnpike:\n{}\n", router.daemon().log_tail(30));
        }
        text
    }
}

/// Long enough for what must not happen to show itself.
pub const QUIET: Duration = Duration::from_millis(500);
