//! Child processes: run to their end, or held by a guard that kills them by their pid.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use std::os::unix::process::CommandExt as _;

use crate::{sys, wait};

/// Runs a command to its end and returns what it printed on stdout; panics with its stderr when it fails.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = output(command);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a command to its end, however it ends.
#[track_caller]
pub fn output(command: &mut Command) -> Output {
    match command.stdin(Stdio::null()).process_group(0).output() {
        Ok(output) => output,
        Err(error) => panic!("cannot start {command:?}: {error}"),
    }
}

/// A number of /proc/PID/status: memory is in kB.
#[track_caller]
pub fn status_of(pid: u32, key: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a living process");
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.unwrap_or_else(|| panic!("no {key} in {text}"))
}

/// A child that runs until it is stopped or this is dropped.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Daemon {
    /// Starts `command` with stdout and stderr to the file `log`, in a process group of its own, so that Ctrl-C in
    /// the terminal reaches only the harness.
    #[track_caller]
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Self {
        let out = File::options().create(true).append(true).open(log).expect("log file");
        let err = out.try_clone().expect("log file");
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        match command.spawn() {
            Ok(child) => Self { name: name.to_owned(), child, log: log.to_owned(), ended: None },
            Err(error) => panic!("cannot start {command:?}: {error}"),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, if it has ended.
    pub fn status(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("wait for a child");
        }
        self.ended
    }

    /// Panics with the tail of its log if it has ended.
    #[track_caller]
    pub fn assert_alive(&mut self) {
        if let Some(status) = self.status() {
            panic!("{} has ended: {status}\n{}", self.name, self.log_tail(40));
        }
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&mut self, signal: i32) {
        self.assert_alive();
        sys::kill(self.pid(), signal).expect("signal to a living child");
    }

    /// Waits for its end; panics when it does not come in time.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of {} (pid {})", self.name, self.pid());
        wait::until(limit, &what, || self.status())
    }

    /// Kills it (SIGKILL) and reaps it.
    pub fn kill(&mut self) {
        if self.ended.is_none() {
            // Fails only if it has just ended by itself.
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last `lines` of its output.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}
