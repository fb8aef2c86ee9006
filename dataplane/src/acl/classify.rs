//! The compiled rules of one family, and how a burst's packets find the first that matches each.

use crate::burst::BURST;
#[cfg(all(target_arch = "x86_64", not(miri)))]
use crate::worker::Instructions;

use super::address::Address;
use super::common::{common, common_but, each};
use super::compile::{AclError, Cut, Field, OfFamily, Rows, Starts, address, check, cut, narrow};
use super::ends::{DENIED, Ends, counts, denied, ends};
use super::keys::{KINDS, Keys};
use super::ranks::Ranks;
use super::rows::{PER_ROW, Row, Wide};
use super::rule::Rule;

/// The rules of one family, compiled. `A`: `u32` for IPv4, `u128` for IPv6.
#[derive(Debug)]
pub struct Classifier<A: Address> {
    /// Kinds, each with every interval of the first port if that has few.
    kind: Starts,
    kind_port: Option<Ranks<u16>>,
    /// Intervals of the first port to a kind.
    per_kind: u16,
    source: Option<Field<A::Search>>,
    destination: Option<Field<A::Search>>,
    /// The first port, if it has many intervals.
    source_port: Option<Field<Option<Ranks<u16>>>>,
    destination_port: Option<Field<Option<Ranks<u16>>>>,
    dscp: Option<Starts>,
    outer_vlan: Option<Field<Option<Ranks<u16>>>>,
    inner_vlan: Option<Field<Option<Ranks<u16>>>>,
    /// The rows of all fields.
    rows: Box<[Row]>,
    /// Words of a row.
    words: usize,
    /// By line and bit: what [`Ends`] says of a rule.
    ends: Box<[[u16; PER_ROW]]>,
    /// The bits of the rules that only count, if there are any.
    pub(super) counts: Option<Wide>,
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    instructions: Instructions,
}

/// Most fields that rules look at.
const FIELDS: usize = 8;
/// Most intervals of a port that are put together with kinds.
const PORTS_OF_KIND: usize = 64;

/// The interval of each packet in each field in use, and where these intervals' rows begin. Fields beyond those in use are
/// the first one again.
struct Found<'a> {
    used: usize,
    /// Each at most the last of the field.
    intervals: [[u16; BURST]; FIELDS],
    starts: [&'a Starts; FIELDS],
}

impl<'a> Found<'a> {
    /// The place for the intervals of the next field.
    #[inline(always)]
    fn next(&mut self, starts: &'a Starts) -> &mut [u16; BURST] {
        let at = self.used & (FIELDS - 1);
        self.starts[at] = starts;
        self.used = at + 1;
        &mut self.intervals[at]
    }

    /// Finds a field of 16 bits, if it is there.
    #[inline(always)]
    fn narrow<const WIDE: bool>(
        &mut self,
        field: Option<&'a Field<Option<Ranks<u16>>>>,
        values: &[u16; BURST],
        len: usize,
    ) {
        let Some(field) = field else { return };
        let into = self.next(&field.starts);
        match &field.search {
            Some(ranks) => ranks.search::<WIDE>(values, len, into),
            None => *into = *values,
        }
    }
}

