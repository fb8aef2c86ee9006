//! A laboratory: network namespaces and a scratch directory under one unique name, all gone when it is dropped.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use crate::process::{output, run};
use crate::sys;

/// Where `ip netns` keeps its handles.
const NETNS: &str = "/run/netns";
/// What all our namespaces' names begin with.
const PREFIX: &str = "tpe";

/// One set of namespaces with a scratch directory.
#[derive(Debug)]
pub struct Lab {
    prefix: String,
    dir: tempfile::TempDir,
}

impl Lab {
    /// A new one. Panics without root. Also removes what an earlier, killed run may have left.
    #[track_caller]
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        assert!(
            sys::is_root(),
            "these tests make network namespaces and TAPs: run them as root (sudo -E cargo test -p tests)"
        );
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            sweep();
        }
        let prefix = format!("{PREFIX}{}-{number}", std::process::id());
        let dir =
            tempfile::Builder::new().prefix(&format!("{prefix}-")).tempdir().expect("scratch directory");
        // FRR and BIRD may run as users of their own.
        set_mode(dir.path(), 0o755);
        Self { prefix, dir }
    }

    /// Its scratch directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path in the scratch directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes the namespace `<unique>-<name>` with loopback up and without duplicate address detection.
    #[track_caller]
    pub fn netns(&self, name: &str) -> Netns {
        let netns = Netns { name: format!("{}-{name}", self.prefix) };
        run(Command::new("ip").args(["netns", "add", &netns.name]));
        netns.ip("link set lo up");
        netns
    }
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("permissions");
}

/// One network namespace; dropping it kills what still runs in it and removes it.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Its full name under /run/netns.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its handle.
    pub fn path(&self) -> PathBuf {
        Path::new(NETNS).join(&self.name)
    }

    /// A command that will run inside.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// `ip` with these words, inside; panics when it fails.
    #[track_caller]
    pub fn ip(&self, words: &str) -> String {
        run(Command::new("ip").args(["-n", &self.name]).args(words.split_whitespace()))
    }

    /// `ip` with these words, inside; whether it worked.
    pub fn try_ip(&self, words: &str) -> bool {
        output(Command::new("ip").args(["-n", &self.name]).args(words.split_whitespace())).status.success()
    }

    /// Runs `work` on a thread that is inside, and returns what it returns.
    #[track_caller]
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = self.path();
        let joined = thread::scope(|scope| {
            scope
                .spawn(move || {
                    sys::enter_netns(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                    work()
                })
                .join()
        });
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Sets `net.<key>` (with slashes) inside.
    #[track_caller]
    pub fn sysctl(&self, key: &str, value: &str) {
        let path = Path::new("/proc/sys/net").join(key);
        self.enter(|| std::fs::write(&path, value).unwrap_or_else(|e| panic!("{}: {e}", path.display())));
    }

    /// Makes it a router: forwards both families, takes its routes from nobody but its own daemons.
    pub fn forwards(&self) {
        self.sysctl("ipv4/ip_forward", "1");
        self.sysctl("ipv6/conf/all/forwarding", "1");
        // Spread flows over equal routes by ports as well.
        self.sysctl("ipv4/fib_multipath_hash_policy", "1");
        self.sysctl("ipv6/fib_multipath_hash_policy", "1");
    }

    /// Addresses that are not checked for duplicates can be used at once.
    pub fn without_dad(&self) {
        self.sysctl("ipv6/conf/all/accept_dad", "0");
        self.sysctl("ipv6/conf/default/accept_dad", "0");
    }

    /// Whether it has a netdev of this name.
    pub fn has_link(&self, name: &str) -> bool {
        self.try_ip(&format!("link show dev {name}"))
    }

    /// Names of its netdevs, without loopback.
    #[track_caller]
    pub fn links(&self) -> Vec<String> {
        let listed = self.ip("-o link show");
        let name = |line: &str| Some(line.split(": ").nth(1)?.split('@').next()?.to_owned());
        listed.lines().filter_map(name).filter(|n| n != "lo").collect()
    }

    /// Joins two namespaces by a veth pair, up on both sides.
    #[track_caller]
    pub fn join(&self, here: &str, other: &Self, there: &str) {
        self.ip(&format!("link add {here} type veth peer name {there} netns {}", other.name));
        self.ip(&format!("link set {here} up"));
        other.ip(&format!("link set {there} up"));
    }

    /// The MAC address of a device, as `ip` shows it.
    #[track_caller]
    pub fn mac(&self, netdev: &str) -> String {
        let shown = self.ip(&format!("-o link show {netdev}"));
        let mac = shown.split("link/ether ").nth(1).and_then(|rest| rest.split_whitespace().next());
        mac.expect("a MAC address").to_owned()
    }

    /// Adds an address that can be used at once.
    #[track_caller]
    pub fn address(&self, netdev: &str, address: &str) {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        self.ip(&format!("addr add {address} dev {netdev} {nodad}"));
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Kills what runs in a namespace, process by process, and removes it.
fn remove(name: &str) {
    let pids = output(Command::new("ip").args(["netns", "pids", name]));
    for pid in String::from_utf8_lossy(&pids.stdout).split_whitespace() {
        // It may have ended since.
        let _ = pid.parse().map(|p| sys::kill(p, 9));
    }
    output(Command::new("ip").args(["netns", "del", name]));
}

/// Removes namespaces of runs whose process is gone.
pub fn sweep() {
    let Ok(entries) = std::fs::read_dir(NETNS) else { return };
    for name in entries.filter_map(|e| e.ok()?.file_name().into_string().ok()) {
        let owner = name.strip_prefix(PREFIX).and_then(|r| r.split_once('-')?.0.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            eprintln!("removing {name}, left behind by a run that was killed");
            remove(&name);
        }
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}
