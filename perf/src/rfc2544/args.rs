//! What the user can ask of `perf rfc2544`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;

use crate::traffic::{Sizes, Tag, Tags, WhenFull};

/// One of the measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Test {
    /// The highest rate with no more than the stated loss (RFC 2544, section 26.1).
    Throughput,
    /// Percentiles at 50, 90 and 100 % of the throughput (section 26.2; RFC 8219, section 7.2).
    Latency,
    /// Frame loss by offered load (section 26.3).
    Loss,
    /// The longest burst without loss (section 26.4; RFC 9004).
    BackToBack,
    /// Not of the RFC, and only when asked for: what an idle worker of `--dut turnpike` takes of its core, and whether
    /// bursts at full speed after silence are lost.
    Wake,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Family {
    /// In 198.18.0.0/15, frames from 64 bytes.
    V4,
    /// In `2001:2::/48`, frames from 84 bytes.
    V6,
}

impl Family {
    /// As it stands in the results.
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }
}

/// What joins the tester and a turnpike that it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Link {
    /// Shared memory; both sides copy.
    Memif,
    /// vhost-user; turnpike's side copies, so the tester can do more.
    Vhost,
}

/// The device under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dut {
    /// A turnpike that the tester starts, and stops at the end.
    Turnpike,
    /// None: the tester's port A comes back to itself. What it shows is the tester's own limit.
    Loopback,
}

/// What an idle worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Idle {
    /// Polls on.
    Poll,
    /// Sleeps for microseconds.
    Sleep,
}

impl Idle {
    /// As in turnpike's configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Poll => "poll",
            Self::Sleep => "sleep",
        }
    }
}

