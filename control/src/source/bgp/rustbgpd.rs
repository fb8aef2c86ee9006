//! [`Protocol`] by `rustbgpd-fsm` and `rustbgpd-wire`. Message framing is ours (RFC 4271, section 6.1), since the
//! right NOTIFICATION depends on it; state machine, negotiation and codec are the library's.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustbgpd_fsm::{Action, Event, PeerConfig, Session, SessionState, TimerType};
use rustbgpd_wire::notification::NotificationCode;
use rustbgpd_wire::{
    AddPathMode, Afi, Capability, DecodeError, Message, NotificationMessage, OpenMessage,
    RouteRefreshMessage, RouteRefreshSubtype, Safi, UpdateMessage, encode_message,
};

use super::announce::Announced;
use super::frame::{self, Frame, Kind};
use super::protocol::{
    AddPath, Cease, Ending, HEADER_LENGTH, MAX_LENGTH, Negotiated, Notification, Output, Protocol,
    SessionConfig, State, Timer,
};
use super::update::{Reset, UpdateDecoder, family};
use crate::source::Family;

/// Longest message before both OPENs are exchanged (RFC 4271, section 4.1).
const MAX_PLAIN_LENGTH: usize = 4096;

/// Takes the families out of our graceful-restart capability: we help and mark End-of-RIB, but keep nothing over a
/// restart of our own (RFC 4724, section 3). With families, FRR would wait for us to call back, which we never do.
fn only_helps(capabilities: &mut [Capability]) {
    for capability in capabilities {
        if let Capability::GracefulRestart { families, .. } = capability {
            families.clear();
        }
    }
}

/// One session's protocol machine.
#[derive(Debug)]
pub(super) struct Rustbgpd {
    config: SessionConfig,
    fsm: Session,
    decoder: Option<UpdateDecoder>,
    negotiated: Option<Box<Negotiated>>,
    closed: bool,
}

impl Rustbgpd {
    pub(super) fn new(config: SessionConfig) -> Self {
        let mut peer = PeerConfig::new(config.local_asn, config.peer_asn, config.router_id);
        peer.hold_time = config.hold_time;
        peer.families = vec![(Afi::Ipv4, Safi::Unicast), (Afi::Ipv6, Safi::Unicast)];
        // As a helper (RFC 4724, section 4.2): a restart time of 0, as we have no routes for the peer to keep.
        peer.graceful_restart = true;
        peer.gr_restart_time = 0;
        peer.add_path_receive = config.add_path == AddPath::Receive;
        peer.add_path_send = config.add_path == AddPath::Send;
        let mut fsm = Session::new(peer);
        // To `Connect`: whoever made the connection, the machine then waits for it.
        fsm.handle_event(Event::ManualStart);
        Self { config, fsm, decoder: None, negotiated: None, closed: false }
    }

    /// Feeds the library's machine and translates what it wants done. `detail` goes with a NOTIFICATION of ours.
    fn drive(&mut self, event: Event, detail: &str, out: &mut Vec<Output>) {
        let opening = matches!(event, Event::OpenReceived(_));
        let mut ending = None;
        let actions = self.fsm.handle_event(event);
        if opening && self.fsm.state() == SessionState::OpenConfirm {
            self.opened(out);
        }
        for action in actions {
            match action {
                Action::SendOpen(mut open) => {
                    only_helps(&mut open.capabilities);
                    send(&Message::Open(open), out);
                }
                Action::SendKeepalive => send(&Message::Keepalive, out),
                Action::SendNotification(message) => {
                    let sent = Notification { code: message.code.as_u8(), subcode: message.subcode };
                    send(&Message::Notification(message), out);
                    ending = Some(Ending::Sent(sent, detail.to_owned()));
                }
                Action::StartTimer(TimerType::Hold, seconds) => {
                    out.push(Output::Start(Timer::Hold, self.hold_time(seconds)));
                }
                Action::StartTimer(TimerType::Keepalive, seconds) => {
                    out.push(Output::Start(Timer::Keepalive, Duration::from_secs(seconds.into())));
                }
                Action::StopTimer(TimerType::Hold) if self.fsm.state() == SessionState::OpenConfirm => {
                    // Hold time 0 was negotiated; the handshake has its limit all the same.
                    out.push(Output::Start(Timer::Hold, Duration::from_secs(self.config.open_time.into())));
                }
                Action::StopTimer(TimerType::Hold) => out.push(Output::Stop(Timer::Hold)),
                Action::StopTimer(TimerType::Keepalive) => out.push(Output::Stop(Timer::Keepalive)),
                Action::StateChanged { new, .. } => out.push(Output::State(state(new))),
                Action::SessionEstablished(_) => self.established(out),
                Action::CloseTcpConnection => self.closed = true,
                _ => {}
            }
        }
        if self.closed {
            out.push(Output::Close(ending.unwrap_or_else(|| Ending::Silent(detail.to_owned()))));
        }
    }