impl<A: Address> Classifier<A> {
    /// Compiles the rules that can match this family.
    pub(super) fn new(rules: &[Rule], counters: &[u16]) -> Result<Self, AclError> {
        check(rules, counters)?;
        let of = OfFamily::new(rules, A::FAMILY);
        let mut rows = Rows::new(&of);
        // Source ports, and ICMP's types with codes, are the same two bytes.
        let first_port =
            |rule: &Rule| if rule.icmp.is_empty() { rule.source_ports.clone() } else { rule.icmp.clone() };
        let first_port = cut(&of, first_port)?;
        let few = |cut: &Cut| cut.numbers.len() <= PORTS_OF_KIND;
        let (with_kind, source_port) = match first_port {
            Some((ends, cut)) if few(&cut) => (Some((ends, cut)), None),
            many => (None, many),
        };
        let mut narrow = |found: Option<(Vec<u16>, Cut)>| {
            found.map(|(ends, cut)| narrow(&mut rows, &ends, &cut)).transpose()
        };
        let (source_port, destination_port) =
            (narrow(source_port)?, narrow(cut(&of, |rule| rule.destination_ports.clone())?)?);
        let (outer_vlan, inner_vlan) = (
            narrow(cut(&of, |rule| rule.outer_vlans.clone())?)?,
            narrow(cut(&of, |rule| rule.inner_vlans.clone())?)?,
        );
        let this = Self {
            kind: of.kinds(&mut rows, with_kind.as_ref().map(|(_, cut)| cut))?,
            per_kind: with_kind.as_ref().map_or(1, |(_, cut)| cut.numbers.len() as u16),
            kind_port: with_kind.map(|(ends, _)| Ranks::new(&ends)),
            source: address::<A>(&of, &mut rows, |rule| rule.source.as_ref())?,
            destination: address::<A>(&of, &mut rows, |rule| rule.destination.as_ref())?,
            source_port,
            destination_port,
            dscp: of.dscp(&mut rows)?,
            outer_vlan,
            inner_vlan,
            rows: rows.lines(),
            words: of.words(),
            ends: ends(&of, rules, counters),
            counts: counts(&of),
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            instructions: Instructions::of_this_processor(),
        };
        if this.memory() > super::MAX_BYTES { Err(AclError::TooLarge) } else { Ok(this) }
    }

    /// Bytes that it takes.
    pub fn memory(&self) -> usize {
        let narrow = [&self.source_port, &self.destination_port, &self.outer_vlan, &self.inner_vlan];
        let addresses = [&self.source, &self.destination];
        addresses.into_iter().flatten().map(|field| field.memory(A::memory)).sum::<usize>()
            + narrow
                .into_iter()
                .flatten()
                .map(|field| field.memory(|ranks| ranks.as_ref().map_or(0, Ranks::memory)))
                .sum::<usize>()
            + self.kind_port.as_ref().map_or(0, Ranks::memory)
            + [Some(&self.kind), self.dscp.as_ref()].into_iter().flatten().map(Starts::memory).sum::<usize>()
            + size_of_val(&*self.rows)
            + size_of_val(&*self.ends)
    }

    /// Whether it looks at the packets' tags.
    #[inline(always)]
    pub fn asks_for_tags(&self) -> bool {
        self.outer_vlan.is_some() || self.inner_vlan.is_some()
    }

