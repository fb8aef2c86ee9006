//! Match expressions as workers evaluate them: a flat program of bounded length, in postfix order.

use super::fields::{Addresses, Fields};
use crate::verdict::{DropReason, PuntReason, Verdict};

/// Most operations of a program.
pub const MAX_OPS: usize = 128;
/// Most values that wait for an operator at a time.
pub const MAX_DEPTH: usize = 64;

/// Which of a packet's two addresses or ports is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// One or the other.
    Either,
    /// That of the sender.
    Source,
    /// That of the receiver.
    Destination,
}

impl Side {
    fn any<T: Copy>(self, source: T, destination: T, test: impl Fn(T) -> bool) -> bool {
        match self {
            Self::Either => test(source) || test(destination),
            Self::Source => test(source),
            Self::Destination => test(destination),
        }
    }
}

/// One question about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// An IPv4 address under a prefix.
    Net4 {
        /// Whose.
        side: Side,
        /// The prefix, host byte order.
        prefix: u32,
        /// Ones where the prefix counts.
        mask: u32,
    },
    /// An IPv6 address under a prefix.
    Net6 {
        /// Whose.
        side: Side,
        /// The prefix, host byte order.
        prefix: u128,
        /// Ones where the prefix counts.
        mask: u128,
    },
    /// A port of TCP, UDP or SCTP in a range.
    Port {
        /// Whose.
        side: Side,
        /// The lowest.
        first: u16,
        /// The highest.
        last: u16,
    },
    /// The protocol behind IPv4 or IPv6.
    Protocol(u8),
    /// The ethertype behind the tags.
    Ethertype(u16),
    /// A tag of any VLAN.
    Tagged,
    /// The outermost tag's VLAN id.
    Vlan(u16),
    /// The VLAN id of the outer of two tags.
    Outer(u16),
    /// The VLAN id of the inner of two tags.
    Inner(u16),
    /// It was dropped.
    Dropped,
    /// It was punted.
    Punted,
    /// It was dropped for this reason.
    DroppedFor(DropReason),
    /// It was punted for this reason.
    PuntedFor(PuntReason),
}

impl Term {
    /// The answer for a packet with these fields; `None` as long as it takes a verdict that is not there yet.
    pub fn ask(self, fields: &Fields, verdict: Option<Verdict>) -> Option<bool> {
        Some(match self {
            Self::Net4 { side, prefix, mask } => match fields.addresses {
                Addresses::V4(source, destination) => {
                    side.any(source, destination, |address| address & mask == prefix)
                }
                _ => false,
            },
            Self::Net6 { side, prefix, mask } => match fields.addresses {
                Addresses::V6(source, destination) => {
                    side.any(source, destination, |address| address & mask == prefix)
                }
                _ => false,
            },
            Self::Port { side, first, last } => fields.ports.is_some_and(|(source, destination)| {
                side.any(source, destination, |port| (first..=last).contains(&port))
            }),
            Self::Protocol(protocol) => fields.protocol == Some(protocol),
            Self::Ethertype(ethertype) => fields.ethertype == ethertype,
            Self::Tagged => fields.vlans[0] != 0,
            Self::Vlan(vid) => fields.vlans[0] == vid,
            Self::Outer(vid) => fields.vlans[0] == vid && fields.vlans[1] != 0,
            Self::Inner(vid) => fields.vlans[1] == vid,
            Self::Dropped => matches!(verdict?, Verdict::Drop(_)),
            Self::Punted => matches!(verdict?, Verdict::Punt(_)),
            Self::DroppedFor(reason) => verdict? == Verdict::Drop(reason),
            Self::PuntedFor(reason) => verdict? == Verdict::Punt(reason),
        })
    }
}

/// One step of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Puts an answer on the stack.
    Ask(Term),
    /// Turns the last answer round.
    Not,
    /// Puts one answer in the place of the last two: both.
    And,
    /// The same: one or the other.
    Or,
}

/// Why a list of operations is no program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// More than [`MAX_OPS`].
    #[error("longer than {MAX_OPS} operations")]
    TooLong,
    /// More than [`MAX_DEPTH`] answers wait.
    #[error("more than {MAX_DEPTH} answers wait for an operator")]
    TooDeep,
    /// An operator has no answers to work on, or answers are left over.
    #[error("operators and answers do not go together")]
    Unbalanced,
}

/// A checked program. The default one matches all packets.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Program(Box<[Op]>);

impl Program {
    /// A program of these operations; without any it matches all packets.
    ///
    /// # Errors
    /// It is too long, or needs too much of a stack, or is none.
    pub fn new(ops: &[Op]) -> Result<Self, ProgramError> {
        if ops.len() > MAX_OPS {
            return Err(ProgramError::TooLong);
        }
        let mut depth = 0usize;
        for op in ops {
            depth = match op {
                Op::Ask(_) => depth + 1,
                Op::Not if depth >= 1 => depth,
                Op::And | Op::Or if depth >= 2 => depth - 1,
                _ => return Err(ProgramError::Unbalanced),
            };
            if depth > MAX_DEPTH {
                return Err(ProgramError::TooDeep);
            }
        }
        if depth == usize::from(!ops.is_empty()) {
            Ok(Self(ops.into()))
        } else {
            Err(ProgramError::Unbalanced)
        }
    }

