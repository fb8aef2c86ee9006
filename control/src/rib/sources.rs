//! The sources that the RIB knows: kind, distance, and the generations by which stale routes are told.

use std::collections::{BTreeMap, HashMap};

use dataplane::ids::VrfId;

use super::RibError;
use crate::config::model;
use crate::source::{Family, SourceId, SourceKind, Speaker};

/// Paths of one source and family.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    pub total: usize,
    /// How many of them are of an earlier generation.
    pub stale: usize,
}

/// One source in one VRF.
#[derive(Debug)]
pub(super) struct Source {
    pub id: SourceId,
    pub vrf: VrfId,
    pub kind: SourceKind,
    /// Goes up when the source comes or goes: what has another one is stale.
    pub generation: u64,
    /// Who speaks, if it is a BGP session.
    pub speaker: Speaker,
    /// Default routes of it that were refused.
    pub refused_defaults: u64,
    rank: u16,
    counts: [Count; 2],
}

impl Source {
    /// What paths of the present generation carry of its number.
    pub(super) fn stamp(&self) -> u16 {
        self.generation as u16
    }

    pub(super) fn count(&self, family: Family) -> Count {
        self.counts[family as usize]
    }

    pub(super) fn count_mut(&mut self, family: Family) -> &mut Count {
        &mut self.counts[family as usize]
    }
}

/// All sources.
pub(super) struct Sources {
    distances: model::Sources,
    kinds: BTreeMap<SourceId, SourceKind>,
    /// By index; one for each (source, VRF) that announced something.
    list: Vec<Source>,
    index: HashMap<(SourceId, VrfId), u16>,
}

impl Sources {
    pub(super) fn new(distances: model::Sources) -> Self {
        Self { distances, kinds: BTreeMap::new(), list: Vec::new(), index: HashMap::new() }
    }

    pub(super) fn declare(&mut self, id: SourceId, kind: SourceKind) {
        self.kinds.insert(id, kind);
    }

    /// Administrative distance of a kind.
    pub(super) fn distance(&self, kind: SourceKind) -> u8 {
        match kind {
            SourceKind::Connected => 0,
            SourceKind::Static => self.distances.static_distance,
            SourceKind::Bgp => self.distances.bgp_distance,
            SourceKind::Fpm => self.distances.fpm_distance,
            SourceKind::Netlink => self.distances.netlink_distance,
            SourceKind::Leak => u8::MAX,
        }
    }

    /// Rank of a learned path among others: by distance, and by kind where distances are equal, so that paths
    /// of different kinds never mix. 16 and more. `distance` is the path's own, where a filter gave it one.
    pub(super) fn rank(&self, index: u16, distance: Option<u8>) -> u16 {
        let source = &self.list[usize::from(index)];
        distance.map_or(source.rank, |distance| rank(distance, source.kind))
    }

    /// How many equal paths of a prefix are used together.
    pub(super) fn max_paths(&self) -> usize {
        usize::from(self.distances.max_paths)
    }

    pub(super) fn get(&self, index: u16) -> &Source {
        &self.list[usize::from(index)]
    }

    pub(super) fn get_mut(&mut self, index: u16) -> &mut Source {
        &mut self.list[usize::from(index)]
    }

    /// The index of a source in a VRF.
    pub(super) fn intern(&mut self, id: SourceId, vrf: VrfId) -> Result<u16, RibError> {
        if let Some(index) = self.index.get(&(id, vrf)) {
            return Ok(*index);
        }
        let kind = *self.kinds.get(&id).ok_or(RibError::UnknownSource { source_id: id.0 })?;
        let index = u16::try_from(self.list.len()).map_err(|_| RibError::TooManySources)?;
        let rank = rank(self.distance(kind), kind);
        let speaker = Speaker::default();
        self.list.push(Source {
            id,
            vrf,
            kind,
            generation: 0,
            speaker,
            refused_defaults: 0,
            rank,
            counts: [Count::default(); 2],
        });
        self.index.insert((id, vrf), index);
        Ok(index)
    }

    /// The indices of a source in all VRFs.
    pub(super) fn indices(&self, id: SourceId) -> Vec<u16> {
        (0..self.list.len() as u16).filter(|i| self.list[usize::from(*i)].id == id).collect()
    }

    /// All sources with their indices.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Source> {
        self.list.iter()
    }
}

fn rank(distance: u8, kind: SourceKind) -> u16 {
    let order = match kind {
        SourceKind::Connected => 0,
        SourceKind::Static => 1,
        SourceKind::Bgp => 2,
        SourceKind::Fpm => 3,
        SourceKind::Netlink => 4,
        SourceKind::Leak => 5,
    };
    16 + 8 * u16::from(distance) + order
}
