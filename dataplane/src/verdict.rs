//! What becomes of a packet: forwarded, dropped for a named reason, or punted for a named reason.

/// Declares an enum of reasons: each a variant, a name for output, and one line for people.
macro_rules! reasons {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $text:literal, $help:literal;)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name {
            $(#[doc = $help] $variant,)+
        }

        impl $name {
            /// Every reason, in the order of their indices.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// Its name in `turnpike show drops`, the metrics and the manual.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// What it means, in one line.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)+ }
            }

            /// Its index into a counter array.
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

reasons! {
    /// Why a packet ended here.
    DropReason {
        FrameTooShort = "frame_too_short", "The frame ends within its Ethernet header or tags.";
        MultiSegment = "multi_segment", "The frame came in several buffers; raise the port's MTU or buffer size.";
        UnknownTag = "unknown_tag", "No sub-interface of the port has these tags, or one has them with another TPID.";
        TooManyTags = "too_many_tags", "More than two VLAN tags.";
        UnknownEthertype = "unknown_ethertype", "Neither IPv4, IPv6, ARP nor a control protocol.";
        WrongDestinationMac = "wrong_destination_mac", "Unicast to a MAC address that is not the sub-interface's.";
        LinkBroadcast = "link_broadcast", "An IP unicast in a link-layer broadcast or multicast (RFC 1812, section 5.3.4).";
        Ipv4Header = "ipv4_header", "IPv4 version or header length is wrong, or the packet ends within its header.";
        Ipv4Length = "ipv4_length", "IPv4 total length is smaller than the header or larger than what arrived.";
        Ipv4Checksum = "ipv4_checksum", "IPv4 header checksum is wrong.";
        Ipv6Header = "ipv6_header", "IPv6 version is wrong, or the packet ends within its header.";
        Ipv6Length = "ipv6_length", "IPv6 payload length is larger than what arrived.";
        MartianSource = "martian_source", "A source address that no packet may have (RFC 1812, section 5.3.7; RFC 4291).";
        MartianDestination = "martian_destination", "A destination address that must not be forwarded (RFC 1812, section 5.3.7; RFC 4291).";
        LinkLocalSource = "link_local_source", "From a link-local address to beyond the link (RFC 4291, section 2.5.6; RFC 3927, section 2.7).";
        LinkLocalDestination = "link_local_destination", "To an IPv4 link-local address that is not ours (RFC 3927, section 2.7).";
        SourceRoute = "source_route", "An IPv4 source route, loose or strict; they are not followed (RFC 7126, sections 4.3 and 4.4).";
        ReversePath = "reverse_path", "No route leads back to the source, or with strict checks none by the sub-interface it came in on (RFC 3704).";
        PrivateSource = "private_source", "From a private or shared address, out of a sub-interface that such must not leave by (RFC 1918, RFC 6598, RFC 4193).";
        AclDeniedIn = "acl_denied_in", "Denied by the access list for what comes in by its sub-interface.";
        AclDeniedOut = "acl_denied_out", "Denied by the access list for what goes out by the sub-interface that its route leads to.";
        NoRoute = "no_route", "No route covers the destination, and the sender is told of others already.";
        DiscardRoute = "discard_route", "The destination is under a discard route.";
        InterfaceDown = "interface_down", "The route leads to a port or sub-interface that is not there.";
        NoHeadroom = "no_headroom", "No room in the buffer for the new L2 header.";
        TxQueueFull = "tx_queue_full", "The egress port's TX queue had no room.";
        HandOverFull = "hand_over_full", "For another worker by its flow, but that worker's inbox was full, or it had ended.";
        PuntPoliced = "punt_policed", "For the control thread, over the rate of its reason.";
        PuntRingFull = "punt_ring_full", "For the control thread, but its ring was full.";
    }
}

reasons! {
    /// Why a packet goes to the control thread.
    PuntReason {
        Arp = "arp", "ARP.";
        NeighbourDiscovery = "neighbour_discovery", "IPv6 neighbour discovery (ICMPv6 types 133 to 137).";
        Bgp = "bgp", "BGP to one of our addresses (TCP port 179).";
        Bfd = "bfd", "BFD to one of our addresses (UDP ports 3784, 3785 and 4784).";
        Local = "local", "To one of our addresses, other than the above.";
        Multicast = "multicast", "To a multicast or broadcast address.";
        Unresolved = "unresolved", "The next hop's MAC address is not known yet.";
        TtlExpired = "ttl_expired", "TTL or hop limit would reach zero.";
        ExceedsMtu = "exceeds_mtu", "Larger than the egress sub-interface's MTU, and not to be fragmented.";
        Fragment = "fragment", "IPv4, larger than the egress sub-interface's MTU, to be fragmented.";
        NoRoute = "no_route", "No route covers the destination: its sender is told.";
        IpOptions = "ip_options", "IPv4 options that a router has to act on, or that are malformed (RFC 1812, section 4.2.2.1).";
        HopByHop = "hop_by_hop", "IPv6 hop-by-hop options (RFC 8200, section 4.3).";
        Prohibited = "prohibited", "Refused by a guard or an access list, counted as dropped by its reason: its sender is told.";
        LinkControl = "link_control", "A link-layer control protocol (LLDP, slow protocols).";
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Goes on to the next stage, and in the end out of a port.
    Forward,
    /// Ends here.
    Drop(DropReason),
    /// Goes to the control thread.
    Punt(PuntReason),
    /// Ends here, counted as dropped; its sender is told, as far as the budget of [`PuntReason::Prohibited`] goes.
    Refuse(DropReason),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_indices_dense() {
        let names: HashSet<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), DropReason::COUNT);
        for (i, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), i);
        }
        for (i, reason) in PuntReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), i);
        }
        assert_eq!(std::mem::size_of::<Verdict>(), 2);
    }
}
