//! BIRD: by BGP, and by what it writes into the kernel's table.

use std::fmt::Write as _;

use super::page::{block, insert};
use super::route::{Route, Routes};
use super::speaker::{Site, Speaker};
use crate::bird::Bird;
use crate::tables;

/// How it brings its routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A BGP session.
    Bgp,
    /// The kernel's table.
    Kernel,
}

/// One BIRD.
#[derive(Debug)]
pub struct BirdSpeaker {
    by: By,
    bird: Option<Bird>,
}

impl BirdSpeaker {
    /// Not started.
    pub const fn new(by: By) -> Self {
        Self { by, bird: None }
    }

    fn config(&self, routes: &Routes) -> String {
        let lines = |v6: bool| {
            // The page has its routes itself.
            let ours = |r: &&Route| r.v6() == v6 && (self.by == By::Kernel || !r.on_page());
            let mut text = String::new();
            for route in routes.iter().filter(ours) {
                let _ = writeln!(text, "  route {} via {}{};", route.prefix, route.hop, attributes(route));
            }
            text
        };
        if self.by == By::Kernel {
            let kernel = tables::block("bird kernel");
            let table = |family, v6| format!("protocol static {{\n  {family};\n{}}}\n", lines(v6));
            return format!(
                "router id 10.255.255.7;\n{kernel}{}{}",
                table("ipv4", false),
                table("ipv6", true)
            );
        }
        let page = insert(&block("BIRD 2", 0), "  route 10.", &lines(false));
        let page = insert(&page, "  route 2001:", &lines(true));
        insert(
            &page,
            "  strict bind;",
            "  connect delay time 1; connect retry time 1; error wait time 1, 2;\n",
        )
    }

    fn bird(&self) -> &Bird {
        self.bird.as_ref().expect("BIRD has been started")
    }
}

/// What is said of a route besides its next hop.
fn attributes(route: &Route) -> String {
    if *route == Route::plain(route.prefix.clone(), route.hop.clone()) {
        return String::new();
    }
    let mut text = format!(" {{ bgp_local_pref = {}; ", route.local_pref);
    if route.med > 0 {
        let _ = write!(text, "bgp_med = {}; ", route.med);
    }
    for community in &route.communities {
        let _ = write!(text, "bgp_community.add(({})); ", community.replace(':', ","));
    }
    text + "}"
}

impl Speaker for BirdSpeaker {
    fn start(&mut self, site: &Site, routes: &Routes) {
        let config = self.config(routes);
        if let Some(bird) = &mut self.bird {
            bird.restart(&config);
        } else {
            let name = if self.by == By::Bgp { "bgp" } else { "kernel" };
            self.bird = Some(Bird::start(&site.lab, &site.inside, name, &config));
        }
    }

    fn set(&mut self, _: &Site, _: &Routes, routes: &Routes) {
        self.bird().configure(&self.config(routes));
    }

    fn dump(&self, site: &Site) -> Routes {
        match self.by {
            By::Bgp => of_export(&self.bird().birdc("show route all export turnpike")),
            By::Kernel => [false, true]
                .iter()
                .flat_map(|v6| tables::netlink::kernels(&site.inside, *v6))
                .map(|(prefix, hops)| Route::plain(prefix, hops.join(" ")))
                .collect(),
        }
    }

    fn leave(&mut self, _: &Site) {
        if self.by == By::Bgp {
            // It goes without a NOTIFICATION.
            self.bird().birdc("graceful restart");
        }
        self.kill();
    }

    fn kill(&mut self) {
        if let Some(bird) = &mut self.bird {
            bird.kill();
        }
    }

    fn log_tail(&self) -> String {
        self.bird.as_ref().map_or_else(String::new, |bird| bird.log_tail(15))
    }
}

/// The routes of `show route all export`: each begins with its prefix, at the beginning of a line.
fn of_export(text: &str) -> Routes {
    let mut all: Vec<Route> = Vec::new();
    for line in text.lines() {
        let value = |key: &str| line.trim().strip_prefix(key).map(str::trim);
        if let Some(prefix) =
            line.split_whitespace().next().filter(|w| line.starts_with(*w) && w.contains('/'))
        {
            all.push(Route::plain(prefix.to_owned(), String::new()));
        }
        let Some(route) = all.last_mut() else { continue };
        if let Some(hop) = value("via ") {
            hop.split(' ').next().unwrap_or_default().clone_into(&mut route.hop);
        } else if let Some(number) = value("BGP.local_pref:") {
            route.local_pref = number.parse().expect("a number");
        } else if let Some(number) = value("BGP.med:") {
            route.med = number.parse().expect("a number");
        } else if let Some(list) = value("BGP.community:") {
            let pair = |pair: &str| pair.trim_matches(['(', ')']).replace(',', ":");
            route.communities = list.split_whitespace().map(pair).collect();
        }
    }
    all.into_iter().collect()
}
