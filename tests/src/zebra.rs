//! FRR's zebra with its FPM module, bgpd and staticd, in one namespace.

use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::frr::frr_ids;
use crate::lab::{Lab, Netns};
use crate::process::{Daemon, run};
use crate::wait;

const DAEMONS: &str = "/usr/lib/frr";
const START: Duration = Duration::from_mins(1);

/// The daemons, in the order in which they start.
const NAMES: [&str; 3] = ["zebra", "bgpd", "staticd"];

/// zebra, bgpd and staticd.
#[derive(Debug)]
pub struct Zebra {
    netns: String,
    dir: PathBuf,
    daemons: [Option<Daemon>; NAMES.len()],
}

impl Zebra {
    /// Starts them in `netns`, each with its configuration, in the order of their names above. One with an empty
    /// configuration is left out.
    #[track_caller]
    pub fn start(lab: &Lab, netns: &Netns, configs: [&str; NAMES.len()]) -> Self {
        let dir = lab.path("frr-zebra");
        std::fs::DirBuilder::new().mode(0o755).create(&dir).expect("directory of FRR");
        let (user, group) = frr_ids();
        chown(&dir, Some(user), Some(group)).expect("hand the directory to frr");
        for (name, config) in NAMES.iter().zip(configs).filter(|(_, config)| !config.is_empty()) {
            let path = dir.join(format!("{name}.conf"));
            std::fs::write(&path, format!("log stdout\n{config}")).expect("configuration of FRR");
            chown(&path, Some(user), Some(group)).expect("hand files to frr");
        }
        let mut this = Self { netns: netns.name().to_owned(), dir, daemons: [const { None }; NAMES.len()] };
        this.resume();
        this
    }

    fn daemon(&self, name: &str, more: &[&str]) -> Daemon {
        let path = |file: &str| self.dir.join(file).to_string_lossy().into_owned();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.netns, &format!("{DAEMONS}/{name}")]);
        let (config, pid) = (path(&format!("{name}.conf")), path(&format!("{name}.pid")));
        command.args(["-f", &config, "-i", &pid, "-z", &path("zserv.api")]);
        command.args(["--vty_socket", &path(""), "-P", "0", "--log", "stdout"]).args(more);
        let log = self.dir.join(format!("{name}.log"));
        Daemon::start(&format!("{name} in {}", self.netns), &mut command, &log)
    }

    /// Starts what is not running.
    #[track_caller]
    pub fn resume(&mut self) {
        for (n, name) in NAMES.iter().enumerate() {
            if self.daemons[n].is_some() || !self.dir.join(format!("{name}.conf")).exists() {
                continue;
            }
            // zebra's own, for the other daemons, comes before the one for vtysh.
            let sockets = [self.dir.join("zserv.api"), self.dir.join(format!("{name}.vty"))];
            let sockets = &sockets[usize::from(n > 0)..];
            for socket in sockets {
                let _ = std::fs::remove_file(socket);
            }
            // The way in which docs/fpm-and-netlink.md has zebra started.
            let mut daemon = self.daemon(name, if n == 0 { &["-M", "dplane_fpm_nl"] } else { &[] });
            wait::until_true(START, &format!("{name}'s socket"), || {
                daemon.assert_alive();
                sockets.iter().all(|socket| socket.exists())
            });
            self.daemons[n] = Some(daemon);
        }
    }

    /// Kills all with SIGKILL.
    pub fn kill(&mut self) {
        self.daemons = [const { None }; NAMES.len()];
    }

    /// Runs commands of the enabled mode.
    #[track_caller]
    pub fn vtysh(&self, daemon: &str, commands: &[&str]) -> String {
        let mut command = Command::new("vtysh");
        command.arg("--vty_socket").arg(&self.dir).args(["-d", daemon]);
        for line in commands {
            command.args(["-c", line]);
        }
        let printed = run(&mut command);
        assert!(!printed.contains("% "), "{daemon} in {} refused {commands:?}:\n{printed}", self.netns);
        printed
    }

    /// The routes of its daemons that are used, of one family, as it tells them: prefix, then sorted next hops.
    #[track_caller]
    pub fn routes(&self, family: &str) -> Vec<(String, Vec<String>)> {
        let printed = self.vtysh("zebra", &[&format!("show {family} route json")]);
        let shown: Value = serde_json::from_str(&printed).unwrap_or_else(|e| panic!("{e}\n{printed}"));
        let mut all = Vec::new();
        for (prefix, routes) in shown.as_object().into_iter().flatten() {
            let routes = routes.as_array().into_iter().flatten();
            let ours = |route: &&Value| route["protocol"] == "bgp" || route["protocol"] == "static";
            let selected = routes.filter(ours).filter(|r| r["selected"] == true && r["installed"] == true);
            for route in selected {
                let hops =
                    route["nexthops"].as_array().into_iter().flatten().filter(|hop| hop["active"] == true);
                let name = |hop: &Value| match (&hop["ip"], &hop["blackhole"]) {
                    (Value::String(ip), _) => ip.clone(),
                    _ => "discard".to_owned(),
                };
                let mut hops: Vec<String> = hops.map(name).collect();
                hops.sort();
                all.push((prefix.clone(), hops));
            }
        }
        all.sort();
        all
    }

    /// The last lines of zebra's log.
    pub fn log_tail(&self, lines: usize) -> String {
        self.daemons[0].as_ref().map_or_else(|| "zebra is not running".to_owned(), |d| d.log_tail(lines))
    }

    /// The directory of its sockets, for `vtysh --vty_socket`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}
