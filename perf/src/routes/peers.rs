//! What a user could take instead: BIRD, FRR and `GoBGP` as Debian ships them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::lab::{Daemon, Lab, Stop};
use super::speaker::ASN;
use super::subject::{Kind, Subject};

/// So many routes more or less may be the kernel's own.
const KERNEL_OWN: usize = 4;

/// A peer that runs.
pub struct Peer {
    kind: Kind,
    daemons: Vec<Daemon>,
    socket: PathBuf,
    /// Routes that are in the kernel without a feed.
    base: usize,
}

/// A program among those that Debian installs.
fn find(name: &str) -> Option<PathBuf> {
    // FRR's first: OpenBGPD has a `bgpd` too.
    let places = ["/usr/lib/frr", "/usr/sbin", "/usr/bin", "/usr/local/bin"];
    places.iter().map(|place| Path::new(place).join(name)).find(|path| path.exists())
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Whether a peer is installed; if not, how to get it.
pub fn missing(kind: Kind) -> Option<&'static str> {
    let (program, how) = match kind {
        Kind::Turnpike => return None,
        Kind::Bird | Kind::BirdKernel => ("bird", "apt-get install bird2"),
        Kind::FrrKernel => ("zebra", "apt-get install frr"),
        Kind::Gobgp => ("gobgpd", "apt-get install gobgpd"),
    };
    if find(program).is_some() { None } else { Some(how) }
}

impl Peer {
    /// Starts it; zebra with more arguments, if there are any.
    pub fn start(kind: Kind, lab: &Lab, zebra: &[&str], stop: &Stop) -> Result<Self, String> {
        // The networks in which the feed's next hops are.
        lab.subject.ip("address add 198.51.100.1/24 dev feed0")?;
        lab.subject.ip("-6 address add 2001:db8:ffff::1/64 dev feed0 nodad")?;
        let mut this = Self { kind, daemons: Vec::new(), socket: lab.path("control"), base: 0 };
        match kind {
            Kind::Bird => this.bird(lab, false)?,
            Kind::BirdKernel => this.bird(lab, true)?,
            Kind::FrrKernel => this.frr(lab, zebra, stop)?,
            Kind::Gobgp => this.gobgp(lab)?,
            Kind::Turnpike => return Err("it is no peer of its own".into()),
        }
        // Until the kernel has what it adds to its tables by itself.
        stop.sleep(Duration::from_secs(3))?;
        this.base = this.routes(lab)?;
        Ok(this)
    }

    fn add(&mut self, lab: &Lab, name: &str, args: &[&str]) -> Result<(), String> {
        let program = find(name).ok_or_else(|| format!("{name} is not installed"))?;
        let mut command = Command::new(program);
        command.args(args);
        self.daemons.push(lab.subject.start(name, &mut command, &lab.path(&format!("{name}.log")))?);
        Ok(())
    }

    fn bird(&mut self, lab: &Lab, kernel: bool) -> Result<(), String> {
        let export = if kernel { "all" } else { "none" };
        let channel = "{ import all; export none; }";
        let config = format!(
            "log stderr all;\nrouter id 10.99.0.1;\nprotocol device {{}}\n\
             protocol direct {{ ipv4; ipv6; }}\n\
             protocol kernel {{ ipv4 {{ import none; export {export}; }}; scan time 3600; }}\n\
             protocol kernel {{ ipv6 {{ import none; export {export}; }}; scan time 3600; }}\n\
             protocol bgp feed {{ local 10.99.0.1 as {ASN}; neighbor 10.99.0.2 as {ASN}; passive on;\n\
             ipv4 {channel}; ipv6 {channel}; }}\n"
        );
        let path = lab.path("bird.conf");
        write(&path, &config)?;
        let (path, socket) = (path.display().to_string(), self.socket.display().to_string());
        self.add(lab, "bird", &["-f", "-c", &path, "-s", &socket])
    }

