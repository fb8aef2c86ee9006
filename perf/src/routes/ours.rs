//! Ours: a real `turnpike run` on two virtual ports, which are TAP devices, so that probes are ordinary UDP.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::lab::{Daemon, Lab, Netns, Stop};
use super::rounds;
use super::subject::Subject;

/// Where it listens.
const LISTEN: &str = "10.99.0.1:1790";
/// MAC address of the far end behind which all routes lie.
const FAR: &str = "02:00:00:00:00:22";

/// A running turnpike.
pub struct Turnpike {
    daemon: Daemon,
    socket: PathBuf,
    /// Routes that are there without a feed.
    base: usize,
}

fn configuration(lab: &Lab, core: usize) -> String {
    let socket = lab.path("turnpike.sock");
    format!(
        r#"
[[port]]
name = "lan0"
device = "net_tap0,iface=tplan0"
descriptors = 256
[[port]]
name = "wan0"
device = "net_tap1,iface=tpwan0"
descriptors = 256
[[interface]]
name = "lan"
port = "lan0"
addresses = ["192.0.2.1/24", "2001:db8:1::1/64"]
[[interface]]
name = "wan"
port = "wan0"
addresses = ["198.51.100.1/24", "2001:db8:ffff::1/64"]
[[neighbour]]
interface = "wan"
address = "198.51.100.2"
mac = "{FAR}"
[[neighbour]]
interface = "wan"
address = "2001:db8:ffff::2"
mac = "{FAR}"
[[neighbour]]
interface = "wan"
address = "198.51.100.3"
mac = "{FAR}"
[workers]
cores = [{core}]
idle = "sleep"
[kernel]
taps = false
[memory]
huge_pages = "never"
buffers = 4096
[api]
socket = "{}"
{}"#,
        socket.display(),
        bgp_section(None, &[super::SENDER]),
    )
}

/// The sections for BGP with these senders. `retain`: for how many seconds the routes of a lost one stay, if not for the
/// usual time.
pub fn bgp_section(retain: Option<u32>, senders: &[Ipv4Addr]) -> String {
    let asn = super::speaker::ASN;
    let mut text = format!("[bgp]\nlisten = [\"{LISTEN}\"]\nasn = {asn}\nrouter_id = \"10.99.0.1\"\n");
    text += &retain.map_or_else(String::new, |seconds| format!("retain = {seconds}\n"));
    for sender in senders {
        text += &format!("[[bgp.peer]]\nname = \"feed-{sender}\"\naddress = \"{sender}\"\nasn = {asn}\n");
    }
    text
}

impl Turnpike {
    /// Starts it on two TAPs, with its worker on `core`.
    pub fn start(lab: &Lab, core: usize, stop: &Stop) -> Result<Self, String> {
        let this = Self::start_with(lab, &configuration(lab, core), None, stop)?;
        wire(lab)?;
        Ok(this)
    }

    /// Starts it with a configuration; all threads but its workers on the core `beside`, if one is given.
    pub fn start_with(lab: &Lab, text: &str, beside: Option<usize>, stop: &Stop) -> Result<Self, String> {
        Self::launch(&lab.subject, lab, text, beside, stop)
    }

    /// Starts it with a configuration in a namespace.
    pub fn start_in(netns: &Netns, lab: &Lab, text: &str, stop: &Stop) -> Result<Self, String> {
        Self::launch(netns, lab, text, None, stop)
    }

