//! One packet in a DPDK buffer.

use core::ptr::NonNull;
use core::{fmt, slice};

use crate::{layout, sys};

mod oddities;
pub use oddities::Oddities;

/// A packet, owned: dropping it gives its buffers back to their pool.
///
/// It is one pointer, and so is `Option<Mbuf>`, so that arrays of them go to DPDK as they are. A packet may have
/// several segments; the byte views are of the first, which holds the headers.
#[repr(transparent)]
pub struct Mbuf(NonNull<sys::rte_mbuf>);

const _: () = assert!(size_of::<Option<Mbuf>>() == size_of::<*mut sys::rte_mbuf>());
const _: () = assert!(align_of::<Option<Mbuf>>() == align_of::<*mut sys::rte_mbuf>());

// What every SAFETY comment here rests on: an `Mbuf` is the only reference to a live packet (no clones are made, and
// ethdev hands out packets with a reference count of 1), its chain of `nb_segs` segments ends with a null `next`, and in
// each segment `data_off + data_len <= buf_len`, within the buffer at `buf_addr`. The buffer outlives it: see `Mempool`.

// SAFETY: the packet is owned, and giving it back is possible on any thread.
unsafe impl Send for Mbuf {}
// SAFETY: nothing can be changed through a shared reference.
unsafe impl Sync for Mbuf {}

/// Flags of tags that the NIC has taken off.
const STRIPPED: u64 = sys::DPDK_SYS_RX_VLAN_STRIPPED | sys::DPDK_SYS_RX_QINQ_STRIPPED;

/// What a NIC says of checksums. Of a tunnelled packet it may mean the inner header, and speak of the outer one only if
/// that is wrong.
const CHECKSUM: u64 = sys::DPDK_SYS_RX_IP_CKSUM_MASK | sys::DPDK_SYS_RX_OUTER_IP_CKSUM_BAD;

/// What a NIC says of a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// Nothing.
    Unknown,
    /// It is right.
    Right,
    /// It is wrong.
    Wrong,
}

impl Mbuf {
    /// Takes a packet over.
    ///
    /// # Safety
    /// `raw` must be a live packet that nobody else refers to.
    #[inline]
    pub(crate) unsafe fn from_raw(raw: NonNull<sys::rte_mbuf>) -> Self {
        Self(raw)
    }

