//! The server's side of the API: threads that read requests, hand them to the control thread, and write its
//! replies.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{RecvTimeoutError, Sender, bounded};

use dataplane::watch::Session;

use super::{MAX_REQUEST, Order, Reply, Request};
use crate::api::view::Interface;
use crate::metrics::{self, Snapshot};
use crate::watch::view::{Member, Route};
use crate::watch::{Kind, Question, WatchPlan, WatchRequest, stream};

/// A request on its way to the control thread, and where the answer goes.
pub enum Call {
    /// A question or an order.
    Ask {
        /// What is asked.
        request: Request,
        /// For the answer.
        reply: Sender<Reply>,
    },
    /// The metrics, but for those of sub-interfaces.
    Metrics {
        /// For them.
        reply: Sender<Box<Snapshot>>,
    },
    /// A page of sub-interfaces.
    Interfaces {
        /// The number of the first.
        from: usize,
        /// For them; after the last page an empty one.
        reply: Sender<Vec<Interface>>,
    },
    /// Work out what a trace or capture needs. Its memory is the client's thread's to get: that takes a while.
    PlanWatch {
        /// Of what.
        request: WatchRequest,
        /// For what it needs, or why there is none.
        reply: Sender<Result<WatchPlan, String>>,
    },
    /// Start it.
    Watch {
        /// The workers' side of it.
        session: Arc<Session>,
        /// For whether it has begun, or why not.
        reply: Sender<Result<(), String>>,
    },
    /// What lies behind workers' decisions.
    Explain {
        /// About these packets.
        questions: Vec<Question>,
        /// For an answer to each.
        reply: Sender<Vec<(Route, Option<Member>)>>,
    },
}

/// Why the socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Another turnpike has it.
    #[error("another turnpike answers at {0}: stop it first, or give this one its own `[api] socket`")]
    InUse(PathBuf),
    /// There is a file that is not a socket.
    #[error("{0} exists and is not a socket: remove it, or choose another `[api] socket`")]
    NotASocket(PathBuf),
    /// We may not make a socket there.
    #[error(
        "not permitted to listen at {0}: run as root, or give `[api] socket` a place that this user may write to"
    )]
    NotPermitted(PathBuf),
    /// The system says no.
    #[error("cannot listen at {0} (`[api] socket`): {1}")]
    Listen(PathBuf, std::io::Error),
}

/// Most clients at a time.
const MAX_CLIENTS: usize = 16;
/// How long a client may be silent, and how long one waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one waits for a reload of the access lists; clients of ours wait a little longer.
const RELOAD_PATIENCE: Duration = Duration::from_secs(25);

