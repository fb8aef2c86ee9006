//! Resilient hashing: a group's members sit in a fixed number of buckets, and a change of members moves as few
//! buckets as it must.

use std::collections::BTreeMap;

use dataplane::ids::AdjId;

/// Most buckets of a group.
pub(super) const MAX_BUCKETS: usize = 256;
/// Least buckets of a group of several members.
const MIN_BUCKETS: usize = 64;

/// How many buckets a group of `members` needs: eight for each, in bounds, a power of two.
pub(super) fn size_for(members: usize) -> usize {
    if members <= 1 { 1 } else { (members * 8).next_power_of_two().clamp(MIN_BUCKETS, MAX_BUCKETS) }
}

/// Gives `buckets` to `members` (adjacency and weight, each once) in proportion to their weights.
///
/// A bucket moves only if its member is gone, or to bring a member that had none up to its share (rounded down,
/// at least one). With `level`, to be used when weights changed, every member is brought up to its share.
pub(super) fn assign(buckets: &mut [AdjId], members: &[(AdjId, u16)], level: bool) {
    let total: u64 = members.iter().map(|(_, weight)| u64::from(*weight).max(1)).sum();
    if total == 0 {
        buckets.fill(AdjId::NO_ROUTE);
        return;
    }
    let count = buckets.len() as u64;
    let index: BTreeMap<AdjId, usize> = members.iter().enumerate().map(|(i, (adj, _))| (*adj, i)).collect();
    // Shares in units of 1/total of a bucket, so that all is exact.
    let share: Vec<u64> = members.iter().map(|(_, weight)| u64::from(*weight).max(1) * count).collect();
    let floor = |i: usize| (share[i] / total).max(1);
    let mut have = vec![0u64; members.len()];
    let mut orphans = Vec::new();
    for (bucket, adj) in buckets.iter().enumerate() {
        match index.get(adj) {
            Some(i) => have[*i] += 1,
            None => orphans.push(bucket),
        }
    }
    let newcomers: Vec<usize> = (0..members.len()).filter(|i| level || have[*i] == 0).collect();
    for bucket in orphans {
        // The member that lacks most; the first of equals.
        let lack = |i: usize| i128::from(share[i]) - i128::from(have[i] * total);
        let Some(i) = (0..members.len()).max_by_key(|i| (lack(*i), std::cmp::Reverse(*i))) else { return };
        buckets[bucket] = members[i].0;
        have[i] += 1;
    }
    for i in newcomers {
        while have[i] < floor(i) {
            // The member that has most beyond its share gives, of those that stay at their floor or above it; for
            // a first bucket, of those that keep one, since very uneven weights can take up all floors.
            let excess = |j: usize| i128::from(have[j] * total) - i128::from(share[j]);
            let least = |j: usize| if have[i] == 0 { 1 } else { floor(j) };
            let donors = (0..members.len()).filter(|j| *j != i && have[*j] > least(*j));
            let Some(j) = donors.max_by_key(|j| excess(*j)) else { break };
            let taken = have[i] as usize;
            // Spread over the donor's buckets, so that its flows give evenly.
            let mut of_donor = (0..buckets.len()).filter(|b| buckets[*b] == members[j].0);
            let Some(bucket) = of_donor.nth(taken % have[j] as usize) else { break };
            buckets[bucket] = members[i].0;
            have[i] += 1;
            have[j] -= 1;
        }
    }
}

/// Blocks of buckets in one array, by size.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// First buckets of free blocks, by the power of two that is their size.
    free: BTreeMap<u32, Vec<u32>>,
}

impl Blocks {
    /// A block of `size` buckets (a power of two); the array grows if none is free.
    pub(super) fn take(&mut self, array: &mut Vec<AdjId>, size: u32) -> u32 {
        if let Some(first) = self.free.get_mut(&size).and_then(Vec::pop) {
            return first;
        }
        let first = array.len() as u32;
        array.resize(array.len() + size as usize, AdjId::NO_ROUTE);
        first
    }

