//! Traces and captures: control makes and ends them, and tells what the RIB knows of workers' decisions.

use std::sync::Arc;

use dataplane::ids::{AdjId, GroupId, PortId};
use dataplane::watch::{MAX_SESSIONS, Place, Program, Session, Watch, What};

use super::control::Control;
use super::sub_if_ids;
use crate::rib::AdjacencyDesc;
use crate::watch::view::{Member, Route};
use crate::watch::{Direction, Kind, Names, Question, WatchPlan, WatchRequest, expression};

/// Memory for a capture's frames, in bytes for each worker.
const CAPTURE_ROOM: usize = 16 << 20;
/// Records of a capture for each worker, at least and at most.
const CAPTURE_RECORDS: [usize; 2] = [256, 16 * 1024];
/// Records of a trace for each worker.
const TRACE_RECORDS: usize = 4096;
/// Bytes of a frame that a trace keeps: all headers, with some extension headers.
const TRACE_SNAPLEN: usize = 192;
/// Least that can be kept of a frame: its Ethernet header.
const MIN_SNAPLEN: usize = 14;
/// What a record takes beside its frame, about.
const RECORD_OVERHEAD: usize = 256;
/// Longest L2 header, in bytes.
const L2_LEN: usize = 22;

impl Control {
    /// Works out what a session needs.
    ///
    /// # Errors
    /// The request is wrong, or there are too many sessions.
    pub(super) fn plan_watch(&mut self, request: &WatchRequest) -> Result<WatchPlan, String> {
        let program = match request.expression.as_deref() {
            Some(text) => expression::parse(text).map_err(|error| format!("--match: {error}"))?,
            None => Program::default(),
        };
        let place = request.interface.as_deref().map_or(Ok(Place::Anywhere), |name| self.place(name))?;
        self.has_room()?;
        let longest = self.config.ports.iter().map(|port| usize::from(port.mtu) + L2_LEN).max().unwrap_or(0);
        let (what, records, snaplen) = match request.watch {
            Kind::Trace => (What::Trace, TRACE_RECORDS, TRACE_SNAPLEN),
            Kind::Capture => {
                let snaplen = request.snaplen.unwrap_or(longest).clamp(MIN_SNAPLEN, longest.max(MIN_SNAPLEN));
                let [least, most] = CAPTURE_RECORDS;
                let records = (CAPTURE_ROOM / (snaplen + RECORD_OVERHEAD)).clamp(least, most);
                let wants =
                    |direction| request.directions.is_empty() || request.directions.contains(&direction);
                let what = What::Capture {
                    received: wants(Direction::In),
                    sent: wants(Direction::Out),
                    dropped: wants(Direction::Drop),
                };
                (what, records, snaplen)
            }
        };
        let names = |names: &mut dyn Iterator<Item = &String>| names.cloned().collect();
        let names = Names {
            ports: names(&mut self.config.ports.iter().map(|port| &port.name)),
            interfaces: names(&mut self.config.sub_interfaces.iter().map(|sub_if| &sub_if.name)),
            vrfs: names(&mut self.config.vrfs.iter().map(|vrf| &vrf.name)),
            cores: self.workers.cores.clone(),
        };
        Ok(WatchPlan { what, place, program, records, snaplen, names, hz: self.hardware.eal.tsc_hz() })
    }

    /// Starts a session.
    ///
    /// # Errors
    /// There are too many.
    pub(super) fn watch(&mut self, session: Arc<Session>) -> Result<(), String> {
        self.has_room()?;
        self.watches.push(session);
        self.publish_watches();
        Ok(())
    }

    /// Whether there may be one more session.
    fn has_room(&mut self) -> Result<(), String> {
        self.end_closed_watches();
        if self.watches.len() >= MAX_SESSIONS {
            return Err(format!("{MAX_SESSIONS} traces and captures run already: end one of them first"));
        }
        Ok(())
    }

    /// Takes sessions from the workers that have ended.
    pub(super) fn end_closed_watches(&mut self) {
        let before = self.watches.len();
        self.watches.retain(|session| session.is_open());
        if self.watches.len() < before {
            self.publish_watches();
        }
    }

    fn publish_watches(&mut self) {
        let watch = (!self.watches.is_empty()).then(|| Arc::new(Watch::new(self.watches.clone())));
        self.publisher.set_watch(watch);
    }

    /// The sub-interface of that name, or else the port.
    fn place(&self, name: &str) -> Result<Place, String> {
        let sub_if = sub_if_ids(&self.config).find(|(_, sub_if)| sub_if.name == name);
        if let Some((id, sub_if)) = sub_if {
            return Ok(Place::SubInterface(sub_if.port, id));
        }
        let ports = || self.config.ports.iter().map(|port| port.name.as_str());
        if let Some(port) = ports().position(|port| port == name) {
            return Ok(Place::Port(PortId(port as u16)));
        }
        let sub_ifs = self.config.sub_interfaces.iter().map(|sub_if| sub_if.name.as_str());
        let hint = crate::config::suggest::hint(name, sub_ifs.chain(ports()));
        Err(format!("there is no sub-interface or port `{name}`{hint}"))
    }

    /// What lies behind workers' decisions, as it is now.
    pub(super) fn explain(&self, questions: &[Question]) -> Vec<(Route, Option<Member>)> {
        questions.iter().map(|question| self.explain_one(question)).collect()
    }

    fn explain_one(&self, question: &Question) -> (Route, Option<Member>) {
        let found = self.rib.lookup(question.vrf, question.destination);
        let group = question.group.0;
        let now = found.as_ref().and_then(|route| route.group).unwrap_or(GroupId::NO_ROUTE.0);
        let source = found.as_ref().and_then(|route| {
            let path = route.paths.iter().find(|path| path.used).or(route.paths.first())?;
            Some(self.path_source(path))
        });
        let prefix = found.as_ref().map(|route| route.prefix.to_string());
        let route = Route { group, prefix, source, changed: now != group };
        let member = question.adjacency.map(|id| {
            let members = found.as_ref().filter(|_| now == group).map_or(&[][..], |route| &route.members);
            let number = members.iter().position(|member| member.adjacency == id.0).map(|at| at + 1);
            self.member(id, number, members.len())
        });
        (route, member)
    }

    fn member(&self, id: AdjId, number: Option<usize>, of: usize) -> Member {
        let (kind, next_hop, sub_if) = match self.adjacency(id) {
            AdjacencyDesc::NoRoute => ("no route", None, None),
            AdjacencyDesc::Discard => ("discard", None, None),
            AdjacencyDesc::Local => ("local", None, None),
            AdjacencyDesc::Glean { subif } => ("unresolved", None, Some(subif)),
            AdjacencyDesc::Incomplete { subif, address } => ("unresolved", Some(address), Some(subif)),
            AdjacencyDesc::Forward { subif, address, .. } => ("forward", Some(address), Some(subif)),
        };
        let interface = sub_if.map(|id| self.sub_if_name(id));
        Member { adjacency: id.0, number, of, kind: kind.into(), next_hop, interface }
    }
}
