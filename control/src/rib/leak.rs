//! Leaks: routes of one VRF that another uses as well.
//!
//! While an entry has a path that is used, it has a path in the other VRF's table as well, of a source of its own. If
//! that one is used there, it leads to the same group as the entry at home, whatever that is. The other VRF's own paths
//! win over it. What is leaked is not leaked on.

use dataplane::ids::VrfId;

use super::prefix::{AnyPrefix, Prefix, V4, V6};
use super::table::Path;
use super::{Rib, RibError};
use crate::config::model;
use crate::source::{SourceId, SourceKind};

/// What one VRF leaks to another.
pub(super) struct Leak {
    to: VrfId,
    /// The source that these paths have in the other VRF's table.
    source: u16,
    /// Which prefixes, and whether only these themselves.
    v4: Vec<(V4, bool)>,
    v6: Vec<(V6, bool)>,
}

impl Leak {
    fn has<K: Prefix>(&self, key: K) -> bool {
        K::leaked(self).iter().any(|(prefix, exact)| {
            if *exact {
                *prefix == key
            } else {
                prefix.len() <= key.len() && (prefix.first()..=prefix.last()).contains(&key.first())
            }
        })
    }

    /// Its IPv4 prefixes.
    pub(super) fn v4(&self) -> &[(V4, bool)] {
        &self.v4
    }

    /// Its IPv6 prefixes.
    pub(super) fn v6(&self) -> &[(V6, bool)] {
        &self.v6
    }
}

/// The source of what `from` leaks: no other source has such a number.
const fn source_of(from: VrfId) -> SourceId {
    SourceId(u32::MAX - from.0 as u32)
}

impl Rib {
    /// Whether a source is what a VRF leaks.
    pub fn is_leak(source: SourceId) -> bool {
        source.0 >= source_of(VrfId(u16::MAX)).0
    }

    /// Whose routes are another VRF's as well; before the first route.
    ///
    /// # Errors
    ///
    /// A VRF is not known; then nothing was changed.
    pub fn set_leaks(&mut self, leaks: &[model::Leak]) -> Result<(), RibError> {
        for leak in leaks {
            self.vrf(leak.from)?;
            self.vrf(leak.to)?;
        }
        for leak in leaks {
            self.sources.declare(source_of(leak.from), SourceKind::Leak);
            let source = self.sources.intern(source_of(leak.from), leak.to)?;
            let of_vrf = &mut self.leaks[usize::from(leak.from.0)];
            let at = of_vrf.iter().position(|known| known.to == leak.to).unwrap_or_else(|| {
                of_vrf.push(Leak { to: leak.to, source, v4: Vec::new(), v6: Vec::new() });
                of_vrf.len() - 1
            });
            for prefix in &leak.prefixes {
                match AnyPrefix::from(*prefix) {
                    AnyPrefix::V4(prefix) => of_vrf[at].v4.push((prefix, leak.exact)),
                    AnyPrefix::V6(prefix) => of_vrf[at].v6.push((prefix, leak.exact)),
                }
            }
        }
        Ok(())
    }

    /// Brings in line what is leaked of an entry whose paths `used` are.
    pub(super) fn leak<K: Prefix>(&mut self, vrf: VrfId, key: K, used: &[Path]) {
        let own = used.iter().find(|path| self.leaked_from(path).is_none()).map(|path| path.slot);
        self.of_each_leak(vrf, key, |rib, source, _| match own {
            Some(slot) => rib.put(source, key, 0, slot),
            None => rib.withdraw(source, key, 0),
        });
    }

    /// An entry leads somewhere else now: has those looked at that it is leaked to.
    pub(super) fn leads_elsewhere<K: Prefix>(&mut self, vrf: VrfId, key: K) {
        self.of_each_leak(vrf, key, |rib, _, to| K::afi_mut(&mut rib.vrfs[usize::from(to.0)]).mark(key));
    }

    /// The VRF whose route a path is, if it was leaked from another.
    pub(super) fn leaked_from(&self, path: &Path) -> Option<VrfId> {
        let source = self.sources.get(path.source);
        (source.kind == SourceKind::Leak).then(|| VrfId((u32::MAX - source.id.0) as u16))
    }

    fn of_each_leak<K: Prefix>(&mut self, vrf: VrfId, key: K, act: impl Fn(&mut Self, u16, VrfId)) {
        let from = usize::from(vrf.0);
        for at in 0..self.leaks[from].len() {
            let leak = &self.leaks[from][at];
            if leak.has(key) {
                let (source, to) = (leak.source, leak.to);
                act(self, source, to);
            }
        }
    }
}
