//! Which routing tables are followed, and what of them.

use std::collections::HashMap;
use std::sync::Arc;

use dataplane::ids::{SubIfId, VrfId};

use super::Stats;
use crate::source::queue::{Feed, FeedStats};
use crate::source::{SourceId, SourceStatus};

/// `RTPROT_REDIRECT`: learned from ICMP redirects.
const REDIRECT: u8 = 1;
/// `RTPROT_KERNEL`: what the kernel makes by itself for addresses, ours among them.
const KERNEL: u8 = 2;
/// `RTPROT_RA`: learned from router advertisements.
const RA: u8 = 9;

/// Whose routes are taken, by `RTPROT_…`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Protocols {
    /// Everybody's.
    #[default]
    All,
    /// All but what the kernel made by itself: for addresses, by redirects and router advertisements.
    Made,
    /// Of these only.
    Only(Vec<u8>),
}

impl Protocols {
    /// Whether this one's routes are taken.
    pub fn take(&self, protocol: u8) -> bool {
        match self {
            Self::All => true,
            Self::Made => !matches!(protocol, REDIRECT | KERNEL | RA),
            Self::Only(list) => list.contains(&protocol),
        }
    }
}

/// A table that is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its number; 254 is the main one.
    pub number: u32,
    /// Where its routes go.
    pub vrf: VrfId,
    /// As what they go there.
    pub source: SourceId,
    /// Whose routes are taken.
    pub protocols: Protocols,
    /// Our TAPs, by the index that they have where the table is.
    pub interfaces: HashMap<u32, SubIfId>,
    /// Whether gateways on other interfaces than these are taken.
    pub any_interface: bool,
}

/// All tables that one source follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables(Vec<Table>);

impl Tables {
    /// These; at most 255, each of its own number.
    pub fn new(tables: Vec<Table>) -> Self {
        Self(tables)
    }

    /// All of them.
    pub fn all(&self) -> &[Table] {
        &self.0
    }

    /// The place of the table with this number.
    pub fn place(&self, number: u32) -> Option<u8> {
        self.0.iter().position(|table| table.number == number).and_then(|i| u8::try_from(i).ok())
    }

    /// The table at a place that [`Self::place`] gave.
    pub fn get(&self, place: u8) -> Option<&Table> {
        self.0.get(usize::from(place))
    }
}

/// A table that some thread follows, for whoever shows it.
#[derive(Debug)]
pub struct Followed {
    /// Its number, kind and VRF.
    pub status: SourceStatus,
    /// Its counters.
    pub stats: Arc<Stats>,
    /// The queue of its thread, shared with that thread's other tables.
    pub feed: Option<Feed>,
}

impl Followed {
    /// How it does.
    pub fn status(&self) -> SourceStatus {
        let queue = self.feed.as_ref().map_or_else(FeedStats::default, Feed::stats);
        self.status.clone().with(&self.stats, &queue)
    }
}
