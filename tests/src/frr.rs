//! FRR as Debian ships it: zebra, bgpd and where wanted bfdd in one namespace, started by hand, with sockets and files
//! of their own.

use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::lab::{Lab, Netns};
use crate::process::{Daemon, run};
use crate::wait;

/// Where Debian puts the daemons.
const DAEMONS: &str = "/usr/lib/frr";
/// How long a daemon may take to answer after its start, on a busy machine.
const START: Duration = Duration::from_mins(1);

/// The daemons of one router.
#[derive(Debug)]
pub struct Frr {
    netns: String,
    dir: PathBuf,
    zebra: Option<Daemon>,
    bfdd: Option<Daemon>,
    bgpd: Option<Daemon>,
}

impl Frr {
    /// Starts both daemons in `netns` with this configuration; `name` names their files in the laboratory.
    #[track_caller]
    pub fn start(lab: &Lab, netns: &Netns, name: &str, config: &str) -> Self {
        let zebra = Path::new(DAEMONS).join("zebra");
        assert!(zebra.exists(), "{} is missing: apt-get install frr", zebra.display());
        let dir = lab.path(&format!("frr-{name}"));
        std::fs::DirBuilder::new().mode(0o755).create(&dir).expect("directory of FRR");
        std::fs::write(dir.join("frr.conf"), config).expect("configuration of FRR");
        std::fs::write(dir.join("zebra.conf"), "log stdout\n").expect("configuration of zebra");
        let (user, group) = frr_ids();
        for path in [dir.clone(), dir.join("frr.conf"), dir.join("zebra.conf")] {
            chown(&path, Some(user), Some(group)).expect("hand files to frr");
        }
        let mut frr = Self { netns: netns.name().to_owned(), dir, zebra: None, bfdd: None, bgpd: None };
        frr.resume();
        frr
    }

