//! Access to the fields of `rte_mbuf` by offset, without a call into C.
//!
//! Offsets and sizes come from `c/layout.h` as libclang evaluates it. The size must be that of the Rust type here,
//! and `shim.c` asserts that the C compiler agrees; otherwise the build fails.

use core::ptr::NonNull;

use crate::sys::{self, rte_mbuf};

const _: () = assert!(size_of::<rte_mbuf>() == sys::MBUF_SIZE as usize);
const _: () = assert!(align_of::<rte_mbuf>() == sys::MBUF_ALIGN as usize);

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident: $type:ty, $offset:ident, $size:ident;)*) => {$(
        const _: () = assert!(size_of::<$type>() == sys::$size as usize);
        const _: () = assert!((sys::$offset as usize).is_multiple_of(align_of::<$type>()));
        const _: () = assert!(sys::$offset as usize + size_of::<$type>() <= size_of::<rte_mbuf>());

        $(#[$doc])*
        ///
        /// The pointer is aligned and within the mbuf.
        #[inline(always)]
        #[allow(clippy::inline_always, reason = "one instruction each; the hot path is made of them")]
        pub(crate) fn $name(m: NonNull<rte_mbuf>) -> *mut $type {
            // `wrapping_byte_add`, since the pointer is not read here: that is for the caller to justify.
            m.as_ptr().wrapping_byte_add(sys::$offset as usize).cast()
        }
    )*};
}

fields! {
    /// Start of the segment's buffer.
    buf_addr: *mut u8, MBUF_OFFSET_buf_addr, MBUF_SIZE_buf_addr;
    /// Where the data begins, counted from `buf_addr`.
    data_off: u16, MBUF_OFFSET_data_off, MBUF_SIZE_data_off;
    /// Segments of the packet.
    nb_segs: u16, MBUF_OFFSET_nb_segs, MBUF_SIZE_nb_segs;
    /// Input port.
    port: u16, MBUF_OFFSET_port, MBUF_SIZE_port;
    /// Offload flags.
    ol_flags: u64, MBUF_OFFSET_ol_flags, MBUF_SIZE_ol_flags;
    /// Packet type as the NIC saw it.
    packet_type: u32, MBUF_OFFSET_packet_type, MBUF_SIZE_packet_type;
    /// Bytes of the packet, all segments together.
    pkt_len: u32, MBUF_OFFSET_pkt_len, MBUF_SIZE_pkt_len;
    /// Bytes of this segment.
    data_len: u16, MBUF_OFFSET_data_len, MBUF_SIZE_data_len;
    /// The (inner) tag's TCI.
    vlan_tci: u16, MBUF_OFFSET_vlan_tci, MBUF_SIZE_vlan_tci;
    /// The outer tag's TCI.
    vlan_tci_outer: u16, MBUF_OFFSET_vlan_tci_outer, MBUF_SIZE_vlan_tci_outer;
    /// Bytes of the segment's buffer.
    buf_len: u16, MBUF_OFFSET_buf_len, MBUF_SIZE_buf_len;
    /// Next segment, or null.
    next: *mut rte_mbuf, MBUF_OFFSET_next, MBUF_SIZE_next;
}

/// Whether the packet's length and the segment's lie side by side, so that one addition changes both.
const LENGTHS_ADJOIN: bool =
    cfg!(target_endian = "little") && sys::MBUF_OFFSET_data_len == sys::MBUF_OFFSET_pkt_len + 4;
const _: () = assert!(sys::MBUF_OFFSET_pkt_len as usize + 8 <= size_of::<rte_mbuf>());

/// Adds `growth` to the packet's length and the segment's.
///
/// # Safety
/// The mbuf is live and ours, and both lengths stay in their range.
#[inline(always)]
#[allow(clippy::inline_always, reason = "in every packet's way")]
pub(crate) unsafe fn lengthen(m: NonNull<rte_mbuf>, growth: i16) {
    // SAFETY: fields of a live mbuf. As neither sum leaves its field, none of the long addition's carries and borrows
    // get beyond one, and the two bytes behind stay as they are.
    unsafe {
        if LENGTHS_ADJOIN {
            let both = i64::from(growth).wrapping_mul(0x1_0000_0001);
            let lengths: *mut u64 = pkt_len(m).cast();
            lengths.write_unaligned(lengths.read_unaligned().wrapping_add_signed(both));
        } else {
            *data_len(m) = (*data_len(m)).wrapping_add_signed(growth);
            *pkt_len(m) = (*pkt_len(m)).wrapping_add_signed(growth.into());
        }
    }
}