    /// Gives a block back. Its buckets may be used again at once: the data plane reads buckets only through the
    /// groups of the same snapshot.
    pub(super) fn give(&mut self, array: &mut [AdjId], first: u32, size: u32) {
        array[first as usize..(first + size) as usize].fill(AdjId::NO_ROUTE);
        self.free.entry(size).or_default().push(first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn have(buckets: &[AdjId], adj: AdjId) -> usize {
        buckets.iter().filter(|b| **b == adj).count()
    }

    fn moved(before: &[AdjId], after: &[AdjId]) -> usize {
        before.iter().zip(after).filter(|(b, a)| b != a).count()
    }

    #[test]
    fn sizes() {
        assert_eq!([0, 1, 2, 8, 9, 16, 17, 64].map(size_for), [1, 1, 64, 64, 128, 128, 256, 256]);
    }

    #[test]
    fn weights_are_kept() {
        let mut buckets = [AdjId::NO_ROUTE; 64];
        assign(&mut buckets, &[(AdjId(5), 3), (AdjId(6), 1)], false);
        assert_eq!((have(&buckets, AdjId(5)), have(&buckets, AdjId(6))), (48, 16));
        assign(&mut buckets, &[(AdjId(5), 1), (AdjId(6), 1)], true);
        assert_eq!((have(&buckets, AdjId(5)), have(&buckets, AdjId(6))), (32, 32));
        assign(&mut buckets, &[], false);
        assert_eq!(have(&buckets, AdjId::NO_ROUTE), 64);
    }

    proptest! {
        #[test]
        fn changes_move_no_more_than_they_must(
            weights in prop::collection::vec(prop_oneof![1u16..5, 1u16..1000], 2..=64),
            toggles in prop::collection::vec(any::<prop::sample::Index>(), 1..60),
        ) {
            let mut buckets = vec![AdjId::NO_ROUTE; size_for(weights.len())];
            let mut present = vec![true; weights.len()];
            let members = |present: &[bool]| -> Vec<(AdjId, u16)> {
                let all = weights.iter().enumerate();
                all.filter(|(i, _)| present[*i]).map(|(i, w)| (AdjId(3 + i as u32), *w)).collect()
            };
            assign(&mut buckets, &members(&present), false);
            for toggle in toggles {
                let i = toggle.index(weights.len());
                let adj = AdjId(3 + i as u32);
                present[i] = !present[i];
                let now = members(&present);
                let before = buckets.clone();
                assign(&mut buckets, &now, false);
                if now.is_empty() {
                    prop_assert!(buckets.iter().all(|b| *b == AdjId::NO_ROUTE));
                    continue;
                }
                let total: usize = now.iter().map(|(_, w)| usize::from(*w)).sum();
                for (adj, _) in &now {
                    prop_assert!(have(&buckets, *adj) >= 1);
                }
                prop_assert!(buckets.iter().all(|b| now.iter().any(|(adj, _)| adj == b)));
                if before[0] == AdjId::NO_ROUTE {
                    continue;
                }
                if present[i] {
                    let share = |w: u16| (usize::from(w) * buckets.len() / total).max(1);
                    prop_assert_eq!(moved(&before, &buckets), have(&buckets, adj));
                    if now.iter().map(|(_, w)| share(*w)).sum::<usize>() <= buckets.len() {
                        prop_assert_eq!(have(&buckets, adj), share(weights[i]));
                    } else {
                        prop_assert!(have(&buckets, adj) <= share(weights[i]));
                    }
                } else {
                    // Only the buckets of the member that went.
                    prop_assert_eq!(moved(&before, &buckets), have(&before, adj));
                }
            }
        }

        #[test]
        fn equal_members_stay_balanced(
            members in 2usize..=64,
            toggles in prop::collection::vec(any::<prop::sample::Index>(), 1..200),
        ) {
            let mut buckets = vec![AdjId::NO_ROUTE; size_for(members)];
            let mut present = vec![true; members];
            for toggle in toggles {
                let i = toggle.index(members);
                present[i] = !present[i];
                let now: Vec<(AdjId, u16)> =
                    (0..members).filter(|i| present[*i]).map(|i| (AdjId(3 + i as u32), 1)).collect();
                assign(&mut buckets, &now, false);
                let counts = now.iter().map(|(adj, _)| have(&buckets, *adj));
                if let (Some(low), Some(high)) = (counts.clone().min(), counts.max()) {
                    prop_assert!(high - low <= 2, "{low} to {high}");
                }
            }
        }
    }
}
