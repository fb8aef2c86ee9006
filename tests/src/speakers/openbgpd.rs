//! OpenBGPD.

use std::fmt::Write as _;
use std::process::Command;

use serde_json::Value;

use super::page::block;
use super::route::{Route, Routes};
use super::speaker::{Site, Speaker, tail};
use crate::process::{Daemon, run};

/// bgpd.
#[derive(Debug, Default)]
pub struct OpenbgpdSpeaker(Option<Daemon>);

const SOCKET: &str = "bgpd.sock";

/// Writes the configuration: the page's, which has its own routes, after the others.
#[track_caller]
fn write(site: &Site, routes: &Routes) -> String {
    let mut text = format!("socket \"{}\"\n", site.lab.path(SOCKET).display());
    for route in routes.iter().filter(|route| !route.on_page()) {
        let _ = write!(
            text,
            "network {} set {{ nexthop {} localpref {} med {}",
            route.prefix, route.hop, route.local_pref, route.med
        );
        for community in &route.communities {
            let _ = write!(text, " community {community}");
        }
        text += " }\n";
    }
    let path = site.write("bgpd.conf", &(text + &block("OpenBGPD", 0)));
    // It refuses a file that others can read.
    run(Command::new("chmod").arg("600").arg(&path));
    path.to_string_lossy().into_owned()
}

fn bgpctl(site: &Site, words: &[&str]) -> String {
    let mut command = site.inside.command("/usr/sbin/bgpctl");
    run(command.arg("-s").arg(site.lab.path(SOCKET)).args(words))
}

impl Speaker for OpenbgpdSpeaker {
    fn start(&mut self, site: &Site, routes: &Routes) {
        // Its parts go to live in this directory, which its service makes elsewhere.
        std::fs::create_dir_all("/run/openbgpd").expect("/run/openbgpd");
        let path = write(site, routes);
        self.0 = Some(site.daemon("openbgpd", "/usr/sbin/bgpd", &["-d", "-f", &path], &[]));
    }

    fn set(&mut self, site: &Site, _: &Routes, routes: &Routes) {
        write(site, routes);
        bgpctl(site, &["reload"]);
    }

    fn dump(&self, site: &Site) -> Routes {
        let printed = bgpctl(site, &["-j", "show", "rib", "detail"]);
        let shown: Value = serde_json::from_str(&printed).unwrap_or_else(|e| panic!("{e}\n{printed}"));
        shown["rib"].as_array().into_iter().flatten().map(of_openbgpd).collect()
    }

    fn kill(&mut self) {
        self.0 = None;
    }

    fn log_tail(&self) -> String {
        tail(self.0.as_ref())
    }
}

fn of_openbgpd(path: &Value) -> Route {
    let number = |key: &str, without: u32| path[key].as_u64().map_or(without, |n| n as u32);
    let communities = path["communities"].as_array().into_iter().flatten();
    Route {
        prefix: path["prefix"].as_str().unwrap_or_default().to_owned(),
        hop: path["exit_nexthop"].as_str().unwrap_or_default().to_owned(),
        local_pref: number("localpref", 100),
        med: number("metric", 0),
        communities: communities.filter_map(|c| Some(c.as_str()?.to_owned())).collect(),
    }
}
