//! The two sides of a comparison as processes: ours, and DPDK's `testpmd`. Each is started once for a case, and then
//! told when to forward; in between it leaves the cores to the other.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::sleep;
use std::time::Duration;

use super::Args;
use super::case::Case;
use super::stages::PARTS;
use super::watched::Watched;

/// Buffers that a forwarder needs beside those that the ports replay.
pub const MBUFS_BESIDE: usize = 16_384;
/// Packets that both sides ask a port for at a time.
const BURST: usize = 64;
/// How long a process may take to come up: loading a full table takes seconds.
const PATIENCE: Duration = Duration::from_mins(1);

/// The vdev string of a port that replays its capture file on so many queues, and drops what is sent.
pub fn device(index: usize, captures: &Path, case: Case, queues: usize) -> String {
    let file = capture_file(captures, case, index);
    let rx = format!(",rx_pcap={}", file.display()).repeat(queues);
    format!("net_pcap{index}{rx},infinite_rx=1")
}

/// The capture file of a port.
pub fn capture_file(captures: &Path, case: Case, port: usize) -> PathBuf {
    captures.join(format!("{}-{port}.pcap", case.capture().name()))
}

/// What one measurement of one side gave.
pub struct Figures {
    pub mpps: f64,
    /// Cycles a packet from poll to transmission; not known of the peer.
    pub cycles: Option<f64>,
    /// The share of matching frames that a session missed, where one ran.
    pub missed: Option<f64>,
    /// Cycles a packet by part of the way, where the run was to tell.
    pub parts: Option<[f64; PARTS.len()]>,
}

/// A process with its words in and out. It is killed when dropped.
struct Process {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    name: &'static str,
}

impl Process {
    fn start(name: &'static str, command: &mut Command) -> Result<Self, String> {
        // A group of its own, so that Ctrl-C reaches only the parent, which ends its children.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().map_err(|error| format!("cannot start {name}: {error}"))?;
        let (sender, lines) = channel();
        let out = child.stdout.take().map(|out| Box::new(out) as Box<dyn std::io::Read + Send>);
        let err = child.stderr.take().map(|err| Box::new(err) as Box<dyn std::io::Read + Send>);
        for stream in [out, err].into_iter().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        let input = child.stdin.take().ok_or_else(|| format!("{name} has no standard input"))?;
        Ok(Self { child, input, lines, name })
    }

    fn say(&mut self, line: &str) -> Result<(), String> {
        let said = writeln!(self.input, "{line}").and_then(|()| self.input.flush());
        said.map_err(|error| format!("{} does not listen: {error}", self.name))
    }

