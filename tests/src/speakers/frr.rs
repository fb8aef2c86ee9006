//! FRR: by BGP, and by FPM.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use super::page::{block, insert};
use super::route::{Route, Routes};
use super::speaker::{Site, Speaker, difference};
use crate::frr::Frr;
use crate::process::run;
use crate::tables;
use crate::zebra::Zebra;

/// bgpd with routes of its own, and the zebra that it wants.
#[derive(Debug, Default)]
pub struct FrrSpeaker(Option<Frr>);

impl FrrSpeaker {
    fn frr(&self) -> &Frr {
        self.0.as_ref().expect("FRR has been started")
    }

    /// Its configuration: that of the page, which has its own routes.
    fn config(routes: &Routes) -> String {
        let mut page = block("FRR", 0).replace("timers connect 5", "timers connect 1");
        for v6 in [false, true] {
            let ours: Vec<&Route> = routes.iter().filter(|r| r.v6() == v6 && !r.on_page()).collect();
            let mark = if v6 { "  network 2001:" } else { "  network 10." };
            page = insert(&page, mark, &networks(&ours, ""));
        }
        // A route map that changes is looked at after 5 s otherwise.
        format!("log stdout\nbgp route-map delay-timer 1\n{}{page}", maps(routes))
    }
}

/// The route map that gives a route what it has.
fn map_name(route: &Route) -> String {
    let communities = route.communities.join("-").replace(':', ".");
    format!("M-{}-{}-{}-{communities}", route.hop.replace(':', "."), route.local_pref, route.med)
}

fn maps<'a>(routes: impl IntoIterator<Item = &'a Route>) -> String {
    let mut text = String::new();
    let mut known = BTreeSet::new();
    for route in routes {
        if known.insert(map_name(route)) {
            let family = if route.v6() { "ipv6 next-hop global" } else { "ip next-hop" };
            let _ = write!(
                text,
                "route-map {} permit 10\n set {family} {}\n set local-preference {}\n",
                map_name(route),
                route.hop,
                route.local_pref
            );
            if route.med > 0 {
                let _ = writeln!(text, " set metric {}", route.med);
            }
            if !route.communities.is_empty() {
                let _ = writeln!(text, " set community {}", route.communities.join(" "));
            }
            text += "exit\n";
        }
    }
    text
}

fn networks(routes: &[&Route], no: &str) -> String {
    let line = |route: &&Route| format!("  {no}network {} route-map {}\n", route.prefix, map_name(route));
    routes.iter().map(line).collect()
}

impl Speaker for FrrSpeaker {
    fn start(&mut self, site: &Site, routes: &Routes) {
        let config = Self::config(routes);
        match &mut self.0 {
            Some(frr) => {
                std::fs::write(frr.dir().join("frr.conf"), config).expect("configuration of FRR");
                frr.resume();
            }
            None => self.0 = Some(Frr::start(&site.lab, &site.inside, "speaker", &config)),
        }
    }

    fn set(&mut self, site: &Site, before: &Routes, routes: &Routes) {
        let (come, go) = difference(before, routes);
        let mut text = maps(come.iter().copied()) + "router bgp 65010\n";
        for v6 in [false, true] {
            let of = |list: &[&'_ Route]| -> Vec<Route> {
                list.iter().filter(|r| r.v6() == v6).map(|r| (*r).clone()).collect()
            };
            let (come, go) = (of(&come), of(&go));
            let family = if v6 { "ipv6" } else { "ipv4" };
            let _ = writeln!(text, " address-family {family} unicast");
            text += &networks(&go.iter().collect::<Vec<_>>(), "no ");
            text += &networks(&come.iter().collect::<Vec<_>>(), "");
            text += " exit-address-family\n";
        }
        let path = site.write("frr-change.conf", &text);
        run(std::process::Command::new("vtysh")
            .arg("--vty_socket")
            .arg(self.frr().dir())
            .arg("-f")
            .arg(path));
    }