    /// The first segment's data.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the data lies within the buffer, which is initialised memory and ours.
        unsafe { slice::from_raw_parts(data(self.0), usize::from(*layout::data_len(self.0))) }
    }

    /// The first segment's data, to be changed in place.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; the packet is borrowed exclusively, and nobody else refers to it.
        unsafe { slice::from_raw_parts_mut(data(self.0), usize::from(*layout::data_len(self.0))) }
    }

    /// Bytes of the whole packet.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "an empty packet is of no use to anyone")]
    pub fn len(&self) -> usize {
        // SAFETY: a field of a live mbuf.
        unsafe { *layout::pkt_len(self.0) as usize }
    }

    /// Segments of the packet: 1 in nearly all cases.
    #[inline]
    pub fn segments(&self) -> u16 {
        // SAFETY: a field of a live mbuf.
        unsafe { *layout::nb_segs(self.0) }
    }

    /// Bytes that [`prepend`](Self::prepend) can take.
    #[inline]
    pub fn headroom(&self) -> usize {
        // SAFETY: a field of a live mbuf.
        usize::from(unsafe { *layout::data_off(self.0) })
    }

    /// Bytes that [`append`](Self::append) can take.
    #[inline]
    pub fn tailroom(&self) -> usize {
        tailroom(last_segment(self.0))
    }

    /// The NIC's port number as DPDK counts (not the configuration's).
    #[inline]
    pub fn input_port(&self) -> u16 {
        // SAFETY: a field of a live mbuf.
        unsafe { *layout::port(self.0) }
    }

    /// The NIC's idea of the packet's type (`RTE_PTYPE_*`), 0 if it has none.
    #[inline]
    pub fn packet_type(&self) -> u32 {
        // SAFETY: a field of a live mbuf.
        unsafe { *layout::packet_type(self.0) }
    }

    /// Makes room for `n` bytes in front and returns them; their content is left over from earlier. `None`, and no
    /// change, when the headroom is too small.
    #[inline]
    pub fn prepend(&mut self, n: usize) -> Option<&mut [u8]> {
        if n > self.headroom() {
            return None;
        }
        // SAFETY: the new bytes lie between the buffer's start and the old data, so every field stays in its range:
        // `n` is at most `data_off`, and `data_len + n` at most `buf_len`.
        unsafe {
            *layout::data_off(self.0) -= n as u16;
            *layout::data_len(self.0) += n as u16;
            *layout::pkt_len(self.0) += n as u32;
            Some(slice::from_raw_parts_mut(data(self.0), n))
        }
    }

    /// Takes `n` bytes off the front. `false`, and no change, when the first segment has fewer.
    #[inline]
    #[must_use]
    pub fn trim_front(&mut self, n: usize) -> bool {
        if n > self.bytes().len() {
            return false;
        }
        // SAFETY: `n` is at most `data_len`, which is at most `pkt_len`, so no field wraps.
        unsafe {
            *layout::data_off(self.0) += n as u16;
            *layout::data_len(self.0) -= n as u16;
            *layout::pkt_len(self.0) -= n as u32;
        }
        true
    }

    /// Cuts the packet to `len` bytes, giving segments that are not needed back. No change when it is shorter.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        if len >= self.len() {
            return;
        }
        if self.segments() == 1 {
            // SAFETY: fields of a live mbuf; `len` is less than `data_len`, which is `pkt_len` of one segment.
            unsafe {
                *layout::data_len(self.0) = len as u16;
                *layout::pkt_len(self.0) = len as u32;
            }
        } else {
            self.truncate_chain(len);
        }
    }

    #[cold]
    fn truncate_chain(&mut self, len: usize) {
        let mut segment = self.0;
        let mut before = 0;
        let mut segments = 1;
        // SAFETY: walks the chain of live segments up to the one that holds byte `len`, or ends there; what follows
        // is cut off before it is given back, so it is freed once.
        unsafe {
            while before + usize::from(*layout::data_len(segment)) < len {
                let Some(next) = NonNull::new(*layout::next(segment)) else { return };
                before += usize::from(*layout::data_len(segment));
                segment = next;
                segments += 1;
            }
            *layout::data_len(segment) = (len - before) as u16;
            let rest = core::mem::replace(&mut *layout::next(segment), core::ptr::null_mut());
            *layout::nb_segs(self.0) = segments;
            *layout::pkt_len(self.0) = len as u32;
            if !rest.is_null() {
                sys::shim_pktmbuf_free(rest);
            }
        }
    }

    /// Moves the data's start by `back` bytes to the back and by `forth` to the front, makes the data `len` bytes long,
    /// within the headroom and the data of the first segment, and returns it. `None`, and no change, when it would not
    /// be within them.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "in every packet's way")]
    pub fn move_start(&mut self, back: usize, forth: usize, len: usize) -> Option<&mut [u8]> {
        // SAFETY: fields of a live mbuf. The new start is within the buffer and the new end not behind the old one,
        // so every field stays in its range, and the slice is of initialised memory that is ours.
        unsafe {
            let start = usize::from(*layout::data_off(self.0));
            let old = usize::from(*layout::data_len(self.0));
            let end = start + old;
            let start = start.checked_add(back)?.checked_sub(forth)?;
            if start.checked_add(len)? > end {
                return None;
            }
            if back != forth {
                *layout::data_off(self.0) = start as u16;
            }
            if len != old {
                *layout::data_len(self.0) = len as u16;
                // What other segments there are stays.
                *layout::pkt_len(self.0) =
                    (*layout::pkt_len(self.0)).wrapping_add(len.wrapping_sub(old) as u32);
            }
            let data = (*layout::buf_addr(self.0)).add(start);
            // Buffers are never at address 0; said, since a slice that could be there would have to be checked.
            core::hint::assert_unchecked(!data.is_null());
            Some(slice::from_raw_parts_mut(data, len))
        }
    }

    /// Makes the first segment's data `growth` bytes longer at its front, or shorter if it is negative, and returns the
    /// first `N` bytes of it. `None`, and no change, when there is no headroom, or the data would be shorter than that.
    /// `sparing`: nothing is written where `growth` is 0; worth it where that can be foreseen.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "in every packet's way")]
    pub fn regrow<const N: usize>(&mut self, growth: i16, sparing: bool) -> Option<&mut [u8; N]> {
        let least = const {
            assert!(N <= u16::MAX as usize, "more than any segment has");
            N as u16
        };
        // SAFETY: fields of a live mbuf. The new start is not before the buffer's and the end stays, so all fields stay in
        // their range, and the array is of initialised memory that is ours.
        unsafe {
            let start = i32::from(*layout::data_off(self.0)) - i32::from(growth);
            let len = i32::from(*layout::data_len(self.0)) + i32::from(growth);
            if start < 0 || len < i32::from(least) {
                return None;
            }
            if growth != 0 || !sparing {
                *layout::data_off(self.0) = start as u16;
                layout::lengthen(self.0, growth);
            }
            let array = (*layout::buf_addr(self.0)).add(start as usize);
            // Buffers are never at address 0; said, since an array that could be there would have to be checked.
            core::hint::assert_unchecked(!array.is_null());
            Some(&mut *array.cast())
        }
    }

    /// What the NIC says of the IPv4 header checksum.
    #[inline]
    pub fn checksum(&self) -> Checksum {
        match self.flags() & CHECKSUM {
            sys::DPDK_SYS_RX_IP_CKSUM_GOOD => Checksum::Right,
            sys::DPDK_SYS_RX_IP_CKSUM_BAD => Checksum::Wrong,
            _ => Checksum::Unknown,
        }
    }

    /// Adds `n` bytes at the end of the last segment and returns them; their content is left over from earlier.
    /// `None`, and no change, when there is no room.
    #[inline]
    pub fn append(&mut self, n: usize) -> Option<&mut [u8]> {
        let last = last_segment(self.0);
        if n > tailroom(last) {
            return None;
        }
        // SAFETY: the new bytes lie between the old data's end and the end of the last segment's buffer.
        unsafe {
            let end = data(last).add(usize::from(*layout::data_len(last)));
            *layout::data_len(last) += n as u16;
            *layout::pkt_len(self.0) += n as u32;
            Some(slice::from_raw_parts_mut(end, n))
        }
    }

    /// The TCI of the one tag that the NIC has taken off, if it has taken off exactly one (with two tags, the outer).
    #[inline]
    pub fn stripped_vlan(&self) -> Option<u16> {
        // SAFETY: fields of a live mbuf.
        unsafe {
            match self.stripped() {
                sys::DPDK_SYS_RX_VLAN_STRIPPED => Some(*layout::vlan_tci(self.0)),
                sys::DPDK_SYS_RX_QINQ_STRIPPED => Some(*layout::vlan_tci_outer(self.0)),
                _ => None,
            }
        }
    }

    /// The TCIs of the outer and the inner tag, if the NIC has taken off both.
    #[inline]
    pub fn stripped_qinq(&self) -> Option<(u16, u16)> {
        // SAFETY: fields of a live mbuf.
        (self.stripped() == STRIPPED)
            .then(|| unsafe { (*layout::vlan_tci_outer(self.0), *layout::vlan_tci(self.0)) })
    }

    /// The TCI of the tag that the NIC which sends it is to put on.
    #[inline]
    pub fn vlan_to_insert(&self) -> Option<u16> {
        // SAFETY: a field of a live mbuf.
        (self.flags() & sys::DPDK_SYS_TX_VLAN != 0).then(|| unsafe { *layout::vlan_tci(self.0) })
    }

    /// Has the NIC which sends it put on a tag of this TCI, under TPID 0x8100, before the ethertype; or none. What the
    /// NIC said of a tag that it took off is forgotten.
    #[inline]
    pub fn set_vlan_to_insert(&mut self, tci: Option<u16>) {
        // SAFETY: fields of a live mbuf that is ours.
        unsafe {
            *layout::ol_flags(self.0) &= !(STRIPPED | sys::DPDK_SYS_TX_VLAN);
            if let Some(tci) = tci {
                *layout::ol_flags(self.0) |= sys::DPDK_SYS_TX_VLAN;
                *layout::vlan_tci(self.0) = tci;
            }
        }
    }

    #[inline]
    fn stripped(&self) -> u64 {
        self.flags() & STRIPPED
    }

    #[inline]
    fn flags(&self) -> u64 {
        // SAFETY: a field of a live mbuf.
        unsafe { *layout::ol_flags(self.0) }
    }

    /// Drops the packets of a burst at once, which is cheaper than one by one. All slots are `None` afterwards.
    #[inline]
    pub fn free_burst(packets: &mut [Option<Self>]) {
        // SAFETY: `Option<Mbuf>` is a nullable pointer to an mbuf; null ones are skipped. Each packet is live and ours,
        // and the slots forget it below.
        unsafe { sys::rte_pktmbuf_free_bulk(packets.as_mut_ptr().cast(), packets.len() as u32) };
        for slot in packets {
            // SAFETY: the slot is valid for a write. It is not dropped: its packet is back in the pool.
            unsafe { core::ptr::write(slot, None) };
        }
    }

    /// Fetches the first cache line of the data ahead of its use.
    #[inline]
    pub fn prefetch(&self) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch is a hint; SSE is part of the x86-64 baseline.
        unsafe {
            core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(data(self.0).cast());
        }
    }

    /// Fetches the cache line of the byte so many before the data ahead of its use.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "one instruction")]
    pub fn prefetch_front(&self, count: usize) {
        let at = data(self.0).wrapping_sub(count);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch is a hint, whatever the address; SSE is part of the x86-64 baseline.
        unsafe {
            core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(at.cast());
        }
        let _ = at;
    }
}