/// RFC 2544 runs: throughput, latency, frame loss and back-to-back bursts, between two ports.
///
/// Frames go out of port A and come back on port B (with --bidirectional also the other way). The device between them
/// routes 198.19.0.0/16 and `2001:2:0:8000::/49` towards port B, 198.18.0.0/16 and `2001:2::/49` towards port A. How to set
/// that up is in docs/line-rate-tests.md.
#[derive(Clone, Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Args {
    /// Ports A and B: PCI addresses, or DPDK virtual devices such as `net_memif0,role=server,socket=/run/a.sock`.
    #[arg(num_args = 2, value_names = ["A", "B"], conflicts_with_all = ["dut", "self_test"])]
    pub ports: Vec<String>,
    /// A device that the tester provides itself, instead of ports.
    #[arg(long)]
    pub dut: Option<Dut>,
    /// A short run through a turnpike of our own, over memif: IPv4 and IPv6, dot1q to QinQ, all four measurements.
    #[arg(long, conflicts_with = "dut")]
    pub self_test: bool,
    /// What joins the tester and its own turnpike.
    #[arg(long, value_enum, default_value_t = Link::Memif)]
    pub link: Link,
    /// The program that `--dut turnpike` starts [default: `TURNPIKE_BIN`, the one beside this
    /// program, or by PATH].
    #[arg(long)]
    pub turnpike: Option<PathBuf>,
    /// The core of the turnpike that the tester starts.
    #[arg(long, default_value_t = 1)]
    pub dut_core: usize,
    /// What an idle worker of that turnpike does, as `[workers] idle`.
    #[arg(long, value_enum, default_value_t = Idle::Poll)]
    pub dut_idle: Idle,
    /// Silence before each burst of the wake test, in milliseconds.
    #[arg(long, default_value_t = 10)]
    pub pause: u64,
    /// The tester's core.
    #[arg(long, default_value_t = 0)]
    pub core: usize,
    /// Only these measurements; may be given several times.
    #[arg(long, value_enum)]
    pub test: Vec<Test>,
    /// Only this family.
    #[arg(long, value_enum)]
    pub family: Option<Family>,
    /// Only these frame sizes, or `imix`; may be given several times. Check sequence included, tags not [default: 64
    /// (IPv6: 84), 128, 256, 512, 1024, 1280, 1518, imix].
    #[arg(long, value_parser = size)]
    pub size: Vec<Sizes>,
    /// Length of throughput and loss trials, in seconds.
    #[arg(long, default_value_t = 60.0, value_parser = seconds)]
    pub duration: f64,
    /// Length of latency trials, in seconds.
    #[arg(long, default_value_t = 120.0, value_parser = seconds)]
    pub latency_duration: f64,
    /// How long to wait for the last frames of a trial, in seconds.
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    pub drain: f64,
    /// Trials of one second, latencies over two: to see whether all is set up, and what to expect.
    #[arg(long)]
    pub quick: bool,
    /// The loss that a throughput trial may have, in percent.
    #[arg(long, default_value_t = 0.0, value_parser = percent)]
    pub loss: f64,
    /// Where the search ends, in percent of the rate.
    #[arg(long, default_value_t = 0.5, value_parser = percent)]
    pub resolution: f64,
    /// A trial with too much loss is repeated until it has been tried so often [default: 1 for NICs, 3 for virtual
    /// ports, whose machine has other things to do].
    #[arg(long)]
    pub attempts: Option<u32>,
    /// Bursts for each back-to-back result [default: 50, with --quick 5].
    #[arg(long)]
    pub bursts: Option<u32>,
    /// The longest burst, in seconds.
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    pub burst_seconds: f64,
    /// The highest rate to try, in frames a second and direction [default: what the link or else the tester can do].
    #[arg(long)]
    pub max_rate: Option<f64>,
    /// Send from both ports at once.
    #[arg(long)]
    pub bidirectional: bool,
    /// Flows in each direction.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub flows: u32,
    /// Tags on port A: `none`, `VID`, `OUTER.INNER`, or `88a8:OUTER.INNER`.
    #[arg(long, default_value = "none", value_parser = tags)]
    pub a_tags: TagList,
    /// Tags on port B.
    #[arg(long, default_value = "none", value_parser = tags)]
    pub b_tags: TagList,
    /// Source MAC address on port A [default: the port's].
    #[arg(long)]
    pub a_mac: Option<Mac>,
    /// Source MAC address on port B [default: the port's].
    #[arg(long)]
    pub b_mac: Option<Mac>,
    /// MAC address of the device's port that faces port A.
    #[arg(long)]
    pub a_gateway: Option<Mac>,
    /// MAC address of the device's port that faces port B.
    #[arg(long)]
    pub b_gateway: Option<Mac>,
    /// First address of the hosts behind port A; give one for each family, if at all [default: 198.18.1.0 and
    /// `2001:2:0:1::1:0`].
    #[arg(long)]
    pub a_hosts: Vec<IpAddr>,
    /// First address of the hosts behind port B [default: 198.19.1.0 and `2001:2:0:8001::1:0`].
    #[arg(long)]
    pub b_hosts: Vec<IpAddr>,
    /// Routers on the way: by so much the hop limit must be lower.
    #[arg(long, default_value_t = 1)]
    pub hops: u8,
    /// What to do with frames that a port has no room for.
    #[arg(long, value_enum, default_value_t = WhenFull::Auto)]
    pub when_full: WhenFull,
    /// RX and TX descriptors of the tester's ports.
    #[arg(long, default_value_t = 1024)]
    pub descriptors: u16,
    /// Run on ordinary pages.
    #[arg(long)]
    pub no_huge: bool,
    /// Further arguments for DPDK.
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub eal: String,
    /// Tell of each trial on standard error.
    #[arg(long)]
    pub verbose: bool,
    /// One JSON object a row instead of tables.
    #[arg(long)]
    pub json: bool,
}

impl Args {
    /// The measurements asked for, in the order of the RFC.
    pub fn tests(&self) -> Vec<Test> {
        let all = [Test::Throughput, Test::Latency, Test::Loss, Test::BackToBack, Test::Wake];
        let by_default = |test: &Test| self.test.is_empty() && *test != Test::Wake;
        all.into_iter().filter(|test| by_default(test) || self.test.contains(test)).collect()
    }

    /// The families asked for.
    pub fn families(&self) -> Vec<Family> {
        [Family::V4, Family::V6].into_iter().filter(|f| self.family.is_none_or(|only| only == *f)).collect()
    }

    /// Length of a throughput or loss trial.
    pub fn trial_time(&self) -> Duration {
        Duration::from_secs_f64(if self.quick { 1.0 } else { self.duration })
    }

    /// Length of a latency trial.
    pub fn latency_time(&self) -> Duration {
        Duration::from_secs_f64(if self.quick { 2.0 } else { self.latency_duration })
    }

    /// Time for the last frames.
    pub fn drain_time(&self) -> Duration {
        Duration::from_secs_f64(if self.quick { self.drain.min(0.2) } else { self.drain })
    }

