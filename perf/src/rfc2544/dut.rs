//! A turnpike of the tester's own: configured, started as a child, watched, and stopped.

use std::fs::File;
use std::net::Ipv6Addr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::args::{Args, Link, TagList};
use super::error::Error;
use super::topology::{HOSTS4, HOSTS6, Side};

/// MAC addresses of the tester's ports A and B.
pub const TESTER: [[u8; 6]; 2] = [[2, 0, 0, 0, 0xa, 2], [2, 0, 0, 0, 0xb, 2]];
/// MAC addresses of turnpike's ports.
const TURNPIKE: [[u8; 6]; 2] = [[2, 0, 0, 0, 0xa, 1], [2, 0, 0, 0, 0xb, 1]];

/// The sockets of links A and B.
const SOCKETS: [&str; 2] = ["a.sock", "b.sock"];
/// Frames in each queue of a memif, as a power of two. On a machine whose cores are not isolated 1,024 are gone before a
/// worker that was interrupted is back.
pub const RSIZE: u8 = 12;

/// A turnpike that is running. Dropping it stops it.
pub struct Turnpike {
    child: Child,
    dir: TempDir,
}

/// Where the sockets of both links are.
#[derive(Debug)]
pub struct Sockets {
    dir: TempDir,
    link: Link,
}

impl Sockets {
    /// A new directory for them.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(link: Link) -> Result<Self, Error> {
        let base = std::env::temp_dir();
        let dir = tempfile::Builder::new().prefix("perf-rfc2544-").tempdir_in(&base);
        dir.map(|dir| Self { dir, link }).map_err(|source| Error::File { path: base, source })
    }

    fn socket(&self, side: usize) -> PathBuf {
        self.dir.path().join(SOCKETS[side])
    }

    /// Whether turnpike is the one that listens, and must be there first.
    pub fn turnpike_first(&self) -> bool {
        self.link == Link::Vhost
    }

    /// The tester's ports.
    pub fn tester_devices(&self) -> Vec<String> {
        let device = |side: usize| {
            let (socket, mac) = (self.socket(side), mac(TESTER[side]));
            match self.link {
                Link::Memif => format!(
                    "net_memif{side},role=server,id={side},socket={},socket-abstract=no,rsize={RSIZE},mac={mac}",
                    socket.display()
                ),
                Link::Vhost => {
                    format!("net_virtio_user{side},path={},mac={mac},queue_size=1024", socket.display())
                }
            }
        };
        vec![device(0), device(1)]
    }

    fn turnpike_device(&self, side: usize) -> String {
        let (socket, mac) = (self.socket(side), mac(TURNPIKE[side]));
        match self.link {
            Link::Memif => {
                format!(
                    "net_memif{side},role=client,id={side},socket={},socket-abstract=no,rsize={RSIZE},mac={mac}",
                    socket.display()
                )
            }
            Link::Vhost => format!("net_vhost{side},iface={}", socket.display()),
        }
    }

    /// The MAC address of turnpike's port on a side.
    pub fn gateway(&self, side: usize) -> [u8; 6] {
        match self.link {
            Link::Memif => TURNPIKE[side],
            // The vhost driver gives its first port this address, and counts on from there.
            Link::Vhost => [0x56, 0x48, 0x4f, 0x53, 0x54, side as u8],
        }
    }
}

/// The half of `2001:2::/48` behind a side.
fn half6(side: usize) -> u128 {
    u128::from(HOSTS6[side]) >> 79 << 79
}

/// The address plan around turnpike: its own address and the tester's, on each side.
fn links(side: usize) -> [(String, String); 2] {
    let v4 = |last: u8| {
        let [a, b, _, _] = HOSTS4[side].octets();
        format!("{a}.{b}.0.{last}")
    };
    let v6 = |last: u16| Ipv6Addr::from(half6(side) + u128::from(last)).to_string();
    [(v4(1), v4(2)), (v6(1), v6(2))]
}

fn encapsulation(tags: TagList) -> String {
    match tags.0 {
        [Some(outer), Some(inner)] => {
            format!("s_tag = {}\nc_tag = {}\nouter_tpid = {:#06x}\n", outer.tci, inner.tci, outer.tpid)
        }
        [Some(only), None] => format!("vlan = {}\n", only.tci),
        _ => String::new(),
    }
}