    /// Until the session is established a peer has `open_time` for its next step, however long its hold time.
    fn hold_time(&self, seconds: u32) -> Duration {
        let seconds = match self.fsm.state() {
            SessionState::Established => seconds,
            _ => seconds.min(self.config.open_time.into()),
        };
        Duration::from_secs(seconds.into())
    }

    /// The peer's OPEN was accepted: from here on UPDATEs can be decoded.
    fn opened(&mut self, out: &mut Vec<Output>) {
        let Some(session) = self.fsm.negotiated() else { return };
        let paths = |wanted: AddPathMode| {
            let with =
                |(_, mode): &(&(Afi, Safi), &AddPathMode)| **mode == wanted || **mode == AddPathMode::Both;
            session.add_path_families.iter().filter(with).map(|(family, _)| *family).collect::<Vec<_>>()
        };
        let families = |list: &[(Afi, Safi)]| {
            let mut list: Vec<Family> = list.iter().filter_map(|&(afi, safi)| family(afi, safi)).collect();
            list.sort_unstable_by_key(|family| *family == Family::Ipv6);
            list
        };
        let add_path = paths(AddPathMode::Receive);
        let negotiated = Box::new(Negotiated {
            router_id: session.peer_router_id,
            hold_time: session.hold_time,
            families: families(&session.negotiated_families),
            add_path_receive: families(&add_path),
            add_path_send: families(&paths(AddPathMode::Send)),
            four_byte_as: session.four_octet_as,
            extended_messages: session.peer_extended_message,
            route_refresh: session.peer_route_refresh,
            enhanced_route_refresh: session.peer_enhanced_route_refresh,
            ipv6_next_hops: session.extended_nexthop_families.contains_key(&(Afi::Ipv4, Safi::Unicast)),
            graceful_restart: session.peer_gr_capable.then_some(session.peer_restart_time),
            graceful_families: families(
                &session.peer_gr_families.iter().map(|f| (f.afi, f.safi)).collect::<Vec<_>>(),
            ),
        });
        self.decoder = Some(UpdateDecoder {
            ibgp: self.config.local_asn == session.peer_asn,
            local_asn: self.config.local_asn,
            router_id: self.config.router_id,
            four_byte_as: session.four_octet_as,
            families: negotiated.families.clone(),
            add_path,
            last: Arc::default(),
            account: self.config.account.clone(),
        });
        self.negotiated = Some(negotiated.clone());
        out.push(Output::Opened(negotiated));
    }

    fn established(&mut self, out: &mut Vec<Output>) {
        let Some(negotiated) = &self.negotiated else { return };
        if negotiated.hold_time == 0 {
            out.push(Output::Stop(Timer::Hold));
        }
        // Who sends routes says himself when he is through.
        if self.config.add_path != AddPath::Send {
            for family in [Family::Ipv4, Family::Ipv6] {
                self.announce(family, out);
            }
            out.extend(negotiated.families.iter().map(|family| Output::Send(end_of_rib(*family))));
        }
    }

    /// Tells the peer what it is to be told of a family.
    fn announce(&self, family: Family, out: &mut Vec<Output>) {
        let Some(negotiated) = &self.negotiated else { return };
        let Announced { messages, prefixes, refused } = self.config.announcer.family(family, negotiated);
        out.extend(messages.into_iter().map(Output::Send));
        if prefixes > 0 || !refused.is_empty() {
            out.push(Output::Announced { family, prefixes, refused });
        }
    }

