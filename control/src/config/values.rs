//! Single values: from TOML to numbers, names and choices, each with a message that says what would be right.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml_span::Value;

use super::suggest::hint;

/// 802.1Q's ethertype, the default of both tags.
pub(super) const TPID_DOT1Q: u16 = 0x8100;
/// 802.1ad's ethertype, which an outer tag may have.
pub(super) const TPID_DOT1AD: u16 = 0x88a8;
/// Longest interface name that Linux takes (`IFNAMSIZ` less the final zero).
pub(super) const LONGEST_TAP: usize = 15;

fn wrong_type(value: &Value<'_>, wanted: &str) -> String {
    format!("must be {wanted}, found {}", value.as_ref().type_str())
}

pub(super) fn string<'v>(value: &'v Value<'_>) -> Result<&'v str, String> {
    value.as_str().ok_or_else(|| wrong_type(value, "a string in quotes"))
}

pub(super) fn text(value: &Value<'_>) -> Result<String, String> {
    let text = string(value)?;
    // A zero byte ends the string on C's side of DPDK and the kernel.
    if text.is_empty() || text.contains('\0') {
        return Err("must not be empty nor hold a zero byte".to_owned());
    }
    Ok(text.to_owned())
}

pub(super) fn boolean(value: &Value<'_>) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| wrong_type(value, "true or false, without quotes"))
}

/// An integer within `range`.
pub(super) fn integer<T: TryFrom<i64>>(
    range: RangeInclusive<i64>,
) -> impl Fn(&Value<'_>) -> Result<T, String> {
    move |value| {
        let wanted = || format!("an integer from {} to {}", range.start(), range.end());
        let number = value.as_integer().ok_or_else(|| wrong_type(value, &wanted()))?;
        let number = Some(number).filter(|n| range.contains(n)).and_then(|n| T::try_from(n).ok());
        number.ok_or_else(|| format!("{} is out of range: must be {}", show_integer(value), wanted()))
    }
}

fn show_integer(value: &Value<'_>) -> String {
    value.as_integer().unwrap_or_default().to_string()
}