    /// Whether a packet with these fields matches. Without its verdict: `None` where that decides.
    pub fn matches(&self, fields: &Fields, verdict: Option<Verdict>) -> Option<bool> {
        // The stack, the last answer in bit 0: what is true, and what is false. An open answer is neither.
        let (mut yes, mut no) = (0u64, 0u64);
        for op in &self.0 {
            match op {
                Op::Ask(term) => {
                    let answer = term.ask(fields, verdict);
                    yes = yes << 1 | u64::from(answer == Some(true));
                    no = no << 1 | u64::from(answer == Some(false));
                }
                Op::Not => {
                    let differ = (yes ^ no) & 1;
                    yes ^= differ;
                    no ^= differ;
                }
                Op::And => {
                    yes = yes >> 1 & (yes | !1);
                    no = no >> 1 | no & 1;
                }
                Op::Or => {
                    yes = yes >> 1 | yes & 1;
                    no = no >> 1 & (no | !1);
                }
            }
        }
        match (yes & 1, no & 1) {
            _ if self.0.is_empty() => Some(true),
            (1, _) => Some(true),
            (_, 1) => Some(false),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_whole_programs_are_taken() {
        let ask = Op::Ask(Term::Tagged);
        assert_eq!(Program::new(&[Op::Not]), Err(ProgramError::Unbalanced));
        assert_eq!(Program::new(&[ask, Op::And]), Err(ProgramError::Unbalanced));
        assert_eq!(Program::new(&[ask, ask]), Err(ProgramError::Unbalanced));
        assert_eq!(Program::new(&[ask; MAX_DEPTH + 1]), Err(ProgramError::TooDeep));
        assert_eq!(Program::new(&[ask; MAX_OPS + 1]), Err(ProgramError::TooLong));
        let deepest = [vec![ask; MAX_DEPTH], vec![Op::And; MAX_DEPTH - 1]].concat();
        assert_eq!(Program::new(&deepest).unwrap().matches(&Fields::default(), None), Some(false));
        assert_eq!(Program::default().matches(&Fields::default(), None), Some(true));
    }

    /// The same evaluation with a stack of plain answers.
    fn simple(ops: &[Op], fields: &Fields, verdict: Option<Verdict>) -> Option<bool> {
        let mut stack: Vec<Option<bool>> = Vec::new();
        for op in ops {
            let next = match op {
                Op::Ask(term) => term.ask(fields, verdict),
                Op::Not => stack.pop().unwrap().map(|answer| !answer),
                Op::And => match (stack.pop().unwrap(), stack.pop().unwrap()) {
                    (Some(false), _) | (_, Some(false)) => Some(false),
                    (Some(true), Some(true)) => Some(true),
                    _ => None,
                },
                Op::Or => match (stack.pop().unwrap(), stack.pop().unwrap()) {
                    (Some(true), _) | (_, Some(true)) => Some(true),
                    (Some(false), Some(false)) => Some(false),
                    _ => None,
                },
            };
            stack.push(next);
        }
        stack.pop().unwrap()
    }

    fn term() -> impl Strategy<Value = Term> {
        prop_oneof![
            Just(Term::Tagged),
            Just(Term::Dropped),
            Just(Term::Punted),
            Just(Term::DroppedFor(DropReason::UnknownTag)),
            (0..3u16).prop_map(Term::Vlan),
            (0..3u8).prop_map(Term::Protocol),
        ]
    }

    /// Any expression in postfix order.
    fn ops() -> impl Strategy<Value = Vec<Op>> {
        term().prop_map(|term| vec![Op::Ask(term)]).prop_recursive(5, 40, 2, |inner| {
            prop_oneof![
                inner.clone().prop_map(|ops| [ops, vec![Op::Not]].concat()),
                (inner.clone(), inner, any::<bool>()).prop_map(|(a, b, and)| [
                    a,
                    b,
                    vec![if and { Op::And } else { Op::Or }]
                ]
                .concat()),
            ]
        })
    }

    proptest! {
        #[test]
        fn answers_are_those_of_a_simple_evaluation(
            ops in ops(),
            vlans in any::<[bool; 2]>(),
            protocol in 0..3u8,
            verdict in 0..4usize,
        ) {
            let fields = Fields { vlans: vlans.map(u16::from), protocol: Some(protocol), ..Fields::default() };
            let verdict = [
                None,
                Some(Verdict::Forward),
                Some(Verdict::Drop(DropReason::UnknownTag)),
                Some(Verdict::Punt(PuntReason::Arp)),
            ][verdict];
            let program = Program::new(&ops).unwrap();
            let found = program.matches(&fields, verdict);
            prop_assert_eq!(found, simple(&ops, &fields, verdict));
            if verdict.is_none() && found.is_some() {
                prop_assert_eq!(program.matches(&fields, Some(Verdict::Forward)), found);
            }
        }
    }
}