    fn open(&mut self, body: &[u8], out: &mut Vec<Output>) {
        match OpenMessage::decode(&mut { body }, body.len()) {
            Ok(open) => {
                let asn = open.four_byte_as();
                let expected = self.config.peer_asn;
                let instead =
                    if asn == expected { String::new() } else { format!(", not {expected} as configured") };
                let detail = format!(
                    "its OPEN has AS {asn}{instead}, router id {}, hold time {} s",
                    open.bgp_identifier, open.hold_time
                );
                self.drive(Event::OpenReceived(open), &detail, out);
            }
            Err(error) => self.decode_error(error, out),
        }
    }

    fn update(&mut self, body: &[u8], out: &mut Vec<Output>) {
        if self.fsm.state() != SessionState::Established {
            let detail = format!("UPDATE in state {}", self.fsm.state());
            return self.drive(Event::UpdateReceived, &detail, out);
        }
        let decoded = UpdateMessage::decode(&mut { body }, body.len()).map_err(Reset::from);
        let result = decoded.and_then(|update| match &mut self.decoder {
            Some(decoder) => decoder.decode(&update, out),
            None => Ok(()),
        });
        match result {
            Ok(()) => self.drive(Event::UpdateReceived, "", out),
            Err(reset) => self.notify(reset.code, reset.subcode, reset.data, reset.detail, out),
        }
    }

    fn notification(&mut self, body: &[u8], out: &mut Vec<Output>) {
        self.closed = true;
        // An error in a NOTIFICATION is not answered (RFC 4271, section 6.4).
        let ending = match NotificationMessage::decode(&mut { body }, body.len()) {
            Ok(message) => {
                Ending::Received(Notification { code: message.code.as_u8(), subcode: message.subcode })
            }
            Err(error) => Ending::Silent(format!("its NOTIFICATION is malformed: {error}")),
        };
        out.push(Output::Close(ending));
    }

    fn route_refresh(&mut self, body: &[u8], out: &mut Vec<Output>) {
        let Ok(refresh) = RouteRefreshMessage::decode(&mut { body }, body.len()) else {
            let (code, data) = (NotificationCode::RouteRefreshMessage, Bytes::copy_from_slice(body));
            return self.notify(code, 1, data, "malformed ROUTE-REFRESH".to_owned(), out);
        };
        let (afi, safi) = (refresh.afi().unwrap_or(Afi::Ipv4), refresh.safi().unwrap_or(Safi::Unicast));
        let detail = format!("ROUTE-REFRESH in state {}", self.fsm.state());
        self.drive(Event::RouteRefreshReceived { afi, safi }, &detail, out);
        let (Some(negotiated), false) = (&self.negotiated, self.closed) else { return };
        let asked = refresh.afi().zip(refresh.safi()).and_then(|(afi, safi)| family(afi, safi));
        let Some(family) = asked.filter(|family| negotiated.families.contains(family)) else { return };
        match refresh.subtype() {
            RouteRefreshSubtype::Normal if self.config.add_path != AddPath::Send => {
                let marked = negotiated.enhanced_route_refresh;
                let mark = |subtype, out: &mut Vec<Output>| {
                    let mark = RouteRefreshMessage::new_with_subtype(afi, safi, subtype);
                    send(&Message::RouteRefresh(mark), out);
                };
                if marked {
                    mark(RouteRefreshSubtype::BoRR, out);
                }
                self.announce(family, out);
                if marked {
                    mark(RouteRefreshSubtype::EoRR, out);
                }
            }
            RouteRefreshSubtype::BoRR => out.push(Output::RefreshBegins(family)),
            RouteRefreshSubtype::EoRR => out.push(Output::RefreshEnds(family)),
            _ => {}
        }
    }

    fn decode_error(&mut self, error: DecodeError, out: &mut Vec<Output>) {
        let detail = error.to_string();
        self.drive(Event::DecodeError(error), &detail, out);
    }

