//! BIRD 2 as Debian ships it, one in a namespace, with a control socket of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::lab::{Lab, Netns};
use crate::process::{Daemon, output};
use crate::wait;

/// How long it may take to answer after its start, on a busy machine.
const START: Duration = Duration::from_mins(1);

/// One BIRD.
#[derive(Debug)]
pub struct Bird {
    netns: String,
    config: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    daemon: Option<Daemon>,
}

impl Bird {
    /// Starts it in `netns` with this configuration; `name` names its files in the laboratory.
    #[track_caller]
    pub fn start(lab: &Lab, netns: &Netns, name: &str, config: &str) -> Self {
        let mut bird = Self {
            netns: netns.name().to_owned(),
            config: lab.path(&format!("bird-{name}.conf")),
            socket: lab.path(&format!("bird-{name}.ctl")),
            log: lab.path(&format!("bird-{name}.log")),
            daemon: None,
        };
        bird.write(config);
        bird.resume(false);
        bird
    }

    /// Starts it again if it was killed; `gracefully` as after a restart that kept forwarding (RFC 4724).
    #[track_caller]
    pub fn resume(&mut self, gracefully: bool) {
        if self.daemon.is_some() {
            return;
        }
        let _ = std::fs::remove_file(&self.socket);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.netns, "bird", "-f", "-c"]).arg(&self.config);
        command.arg("-s").arg(&self.socket);
        if gracefully {
            command.arg("-R");
        }
        let mut daemon = Daemon::start(&format!("bird in {}", self.netns), &mut command, &self.log);
        wait::until_true(START, "BIRD's socket", || {
            daemon.assert_alive();
            self.socket.exists()
        });
        self.daemon = Some(daemon);
    }

    /// Starts it again after it was killed, gracefully, with another configuration.
    #[track_caller]
    pub fn restart(&mut self, config: &str) {
        self.write(config);
        self.resume(true);
    }

    #[track_caller]
    fn write(&self, config: &str) {
        std::fs::write(&self.config, format!("log stderr all;\n{config}")).expect("configuration of BIRD");
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        self.daemon = None;
    }

    /// Runs one command of its control socket; what it printed, be it that something was not found.
    #[track_caller]
    pub fn birdc(&self, command: &str) -> String {
        let output =
            output(Command::new("birdc").arg("-s").arg(&self.socket).args(command.split_whitespace()));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Gives it another configuration, which it takes over without a restart.
    #[track_caller]
    pub fn configure(&self, config: &str) {
        self.write(config);
        let said = self.birdc("configure");
        assert!(said.contains("Reconfigur"), "BIRD refused its configuration: {said}");
    }

    /// Whether the session of the protocol `name` is up.
    #[track_caller]
    pub fn established(&self, name: &str) -> bool {
        self.birdc(&format!("show protocols {name}")).contains("Established")
    }

    /// Gateways of all routes to `prefix` in its main table of that family.
    #[track_caller]
    pub fn paths(&self, prefix: &str) -> Vec<String> {
        let shown = self.birdc(&format!("show route for {prefix} all"));
        let next_hop =
            |line: &str| Some(line.trim().strip_prefix("BGP.next_hop: ")?.split(' ').next()?.to_owned());
        shown.lines().filter_map(next_hop).collect()
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        self.daemon.as_ref().map_or_else(|| "BIRD is not running".to_owned(), |d| d.log_tail(lines))
    }

    /// Its control socket, for `birdc -s`.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}