    /// Finds the first rule that matches each packet. Returns those that are denied, as bits. `counted` is called with
    /// the packet and the counter of each rule on the way that only counts.
    #[inline(always)]
    pub fn classify(&self, keys: &Keys<A>, ends: &mut Ends, counted: impl FnMut(usize, u16)) -> u64 {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            // SAFETY: `instructions` says that the processor has the features that the functions are compiled with.
            #[allow(unsafe_code)]
            unsafe {
                match (self.instructions, &self.counts) {
                    (Instructions::Avx512, None) => return self.with_avx512(keys, ends),
                    (Instructions::Avx512, Some(some)) => {
                        return self.counting_with_avx512(keys, ends, some, counted);
                    }
                    (Instructions::Avx2, None) => return self.with_avx2(keys, ends),
                    (Instructions::Avx2, Some(some)) => {
                        return self.counting_with_avx2(keys, ends, some, counted);
                    }
                    (Instructions::Baseline, _) => {}
                }
            }
        }
        self.portable(keys, ends, counted)
    }

    /// The same with the instructions that every processor has.
    #[inline(always)]
    pub(super) fn portable(&self, keys: &Keys<A>, ends: &mut Ends, counted: impl FnMut(usize, u16)) -> u64 {
        match &self.counts {
            None => self.plain::<false>(keys, ends),
            Some(counts) => self.counting::<false>(keys, ends, counts, counted),
        }
    }

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn with_avx512(&self, keys: &Keys<A>, ends: &mut Ends) -> u64 {
        self.plain::<true>(keys, ends)
    }

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn counting_with_avx512(
        &self,
        keys: &Keys<A>,
        ends: &mut Ends,
        counts: &[Row],
        counted: impl FnMut(usize, u16),
    ) -> u64 {
        self.counting::<true>(keys, ends, counts, counted)
    }

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    pub(super) fn with_avx2(&self, keys: &Keys<A>, ends: &mut Ends) -> u64 {
        self.plain::<false>(keys, ends)
    }

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    pub(super) fn counting_with_avx2(
        &self,
        keys: &Keys<A>,
        ends: &mut Ends,
        counts: &[Row],
        counted: impl FnMut(usize, u16),
    ) -> u64 {
        self.counting::<false>(keys, ends, counts, counted)
    }

    /// Finds the intervals of all packets, maybe of more than there are.
    #[inline(always)]
    fn find<const WIDE: bool>(&self, keys: &Keys<A>, len: usize) -> Found<'_> {
        let mut found = Found { used: 0, intervals: [[0; BURST]; FIELDS], starts: [&self.kind; FIELDS] };
        let kinds = found.next(&self.kind);
        if let Some(ports) = &self.kind_port {
            ports.search::<WIDE>(&keys.source_port, len, kinds);
        }
        for (into, kind) in kinds.iter_mut().zip(keys.kind) {
            *into += kind.min(KINDS as u16 - 1) * self.per_kind;
        }
        if let Some(field) = &self.source {
            A::find::<WIDE>(&field.search, &keys.source, len, found.next(&field.starts));
        }
        if let Some(field) = &self.destination {
            A::find::<WIDE>(&field.search, &keys.destination, len, found.next(&field.starts));
        }
        found.narrow::<WIDE>(self.destination_port.as_ref(), &keys.destination_port, len);
        found.narrow::<WIDE>(self.source_port.as_ref(), &keys.source_port, len);
        if let Some(starts) = &self.dscp {
            *found.next(starts) = keys.dscp.map(|dscp| u16::from(dscp & 63));
        }
        found.narrow::<WIDE>(self.outer_vlan.as_ref(), &keys.outer_vlan, len);
        found.narrow::<WIDE>(self.inner_vlan.as_ref(), &keys.inner_vlan, len);
        for unused in found.used..FIELDS {
            found.intervals[unused] = found.intervals[0];
        }
        found
    }

    #[inline(always)]
    fn plain<const WIDE: bool>(&self, keys: &Keys<A>, ends: &mut Ends) -> u64 {
        let len = keys.len.min(BURST);
        let found = self.find::<WIDE>(keys, len);
        match found.used {
            ..=3 => self.first_of::<WIDE, 3>(len, &found, ends),
            4 => self.first_of::<WIDE, 4>(len, &found, ends),
            5 => self.first_of::<WIDE, 5>(len, &found, ends),
            _ => self.first_of::<WIDE, FIELDS>(len, &found, ends),
        }
        denied::<WIDE>(ends, len)
    }

    #[inline(always)]
    fn counting<const WIDE: bool>(
        &self,
        keys: &Keys<A>,
        ends: &mut Ends,
        counts: &[Row],
        counted: impl FnMut(usize, u16),
    ) -> u64 {
        let len = keys.len.min(BURST);
        let found = self.find::<WIDE>(keys, len);
        match (found.used, self.words) {
            (..=4, 1) => self.first_counting::<WIDE, 4, 1>(len, &found, ends, counts, counted),
            (..=4, 4) => self.first_counting::<WIDE, 4, 4>(len, &found, ends, counts, counted),
            (..=4, _) => self.first_counting::<WIDE, 4, 8>(len, &found, ends, counts, counted),
            (_, 1) => self.first_counting::<WIDE, FIELDS, 1>(len, &found, ends, counts, counted),
            (_, 4) => self.first_counting::<WIDE, FIELDS, 4>(len, &found, ends, counts, counted),
            _ => self.first_counting::<WIDE, FIELDS, 8>(len, &found, ends, counts, counted),
        }
        denied::<WIDE>(ends, len)
    }

    /// Finds the first rule of each packet, with up to `USED` fields in use.
    #[inline(always)]
    fn first_of<const WIDE: bool, const USED: usize>(&self, len: usize, found: &Found<'_>, ends: &mut Ends) {
        match self.words {
            1 => self.first::<WIDE, USED, 1, 1>(len, found, ends),
            4 => self.first::<WIDE, USED, 4, 1>(len, found, ends),
            8 => self.first::<WIDE, USED, 8, 1>(len, found, ends),
            16 => self.first::<WIDE, USED, 8, 2>(len, found, ends),
            _ => self.first::<WIDE, USED, 8, 0>(len, found, ends),
        }
    }

    /// `WORDS` words of a packet's row in each field.
    ///
    /// # Safety
    /// `found` is from this list, and a row has these words, from `line * WORDS` on.
    #[inline(always)]
    #[allow(unsafe_code)] // Each start is that of a whole row: `Rows::add` sees to it.
    unsafe fn rows<const USED: usize, const WORDS: usize>(
        &self,
        found: &Found<'_>,
        at: usize,
        line: usize,
    ) -> [&[u64; WORDS]; USED] {
        std::array::from_fn(|of| {
            let interval = found.intervals[of % FIELDS][at % BURST];
            // SAFETY: intervals are at most the last of their field, so `start` is where a row begins; the rest is the
            // caller's promise.
            unsafe {
                let start = found.starts[of % FIELDS].get_unchecked(interval);
                &*self.rows.as_ptr().byte_add(start as usize).cast::<[u64; WORDS]>().add(line)
            }
        })
    }

    /// Finds the lowest bit that the rows of each packet have in common. `WORDS`: so many words a line; `LINES`: so many
    /// lines a row; 0: any number.
    #[inline(always)]
    fn first<const WIDE: bool, const USED: usize, const WORDS: usize, const LINES: usize>(
        &self,
        len: usize,
        found: &Found<'_>,
        ends: &mut Ends,
    ) {
        for (at, end) in ends.iter_mut().enumerate().take(len) {
            let pick = |line: usize| {
                // SAFETY: `line` is less than the lines of a row.
                #[allow(unsafe_code)]
                let rows = unsafe { self.rows::<USED, WORDS>(found, at, line) };
                common::<WIDE, USED, WORDS>(rows)
            };
            let (mut line, mut bit) = (0, pick(0));
            if LINES == 2 {
                // Without a branch, since either is as likely.
                let (second, none) = (pick(1), bit == PER_ROW);
                (line, bit) = (usize::from(none), if none { second } else { bit });
            } else if LINES == 0 {
                while bit == PER_ROW && line + 1 < self.ends.len() {
                    line += 1;
                    bit = pick(line);
                }
            }
            // Each row has the bit of the end, so that there is one.
            *end = self.ends.get(line).map_or(DENIED, |ends| ends[bit % PER_ROW]);
        }
    }

    /// The same where rules count packets on their way.
    #[inline(always)]
    fn first_counting<const WIDE: bool, const USED: usize, const WORDS: usize>(
        &self,
        len: usize,
        found: &Found<'_>,
        ends: &mut Ends,
        counts: &[Row],
        mut counted: impl FnMut(usize, u16),
    ) {
        for (at, end) in ends.iter_mut().enumerate().take(len) {
            *end = DENIED;
            for (line, (counts, numbers)) in counts.iter().zip(&self.ends).enumerate() {
                // SAFETY: there are as many lines in `counts` as in a row.
                #[allow(unsafe_code)]
                let rows = unsafe { self.rows::<USED, WORDS>(found, at, line) };
                let (bit, hits) = common_but::<WIDE, USED, WORDS>(rows, counts);
                if let Some((words, hits)) = hits {
                    each(words, &hits, bit, |bit| counted(at, numbers[bit % PER_ROW]));
                }
                if bit < PER_ROW {
                    *end = numbers[bit];
                    break;
                }
            }
        }
    }
}
