//! ExaBGP, which is fed by a process of its own that reads commands from a pipe and writes what it is answered.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use super::page::{block, insert};
use super::route::{Route, Routes};
use super::speaker::{Site, Speaker, difference, tail};
use crate::process::{Daemon, run};
use crate::suite::SOON;
use crate::wait;

/// exabgp.
#[derive(Debug, Default)]
pub struct ExabgpSpeaker {
    daemon: Option<Daemon>,
    /// Where commands go in, and the file that answers come in.
    pipe: Option<(File, PathBuf)>,
}

const PIPE: &str = "exabgp.pipe";
const ANSWERS: &str = "exabgp.answers";

/// A route as it is written in the configuration and in commands.
fn text(route: &Route) -> String {
    let mut text = format!(
        "route {} next-hop {} local-preference {} med {}",
        route.prefix, route.hop, route.local_pref, route.med
    );
    if !route.communities.is_empty() {
        let _ = write!(text, " community [ {} ]", route.communities.join(" "));
    }
    text
}

impl ExabgpSpeaker {
    /// Gives it commands, waits until each is done, and yields what it answered.
    #[track_caller]
    fn tell(&self, commands: &str) -> String {
        let (pipe, answers) = self.pipe.as_ref().expect("ExaBGP has been started");
        let read = || std::fs::read_to_string(answers).unwrap_or_default();
        let from = read().len();
        let answer = || {
            let answer = read().split_off(from);
            let done = answer.lines().filter(|line| *line == "done").count();
            (done == commands.lines().count()).then_some(answer)
        };
        let mut pipe = pipe;
        pipe.write_all(commands.as_bytes()).expect("ExaBGP's process reads");
        wait::until(SOON, "ExaBGP to do what it was told", answer)
    }
}

impl Speaker for ExabgpSpeaker {
    fn start(&mut self, site: &Site, routes: &Routes) {
        let (pipe, answers) = (site.lab.path(PIPE), site.lab.path(ANSWERS));
        let _ = std::fs::remove_file(&pipe);
        run(std::process::Command::new("mkfifo").arg(&pipe));
        // Both ends at once, so that neither waits for the other.
        let both = File::options().read(true).write(true).open(&pipe).expect("a pipe");
        self.pipe = Some((both, answers.clone()));
        let feed = format!("#!/bin/sh\ncat {} &\nexec cat > {}\n", pipe.display(), answers.display());
        let feed = site.write("exabgp-feed.sh", &feed);
        run(std::process::Command::new("chmod").arg("755").arg(&feed));
        let mut lines = String::new();
        for route in routes.iter().filter(|route| !route.on_page()) {
            let _ = writeln!(lines, "    {};", text(route));
        }
        let page = insert(&block("ExaBGP", 0), "    route 10.", &lines);
        let page = insert(&page, "  static {", "  api { processes [ feed ]; }\n");
        let process = format!("process feed {{\n  run {};\n  encoder text;\n}}\n", feed.display());
        let path = site.write("exabgp.conf", &(process + &page));
        let environment = [
            ("exabgp.daemon.user", "root"),
            ("exabgp.api.cli", "false"),
            ("exabgp.log.destination", "stdout"),
        ];
        self.daemon = Some(site.daemon("exabgp", "exabgp", &[path.to_str().expect("a path")], &environment));
    }

    fn set(&mut self, _: &Site, before: &Routes, routes: &Routes) {
        let (come, go) = difference(before, routes);
        let mut commands = String::new();
        for route in go {
            let _ = writeln!(commands, "withdraw route {} next-hop {}", route.prefix, route.hop);
        }
        for route in come {
            let _ = writeln!(commands, "announce {}", text(route));
        }
        self.tell(&commands);
    }

    fn dump(&self, _: &Site) -> Routes {
        self.tell("show adj-rib out extensive\n").lines().filter_map(of_exabgp).collect()
    }

    fn kill(&mut self) {
        self.daemon = None;
        self.pipe = None;
    }

    fn log_tail(&self) -> String {
        tail(self.daemon.as_ref())
    }
}

/// A line of its dump: `neighbor … ipv4 unicast PREFIX next-hop ADDRESS local-preference 120 med 50 community […]`.
fn of_exabgp(line: &str) -> Option<Route> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let after = |word: &str| {
        let at = words.iter().position(|w| *w == word)?;
        words.get(at + 1).copied()
    };
    let number = |word: &str, without: u32| after(word).and_then(|n| n.parse().ok()).unwrap_or(without);
    let communities = line.split_once(" community ").map_or("", |(_, rest)| rest);
    let communities = communities.trim_start_matches('[').split(']').next().unwrap_or_default();
    Some(Route {
        prefix: after("unicast")?.to_owned(),
        hop: after("next-hop")?.to_owned(),
        local_pref: number("local-preference", 100),
        med: number("med", 0),
        communities: communities
            .split_whitespace()
            .filter(|word| word.contains(':'))
            .map(ToOwned::to_owned)
            .collect(),
    })
}
