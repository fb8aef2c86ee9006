//! Which of a prefix's paths are used: administrative distance first, then RFC 4271, section 9.1.2.2.

use super::attrs::{Own, Slot, Slots, Target};
use super::sources::Sources;
use super::table::Path;
use crate::source::Attributes;

/// Rank of a host route to a neighbour: below all that was learned for the same address.
const RANK_HOST: u16 = u16::MAX;

/// The rank of a path by what it is and whom it is from; lower is better. The router's own come first.
fn rank(path: Path, slot: &Slot, sources: &Sources) -> u16 {
    match slot.target {
        Target::Own(Own::Local) => 0,
        Target::Own(Own::Broadcast) => 1,
        Target::Own(Own::Glean(_)) => 2,
        Target::Own(Own::Host(..)) => RANK_HOST,
        Target::Discard | Target::Via(_) => sources.rank(path.source),
    }
}

/// What RFC 4271's steps before MED compare, so that smaller is better (9.1.1 and 9.1.2.2 a, b).
fn preference(attributes: &Attributes) -> impl Ord + use<> {
    (std::cmp::Reverse(attributes.local_pref), attributes.as_path_len, attributes.origin)
}

/// Puts the paths to use into `out`, in order of source and path id: none if none is eligible, several if they
/// are equal up to and including MED (multipath).
pub(super) fn select(
    paths: &[Path],
    slots: &Slots,
    sources: &Sources,
    eligible: impl Fn(Path, &Slot) -> bool,
    out: &mut Vec<Path>,
) {
    out.clear();
    if let [path] = paths {
        if eligible(*path, slots.get(path.slot)) {
            out.push(*path);
        }
        return;
    }
    let mut best = RANK_HOST;
    for path in paths {
        let slot = slots.get(path.slot);
        let rank = rank(*path, slot, sources);
        if rank > best || !eligible(*path, slot) {
            continue;
        }
        if rank < best {
            best = rank;
            out.clear();
        }
        out.push(*path);
    }
    if out.len() > 1 {
        decide(slots, out);
        out.sort_unstable_by_key(|path| (path.source, path.path_id));
    }
}

/// Keeps the best of paths that are equal in rank.
fn decide(slots: &Slots, out: &mut Vec<Path>) {
    // The router's own paths have no attributes and are all kept: the first one is used.
    let attributes = |path: &Path| slots.get(path.slot).attributes();
    let Some(best) = out.iter().filter_map(attributes).map(|a| preference(a)).min() else { return };
    out.retain(|path| attributes(path).is_none_or(|a| preference(a) == best));
    if out.len() < 2 {
        return;
    }
    // 9.1.2.2 c: a path goes if another from the same neighbouring AS has a lower MED.
    let mut meds: Vec<(Option<u32>, u32)> =
        out.iter().filter_map(attributes).map(|a| (a.as_path.first().copied(), a.med)).collect();
    meds.sort_unstable();
    meds.dedup_by_key(|(neighbour, _)| *neighbour);
    out.retain(|path| {
        attributes(path).is_none_or(|a| meds.binary_search(&(a.as_path.first().copied(), a.med)).is_ok())
    });
}
