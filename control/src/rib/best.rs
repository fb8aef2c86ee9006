//! Which of a prefix's paths are used: administrative distance first, then BGP's order ([`super::best_path`]).

use super::attrs::{Own, Slot, Slots, Target};
use super::best_path::{Candidate, best_paths};
use super::sources::Sources;
use super::table::Path;
use crate::source::SourceKind;

/// Rank of a host route to a neighbour: below all that was learned for the same address.
const RANK_HOST: u16 = u16::MAX;

/// The rank of a path by what it is and whom it is from; lower is better. The router's own come first.
fn rank(path: Path, slot: &Slot, sources: &Sources) -> u16 {
    match slot.target {
        Target::Own(Own::Host(..)) => RANK_HOST,
        // Whatever it is at home, here it comes behind the VRF's own.
        _ if sources.get(path.source).kind == SourceKind::Leak => sources.rank(path.source, None),
        Target::Own(Own::Local) => 0,
        Target::Own(Own::Broadcast) => 1,
        Target::Own(Own::Glean(_)) => 2,
        Target::Discard | Target::Via(_) => {
            sources.rank(path.source, slot.attributes().and_then(|a| a.distance))
        }
    }
}

/// Puts the paths to use into `out`, in order of source and path id: none if none is eligible, several if they
/// are equal up to the tie-break (multipath).
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
        // The router's own paths have no attributes and are all kept: the first one is used.
        if out.iter().all(|path| slots.get(path.slot).attributes().is_some()) {
            let candidate = |path: &Path| {
                let attributes = slots.get(path.slot).attributes()?;
                let speaker = &sources.get(path.source).speaker;
                Some(Candidate { attributes, speaker, path_id: path.path_id })
            };
            best_paths(out, sources.max_paths(), candidate);
        }
        out.sort_unstable_by_key(|path| (path.source, path.path_id));
    }
}
