//! The laboratory: a pair of network namespaces, the programs in them, and the end of all of it, also at Ctrl-C.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use signal_hook::consts::{SIGINT, SIGTERM};

/// Set by Ctrl-C.
#[derive(Clone)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Watches for SIGINT and SIGTERM from now on.
    pub fn watch() -> Result<Self, String> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&flag))
                .map_err(|error| format!("cannot handle signals: {error}"))?;
        }
        Ok(Self(flag))
    }

    /// An error once it was asked for.
    pub fn check(&self) -> Result<(), String> {
        if self.0.load(Ordering::Relaxed) { Err("interrupted; all is cleaned up".into()) } else { Ok(()) }
    }

    /// Sleeps, but not past a Ctrl-C.
    pub fn sleep(&self, time: Duration) -> Result<(), String> {
        let end = Instant::now() + time;
        loop {
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }
}

/// Runs a command that must succeed; gives its output.
pub fn run(command: &str) -> Result<String, String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let (program, args) = words.split_first().ok_or("an empty command")?;
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot run `{program}`: {error}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(format!("`{command}` failed: {why}"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A network namespace of ours. It goes when it is dropped.
pub struct Netns {
    pub name: String,
}

impl Netns {
    fn new(name: String) -> Result<Self, String> {
        run(&format!("ip netns add {name}"))?;
        let this = Self { name };
        this.ip("link set lo up")?;
        Ok(this)
    }

    /// `ip` inside.
    pub fn ip(&self, command: &str) -> Result<String, String> {
        run(&format!("ip -n {} {command}", self.name))
    }

    /// An `ip` inside that waits for commands: its start, which may take tens of milliseconds, is over when it gets one.
    pub fn waiting_ip(&self) -> Result<WaitingIp, String> {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name, "-batch", "-"]).stdin(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("cannot run `ip`: {error}"))?;
        let input = child.stdin.take().ok_or("`ip` has no input")?;
        Ok(WaitingIp { input: Some(input), child })
    }

    /// Sets a value under `/proc/sys`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<(), String> {
        run(&format!("ip netns exec {} sysctl -q -w {key}={value}", self.name)).map(|_| ())
    }

    /// Runs `work` inside, on a thread of its own.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, String> {
        let failed = |error: &dyn std::fmt::Display| format!("cannot enter namespace {}: {error}", self.name);
        let file = File::open(Path::new("/run/netns").join(&self.name)).map_err(|error| failed(&error))?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network))
                    .map(|()| work())
            });
            thread.join().map_err(|_| failed(&"its thread ended"))?.map_err(|error| failed(&error))
        })
    }

    /// A program inside, with its output in `log`. It is killed when it is dropped.
    pub fn start(&self, name: &str, command: &mut Command, log: &Path) -> Result<Daemon, String> {
        let file = File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
        let copy = file.try_clone().map_err(|error| format!("{}: {error}", log.display()))?;
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &self.name]).arg(command.get_program()).args(command.get_args());
        let child = inside.stdin(Stdio::null()).stdout(file).stderr(copy).spawn();
        let child = child.map_err(|error| format!("cannot start {name}: {error}"))?;
        Ok(Daemon { name: name.to_owned(), child, log: log.to_owned() })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // There is nobody to tell.
        let _ = run(&format!("ip netns delete {}", self.name));
    }
}

/// See [`Netns::waiting_ip`].
pub struct WaitingIp {
    input: Option<ChildStdin>,
    child: Child,
}

impl WaitingIp {
    /// Has it do something; what it says of that is on our own standard error.
    pub fn tell(&mut self, command: &str) -> Result<(), String> {
        let line = format!("{command}\n");
        let input = self.input.as_mut().ok_or("`ip` has no input")?;
        input.write_all(line.as_bytes()).map_err(|error| format!("`ip` has ended: {error}"))
    }
}

impl Drop for WaitingIp {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.wait();
    }
}

/// A running program.
pub struct Daemon {
    name: String,
    child: Child,
    log: std::path::PathBuf,
}

