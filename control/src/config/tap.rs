//! The TAPs' names: short, stable, readable, unique.

use std::collections::BTreeMap;

use super::draft::{Port, Sub};
use super::errors::{Place, Report};
use super::values::{LONGEST_TAP, is_usable_tap};

/// Bytes that the mark of a shortened name takes.
const MARK: usize = 4;

/// `stem` followed by `ending`, in at most 15 bytes. A stem that is too long is cut and marked with 4 hex digits
/// of its hash, so that the name depends on nothing but the stem.
fn short_name(stem: &str, ending: &str) -> String {
    let room = LONGEST_TAP.saturating_sub(ending.len());
    if stem.len() <= room {
        return format!("{stem}{ending}");
    }
    let kept: String = stem.chars().take(room.saturating_sub(MARK)).collect();
    format!("{kept}{:04x}{ending}", fnv1a(stem) & 0xffff)
}

/// FNV-1a, 32 bits, folded to the lower 16.
fn fnv1a(text: &str) -> u32 {
    let hash = text.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    hash ^ (hash >> 16)
}

/// The name of each sub-interface's TAP. Names that collide, among themselves or with the interface of a
/// `net_tap` device, are errors.
pub(super) fn names(subs: &[Sub], ports: &[Port], report: &mut Report<'_>) -> Vec<String> {
    let mut taken: BTreeMap<String, (String, Option<Place>)> = BTreeMap::new();
    for device in ports.iter().filter_map(|p| p.device.as_ref()) {
        if let Some(name) = device_interface(&device.value) {
            taken.insert(name.to_owned(), ("a port's device".to_owned(), Some(device.place)));
        }
    }
    let mut names = Vec::with_capacity(subs.len());
    for sub in subs {
        let name = match &sub.tap {
            Some(tap) => tap.value.clone(),
            None => short_name(&sub.tap_stem.0, &sub.tap_stem.1),
        };
        let place = sub.tap.as_ref().map(|t| t.place).or(sub.name.as_ref().map(|n| n.place));
        if let Some(place) = place {
            let way_out = "give it one of its own with tap = \"...\"";
            if !is_usable_tap(&name) {
                report.error(
                    place,
                    format!("its TAP would be named {name:?}, which the kernel uses itself; {way_out}"),
                );
            } else if let Some((whose, first)) = taken.get(&name) {
                let line = first.map_or(0, |p| report.line(p));
                report.error(
                    place,
                    format!("its TAP's name {name:?} is taken by {whose} (line {line}); {way_out}"),
                );
            }
            taken.entry(name.clone()).or_insert_with(|| ("another TAP".to_owned(), Some(place)));
        }
        names.push(name);
    }
    names
}

/// The kernel interface that a `net_tap` device makes.
fn device_interface(device: &str) -> Option<&str> {
    let (_, arguments) = device.strip_prefix("net_tap")?.split_once(',')?;
    arguments.split(',').find_map(|argument| argument.strip_prefix("iface="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_say_what_they_are() {
        assert_eq!(short_name("er1", "-prv-p"), "er1-prv-p");
        assert_eq!(short_name("lan", ""), "lan");
        assert_eq!(short_name("frankfurt", "-msf-s"), "frankfurt-msf-s", "9 + 6 bytes just fit");
        let long = short_name("frankfurt-2", "-msf-s");
        assert_eq!(long.len(), LONGEST_TAP);
        assert!(long.starts_with("frank") && long.ends_with("-msf-s"), "{long}");
        assert_eq!(long, short_name("frankfurt-2", "-msf-s"), "the same name every time");
        assert_ne!(long, short_name("frankfurt-3", "-msf-s"), "long names stay apart");
    }

    #[test]
    fn a_tap_device_names_its_interface() {
        assert_eq!(device_interface("net_tap0,iface=lan0"), Some("lan0"));
        assert_eq!(device_interface("net_tap1,mac=fixed,iface=x"), Some("x"));
        assert_eq!(device_interface("net_af_packet0,iface=eth1"), None, "that interface exists already");
        assert_eq!(device_interface("net_tap0"), None);
    }
}
