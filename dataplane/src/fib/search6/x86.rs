//! Which passes a processor gets.
#![allow(clippy::wildcard_imports)] // The look-up is one macro, and this module two more uses of it.

use super::super::processor::Processor;
use super::*;

#[inline]
pub(in super::super) fn batch(fib: &Fib6, addrs: &[u128], out: &mut [GroupId]) {
    let processor = Processor::this();
    if processor >= Processor::Avx512Popcnt {
        // SAFETY: the processor has the features that the function is compiled with.
        unsafe { with_avx512(fib, addrs, out) }
    } else if processor >= Processor::Avx2 {
        // SAFETY: as above.
        unsafe { with_avx2(fib, addrs, out) }
    } else {
        plain(fib, addrs, out);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq,avx2,popcnt,bmi1,bmi2")]
fn with_avx512(fib: &Fib6, addrs: &[u128], out: &mut [GroupId]) {
    let count = addrs.len().min(out.len()).min(BATCH);
    match count.div_ceil(GROUP) {
        0 => {}
        1 => groups::<1>(fib, &addrs[..count], &mut out[..count]),
        2 => groups::<2>(fib, &addrs[..count], &mut out[..count]),
        3 => groups::<3>(fib, &addrs[..count], &mut out[..count]),
        _ => groups::<4>(fib, &addrs[..count], &mut out[..count]),
    }
}

/// Looks up what is at most `G` groups of addresses, filled up where it is less.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq,avx2,popcnt,bmi1,bmi2")]
fn groups<const G: usize>(fib: &Fib6, addrs: &[u128], out: &mut [GroupId]) {
    let whole = (addrs.as_chunks().0.try_into(), out.as_chunks_mut().0.try_into());
    if let (Ok(addrs), Ok(out)) = whole {
        return avx512::search::<G>(fib, addrs, out);
    }
    let mut filled = [[0; GROUP]; G];
    filled.as_flattened_mut()[..addrs.len()].copy_from_slice(addrs);
    let mut found = [[GroupId(0); GROUP]; G];
    avx512::search::<G>(fib, &filled, &mut found);
    out.copy_from_slice(&found.as_flattened()[..out.len()]);
}

#[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
fn with_avx2(fib: &Fib6, addrs: &[u128], out: &mut [GroupId]) {
    full_or_not!(avx2, fib, addrs, out);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::super::v6::Fib6Writer;
    use super::*;
    use crate::grace::NoReaders;

    proptest! {
        #[test]
        fn wide_and_portable_look_ups_agree(
            routes in prop::collection::vec(
                (0u128..4096, 20u8..=128, prop::sample::select(vec![3u32, 9, 11, 0x7FFE, 0x7FFF, 1 << 20])),
                0..400,
            ),
            addrs in prop::collection::vec((0u128..4096, any::<u128>()), 0..=BATCH),
        ) {
            // Close together, so that trees grow deep.
            let spread = |n: u128| 0x2001_0db8 << 96 | n << 76 | (n * 0x9E37_79B9_7F4A_7C15) & ((1 << 76) - 1);
            let mut writer = Fib6Writer::new(Arc::new(NoReaders)).unwrap();
            for &(n, len, group) in &routes {
                let mask = u128::MAX << (128 - u32::from(len));
                writer.insert(spread(n) & mask, len, GroupId(group)).unwrap();
            }
            let fib = writer.reader();
            let addrs: Vec<u128> = addrs.iter().map(|&(n, low)| spread(n) ^ low >> (n % 128)).collect();
            let one_by_one: Vec<GroupId> = addrs.iter().map(|&addr| fib.lookup(addr)).collect();
            let mut out = vec![GroupId(u32::MAX); addrs.len()];
            plain(&fib, &addrs, &mut out);
            prop_assert_eq!(&out, &one_by_one);
            if Processor::this() >= Processor::Avx2 {
                out.fill(GroupId(u32::MAX));
                // SAFETY: the processor has the features.
                unsafe { with_avx2(&fib, &addrs, &mut out) };
                prop_assert_eq!(&out, &one_by_one);
            }
            if Processor::this() >= Processor::Avx512Popcnt {
                out.fill(GroupId(u32::MAX));
                // SAFETY: as above.
                unsafe { with_avx512(&fib, &addrs, &mut out) };
                prop_assert_eq!(&out, &one_by_one);
            }
        }
    }
}