impl Daemon {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error with the end of its log, if it has ended.
    pub fn check(&mut self) -> Result<(), String> {
        if matches!(self.child.try_wait(), Ok(None)) {
            return Ok(());
        }
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(8)..].join("\n");
        Err(format!("{} has ended:\n{tail}", self.name))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // First kindly, so that it takes back what it made.
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two namespaces with a cable between them: the sender's, and that of whom is measured.
pub struct Lab {
    pub sender: Netns,
    pub subject: Netns,
    pub dir: tempfile::TempDir,
}

impl Lab {
    /// Sender at 10.99.0.2, subject at 10.99.0.1.
    pub fn new(number: usize) -> Result<Self, String> {
        let name = |side: &str| format!("tprt{}-{number}{side}", std::process::id());
        let dir = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        // Daemons that give up root write there too.
        let _ = std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777));
        let lab = Self { sender: Netns::new(name("s"))?, subject: Netns::new(name("d"))?, dir };
        for netns in [&lab.sender, &lab.subject] {
            // Addresses serve at once, and nothing changes behind the back of who counts routes.
            netns.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
        }
        lab.sender.ip(&format!("link add feed0 type veth peer name feed0 netns {}", lab.subject.name))?;
        for netns in [&lab.sender, &lab.subject] {
            netns.ip("link set feed0 up")?;
        }
        lab.sender.ip("address add 10.99.0.2/24 dev feed0")?;
        lab.subject.ip("address add 10.99.0.1/24 dev feed0")?;
        Ok(lab)
    }

    pub fn path(&self, file: &str) -> std::path::PathBuf {
        self.dir.path().join(file)
    }
}

/// The workers' threads of turnpikes: their folders under `/proc`, and their numbers.
pub fn worker_tasks(pids: &[u32]) -> Vec<(PathBuf, i32)> {
    let tasks =
        pids.iter().flat_map(|pid| std::fs::read_dir(format!("/proc/{pid}/task"))).flatten().flatten();
    let worker = |task: std::fs::DirEntry| {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let tid = task.file_name().to_str().and_then(|tid| tid.parse().ok())?;
        name.starts_with("worker-").then(|| (task.path(), tid))
    };
    tasks.filter_map(worker).collect()
}

/// Lets workers go before all others on their cores, while it lives. Where the kernel groups threads by session, the
/// whole laboratory goes before other sessions, and workers before the rest of it.
pub struct Favour(Option<i32>);

const AUTOGROUP: &str = "/proc/self/autogroup";

impl Favour {
    /// Without the right to it a run is only less quiet.
    pub fn workers(pids: &[u32]) -> Self {
        for (_, tid) in worker_tasks(pids) {
            // On Linux it counts for the one thread.
            let _ = rustix::process::setpriority_process(rustix::process::Pid::from_raw(tid), -20);
        }
        Self::laboratory()
    }

    /// Lets the whole laboratory go before other sessions, and no part of it before another.
    pub fn laboratory() -> Self {
        // "/autogroup-17 nice 0"
        let now = std::fs::read_to_string(AUTOGROUP).unwrap_or_default();
        let now = now.split_whitespace().last().and_then(|nice| nice.parse().ok());
        Self(now.filter(|_| std::fs::write(AUTOGROUP, "-20").is_ok()))
    }
}

impl Drop for Favour {
    fn drop(&mut self) {
        if let Some(before) = self.0 {
            let _ = std::fs::write(AUTOGROUP, before.to_string());
        }
    }
}

/// CPU seconds and resident megabytes of processes; `leave_out` names threads that are not counted (by how their names
/// begin).
pub fn usage(pids: &[u32], leave_out: &str) -> (f64, f64) {
    let (mut cpu, mut rss) = (0.0, 0.0);
    for pid in pids {
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            let Some((head, rest)) = stat.rsplit_once(')') else { continue };
            let name = head.split_once('(').map_or("", |(_, name)| name);
            if !leave_out.is_empty() && name.starts_with(leave_out) {
                continue;
            }
            // utime and stime, in hundredths of a second (proc(5); USER_HZ is 100 on every Linux there is).
            let ticks = rest.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<f64>().ok());
            cpu += ticks.sum::<f64>() / 100.0;
        }
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        rss += kilobytes.unwrap_or(0.0) / 1024.0;
    }
    (cpu, rss)
}
