//! What the suite wants of each that brings routes, whatever it is.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;

use super::route::{Route, Routes};
use crate::lab::{Lab, Netns};
use crate::process::Daemon;

/// Where the speakers live.
#[derive(Debug)]
pub struct Site {
    /// Where the TAPs are.
    pub inside: Netns,
    /// Where a zebra of its own is, with an interface to the gateways.
    pub beside: Netns,
    /// Names and files.
    pub lab: Lab,
}

impl Site {
    /// A file of the laboratory with this text.
    #[track_caller]
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.lab.path(name);
        std::fs::write(&path, text).expect("a file of the laboratory");
        path
    }

    /// A daemon inside, by its program and words.
    #[track_caller]
    pub fn daemon(&self, name: &str, program: &str, words: &[&str], environment: &[(&str, &str)]) -> Daemon {
        let mut command = self.inside.command(program);
        command.args(words).envs(environment.iter().copied());
        Daemon::start(name, &mut command, &self.lab.path(&format!("{name}.log")))
    }
}

/// A daemon that brings routes to turnpike. What it does not do in time panics.
pub trait Speaker: Debug {
    /// Starts it, as after a restart that kept forwarding if it has run before, with these routes.
    fn start(&mut self, site: &Site, routes: &Routes);
    /// Has it announce these and no others, where it announced `before`.
    fn set(&mut self, site: &Site, before: &Routes, routes: &Routes);
    /// What it says that it has.
    fn dump(&self, site: &Site) -> Routes;
    /// Has it leave in the way in which it is restarted gracefully.
    fn leave(&mut self, site: &Site) {
        let _ = site;
        self.kill();
    }
    /// Kills it with SIGKILL.
    fn kill(&mut self);
    /// The last lines of its log.
    fn log_tail(&self) -> String;
}

/// What has to be said to come from one set of routes to another: those that come or change, and those that go.
pub fn difference<'a>(before: &'a Routes, after: &'a Routes) -> (Vec<&'a Route>, Vec<&'a Route>) {
    let by_prefix = |routes: &'a Routes| -> BTreeMap<&'a str, &'a Route> {
        routes.iter().map(|route| (route.prefix.as_str(), route)).collect()
    };
    let (old, new) = (by_prefix(before), by_prefix(after));
    let come = new.iter().filter(|(prefix, route)| old.get(*prefix) != Some(route)).map(|(_, route)| *route);
    let go = old.iter().filter(|(prefix, _)| !new.contains_key(*prefix)).map(|(_, route)| *route);
    (come.collect(), go.collect())
}

/// The log's end of a daemon that may not run.
pub fn tail(daemon: Option<&Daemon>) -> String {
    daemon.map_or_else(|| "it is not running".to_owned(), |daemon| daemon.log_tail(15))
}
