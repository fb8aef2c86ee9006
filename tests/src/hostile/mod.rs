//! Steps on the bench: frames that are exactly right, frames that are wrong in every way, floods, and peers that
//! misbehave. Each ends with turnpike unharmed and its buffers all free again.

pub mod api;
pub mod bgp;
pub mod floods;
pub mod golden;
pub mod metrics;
pub mod neighbours;
pub mod wrong;

use crate::bench::Bench;
use crate::suite::Step;

/// All of them, in order.
pub const STEPS: &[Step<Bench>] = &[
    ("every_tag_combination", golden::every_tag_combination),
    ("priority_tags", golden::priority_tags),
    ("padding_is_trimmed", golden::padding_is_trimmed),
    ("options_and_extensions", golden::options_and_extensions),
    ("gratuitous_arp_moves_without_loss", neighbours::gratuitous_arp_moves_without_loss),
    (
        "an_absent_neighbour_is_asked_for_at_a_bounded_rate",
        neighbours::an_absent_neighbour_is_asked_for_at_a_bounded_rate,
    ),
    ("a_wrong_far_address_is_named", neighbours::a_wrong_far_address_is_named),
    ("truncated_frames", wrong::truncated_frames),
    ("wrong_ipv4_headers", wrong::wrong_ipv4_headers),
    ("wrong_ipv6_headers", wrong::wrong_ipv6_headers),
    ("unknown_tags", wrong::unknown_tags),
    ("wrong_link_headers", wrong::wrong_link_headers),
    ("martians", wrong::martians),
    ("no_route", wrong::no_route),
    ("ttl_zero_and_one", wrong::ttl_zero_and_one),
    ("too_big", wrong::too_big),
    ("the_ports_word_on_checksums", wrong::the_ports_word_on_checksums),
    ("mutated_frames", floods::mutated_frames),
    ("flood_of_unresolved", floods::flood_of_unresolved),
    ("flood_of_local", floods::flood_of_local),
    ("flood_of_arp", floods::flood_of_arp),
    ("bgp_from_a_stranger", bgp::from_a_stranger),
    ("bgp_garbage", bgp::garbage),
    ("bgp_wrong_opens", bgp::wrong_opens),
    ("bgp_half_a_message_then_silence", bgp::half_a_message_then_silence),
    ("bgp_random_bytes_after_open", bgp::random_bytes_after_open),
    ("bgp_crowd", bgp::crowd),
    ("bgp_ten_thousand_connections", bgp::ten_thousand_connections),
    ("api_garbage", api::garbage),
    ("metrics_agree_with_show", metrics::agree_with_show),
    ("metrics_hostile_clients", metrics::hostile_clients),
    ("bgp_half_open_connections", bgp::half_open_connections),
];