/// The configuration: a sub-interface on each side, a neighbour behind it, and a route to the hosts behind that.
pub fn config(sockets: &Sockets, sides: &[Side], args: &Args, longest_packet: u16, api: &Path) -> String {
    let mut text = String::new();
    for (i, side) in sides.iter().enumerate() {
        let name = ["a", "b"][i.min(1)];
        let device = sockets.turnpike_device(i);
        text += &format!("[[port]]\nname = \"{name}\"\ndevice = \"{device}\"\nmtu = {longest_packet}\n\n");
        let [v4, v6] = links(i);
        text += &format!(
            "[[interface]]\nname = \"to-{name}\"\nport = \"{name}\"\n{}addresses = [\"{}/24\", \"{}/64\"]\n\n",
            encapsulation(side.tags),
            v4.0,
            v6.0
        );
        let ([a, b, ..], v6_net) = (HOSTS4[i].octets(), Ipv6Addr::from(half6(i)));
        let routes = [(format!("{a}.{b}.0.0/16"), v4.1), (format!("{v6_net}/49"), v6.1)];
        for (prefix, via) in routes {
            text += &format!("[[route]]\nprefix = \"{prefix}\"\nvia = \"{via}\"\n\n");
            let mac = mac(side.mac);
            text += &format!(
                "[[neighbour]]\ninterface = \"to-{name}\"\naddress = \"{via}\"\nmac = \"{mac}\"\n\n"
            );
        }
    }
    let (core, idle) = (args.dut_core, args.dut_idle.name());
    text += &format!("[workers]\ncores = [{core}]\nidle = \"{idle}\"\n\n[kernel]\ntaps = false\n\n");
    text + &format!("[api]\nsocket = \"{}\"\n", api.display())
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|b| format!("{b:02x}")).join(":")
}

/// The program to start.
fn program(args: &Args) -> Result<PathBuf, Error> {
    if let Some(path) = args.turnpike.clone().or_else(|| std::env::var_os("TURNPIKE_BIN").map(PathBuf::from))
    {
        return Ok(path);
    }
    let own = std::env::current_exe().ok();
    let beside = own.and_then(|own| Some(own.parent()?.join("turnpike")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|dir| dir.join("turnpike"));
    beside.into_iter().chain(in_path).find(|path| path.is_file()).ok_or(Error::NoTurnpike)
}

impl Turnpike {
    /// Starts it between the tester's ports.
    ///
    /// # Errors
    /// There is no such program, or it cannot be started.
    pub fn start(args: &Args, sockets: Sockets, sides: &[Side], longest_packet: u16) -> Result<Self, Error> {
        let program = program(args)?;
        let dir = &sockets.dir;
        let (file, log) = (dir.path().join("turnpike.toml"), dir.path().join("turnpike.log"));
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::File { path, source }
        };
        let text = config(&sockets, sides, args, longest_packet, &dir.path().join("api.sock"));
        std::fs::write(&file, text).map_err(failed(&file))?;
        let out = File::create(&log).map_err(failed(&log))?;
        let err = out.try_clone().map_err(failed(&log))?;
        // In a process group of its own: Ctrl-C is for the tester, which then stops it.
        let mut command = Command::new(&program);
        command.arg("run").arg("--config").arg(&file).process_group(0);
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = command.spawn().map_err(|source| Error::Start { program, source })?;
        Ok(Self { child, dir: sockets.dir })
    }

    /// Checks that it is still there.
    ///
    /// # Errors
    /// It has ended.
    pub fn alive(&mut self) -> Result<(), Error> {
        match self.child.try_wait() {
            Ok(Some(status)) => Err(Error::Ended { status: status.to_string(), log: self.log() }),
            _ => Ok(()),
        }
    }

    fn log(&self) -> String {
        let log = std::fs::read(self.dir.path().join("turnpike.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// Whether it listens on both links.
    pub fn listens(&self) -> bool {
        SOCKETS.iter().all(|name| self.dir.path().join(name).exists())
    }

    /// Processor time that its worker has had.
    pub fn worker_time(&self) -> Option<Duration> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).ok()?;
        let worker = tasks.flatten().find(|task| {
            let name = std::fs::read_to_string(task.path().join("comm"));
            name.is_ok_and(|name| name.starts_with("worker"))
        })?;
        let times = std::fs::read_to_string(worker.path().join("schedstat")).ok()?;
        times.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
    }

    /// Where it can be asked.
    pub fn api(&self) -> PathBuf {
        self.dir.path().join("api.sock")
    }
}

impl Drop for Turnpike {
    fn drop(&mut self) {
        // SIGTERM lets it close its ports.
        let asked = rustix::process::Pid::from_raw(self.child.id().cast_signed())
            .is_some_and(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM).is_ok());
        let limit = Instant::now() + Duration::from_secs(5);
        while asked && Instant::now() < limit {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // It fails only if it has ended by now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
