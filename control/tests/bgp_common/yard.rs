//! A speaker with a good peer and a bad one, and the log, to see what the bad one does to the good one.

use std::io::Write;
use std::sync::{Mutex, Once};

use control::source::bgp::{Limits, PeerStatus};
use control::source::{RouteEvent, SourceId};

use super::{ASN, Rig, Script, attributes, config, open, peer, sent, up, update};

pub const BAD: &str = "127.0.0.66";
pub const GOOD: &str = "127.0.0.2";
pub const ID: [u8; 4] = [10, 255, 0, 66];

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Keeps the log from now on.
pub fn start_log() {
    static START: Once = Once::new();
    START.call_once(|| tracing_subscriber::fmt().with_ansi(false).with_writer(|| Log).init());
}

/// The lines about this peer so far.
pub fn logged(peer: &str) -> Vec<String> {
    lines().into_iter().filter(|line| line.contains(&format!("peer={peer} "))).collect()
}

/// All lines of the log so far.
pub fn lines() -> Vec<String> {
    let log = String::from_utf8(LOG.lock().unwrap().clone()).unwrap();
    log.lines().map(str::to_owned).collect()
}

/// A speaker with a good peer, whose session is up and who has announced 10.0.0.0/8, and a bad one, by name.
pub struct Yard {
    pub rig: Rig,
    pub bad: &'static str,
    pub good: Script,
}

impl Yard {
    pub fn new(bad: &'static str) -> Self {
        Self::with(bad, Limits::default())
    }

    pub fn with(bad: &'static str, limits: Limits) -> Self {
        start_log();
        let peers = vec![peer("good", GOOD, ASN), peer(bad, BAD, ASN)];
        let rig = Rig::with(&config("127.0.0.1:0", peers), limits, 4096);
        let mut good = Script::establish(GOOD, rig.address, &open(ASN, 90, [10, 255, 0, 2]));
        good.send(&update(&[], &attributes(2), &[8, 10]));
        assert_eq!(rig.next_from(), (SourceId(7), RouteEvent::Up));
        assert!(matches!(rig.next_from(), (SourceId(7), RouteEvent::Update { .. })));
        Self { rig, bad, good }
    }

    pub fn connect(&self) -> Script {
        Script::connect(BAD, self.rig.address)
    }

    pub fn establish(&self, hold_time: u16) -> Script {
        let script = Script::establish(BAD, self.rig.address, &open(ASN, hold_time, ID));
        assert_eq!(self.rig.next_from(), (SourceId(8), RouteEvent::Up));
        script
    }

    /// The bad peer's loss is told, once; returns why.
    pub fn down(&self) -> String {
        match self.rig.next_from() {
            (SourceId(8), RouteEvent::Down { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    /// The bad peer is gone with this NOTIFICATION counted, in one line of the log; the good one never noticed.
    pub fn unharmed(mut self, code: u8, subcode: u8) {
        let gone = |status: &PeerStatus| status.last_error.is_some() && !up(status);
        let status = self.rig.until(self.bad, |status| gone(status) && !sent(status).is_empty());
        assert_eq!(sent(&status), [(code, subcode, 1)], "{status:?}");
        let is_end = |line: &String| !line.contains("session up");
        self.rig.until(self.bad, |_| logged(self.bad).iter().any(is_end));
        let lines = logged(self.bad);
        let ends: Vec<_> = lines.iter().filter(|line| is_end(line)).collect();
        assert_eq!(ends.len(), 1, "{lines:?}");
        assert!(ends[0].contains(&format!("{code}/{subcode}")), "{lines:?}");
        self.good_still_works();
    }

    pub fn good_still_works(&mut self) {
        assert!(self.rig.events.is_empty());
        self.good.send(&update(&[8, 10], &[], &[]));
        assert!(matches!(self.rig.next_from(), (SourceId(7), RouteEvent::Update { .. })));
        let good = self.rig.peer("good");
        assert!(up(&good));
        assert_eq!((good.announced, good.withdrawn, good.established), (1, 1, 1));
    }
}