    fn daemon(&self, name: &str, config: &str, more: &[&str]) -> Daemon {
        let path = |file: &str| self.dir.join(file).to_string_lossy().into_owned();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.netns, &format!("{DAEMONS}/{name}")]);
        command.args(["-f", &path(config), "-i", &path(&format!("{name}.pid")), "-z", &path("zserv.api")]);
        // Port 0: no telnet.
        command.args(["--vty_socket", &path(""), "-P", "0", "--log", "stdout"]).args(more);
        Daemon::start(
            &format!("{name} in {}", self.netns),
            &mut command,
            &self.dir.join(format!("{name}.log")),
        )
    }

    /// Starts what is not running.
    #[track_caller]
    pub fn resume(&mut self) {
        if self.zebra.is_none() {
            let _ = std::fs::remove_file(self.dir.join("zserv.api"));
            let mut zebra = self.daemon("zebra", "zebra.conf", &[]);
            wait::until_true(START, "zebra's socket", || {
                zebra.assert_alive();
                self.dir.join("zserv.api").exists()
            });
            self.zebra = Some(zebra);
        }
        if self.bgpd.is_none() {
            let _ = std::fs::remove_file(self.dir.join("bgpd.vty"));
            let mut bgpd = self.daemon("bgpd", "frr.conf", &[]);
            wait::until_true(START, "bgpd's socket", || {
                bgpd.assert_alive();
                self.dir.join("bgpd.vty").exists()
            });
            self.bgpd = Some(bgpd);
        }
    }

    /// Starts bfdd, and has bgpd ask it for a session with each of these neighbours, at its default of 300 ms × 3.
    #[track_caller]
    pub fn start_bfd(&mut self, asn: u32, neighbours: &[&str]) {
        std::fs::write(self.dir.join("bfdd.conf"), "log stdout\n").expect("configuration of bfdd");
        let control = self.dir.join("bfdd.sock").to_string_lossy().into_owned();
        self.bfdd = Some(self.daemon("bfdd", "bfdd.conf", &["--bfdctl", &control]));
        wait::until_true(START, "bfdd's socket", || self.dir.join("bfdd.vty").exists());
        let lines: Vec<_> = neighbours.iter().map(|peer| format!("neighbor {peer} bfd")).collect();
        let router = format!("router bgp {asn}");
        self.configure(
            &[&[router.as_str()], &lines.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat(),
        );
    }

    /// How often each BFD session that is up has come up, by its peer; those that are not up are left out.
    #[track_caller]
    pub fn bfd_sessions(&self) -> BTreeMap<String, u64> {
        let counters = self.json("show bfd peers counters json");
        let ups = |peer: &str| {
            let fits = |counted: &&Value| counted["peer"] == peer;
            counters.as_array()?.iter().find(fits)?["session-up"].as_u64()
        };
        let up = |shown: &Value| {
            let peer = (shown["status"] == "up").then(|| shown["peer"].as_str())??;
            Some((peer.to_owned(), ups(peer)?))
        };
        self.json("show bfd peers json").as_array().into_iter().flatten().filter_map(up).collect()
    }

    /// Kills bgpd with SIGKILL: its sessions end without a word of BGP.
    pub fn kill_bgpd(&mut self) {
        self.bgpd = None;
    }

    /// Kills all daemons with SIGKILL.
    pub fn kill(&mut self) {
        self.bgpd = None;
        self.bfdd = None;
        self.zebra = None;
    }

    /// Runs commands of the enabled mode; panics when one is refused.
    #[track_caller]
    pub fn vtysh(&self, commands: &[&str]) -> String {
        let mut command = Command::new("vtysh");
        command.arg("--vty_socket").arg(&self.dir);
        for line in commands {
            command.args(["-c", line]);
        }
        let printed = run(&mut command);
        assert!(!printed.contains("% "), "FRR in {} refused {commands:?}:\n{printed}", self.netns);
        printed
    }

    /// Runs commands of the configuration mode.
    #[track_caller]
    pub fn configure(&self, lines: &[&str]) {
        self.vtysh(&[&["configure terminal"], lines].concat());
    }

    /// Runs a `show … json` command.
    #[track_caller]
    pub fn json(&self, command: &str) -> Value {
        let printed = self.vtysh(&[command]);
        serde_json::from_str(&printed).unwrap_or_else(|e| panic!("{command}: {e}\n{printed}"))
    }

    /// Whether the session with `neighbour` is up.
    #[track_caller]
    pub fn established(&self, neighbour: &str) -> bool {
        let shown = self.json(&format!("show bgp neighbors {neighbour} json"));
        shown[neighbour]["bgpState"] == "Established"
    }

    /// How often the session with `neighbour` has gone down.
    #[track_caller]
    pub fn dropped(&self, neighbour: &str) -> u64 {
        let shown = self.json(&format!("show bgp neighbors {neighbour} json"));
        shown[neighbour]["connectionsDropped"].as_u64().expect("a count of lost connections")
    }

    /// Next hops of all paths to `prefix` that bgpd holds.
    #[track_caller]
    pub fn paths(&self, prefix: &str) -> Vec<String> {
        let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
        let shown = self.json(&format!("show bgp {family} unicast {prefix} json"));
        let paths = shown["paths"].as_array().cloned().unwrap_or_default();
        paths.iter().filter_map(|p| Some(p["nexthops"][0]["ip"].as_str()?.to_owned())).collect()
    }

    /// The last lines of bgpd's log.
    pub fn log_tail(&self, lines: usize) -> String {
        self.bgpd.as_ref().map_or_else(|| "bgpd is not running".to_owned(), |d| d.log_tail(lines))
    }

    /// The directory of its sockets, for `vtysh --vty_socket`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// User and group id of `frr`, from /etc/passwd.
pub(crate) fn frr_ids() -> (u32, u32) {
    let passwd = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let ids = passwd.lines().find(|l| l.starts_with("frr:")).and_then(|line| {
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    });
    ids.expect("the user frr: apt-get install frr")
}
