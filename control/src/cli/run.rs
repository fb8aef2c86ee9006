//! `turnpike run`: forwards by a configuration file until it is told to stop.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::config;
use crate::router::{Router, RouterError};

/// Runs a router by `file`.
///
/// # Errors
/// The configuration has errors, or something that it asks for cannot be had.
pub fn run(file: &Path) -> Result<(), String> {
    start_log();
    let config = config::load(file).map_err(|errors| errors.to_string())?;
    for warning in config::warnings(&config) {
        tracing::warn!("{}: {warning}", file.display());
    }
    let stop = stop_on_signals()?;
    let summary = super::check::describe(&config);
    let socket = config.api.socket.clone();
    let mut router = Router::start(config).map_err(|error| with_rights(&error))?;
    router.reload_from(file);
    reload_on_hangup(socket.clone())?;
    tracing::info!("forwarding: {summary}; `turnpike show` asks at {}", socket.display());
    let result = router.run(&stop);
    tracing::info!("stopping");
    drop(router);
    tracing::info!("stopped: ports are closed, TAPs are gone");
    result.map_err(|error| error.to_string())
}

/// An error of the start, with what a user other than root may lack.
fn with_rights(error: &RouterError) -> String {
    match rustix::process::geteuid() {
        uid if uid.is_root() => error.to_string(),
        uid => format!(
            "{error} (turnpike runs as user {}, not as root: devices, TAPs and namespaces need root)",
            uid.as_raw()
        ),
    }
}

/// A flag that SIGINT and SIGTERM set.
///
/// # Errors
/// The handlers cannot be set.
pub fn stop_on_signals() -> Result<Arc<AtomicBool>, String> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|error| format!("cannot handle signals: {error}"))?;
    }
    Ok(stop)
}

/// Has SIGHUP mean what `turnpike acl reload` does: a thread waits for it, and asks at `socket`.
///
/// # Errors
/// The handler cannot be set, or the thread not be started.
fn reload_on_hangup(socket: PathBuf) -> Result<(), String> {
    let (mut heard, hangup) = UnixStream::pair().map_err(|error| format!("cannot handle SIGHUP: {error}"))?;
    signal_hook::low_level::pipe::register(SIGHUP, hangup)
        .map_err(|error| format!("cannot handle SIGHUP: {error}"))?;
    let wait = move || {
        // Several that came meanwhile are one.
        while heard.read(&mut [0; 64]).is_ok_and(|count| count > 0) {
            match super::acl::ask_for_reload(None, &socket) {
                Ok(done) => tracing::info!("SIGHUP: {done}; the rest of the configuration takes a restart"),
                Err(why) => tracing::error!("SIGHUP: the access lists stay as they are: {why}"),
            }
        }
    };
    let thread = std::thread::Builder::new().name("hangup".to_owned()).spawn(wait);
    thread.map(drop).map_err(|error| format!("cannot start a thread that waits for SIGHUP: {error}"))
}

/// Logs to standard error; `TURNPIKE_LOG` sets what, e.g. `debug` or `control=debug`.
pub fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("TURNPIKE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    // A second call, in a test, changes nothing.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .with_target(false)
        .try_init();
}