/// Start of a segment's data.
#[inline]
fn data(segment: NonNull<sys::rte_mbuf>) -> *mut u8 {
    // SAFETY: fields of a live segment; `data_off` is at most `buf_len`.
    unsafe { (*layout::buf_addr(segment)).add(usize::from(*layout::data_off(segment))) }
}

#[inline]
fn last_segment(first: NonNull<sys::rte_mbuf>) -> NonNull<sys::rte_mbuf> {
    let mut segment = first;
    // SAFETY: walks the chain of live segments; `next` is null in the last.
    while let Some(next) = NonNull::new(unsafe { *layout::next(segment) }) {
        segment = next;
    }
    segment
}

#[inline]
fn tailroom(segment: NonNull<sys::rte_mbuf>) -> usize {
    // SAFETY: fields of a live segment.
    let (buffer, start, len) =
        unsafe { (*layout::buf_len(segment), *layout::data_off(segment), *layout::data_len(segment)) };
    usize::from(buffer.saturating_sub(start).saturating_sub(len))
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the packet is live, ours, and not used again.
        unsafe { sys::shim_pktmbuf_free(self.0.as_ptr()) };
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf")
            .field("len", &self.len())
            .field("segments", &self.segments())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::mem::ManuallyDrop;

    use super::*;

    /// What `ask` answers for a packet with these flags, whose TCIs are 7 (inner) and 9 (outer).
    fn with_flags<T>(flags: u64, ask: impl Fn(&mut Mbuf) -> T) -> T {
        let mut raw = sys::rte_mbuf::default();
        let pointer = NonNull::from(&mut raw);
        // SAFETY: fields of an mbuf on the stack, which has the true size and alignment.
        unsafe {
            *layout::ol_flags(pointer) = flags;
            *layout::vlan_tci(pointer) = 7;
            *layout::vlan_tci_outer(pointer) = 9;
        }
        // SAFETY: nobody else refers to it. It is of no pool, so it must not be dropped; only fields are read.
        let mut mbuf = ManuallyDrop::new(unsafe { Mbuf::from_raw(pointer) });
        ask(&mut mbuf)
    }

    #[test]
    fn a_tag_to_insert_takes_the_place_of_what_was_said_of_a_stripped_one() {
        let others = !(STRIPPED | sys::DPDK_SYS_TX_VLAN);
        let after = |flags, tci| {
            with_flags(flags, |mbuf| {
                mbuf.set_vlan_to_insert(tci);
                (mbuf.vlan_to_insert(), mbuf.stripped_vlan(), mbuf.flags() & others)
            })
        };
        for flags in [0, STRIPPED, !0, !STRIPPED] {
            assert_eq!(after(flags, Some(0x6005)), (Some(0x6005), None, flags & others));
            assert_eq!(after(flags, None), (None, None, flags & others));
        }
    }

    /// What the two questions after tags answer.
    fn stripped(flags: u64) -> (Option<u16>, Option<(u16, u16)>) {
        with_flags(flags, |mbuf| (mbuf.stripped_vlan(), mbuf.stripped_qinq()))
    }

    #[test]
    fn what_a_nic_says_of_checksums_is_told_apart() {
        let (right, wrong) = (sys::DPDK_SYS_RX_IP_CKSUM_GOOD, sys::DPDK_SYS_RX_IP_CKSUM_BAD);
        let outer = sys::DPDK_SYS_RX_OUTER_IP_CKSUM_BAD;
        for (flags, said) in [
            (0, Checksum::Unknown),
            (right, Checksum::Right),
            (wrong, Checksum::Wrong),
            (right | wrong, Checksum::Unknown),
            (!(right | wrong), Checksum::Unknown),
            (!(wrong | outer), Checksum::Right),
            (right | outer, Checksum::Unknown),
        ] {
            assert_eq!(with_flags(flags, |mbuf| mbuf.checksum()), said);
        }
    }

    #[test]
    fn stripped_tags_are_told_apart() {
        let (vlan, qinq) = (sys::DPDK_SYS_RX_VLAN_STRIPPED, sys::DPDK_SYS_RX_QINQ_STRIPPED);
        assert_ne!(vlan, qinq);
        assert_eq!(stripped(0), (None, None));
        assert_eq!(stripped(!(vlan | qinq)), (None, None));
        assert_eq!(stripped(vlan), (Some(7), None));
        assert_eq!(stripped(qinq), (Some(9), None));
        assert_eq!(stripped(!0), (None, Some((9, 7))));
    }
}