    /// Ends the session with a NOTIFICATION of our own making.
    fn notify(
        &mut self,
        code: NotificationCode,
        subcode: u8,
        data: Bytes,
        detail: String,
        out: &mut Vec<Output>,
    ) {
        self.closed = true;
        let sent = Notification { code: code.as_u8(), subcode };
        send(&Message::Notification(NotificationMessage::new(code, subcode, data)), out);
        out.push(Output::Close(Ending::Sent(sent, detail)));
    }
}

impl Protocol for Rustbgpd {
    fn connected(&mut self, out: &mut Vec<Output>) {
        self.drive(Event::TcpConnectionAcknowledged, "", out);
    }

    fn receive(&mut self, input: &[u8], out: &mut Vec<Output>) -> usize {
        if self.closed {
            return input.len();
        }
        let limit = if self.negotiated.is_some() { MAX_LENGTH } else { MAX_PLAIN_LENGTH };
        let (kind, length) = match frame::check(input, limit) {
            Ok(Frame::Incomplete) => return 0,
            Ok(Frame::Message { kind, length }) => (kind, length),
            Err(error) => {
                self.decode_error(error, out);
                return input.len();
            }
        };
        let body = &input[HEADER_LENGTH..length];
        match kind {
            Kind::Open => self.open(body, out),
            Kind::Update => self.update(body, out),
            Kind::Notification => self.notification(body, out),
            Kind::Keepalive => {
                let detail = format!("KEEPALIVE in state {}", self.fsm.state());
                self.drive(Event::KeepaliveReceived, &detail, out);
            }
            Kind::RouteRefresh => self.route_refresh(body, out),
        }
        length
    }

    fn expired(&mut self, timer: Timer, out: &mut Vec<Output>) {
        if self.closed {
            return;
        }
        match timer {
            Timer::Hold => {
                let detail = match self.fsm.state() {
                    SessionState::Established => "nothing heard from it for the hold time",
                    SessionState::OpenConfirm => "it did not confirm the session in time",
                    _ => "it did not send a whole OPEN in time",
                };
                self.drive(Event::HoldTimerExpires, detail, out);
            }
            Timer::Keepalive => self.drive(Event::KeepaliveTimerExpires, "", out),
        }
    }

    fn cease(&mut self, cease: Cease, detail: String, out: &mut Vec<Output>) {
        if !self.closed {
            self.notify(NotificationCode::Cease, cease as u8, Bytes::new(), detail, out);
        }
    }

    fn refresh(&mut self, out: &mut Vec<Output>) -> bool {
        let established = self.fsm.state() == SessionState::Established;
        let Some(negotiated) = self.negotiated.as_ref().filter(|n| established && n.route_refresh) else {
            return false;
        };
        for family in &negotiated.families {
            let afi = match family {
                Family::Ipv4 => Afi::Ipv4,
                Family::Ipv6 => Afi::Ipv6,
            };
            send(&Message::RouteRefresh(RouteRefreshMessage::new(afi, Safi::Unicast)), out);
        }
        true
    }
}

/// The End-of-RIB mark (RFC 4724, section 2): an UPDATE with nothing in it, or with an empty `MP_UNREACH_NLRI`.
pub(super) fn end_of_rib(family: Family) -> Vec<u8> {
    let body: &[u8] = match family {
        Family::Ipv4 => &[0, 0, 0, 0],
        Family::Ipv6 => &[0, 0, 0, 6, 0x80, 15, 3, 0, 2, 1],
    };
    let mut message = vec![0xff; 16];
    message.extend([0, (HEADER_LENGTH + body.len()) as u8, 2]);
    message.extend(body);
    message
}

fn send(message: &Message, out: &mut Vec<Output>) {
    // What we send ourselves (OPEN, KEEPALIVE, NOTIFICATION with echoed data, marks) always fits; should the
    // library ever refuse, the peer's hold timer says so.
    match encode_message(message) {
        Ok(bytes) => out.push(Output::Send(bytes.to_vec())),
        Err(error) => tracing::error!(%error, "BGP message could not be encoded"),
    }
}

fn state(state: SessionState) -> State {
    match state {
        SessionState::Idle | SessionState::Connect | SessionState::Active => State::Active,
        SessionState::OpenSent => State::OpenSent,
        SessionState::OpenConfirm => State::OpenConfirm,
        SessionState::Established => State::Established,
    }
}

#[cfg(test)]
mod tests;