/// One of a few words.
pub(super) fn choice<'c, T: Copy>(
    choices: &'c [(&'c str, T)],
) -> impl Fn(&Value<'_>) -> Result<T, String> + 'c {
    move |value| {
        let word = string(value)?;
        choices.iter().find(|(name, _)| *name == word).map(|(_, v)| *v).ok_or_else(|| {
            format!("{word:?} is not one of its values{}", hint(word, choices.iter().map(|(name, _)| *name)))
        })
    }
}

/// A name for output and references: letters, digits, `-`, `_`, `.`.
pub(super) fn name(value: &Value<'_>) -> Result<String, String> {
    const LONGEST: usize = 48;
    let name = string(value)?;
    let fine = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if !fine || name.is_empty() || name.len() > LONGEST {
        return Err(format!(
            "{name:?} is no name: use 1 to {LONGEST} of the letters a-z and A-Z, digits, '-', '_' and '.'"
        ));
    }
    Ok(name.to_owned())
}

/// The name of a network namespace under `/run/netns`.
pub(super) fn namespace(value: &Value<'_>) -> Result<String, String> {
    let given = name(value)?;
    if given == "." || given == ".." {
        return Err(format!("{given:?} is no namespace: use a name as `ip netns list` shows it"));
    }
    Ok(given)
}

/// The name of a TAP.
pub(super) fn tap(value: &Value<'_>) -> Result<String, String> {
    let given = name(value)?;
    if given.len() > LONGEST_TAP {
        return Err(format!(
            "{given:?} has {} bytes: an interface's name has at most {LONGEST_TAP}",
            given.len()
        ));
    }
    if !is_usable_tap(&given) {
        return Err(format!("{given:?} is a name that the kernel uses itself: choose another"));
    }
    Ok(given)
}

/// Whether the kernel takes an interface of that name beside its own.
pub(super) fn is_usable_tap(name: &str) -> bool {
    !matches!(name, "." | ".." | "lo" | "all" | "default")
}

pub(super) fn vlan_id(value: &Value<'_>) -> Result<u16, String> {
    integer(1..=4094)(value).map_err(|e| format!("VLAN id: {e}"))
}

pub(super) fn tpid(value: &Value<'_>) -> Result<u16, String> {
    let wanted = "0x8100 or 0x88a8, without quotes";
    let tpid = value.as_integer().ok_or_else(|| wrong_type(value, wanted))?;
    u16::try_from(tpid)
        .ok()
        .filter(|t| matches!(*t, TPID_DOT1Q | TPID_DOT1AD))
        .ok_or_else(|| format!("{tpid:#x} is no TPID of an outer tag: must be {wanted}"))
}

pub(super) fn pcp(value: &Value<'_>) -> Result<u8, String> {
    integer(0..=7)(value)
}

pub(super) fn mtu(value: &Value<'_>) -> Result<u16, String> {
    integer(576..=9600)(value)
}

pub(super) fn descriptors(value: &Value<'_>) -> Result<u16, String> {
    let n: u16 = integer(64..=32768)(value)?;
    if n.is_power_of_two() {
        return Ok(n);
    }
    Err(format!("{n} is not a power of two: NICs want one, for example {}", n.next_power_of_two()))
}

/// A bandwidth in Mbit/s: an integer, or a string with `M` or `G`.
pub(super) fn bandwidth(value: &Value<'_>) -> Result<u32, String> {
    const HIGHEST: u64 = 400_000;
    let wanted = "\"10G\", \"500M\" or an integer in Mbit/s, at most 400G";
    let mbps = if let Some(number) = value.as_integer() {
        u64::try_from(number).ok()
    } else {
        let text = value.as_str().ok_or_else(|| wrong_type(value, wanted))?.trim();
        let scaled = |unit: char, factor: u64| {
            let digits = text.strip_suffix(unit)?;
            Some(digits).filter(|d| is_digits(d))?.parse::<u64>().ok()?.checked_mul(factor)
        };
        scaled('G', 1000).or_else(|| scaled('M', 1))
    };
    mbps.filter(|m| (1..=HIGHEST).contains(m)).and_then(|m| u32::try_from(m).ok()).ok_or_else(|| {
        let found = value.as_str().map_or_else(|| show_integer(value), |s| format!("{s:?}"));
        format!("{found} is no bandwidth: write {wanted}")
    })
}

pub(super) fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Whole seconds up to `highest`: an integer, or a string such as `"120s"`.
pub(super) fn seconds(highest: u64) -> impl Fn(&Value<'_>) -> Result<Duration, String> {
    move |value| {
        let wanted = format!("whole seconds from 0 to {highest}, for example 120 or \"120s\"");
        let seconds = match value.as_integer() {
            Some(number) => u64::try_from(number).ok(),
            None => value
                .as_str()
                .ok_or_else(|| wrong_type(value, &wanted))?
                .strip_suffix('s')
                .filter(|digits| is_digits(digits))
                .and_then(|digits| digits.parse().ok()),
        };
        seconds.filter(|s| *s <= highest).map(Duration::from_secs).ok_or_else(|| {
            let found = value.as_str().map_or_else(|| show_integer(value), |s| format!("{s:?}"));
            format!("{found}: must be {wanted}")
        })
    }
}

/// BGP's hold time (RFC 4271, section 4.2): 0 (off), or at least 3 seconds.
pub(super) fn hold_time(value: &Value<'_>) -> Result<Duration, String> {
    let time = seconds(65535)(value)?;
    if matches!(time.as_secs(), 1 | 2) {
        return Err("must be 0 (no keepalives) or at least 3 seconds (RFC 4271)".to_owned());
    }
    Ok(time)
}

/// An AS number that somebody may have.
pub(super) fn asn(value: &Value<'_>) -> Result<u32, String> {
    let asn: u32 = integer(0..=i64::from(u32::MAX))(value)?;
    let reserved = match asn {
        0 => "is reserved (RFC 7607)",
        23456 => "is AS_TRANS, the stand-in for 4-byte numbers (RFC 6793): give the 4-byte number itself",
        65515..=65520 => "is one of 65515 to 65520, which Azure keeps for itself",
        65535 | u32::MAX => "is reserved (RFC 7300)",
        _ => return Ok(asn),
    };
    Err(format!("AS {asn} {reserved}; use a number of your own, or a private one from 64512 to 65514"))
}

/// A PCI address with optional device arguments, or a DPDK virtual device.
pub(super) fn device(value: &Value<'_>) -> Result<String, String> {
    let given = text(value)?;
    let (head, arguments) = given.split_once(',').map_or((given.as_str(), None), |(h, a)| (h, Some(a)));
    if given.contains(char::is_whitespace) {
        return Err(format!("{given:?} has white space in it: leave it out"));
    }
    if is_pci(head) {
        let head = head.to_ascii_lowercase();
        return Ok(arguments.map_or_else(|| head.clone(), |a| format!("{head},{a}")));
    }
    if is_pci(&format!("0000:{head}")) {
        return Err(format!("{given:?} lacks the PCI domain: write \"0000:{given}\""));
    }
    let is_vdev = ["net_", "eth_", "virtio_user"].iter().any(|prefix| head.starts_with(prefix));
    if is_vdev && head.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Ok(given);
    }
    Err(format!(
        "{given:?} is neither a PCI address (\"0000:3b:00.0\") nor a DPDK virtual device \
         (\"net_tap0,iface=lan0\"); for a kernel interface write \"net_af_packet0,iface=NAME\""
    ))
}

/// `DDDD:BB:DD.F` in hexadecimal, F from 0 to 7.
fn is_pci(text: &str) -> bool {
    let hex = |part: &str, digits: usize| part.len() == digits && part.bytes().all(|b| b.is_ascii_hexdigit());
    let mut parts = text.splitn(3, ':');
    let (Some(domain), Some(bus), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let Some((slot, function)) = rest.split_once('.') else { return false };
    hex(domain, 4)
        && hex(bus, 2)
        && hex(slot, 2)
        && u8::from_str_radix(slot, 16).is_ok_and(|s| s < 32)
        && matches!(function.as_bytes(), [b'0'..=b'7'])
}