/// The listening socket and its thread. Dropping it closes both and removes the socket's file.
pub struct Server {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens at `path`. A socket that nobody answers at, left by a process that died, is replaced.
    ///
    /// # Errors
    /// The path is taken, or the system refuses.
    pub fn start(path: &Path, calls: Sender<Call>) -> Result<Self, ServerError> {
        let failed = |error: std::io::Error| match error.kind() {
            ErrorKind::PermissionDenied => ServerError::NotPermitted(path.to_owned()),
            _ => ServerError::Listen(path.to_owned(), error),
        };
        match UnixStream::connect(path) {
            Ok(_) => return Err(ServerError::InUse(path.to_owned())),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                let kind = std::fs::symlink_metadata(path).map_err(failed)?.file_type();
                if !std::os::unix::fs::FileTypeExt::is_socket(&kind) {
                    return Err(ServerError::NotASocket(path.to_owned()));
                }
                std::fs::remove_file(path).map_err(failed)?;
            }
            Err(_) => {}
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let accept = move || accept(&listener, &calls, &stopped);
        let thread = std::thread::Builder::new().name("api".into()).spawn(accept).map_err(failed)?;
        Ok(Self { path: path.to_owned(), stop, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A connection wakes the accepting thread. If none can be made (somebody removed the file), the thread
        // is left to end with the process.
        let woken = UnixStream::connect(&self.path).is_ok();
        if let (Some(thread), true) = (self.thread.take(), woken) {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

fn accept(listener: &UnixListener, calls: &Sender<Call>, stop: &AtomicBool) {
    let clients = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else {
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        if clients.fetch_add(1, Ordering::Relaxed) >= MAX_CLIENTS {
            clients.fetch_sub(1, Ordering::Relaxed);
            refuse(stream, "too many clients at once");
            continue;
        }
        let (calls, clients_here) = (calls.clone(), Arc::clone(&clients));
        let serve = move || {
            // A client that goes away or sends no request concerns nobody else.
            let _ = serve(&stream, &calls);
            clients_here.fetch_sub(1, Ordering::Relaxed);
        };
        if std::thread::Builder::new().name("api-client".into()).spawn(serve).is_err() {
            clients.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn refuse(mut stream: UnixStream, why: &str) {
    if let Ok(text) = serde_json::to_string(&Reply::Error(why.into())) {
        let _ = stream.write_all(text.as_bytes());
    }
}

fn serve(stream: &UnixStream, calls: &Sender<Call>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.by_ref().take(MAX_REQUEST).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let reply = if line.len() as u64 >= MAX_REQUEST {
            Reply::Error(format!("a request of more than {MAX_REQUEST} bytes"))
        } else {
            match super::parse(&line) {
                Ok(Request::Watch(request)) => match watch(stream, &request, calls) {
                    // The connection ends with the session.
                    Ok(()) => return Ok(()),
                    Err(Ended::Refused(why)) => Reply::Error(why),
                    Err(Ended::Lost(error)) => return Err(error),
                },
                Ok(request) => answer(request, calls),
                Err(error) => Reply::Error(format!("cannot read the request: {error}")),
            }
        };
        send(stream, &reply)?;
        if line.len() as u64 >= MAX_REQUEST {
            return Ok(());
        }
    }
}

fn send(mut stream: &UnixStream, reply: &Reply) -> std::io::Result<()> {
    let mut text = serde_json::to_string(reply)?;
    text.push('\n');
    stream.write_all(text.as_bytes())
}

fn answer(request: Request, calls: &Sender<Call>) -> Reply {
    if request == Request::Metrics {
        // In steps, of which none keeps the control thread long.
        let value = metrics::gather(calls).map(serde_json::to_value);
        return match value {
            Ok(Ok(value)) => Reply::Ok(value),
            Ok(Err(error)) => Reply::Error(error.to_string()),
            Err(why) => Reply::Error(why.into()),
        };
    }
    // An order that was handed over is carried out, however long that takes.
    let (patience, late) = match &request {
        Request::Do(Order::ReloadAcls { .. }) => (
            RELOAD_PATIENCE,
            "the reload of the access lists takes longer than 25 s and goes on: `turnpike show acls` and the log tell \
             when the new lists are in force",
        ),
        Request::Do(_) => (
            PATIENCE,
            "the control thread does not answer in time; it has the order, and may still carry it out",
        ),
        _ => (PATIENCE, LATE),
    };
    call_within(calls, patience, late, |reply| Call::Ask { request, reply })
        .unwrap_or_else(|why| Reply::Error(why.into()))
}

/// What is said when the control thread takes too long.
const LATE: &str = "the control thread does not answer in time";

/// Has the control thread do something, and waits for its answer.
pub(crate) fn call<T>(calls: &Sender<Call>, make: impl FnOnce(Sender<T>) -> Call) -> Result<T, &'static str> {
    call_within(calls, PATIENCE, LATE, make)
}

/// The same; `late` is what is said when the answer takes longer than `patience`.
fn call_within<T>(
    calls: &Sender<Call>,
    patience: Duration,
    late: &'static str,
    make: impl FnOnce(Sender<T>) -> Call,
) -> Result<T, &'static str> {
    let (reply, answer) = bounded(1);
    if calls.send_timeout(make(reply), PATIENCE).is_err() {
        return Err("the control thread does not answer");
    }
    answer.recv_timeout(patience).map_err(|error| match error {
        RecvTimeoutError::Disconnected => "turnpike is stopping",
        RecvTimeoutError::Timeout => late,
    })
}

/// Why a trace or capture did not come to its own end.
enum Ended {
    /// It did not begin.
    Refused(String),
    /// The client went, or was too slow.
    Lost(std::io::Error),
}

/// Serves a trace or capture.
fn watch(stream: &UnixStream, request: &WatchRequest, calls: &Sender<Call>) -> Result<(), Ended> {
    let refused = |why: &str| Ended::Refused(why.into());
    let plan = |reply| Call::PlanWatch { request: request.clone(), reply };
    let plan = call(calls, plan).map_err(refused)?.map_err(Ended::Refused)?;
    // From here on whatever happens ends the session.
    let watching = plan.watching();
    let start = |reply| Call::Watch { session: Arc::clone(&watching.session), reply };
    call(calls, start).map_err(refused)?.map_err(Ended::Refused)?;
    let begun = Reply::Ok(serde_json::json!({ "snaplen": watching.snaplen }));
    let mut explain = |questions| call(calls, |reply| Call::Explain { questions, reply }).ok();
    let comment = request.expression.as_ref().map_or(String::new(), |text| format!("match: {text}"));
    send(stream, &begun)
        .and_then(|()| match request.watch {
            Kind::Trace => stream::serve(stream, &watching, request.limit, &comment, Some(&mut explain)),
            Kind::Capture => stream::serve(stream, &watching, request.limit, &comment, None),
        })
        .map_err(|error| {
            tracing::warn!(
                "a trace or capture ended before its time (its client went, or was too slow): {error}"
            );
            Ended::Lost(error)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::client::{ClientError, ask};

    fn echo(path: &Path) -> Server {
        let (calls, received) = bounded::<Call>(4);
        let server = Server::start(path, calls).unwrap();
        std::thread::spawn(move || {
            for call in received {
                let Call::Ask { request, reply } = call else { continue };
                let _ = reply.send(Reply::Ok(serde_json::to_value(&request).unwrap()));
            }
        });
        server
    }

    #[test]
    fn asks_and_answers_and_cleans_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("turnpike.sock");
        assert!(matches!(ask(&path, &Request::Ports), Err(ClientError::NotRunning(_))));
        let server = echo(&path);
        assert_eq!(ask(&path, &Request::Drops).unwrap(), serde_json::json!({"show": "drops"}));
        let (calls, _received) = bounded(1);
        assert!(matches!(Server::start(&path, calls), Err(ServerError::InUse(_))));
        drop(server);
        assert!(!path.exists());
    }

    #[test]
    fn a_dead_socket_is_replaced_but_a_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("turnpike.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let _server = echo(&path);
        assert!(ask(&path, &Request::Ports).is_ok());
        let file = dir.path().join("notes.txt");
        std::fs::write(&file, "mine").unwrap();
        let (calls, _received) = bounded(1);
        assert!(Server::start(&file, calls).is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    }

    #[test]
    fn a_late_answer_is_told_as_what_it_is() {
        let (calls, received) = bounded::<Call>(1);
        let order = Request::Do(Order::ReloadAcls { file: None });
        let ask = |request| move |reply| Call::Ask { request, reply };
        let late = call_within(&calls, Duration::from_millis(10), "it goes on", ask(order));
        assert_eq!(late, Err("it goes on"));
        assert!(received.try_recv().is_ok(), "the order was handed over");
        let slow = std::thread::spawn(move || {
            let Ok(Call::Ask { reply, .. }) = received.recv() else { return };
            let _ = reply.send(Reply::Ok(7.into()));
        });
        assert_eq!(call(&calls, ask(Request::Drops)), Ok(Reply::Ok(7.into())));
        slow.join().unwrap();
        assert_eq!(call(&calls, ask(Request::Drops)), Err("the control thread does not answer"));
    }

    #[test]
    fn garbage_gets_an_error_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("turnpike.sock");
        let _server = echo(&path);
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(b"{\"show\":\"secrets\"}\n").unwrap();
        let mut answer = String::new();
        BufReader::new(&stream).read_line(&mut answer).unwrap();
        assert!(answer.contains("cannot read the request"), "{answer}");
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(&vec![b'x'; MAX_REQUEST as usize + 10]).unwrap();
        let mut answer = String::new();
        BufReader::new(&stream).read_line(&mut answer).unwrap();
        assert!(answer.contains("more than"), "{answer}");
        assert!(ask(&path, &Request::Ports).is_ok());
    }
}
