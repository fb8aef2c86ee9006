//! GoBGP, which gets its routes by its API.

use std::fmt::Write as _;
use std::process::Command;

use serde_json::Value;

use super::page::{block, insert};
use super::route::{Route, Routes};
use super::speaker::{Site, Speaker, difference, tail};
use crate::process::{Daemon, output, run};
use crate::suite::SOON;
use crate::wait;

/// turnpike, as its configuration names it.
const NEIGHBOUR: &str = "10.255.255.254";

/// gobgpd.
#[derive(Debug, Default)]
pub struct GobgpSpeaker {
    daemon: Option<Daemon>,
    /// Whether it has run before.
    again: bool,
}

/// The commands that announce these routes, and those that take these out.
fn commands(come: &[&Route], go: &[&Route]) -> String {
    let family = |route: &Route| if route.v6() { "ipv6" } else { "ipv4" };
    let mut text = String::new();
    for route in go {
        let _ = writeln!(text, "gobgp global rib del -a {} {}", family(route), route.prefix);
    }
    for route in come {
        let _ = write!(text, "gobgp global rib add -a {} {}", family(route), route.prefix);
        let _ = write!(text, " nexthop {} local-pref {} med {}", route.hop, route.local_pref, route.med);
        let communities = route.communities.join(",");
        let _ = writeln!(
            text,
            "{}",
            if communities.is_empty() { communities } else { format!(" community {communities}") }
        );
    }
    text
}

impl GobgpSpeaker {
    /// Runs these commands, a process for each.
    #[track_caller]
    fn shell(site: &Site, commands: &str) {
        let path = site.write("gobgp.sh", commands);
        run(site.inside.command("sh").arg("-e").arg(path));
    }

    fn gobgp(site: &Site, words: &[&str]) -> Command {
        let mut command = site.inside.command("gobgp");
        command.args(words);
        command
    }
}

impl Speaker for GobgpSpeaker {
    /// It tells that it has told all as soon as its session is up, whatever it has by then: so the session waits.
    fn start(&mut self, site: &Site, routes: &Routes) {
        let config = insert(&block("GoBGP", 0), "    peer-as", "    admin-down = true\n");
        let config = config.replace("connect-retry = 5", "connect-retry = 1");
        let path = site.write("gobgpd.toml", &config);
        let mut words = vec!["-f", path.to_str().expect("a path"), "-l", "info"];
        if self.again {
            words.push("-r");
        }
        self.daemon = Some(site.daemon("gobgpd", "gobgpd", &words, &[]));
        self.again = true;
        let answers = || output(&mut Self::gobgp(site, &["neighbor"])).status.success();
        wait::until_true(SOON, "GoBGP to answer", answers);
        let others: Vec<&Route> = routes.iter().filter(|route| !route.on_page()).collect();
        Self::shell(site, &(block("GoBGP", 1) + &commands(&others, &[])));
        run(&mut Self::gobgp(site, &["neighbor", NEIGHBOUR, "enable"]));
    }

    fn set(&mut self, site: &Site, before: &Routes, routes: &Routes) {
        let (come, go) = difference(before, routes);
        Self::shell(site, &commands(&come, &go));
    }

    fn dump(&self, site: &Site) -> Routes {
        let mut all = Routes::new();
        for family in ["ipv4", "ipv6"] {
            let printed = run(&mut Self::gobgp(site, &["global", "rib", "-a", family, "-j"]));
            let shown: Value = serde_json::from_str(&printed).unwrap_or_else(|e| panic!("{e}\n{printed}"));
            for (prefix, paths) in shown.as_object().into_iter().flatten() {
                all.extend(paths.as_array().into_iter().flatten().map(|path| of_gobgp(prefix, path)));
            }
        }
        all
    }

    fn kill(&mut self) {
        self.daemon = None;
    }

    fn log_tail(&self) -> String {
        tail(self.daemon.as_ref())
    }
}

/// A path of its dump: its attributes are numbered as on the wire.
fn of_gobgp(prefix: &str, path: &Value) -> Route {
    let mut route = Route::plain(prefix.to_owned(), String::new());
    for attribute in path["attrs"].as_array().into_iter().flatten() {
        let number = |key: &str| attribute[key].as_u64().unwrap_or(0) as u32;
        match attribute["type"].as_u64() {
            Some(3 | 14) => attribute["nexthop"].as_str().unwrap_or_default().clone_into(&mut route.hop),
            Some(4) => route.med = number("metric"),
            Some(5) => route.local_pref = number("value"),
            Some(8) => {
                let list = attribute["communities"].as_array().into_iter().flatten();
                let text = |c: u64| format!("{}:{}", c >> 16, c & 0xffff);
                route.communities = list.filter_map(Value::as_u64).map(text).collect();
            }
            _ => {}
        }
    }
    route
}
