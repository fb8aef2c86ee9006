//! Default routes that are not used: those that lead over a Microsoft peering, from whatever source. Microsoft
//! announces its services' prefixes there; a default route would draw in all other traffic.

use std::collections::{BTreeSet, HashMap};

use dataplane::ids::{SubIfId, VrfId};

use super::Rib;
use super::attrs::Slot;
use super::commit::Work;
use super::prefix::{Prefix, V4, V6};
use super::table::Path;
use crate::prefix::Prefix as _;
use crate::source::{Family, SourceId};

/// A default route that is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedDefault {
    /// The table.
    pub vrf: VrfId,
    /// Its family.
    pub family: Family,
    /// Who announced it.
    pub source: SourceId,
    /// A sub-interface that it leads out of.
    pub sub_if: SubIfId,
}

/// Refusals that wait to be told of; each is counted.
const MOST: usize = 64;

/// Which default routes are not used.
#[derive(Default)]
pub(super) struct DefaultGuard {
    /// No default route leads out of these.
    links: BTreeSet<SubIfId>,
    /// Those refused at present, by source and path id.
    refused: HashMap<(VrfId, Family), Vec<(u16, u32)>>,
    news: Vec<RefusedDefault>,
    /// Next hops lead elsewhere now, and default routes have not been looked at since.
    again: bool,
}

impl DefaultGuard {
    /// Sets whether default routes may lead out of a sub-interface.
    pub(super) fn guard(&mut self, sub_if: SubIfId, guarded: bool) {
        if guarded {
            self.links.insert(sub_if)
        } else {
            self.links.remove(&sub_if)
        };
    }
}

impl Rib {
    /// Default routes that were refused since the last call, each once while it stands.
    pub fn refused_defaults(&mut self) -> Vec<RefusedDefault> {
        std::mem::take(&mut self.defaults.news)
    }

    /// A guarded sub-interface that a path of a default route leads out of.
    pub(super) fn guarded<K: Prefix>(&self, key: K, slot: &Slot) -> Option<SubIfId> {
        if key.len() > 0 || self.defaults.links.is_empty() {
            return None;
        }
        let mut hops = slot.legs().iter().flat_map(|leg| self.next_hops.hops(leg.nh));
        hops.find(|hop| self.defaults.links.contains(&hop.subif)).map(|hop| hop.subif)
    }

    /// Notes which paths of an entry are refused, if it is a default route.
    pub(super) fn note_refused<K: Prefix>(&mut self, vrf: VrfId, key: K) {
        if key.len() > 0 || self.defaults.links.is_empty() {
            return;
        }
        let entry = K::afi(&self.vrfs[usize::from(vrf.0)]).table.get(key);
        let paths = entry.map_or(&[][..], |entry| entry.paths.as_slice());
        let over = |path: &Path| Some((*path, self.guarded(key, self.slots.get(path.slot))?));
        let refused: Vec<(Path, SubIfId)> = paths.iter().filter_map(over).collect();
        let known = self.defaults.refused.entry((vrf, K::FAMILY)).or_default();
        for (path, sub_if) in &refused {
            if known.contains(&(path.source, path.path_id)) {
                continue;
            }
            let source = self.sources.get_mut(path.source);
            source.refused_defaults += 1;
            if self.defaults.news.len() < MOST {
                let (family, source) = (K::FAMILY, source.id);
                self.defaults.news.push(RefusedDefault { vrf, family, source, sub_if: *sub_if });
            }
        }
        *known = refused.iter().map(|(path, _)| (path.source, path.path_id)).collect();
    }

    /// Has default routes looked at again: next hops lead elsewhere now.
    pub(super) fn recheck_defaults(&mut self) {
        self.defaults.again = !self.defaults.links.is_empty();
    }

    /// Looks at the default routes, if they are to be looked at again, before all other entries that wait: none leads
    /// out where it must not while a full table is written.
    pub(super) fn write_defaults(&mut self, work: &mut Work) {
        if std::mem::take(&mut self.defaults.again) {
            for vrf in (0..self.vrfs.len()).map(|vrf| VrfId(vrf as u16)) {
                self.write_at_once(vrf, V4::new(V4::ZERO, 0), work);
                self.write_at_once(vrf, V6::new(V6::ZERO, 0), work);
            }
        }
    }
}