    fn launch(
        netns: &Netns,
        lab: &Lab,
        text: &str,
        beside: Option<usize>,
        stop: &Stop,
    ) -> Result<Self, String> {
        let binary = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join("turnpike")));
        let binary = binary.filter(|path| path.exists()).ok_or(
            "there is no `turnpike` beside `perf`: build it with `cargo build --release -p control`",
        )?;
        let config = lab.path("turnpike.toml");
        std::fs::write(&config, text).map_err(|error| error.to_string())?;
        let mut command = Command::new(if beside.is_some() { "taskset".into() } else { binary.clone() });
        if let Some(core) = beside {
            command.arg("-c").arg(core.to_string()).arg(&binary);
        }
        command.arg("run").arg("--config").arg(&config);
        let daemon = netns.start("turnpike", &mut command, &lab.path("turnpike.log"))?;
        let mut this = Self { daemon, socket: lab.path("turnpike.sock"), base: 0 };
        for _ in 0..150 {
            this.daemon.check()?;
            if let Ok(routes) = this.routes() {
                this.base = routes;
                return Ok(this);
            }
            stop.sleep(Duration::from_millis(100))?;
        }
        Err("turnpike does not answer".into())
    }

    /// Waits until its own routes stay as they are: those of a link come when that is up.
    pub fn settle(&mut self, stop: &Stop) -> Result<(), String> {
        loop {
            stop.sleep(Duration::from_millis(500))?;
            let routes = self.routes()?;
            if routes == std::mem::replace(&mut self.base, routes) {
                return Ok(());
            }
        }
    }

    /// Asks its API.
    pub fn ask(&self, request: &str) -> Result<Value, String> {
        ask(&self.socket, request)
    }

    /// Where its API is.
    pub fn socket(&self) -> PathBuf {
        self.socket.clone()
    }

    /// Whether a zebra is connected.
    pub fn fpm_is_up(&self) -> Result<bool, String> {
        let sources = self.ask(r#"{"show":"sources"}"#)?;
        let up = |source: &Value| source["kind"] == "fpm" && source["up"] == true;
        Ok(sources.as_array().is_some_and(|all| all.iter().any(up)))
    }

    /// All routes in its FIBs.
    fn routes(&self) -> Result<usize, String> {
        let summary = self.ask(r#"{"show":"summary"}"#)?;
        Ok(summary["routes"].as_u64().unwrap_or(0) as usize)
    }

    /// How long its control thread took for its turns: (p99.9, longest) in nanoseconds.
    pub fn turns(&self) -> Result<(u64, u64), String> {
        let workers = self.ask(r#"{"show":"workers"}"#)?;
        let turns = &workers["control_turns"];
        Ok((turns["p999_ns"].as_u64().unwrap_or(0), turns["max_ns"].as_u64().unwrap_or(0)))
    }

    /// All its workers' rounds together.
    pub fn round_counts(&self) -> Result<rounds::Counts, String> {
        let reply = self.ask(r#"{"show":"workers"}"#)?;
        let mut sum = BTreeMap::new();
        for worker in reply["workers"].as_array().into_iter().flatten() {
            let counts = worker["rounds"]["histogram"].clone();
            let counts: rounds::Counts = serde_json::from_value(counts).map_err(|error| error.to_string())?;
            for (time, count) in counts {
                *sum.entry(time).or_default() += count;
            }
        }
        Ok(sum.into_iter().collect())
    }

    /// Packets that it dropped, by reason.
    pub fn dropped(&self) -> Result<BTreeMap<String, u64>, String> {
        let reply = self.ask(r#"{"show":"drops"}"#)?;
        let mut sum = BTreeMap::new();
        for port in reply["ports"].as_array().into_iter().flatten() {
            for (reason, count) in port["dropped"].as_object().into_iter().flatten() {
                *sum.entry(reason.clone()).or_default() += count.as_u64().unwrap_or(0);
            }
        }
        Ok(sum)
    }
}

/// Asks the API at a socket.
pub fn ask(socket: &std::path::Path, request: &str) -> Result<Value, String> {
    let text = |error: std::io::Error| format!("turnpike's API: {error}");
    let mut stream = UnixStream::connect(socket).map_err(text)?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).map_err(text)?;
    stream.write_all(format!("{request}\n").as_bytes()).map_err(text)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).map_err(text)?;
    let mut reply: Value = serde_json::from_str(&line).map_err(|error| error.to_string())?;
    match reply.get_mut("ok") {
        Some(value) => Ok(value.take()),
        None => Err(format!("turnpike's API: {reply}")),
    }
}

/// Gives the ends of the TAPs to the kernel beside it: probes go in at the LAN, and every address is at home at the WAN.
fn wire(lab: &Lab) -> Result<(), String> {
    let netns = &lab.subject;
    let link = netns.ip("-j link show dev tplan0")?;
    let link: Value = serde_json::from_str(&link).map_err(|error| error.to_string())?;
    let mac = link[0]["address"].as_str().ok_or("tplan0 has no MAC address")?.to_owned();
    for key in ["all.rp_filter=0", "tpwan0.rp_filter=0", "tpwan0.accept_local=1", "all.accept_local=1"] {
        let (key, value) = key.split_once('=').unwrap_or((key, "1"));
        netns.sysctl(&format!("net.ipv4.conf.{}", key.replace('.', "/")).replace('.', "/"), value)?;
    }
    let commands = [
        "link set tplan0 up".to_owned(),
        format!("link set tpwan0 address {FAR}"),
        "link set tpwan0 up".to_owned(),
        "address add 192.0.2.10/24 dev tplan0".to_owned(),
        "-6 address add 2001:db8:1::10/64 dev tplan0 nodad".to_owned(),
        format!("neighbour replace 192.0.2.1 lladdr {mac} dev tplan0"),
        format!("-6 neighbour replace 2001:db8:1::1 lladdr {mac} dev tplan0"),
        "route add default via 192.0.2.1 dev tplan0".to_owned(),
        "-6 route add default via 2001:db8:1::1 dev tplan0".to_owned(),
        "rule add pref 50 iif tpwan0 lookup 100".to_owned(),
        "-6 rule add pref 50 iif tpwan0 lookup 100".to_owned(),
        "route add local default dev lo table 100".to_owned(),
        "-6 route add local default dev lo table 100".to_owned(),
    ];
    commands.iter().try_for_each(|command| netns.ip(command).map(|_| ()))
}

impl Subject for Turnpike {
    fn address(&self) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::new(10, 99, 0, 1).into(), 1790)
    }

    fn count(&mut self, _: &Lab, _: usize) -> Result<usize, String> {
        self.daemon.check()?;
        Ok(self.routes()?.saturating_sub(self.base))
    }

    fn pids(&self) -> Vec<u32> {
        vec![self.daemon.pid()]
    }

    fn leave_out(&self) -> &'static str {
        "worker-"
    }
}
