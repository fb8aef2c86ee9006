//! Real BGP daemons started by hand, and what became of the routes that they pushed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use control::source::{Attributes, Family, RouteEvent};
use tempfile::TempDir;

use super::Rig;

/// Whether the programs are there; panics if they must be.
pub fn installed(programs: &[&str]) -> bool {
    let Some(missing) = programs.iter().find(|program| !Path::new(program).exists()) else { return true };
    assert!(
        std::env::var_os("TURNPIKE_REQUIRE_PEERS").is_none(),
        "{missing} is not installed, and TURNPIKE_REQUIRE_PEERS is set: apt-get install frr bird2"
    );
    eprintln!(
        "\n*** SKIPPED: {missing} is not installed; this test shows nothing (apt-get install frr bird2) ***\n"
    );
    false
}

/// A daemon that dies with the test.
pub struct Daemon {
    pub child: Child,
    pub directory: TempDir,
}

impl Daemon {
    pub fn start(program: &str, configuration: &str, arguments: impl Fn(&Path) -> Vec<String>) -> Self {
        let directory = tempfile::Builder::new().prefix("turnpike-peer-").tempdir().unwrap();
        std::fs::write(directory.path().join("conf"), configuration).unwrap();
        let child = Self::spawn(program, directory.path(), &arguments);
        Self { child, directory }
    }

    pub fn spawn(program: &str, directory: &Path, arguments: &impl Fn(&Path) -> Vec<String>) -> Child {
        let log = || {
            let path = directory.join("log");
            Stdio::from(std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap())
        };
        let mut command = Command::new(program);
        command.args(arguments(directory)).stdin(Stdio::null()).stdout(log()).stderr(log());
        command.spawn().unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the daemon's log ---\n{}", self.log());
        }
    }
}

/// What is known of each prefix and path, as a RIB would have it.
#[derive(Default)]
pub struct Rib {
    pub paths: BTreeMap<(String, u32), Attributes>,
    pub ends: Vec<Family>,
    pub ups: u32,
    pub downs: Vec<String>,
}

impl Rib {
    pub fn take(&mut self, event: RouteEvent) {
        match event {
            RouteEvent::Up => self.ups += 1,
            RouteEvent::Speaker(_) => {}
            RouteEvent::HopSet { .. } | RouteEvent::HopSetGone { .. } => panic!("BGP numbers no next hops"),
            RouteEvent::Down { reason, .. } => self.downs.push(reason),
            RouteEvent::EndOfRib(family) => self.ends.push(family),
            RouteEvent::Update { withdrawn, announced, attributes } => {
                for nlri in withdrawn {
                    self.paths.remove(&(nlri.prefix.to_string(), nlri.path_id));
                }
                for nlri in announced {
                    self.paths.insert((nlri.prefix.to_string(), nlri.path_id), (*attributes).clone());
                }
            }
        }
    }

    /// Takes events until `wanted` holds.
    pub fn until(&mut self, rig: &Rig, what: &str, wanted: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_mins(1);
        while !wanted(self) {
            assert!(
                Instant::now() < end,
                "{what}: not within a minute; {:?}; {:?}",
                self.paths,
                rig.speaker.status()
            );
            if let Some(event) = rig.events.recv_timeout(Duration::from_millis(100)) {
                self.take(event.event);
            }
        }
    }

    /// The next hops of a prefix, over all its paths, in order.
    pub fn next_hops(&self, prefix: &str) -> Vec<String> {
        let paths = self.paths.iter().filter(|((known, _), _)| known == prefix);
        let mut all: Vec<IpAddr> =
            paths.flat_map(|(_, a)| a.next_hops.iter().map(|hop| hop.address)).collect();
        all.sort_unstable();
        all.iter().map(ToString::to_string).collect()
    }
}
