//! The program under test, from outside: started with a configuration, asked over its socket, ended by a signal.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::Duration;

use serde_json::Value;

use crate::lab::{Lab, Netns};
use crate::process::{self, Daemon};
use crate::wait;

/// How long its start may take on a busy machine: DPDK maps its memory, then ports and TAPs are made.
const START: Duration = Duration::from_mins(1);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);
/// How long its end may take.
const STOP: Duration = Duration::from_secs(30);

/// The program: `TURNPIKE_BIN`, or the newer of the builds beside this one.
#[track_caller]
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("TURNPIKE_BIN") {
        return PathBuf::from(path);
    }
    let own = std::env::current_exe().expect("path of this program");
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.or_else(|| own.ancestors().nth(3).map(Path::to_owned)).expect("a target directory");
    let built = ["debug", "release"].map(|profile| target.join(profile).join("turnpike"));
    let age = |path: &PathBuf| path.metadata().and_then(|m| m.modified()).ok();
    let newest = built.iter().filter(|p| p.exists()).max_by_key(|p| age(p)).cloned();
    newest.unwrap_or_else(|| {
        panic!("no turnpike in {}: cargo build -p control, or set TURNPIKE_BIN to its path", target.display())
    })
}

/// Whether the program was built.
pub fn built() -> bool {
    std::panic::catch_unwind(program).is_ok_and(|p| p.exists())
}

/// A running turnpike.
#[derive(Debug)]
pub struct Router {
    daemon: Daemon,
    socket: PathBuf,
}

impl Router {
    /// Starts it in `netns` with this configuration (whose socket is `socket`), and waits until it answers.
    #[track_caller]
    pub fn start(lab: &Lab, netns: &Netns, config: &str, socket: &Path) -> Self {
        let mut router = Self::launch(lab, netns, config, socket);
        let what = "turnpike to answer on its socket";
        wait::until(START, what, || {
            router.daemon.assert_alive();
            router.try_show("ports")
        });
        router
    }

    /// Starts it and does not wait.
    #[track_caller]
    pub fn launch(lab: &Lab, netns: &Netns, config: &str, socket: &Path) -> Self {
        let path = lab.path("turnpike.toml");
        std::fs::write(&path, config).expect("configuration of turnpike");
        // It has cores of its own where it is at home.
        let mut command = netns.command("nice");
        command.args(["-n", "-10"]).arg(program()).arg("run").arg("--config").arg(&path);
        let daemon = Daemon::start("turnpike", &mut command, &lab.path("turnpike.log"));
        Self { daemon, socket: socket.to_owned() }
    }

    /// `turnpike show WHAT --json`, if it answers. Routes come one object a line, and are put into one array.
    pub fn try_show(&self, what: &str) -> Option<Value> {
        let mut command = Command::new(program());
        command.args(["show", what, "--json", "--socket"]).arg(&self.socket);
        let output = process::output(&mut command);
        if !output.status.success() {
            return None;
        }
        if what == "routes" {
            let lines = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>();
            return lines.collect::<Result<Vec<_>, _>>().ok().map(Value::Array);
        }
        serde_json::from_slice(&output.stdout).ok()
    }

    /// `turnpike show WHAT --json`.
    #[track_caller]
    pub fn show(&self, what: &str) -> Value {
        self.try_show(what).unwrap_or_else(|| {
            let mut command = Command::new(program());
            command.args(["show", what, "--json", "--socket"]).arg(&self.socket);
            panic!(
                "turnpike show {what} --json: {:?}\n{}",
                process::output(&mut command),
                self.daemon.log_tail(30)
            );
        })
    }

    /// `turnpike show WHAT`, for people.
    #[track_caller]
    pub fn table(&self, what: &str) -> String {
        let mut command = Command::new(program());
        process::run(command.args(["show", what, "--socket"]).arg(&self.socket))
    }

    /// Puts questions to its API over one connection, as lines of JSON. Yields an answer for each; none where it refuses.
    #[track_caller]
    pub fn ask(&self, questions: impl IntoIterator<Item = Value>) -> Vec<Option<Value>> {
        let mut stream = BufReader::new(UnixStream::connect(&self.socket).expect("turnpike's socket"));
        stream.get_ref().set_read_timeout(Some(ANSWER)).expect("a time limit");
        let mut answer = |question: Value| {
            stream.get_mut().write_all(format!("{question}\n").as_bytes()).expect("a question");
            let mut line = String::new();
            stream.read_line(&mut line).expect("an answer");
            let mut reply: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
            reply.get_mut("ok").map(Value::take)
        };
        questions.into_iter().map(&mut answer).collect()
    }

    /// The process.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// Ends it by a signal and returns how it ended.
    #[track_caller]
    pub fn stop(&mut self, signal: i32) -> ExitStatus {
        self.daemon.signal(signal);
        self.daemon.wait(STOP)
    }

    /// The path of its API socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

/// Runs the program with these words to its end, with a limit, as from a shell.
#[track_caller]
pub fn run(words: &[&str]) -> Output {
    process::output(Command::new("timeout").args(["-k", "5", "60"]).arg(program()).args(words))
}