    /// Bursts for each back-to-back result.
    pub fn burst_count(&self) -> u32 {
        self.bursts.unwrap_or(if self.quick { 5 } else { 50 }).max(1)
    }

    /// The frame sizes for a family.
    pub fn sizes(&self, family: Family) -> Vec<Sizes> {
        if !self.size.is_empty() {
            return self.size.clone();
        }
        let first = match family {
            Family::V4 => 64,
            Family::V6 => 84,
        };
        let fixed = [first, 128, 256, 512, 1024, 1280, 1518].map(Sizes::Fixed);
        fixed.into_iter().chain([Sizes::Imix]).collect()
    }
}

/// Tags as an argument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TagList(pub Tags);

impl TagList {
    /// One tag.
    pub fn dot1q(vid: u16) -> Self {
        Self([Some(Tag { tpid: 0x8100, tci: vid }), None])
    }

    /// Two tags, both of type 0x8100.
    pub fn qinq(outer: u16, inner: u16) -> Self {
        Self([Some(Tag { tpid: 0x8100, tci: outer }), Some(Tag { tpid: 0x8100, tci: inner })])
    }

    /// How many there are.
    pub fn count(self) -> usize {
        self.0.iter().flatten().count()
    }
}

fn tags(text: &str) -> Result<TagList, String> {
    if text == "none" {
        return Ok(TagList::default());
    }
    let (outer_tpid, ids) = match text.split_once(':') {
        Some((tpid, ids)) if matches!(tpid, "88a8" | "8100") => {
            (if tpid == "88a8" { 0x88a8 } else { 0x8100 }, ids)
        }
        Some((tpid, _)) => return Err(format!("the outer tag's type is 8100 or 88a8, not {tpid}")),
        None => (0x8100, text),
    };
    let id = |id: &str| match id.parse() {
        Ok(id @ 1..=4094_u16) => Ok(id),
        _ => Err(format!("{id:?} is no VLAN id: 1 to 4094")),
    };
    let tag = |tpid, tci| Some(Tag { tpid, tci });
    Ok(TagList(match ids.split_once('.') {
        Some((outer, inner)) => [tag(outer_tpid, id(outer)?), tag(0x8100, id(inner)?)],
        None => [tag(outer_tpid, id(ids)?), None],
    }))
}

/// A MAC address as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes: Option<Vec<u8>> =
            text.split(':').map(|b| u8::from_str_radix(b, 16).ok().filter(|_| b.len() == 2)).collect();
        bytes
            .and_then(|bytes| <[u8; 6]>::try_from(bytes).ok())
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no MAC address: write it as 02:00:00:00:00:01"))
    }
}

fn size(text: &str) -> Result<Sizes, String> {
    if text == "imix" {
        return Ok(Sizes::Imix);
    }
    match text.parse() {
        Ok(size @ 64..=9018_u16) => Ok(Sizes::Fixed(size)),
        _ => Err(format!("{text:?} is no frame size: 64 to 9018 bytes with the check sequence, or `imix`")),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|s| (0.001..=86_400.0).contains(s))
        .ok_or_else(|| "0.001 to 86400 seconds".into())
}

fn percent(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|p| (0.0..=50.0).contains(p)).ok_or_else(|| "0 to 50 percent".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read() {
        let tag = |tpid, tci| Some(Tag { tpid, tci });
        assert_eq!(tags("none").unwrap().0, [None, None]);
        assert_eq!(tags("30").unwrap().0, [tag(0x8100, 30), None]);
        assert_eq!(tags("10.100").unwrap().0, [tag(0x8100, 10), tag(0x8100, 100)]);
        assert_eq!(tags("88a8:10.100").unwrap().0, [tag(0x88a8, 10), tag(0x8100, 100)]);
        for bad in ["", "0", "4095", "1.2.3", "9100:1.2", "a", "1.", "-1"] {
            assert!(tags(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn mac_addresses_are_read() {
        assert_eq!("02:00:5e:00:00:ff".parse(), Ok(Mac([2, 0, 0x5e, 0, 0, 0xff])));
        for bad in ["", "02:00:5e:00:00", "02:00:5e:00:00:ff:1", "2:0:5e:0:0:1", "zz:00:5e:00:00:ff"] {
            assert!(bad.parse::<Mac>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!(size("imix"), Ok(Sizes::Imix));
        assert_eq!(size("9018"), Ok(Sizes::Fixed(9018)));
        assert!(size("63").is_err() && size("9019").is_err() && size("IMIX ").is_err());
    }
}