    fn dump(&self, _: &Site) -> Routes {
        let mut all = Routes::new();
        for family in ["ipv4", "ipv6"] {
            let shown = self.frr().json(&format!("show bgp {family} unicast json detail"));
            for (prefix, paths) in shown["routes"].as_object().into_iter().flatten() {
                // What the paths have in common comes first.
                let Some([_, path]) = paths.as_array().map(Vec::as_slice) else {
                    panic!("{prefix} has not one path: {paths}")
                };
                all.insert(of_bgpd(prefix, path));
            }
        }
        all
    }

    fn kill(&mut self) {
        if let Some(frr) = &mut self.0 {
            frr.kill();
        }
    }

    fn log_tail(&self) -> String {
        self.0.as_ref().map_or_else(String::new, |frr| frr.log_tail(15))
    }
}

/// A path of bgpd's detailed dump.
fn of_bgpd(prefix: &str, path: &Value) -> Route {
    let number = |key: &str| path[key].as_u64().map(|n| n as u32);
    let communities = path["community"]["list"].as_array().into_iter().flatten();
    Route {
        prefix: prefix.to_owned(),
        hop: path["nexthops"][0]["ip"].as_str().unwrap_or_default().to_owned(),
        local_pref: number("locPrf").unwrap_or(100),
        med: number("metric").unwrap_or(0),
        communities: communities.filter_map(|c| Some(c.as_str()?.to_owned())).collect(),
    }
}

/// zebra with static routes, in a namespace of its own.
#[derive(Debug, Default)]
pub struct FpmSpeaker(Option<Zebra>);

impl FpmSpeaker {
    fn zebra(&self) -> &Zebra {
        self.0.as_ref().expect("zebra has been started")
    }
}

fn statics(routes: &[&Route], no: &str) -> String {
    let family = |route: &Route| if route.v6() { "ipv6" } else { "ip" };
    let line = |route: &&Route| format!("{no}{} route {} {}\n", family(route), route.prefix, route.hop);
    routes.iter().map(line).collect()
}

impl Speaker for FpmSpeaker {
    fn start(&mut self, site: &Site, routes: &Routes) {
        let statics = statics(&routes.iter().collect::<Vec<_>>(), "");
        if let Some(zebra) = &mut self.0 {
            let config = format!("log stdout\n{statics}");
            std::fs::write(zebra.dir().join("staticd.conf"), config).expect("configuration of staticd");
            zebra.resume();
        } else {
            let configs = [&tables::block("frr zebra"), "", statics.as_str()];
            self.0 = Some(Zebra::start(&site.lab, &site.beside, configs));
        }
    }

    fn set(&mut self, site: &Site, before: &Routes, routes: &Routes) {
        let (come, go) = difference(before, routes);
        // What stays with another next hop is one route more, until the old one goes.
        let replaced = |old: &&Route| come.iter().any(|new| new.prefix == old.prefix);
        let old: Vec<&Route> = before.iter().filter(replaced).collect();
        let text = statics(&come, "") + &statics(&old, "no ") + &statics(&go, "no ");
        let path = site.write("staticd-change.conf", &text);
        let mut vtysh = std::process::Command::new("vtysh");
        run(vtysh.arg("--vty_socket").arg(self.zebra().dir()).args(["-d", "staticd", "-f"]).arg(path));
    }

    fn dump(&self, _: &Site) -> Routes {
        let all = ["ip", "ipv6"].into_iter().flat_map(|family| self.zebra().routes(family));
        all.map(|(prefix, hops)| Route::plain(prefix, hops.join(" "))).collect()
    }

    fn kill(&mut self) {
        if let Some(zebra) = &mut self.0 {
            zebra.kill();
        }
    }

    fn log_tail(&self) -> String {
        self.0.as_ref().map_or_else(String::new, |zebra| zebra.log_tail(15))
    }
}
