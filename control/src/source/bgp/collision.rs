//! Two connections with one peer: which one is kept (RFC 4271, section 6.8; RFC 6286; RFC 4724, section 4.2).
//!
//! A connection becomes the session's once its OPEN is accepted; until then it is a candidate. When there is a session
//! already:
//! - The other connection was made at the same time, in the other direction: a collision. If the session is not yet
//!   established, the connection that the side with the higher router id made is kept (equal ids: the higher AS), else
//!   the session is.
//! - The peer comes again with the router id of the session: it lost the old connection, and takes over at once; the
//!   loss is told before the new session is up.
//! - Another router id: two speakers behind one address. The new one takes over only if the session was silent for two
//!   thirds of its hold time; so they do not push each other out in turns.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::protocol::Cease;

/// Connections that began no later than this after the session was established are of the same time as it.
const SAME_TIME: Duration = Duration::from_secs(1);

/// Who made a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// The peer.
    Incoming,
    /// We.
    Outgoing,
}

/// What is asked of either connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side {
    pub direction: Direction,
    /// The peer's router id on it.
    pub router_id: Ipv4Addr,
}

/// What else is asked of the session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub side: Side,
    /// Since when it is established, if it is.
    pub established: Option<Instant>,
    /// Whether the peer said nothing for two thirds of the hold time.
    pub silent: bool,
}

/// What tells two speakers apart: router id, then AS (RFC 6286, section 2.3).
pub(super) type Identity = (Ipv4Addr, u32);

/// Why a connection may not take the session over.
pub(super) type Refusal = (Cease, String);

/// Whether the new connection, begun at `started`, takes the place of the session.
pub(super) fn takes_over(
    held: &Held,
    new: Side,
    started: Instant,
    ours: Identity,
    theirs: Identity,
) -> Result<(), Refusal> {
    if held.side.router_id != new.router_id {
        if held.silent {
            return Ok(());
        }
        let (old, new) = (held.side.router_id, new.router_id);
        let detail = format!("it has a session already, with router id {old} instead of {new}");
        return Err((Cease::Rejected, detail));
    }
    let collision = |detail: &str| Err((Cease::Collision, detail.to_owned()));
    match held.established {
        None if held.side.direction != new.direction => {
            let kept = if ours > theirs { Direction::Outgoing } else { Direction::Incoming };
            if new.direction == kept {
                Ok(())
            } else {
                collision("it connected while we did: the other connection is kept")
            }
        }
        Some(established) if held.side.direction != new.direction && started < established + SAME_TIME => {
            collision("it connected while we did: the session is established")
        }
        Some(_) if new.direction == Direction::Outgoing => collision("the session is established"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOW: Identity = (Ipv4Addr::new(10, 0, 0, 1), 65_010);
    const HIGH: Identity = (Ipv4Addr::new(10, 0, 0, 9), 65_010);

    fn side(direction: Direction, id: Identity) -> Side {
        Side { direction, router_id: id.0 }
    }

    fn opposite(direction: Direction) -> Direction {
        if direction == Direction::Incoming { Direction::Outgoing } else { Direction::Incoming }
    }

    /// Both ends decide for the same connection, whichever came first at each.
    #[test]
    fn both_ends_keep_the_connection_that_the_higher_id_made() {
        let now = Instant::now();
        for (a, b) in [(LOW, HIGH), (HIGH, LOW), ((LOW.0, 1), (LOW.0, 2))] {
            for first_at_a in [Direction::Incoming, Direction::Outgoing] {
                for first_at_b in [Direction::Incoming, Direction::Outgoing] {
                    // Which connection is kept, as seen by `a`.
                    let kept = |first: Direction, ours: Identity, theirs: Identity| {
                        let held = Held { side: side(first, theirs), established: None, silent: false };
                        let new = side(opposite(first), theirs);
                        match takes_over(&held, new, now, ours, theirs) {
                            Ok(()) => new.direction,
                            Err((cease, _)) => {
                                assert_eq!(cease, Cease::Collision);
                                first
                            }
                        }
                    };
                    let (at_a, at_b) = (kept(first_at_a, a, b), kept(first_at_b, b, a));
                    assert_eq!(at_a, opposite(at_b));
                    assert_eq!(at_a == Direction::Outgoing, a > b);
                }
            }
        }
    }

    #[test]
    fn an_established_session_is_kept_unless_the_peer_comes_back() {
        let established = Instant::now();
        let held = |first, silent| Held { side: side(first, HIGH), established: Some(established), silent };
        let later = established + Duration::from_secs(30);
        let incoming = side(Direction::Incoming, HIGH);
        let outgoing = side(Direction::Outgoing, HIGH);
        let verdict = |held: Held, new, at| takes_over(&held, new, at, LOW, HIGH).map_err(|(cease, _)| cease);
        // Of the same time: a collision, and the session stays.
        assert_eq!(verdict(held(Direction::Outgoing, false), incoming, established), Err(Cease::Collision));
        // Later: it restarted.
        assert_eq!(verdict(held(Direction::Outgoing, false), incoming, later), Ok(()));
        assert_eq!(verdict(held(Direction::Incoming, false), incoming, established), Ok(()));
        // We never replace what stands.
        assert_eq!(verdict(held(Direction::Incoming, false), outgoing, later), Err(Cease::Collision));
        // Another speaker.
        let other = side(Direction::Incoming, LOW);
        assert_eq!(verdict(held(Direction::Incoming, false), other, later), Err(Cease::Rejected));
        assert_eq!(verdict(held(Direction::Incoming, true), other, later), Ok(()));
    }
}