    fn frr(&mut self, lab: &Lab, zebra: &[&str], stop: &Stop) -> Result<(), String> {
        let config = format!(
            "router bgp {ASN}\n bgp router-id 10.99.0.1\n no bgp ebgp-requires-policy\n \
             neighbor 10.99.0.2 remote-as {ASN}\n neighbor 10.99.0.2 passive\n \
             address-family ipv6 unicast\n  neighbor 10.99.0.2 activate\n exit-address-family\n"
        );
        write(&lab.path("frr.conf"), &config)?;
        write(&lab.path("zebra.conf"), "")?;
        let dir = lab.dir.path().display().to_string();
        // Their files are theirs: they give up root.
        super::lab::run(&format!("chown -R frr:frr {dir}"))?;
        for (name, config) in [("zebra", "zebra.conf"), ("bgpd", "frr.conf")] {
            let path = |file: &str| format!("{dir}/{file}");
            let files = [
                "-f",
                &path(config),
                "-i",
                &path(&format!("{name}.pid")),
                "-z",
                &path("zserv.api"),
                "--vty_socket",
                &dir,
                "-P",
                "0",
                "--log",
                "stdout",
            ];
            let more = if name == "zebra" { zebra } else { &[] };
            self.add(lab, name, &[&files, more].concat())?;
            stop.sleep(Duration::from_secs(1))?;
        }
        Ok(())
    }

    fn gobgp(&mut self, lab: &Lab) -> Result<(), String> {
        let config = format!(
            "[global.config]\nas = {ASN}\nrouter-id = \"10.99.0.1\"\n[[neighbors]]\n[neighbors.config]\n\
             neighbor-address = \"10.99.0.2\"\npeer-as = {ASN}\n[neighbors.transport.config]\n\
             passive-mode = true\n[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\n\
             afi-safi-name = \"ipv4-unicast\"\n[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\n\
             afi-safi-name = \"ipv6-unicast\"\n"
        );
        let path = lab.path("gobgp.toml");
        write(&path, &config)?;
        self.add(lab, "gobgpd", &["-f", &path.display().to_string(), "--log-level", "error"])
    }

    /// All routes where this peer is to bring them.
    fn routes(&self, lab: &Lab) -> Result<usize, String> {
        match self.kind {
            Kind::Bird => {
                let counts =
                    super::lab::run(&format!("birdc -s {} show route count", self.socket.display()))?;
                let tables = counts.lines().filter(|line| line.contains(" in table "));
                Ok(tables.filter_map(|line| line.split(' ').next()?.parse::<usize>().ok()).sum())
            }
            Kind::BirdKernel | Kind::FrrKernel => lab.subject.run(in_kernel)?,
            Kind::Gobgp => {
                let mut sum = 0;
                for family in ["ipv4", "ipv6"] {
                    let netns = &lab.subject.name;
                    let command = format!("ip netns exec {netns} gobgp global rib summary -a {family}");
                    let text = super::lab::run(&command).unwrap_or_default();
                    let count = text.split("Destination:").nth(1).and_then(|rest| rest.split(',').next());
                    sum += count.and_then(|count| count.trim().parse::<usize>().ok()).unwrap_or(0);
                }
                Ok(sum)
            }
            Kind::Turnpike => Ok(0),
        }
    }
}

/// How many routes the kernel has in this namespace, by its own counts.
fn in_kernel() -> Result<usize, String> {
    let read = |file: &str| {
        let path = format!("/proc/thread-self/net/{file}");
        std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))
    };
    let v4 = read("fib_triestat")?;
    // The main table comes first; once both are merged, the only one.
    let v4 = v4.lines().find_map(|line| line.trim().strip_prefix("Prefixes:")?.trim().parse::<usize>().ok());
    let v6 = read("rt6_stats")?;
    let v6 = v6.split_whitespace().nth(3).and_then(|n| usize::from_str_radix(n, 16).ok());
    Ok(v4.unwrap_or(0) + v6.unwrap_or(0))
}

impl Subject for Peer {
    fn address(&self) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::new(10, 99, 0, 1).into(), 179)
    }

    fn count(&mut self, lab: &Lab, wanted: usize) -> Result<usize, String> {
        self.daemons.iter_mut().try_for_each(Daemon::check)?;
        let have = self.routes(lab)?.saturating_sub(self.base);
        // The kernel's own routes, of link-local addresses, come and go.
        let kernel = matches!(self.kind, Kind::BirdKernel | Kind::FrrKernel);
        Ok(if kernel && have.abs_diff(wanted) <= KERNEL_OWN { wanted } else { have })
    }

    fn pids(&self) -> Vec<u32> {
        self.daemons.iter().map(Daemon::pid).collect()
    }
}