    /// Lines up to the one that `is_last` takes.
    fn until(&mut self, is_last: impl Fn(&str) -> bool) -> Result<Vec<String>, String> {
        let mut lines: Vec<String> = Vec::new();
        loop {
            let line = match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => line,
                Err(error) => {
                    let last = lines.iter().rev().take(8).rev().cloned().collect::<Vec<_>>().join("\n  ");
                    let why = if error == RecvTimeoutError::Timeout { "does not answer" } else { "ended" };
                    return Err(format!("{} {why}:\n  {last}", self.name));
                }
            };
            lines.push(line);
            if lines.last().is_some_and(|line| is_last(line)) {
                return Ok(lines);
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Our worker, in a process of its own.
pub struct Ours(Process);

impl Ours {
    /// `stages`: it is to tell what each stage takes.
    pub fn start(
        args: &Args,
        case: Case,
        captures: &Path,
        cores: &[usize],
        stages: bool,
    ) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| format!("cannot find myself: {error}"))?;
        let mut command = Command::new(program);
        command.args(["pipeline-worker", "--case", case.name()]).arg(format!("--eal={}", args.eal));
        command.arg("--captures").arg(captures).arg("--data").arg(&args.data);
        for core in cores {
            command.args(["--cores", &core.to_string()]);
        }
        if stages {
            command.arg("--stages");
        }
        let mut process = Process::start("our side", &mut command)?;
        process.until(|line| line.starts_with('{'))?;
        Ok(Self(process))
    }

    pub fn measure(&mut self, args: &Args) -> Result<Figures, String> {
        self.measure_watched(args, Watched::Off)
    }

    /// While something looks at the packets.
    pub fn measure_watched(&mut self, args: &Args, watched: Watched) -> Result<Figures, String> {
        let number = Watched::ALL.iter().position(|other| *other == watched).unwrap_or_default();
        self.0.say(&format!("{} {} {number}", args.warm_up, args.seconds))?;
        let lines = self.0.until(|line| line.starts_with('{'))?;
        let line = lines.last().map_or("", String::as_str);
        let answer: serde_json::Value =
            serde_json::from_str(line).map_err(|error| format!("our side said {line:?}: {error}"))?;
        let mpps = answer["mpps"].as_f64().ok_or_else(|| format!("our side said {line:?}"))?;
        let parts: Option<Vec<f64>> = answer["parts"]
            .as_array()
            .and_then(|parts| parts.iter().map(serde_json::Value::as_f64).collect());
        let parts = parts.and_then(|parts| parts.try_into().ok());
        Ok(Figures {
            mpps,
            cycles: answer["cycles_per_packet"].as_f64(),
            missed: answer["missed"].as_f64(),
            parts,
        })
    }
}

/// `testpmd` with `--forward-mode=io`: what the ports alone allow.
pub struct Testpmd(Process);

impl Testpmd {
    /// The program, if the machine has it.
    pub fn find(args: &Args) -> Option<PathBuf> {
        if let Some(path) = &args.testpmd {
            return path.exists().then(|| path.clone());
        }
        let path = std::env::var_os("PATH")?;
        let mut candidates =
            std::env::split_paths(&path).flat_map(|dir| [dir.join("dpdk-testpmd"), dir.join("testpmd")]);
        candidates.find(|candidate| candidate.is_file())
    }

    pub fn start(
        program: &Path,
        args: &Args,
        case: Case,
        captures: &Path,
        cores: &[usize],
    ) -> Result<Self, String> {
        let queues = cores.len();
        // It must not keep its answers until its buffer is full.
        let mut command = Command::new("stdbuf");
        command.arg("-oL").arg(program).args(args.eal.split_whitespace());
        // The main core only waits for commands.
        let main = format!("0@{}", args.control_core);
        let others = cores.iter().enumerate().map(|(at, core)| format!("{}@{core}", at + 1));
        let lcores: Vec<String> = std::iter::once(main).chain(others).collect();
        command.args(["--lcores", &lcores.join(",")]);
        for port in 0..2 {
            command.args(["--vdev", &device(port, captures, case, queues)]);
        }
        let mbufs = 2 * queues * case.frames() + MBUFS_BESIDE;
        command.args(["--", "-i", "--forward-mode=io", "--no-lsc-interrupt", "--mbcache=256"]);
        command.args([format!("--nb-cores={queues}"), format!("--rxq={queues}"), format!("--txq={queues}")]);
        command.args([format!("--total-num-mbufs={mbufs}"), format!("--burst={BURST}")]);
        let mut process = Process::start("testpmd", &mut command)?;
        process.say("show config fwd")?;
        process.until(|line| line.contains("io packet forwarding"))?;
        Ok(Self(process))
    }

    pub fn measure(&mut self, args: &Args) -> Result<Figures, String> {
        self.0.say("start")?;
        sleep(Duration::from_secs_f64(args.warm_up));
        self.show()?;
        sleep(Duration::from_secs_f64(args.seconds));
        let rates = self.show()?;
        self.0.say("stop")?;
        self.0.until(|line| line.starts_with("Done"))?;
        Ok(Figures { mpps: rates.iter().sum::<f64>() / 1e6, cycles: None, missed: None, parts: None })
    }

    /// Packets a second that each port has sent since this was last asked.
    fn show(&mut self) -> Result<Vec<f64>, String> {
        self.0.say("show port stats all")?;
        let mut rates = Vec::new();
        while rates.len() < 2 {
            let lines = self.0.until(|line| line.trim_start().starts_with("Tx-pps:"))?;
            let line = lines.last().map_or("", String::as_str);
            let rate = line.split_whitespace().nth(1).and_then(|word| word.parse().ok());
            rates.push(rate.ok_or_else(|| format!("testpmd said {line:?}"))?);
        }
        Ok(rates)
    }
}
