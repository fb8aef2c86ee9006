//! What to send: flows, frame sizes, and the ready-made heads of all frames.

use super::frame::{Flow, Template, WIRE_OVERHEAD};

/// The frame sizes of a trial, counted as RFC 2544 does: with the check sequence, without tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// All of one size.
    Fixed(u16),
    /// 28 of the smallest size to 16 of 570 to 4 of 1518 bytes.
    Imix,
}

/// Which of the three sizes each of twelve frames has: 7 to 4 to 1, evenly spread.
const IMIX_ORDER: [u8; 12] = [0, 1, 0, 0, 1, 0, 2, 0, 1, 0, 1, 0];

impl Sizes {
    /// The different sizes for a family whose smallest is `least`.
    fn all(self, least: u16) -> Vec<u16> {
        match self {
            Self::Fixed(size) => vec![size],
            Self::Imix => vec![least, 570, 1518],
        }
    }

    /// The order in which they are sent, over and over.
    fn order(self) -> &'static [u8] {
        match self {
            Self::Fixed(_) => &[0],
            Self::Imix => &IMIX_ORDER,
        }
    }

    /// The mean size of a frame in bytes.
    pub fn mean(self, least: u16) -> f64 {
        let (all, order) = (self.all(least), self.order());
        order.iter().map(|&i| f64::from(all[usize::from(i)])).sum::<f64>() / order.len() as f64
    }

    /// The mean of what a frame with `tags` tags takes on the wire, in bits.
    pub fn wire_bits(self, least: u16, tags: usize) -> f64 {
        (self.mean(least) + (4 * tags + WIRE_OVERHEAD) as f64) * 8.0
    }
}

/// Why there can be no such traffic.
#[derive(Debug, thiserror::Error)]
pub enum TrafficError {
    /// No flows.
    #[error("there is no flow to send")]
    NoFlows,
    /// A frame cannot be made.
    #[error(
        "flow {flow} cannot have frames of {size} bytes: at least {least} with its addresses and a stamp, at most 9018"
    )]
    Size {
        /// The flow.
        flow: usize,
        /// The frame size asked for.
        size: u16,
        /// The least possible.
        least: u16,
    },
    /// The flows cannot be told from other traffic.
    #[error("all flows must have the same UDP destination port: it is what their frames are known by")]
    DstPorts,
}

/// Flows and sizes, with a template for each combination.
#[derive(Debug)]
pub struct Traffic {
    flows: Vec<Flow>,
    /// The flows of each port, in the order in which they are sent.
    by_port: Vec<Vec<u32>>,
    templates: Vec<Template>,
    sizes: usize,
    order: &'static [u8],
}

impl Traffic {
    /// Prepares `flows` in frames of `sizes`. In a mix of sizes each flow has frames of all of them.
    ///
    /// # Errors
    /// See [`TrafficError`].
    pub fn new(flows: Vec<Flow>, sizes: Sizes) -> Result<Self, TrafficError> {
        let first = flows.first().ok_or(TrafficError::NoFlows)?;
        if flows.iter().any(|flow| flow.dst_port != first.dst_port) {
            return Err(TrafficError::DstPorts);
        }
        let mut templates = Vec::new();
        let mut by_port =
            vec![Vec::new(); flows.iter().map(|flow| usize::from(flow.from) + 1).max().unwrap_or(0)];
        for (i, flow) in flows.iter().enumerate() {
            let least = super::frame::least_size(flow.is_v6());
            for size in sizes.all(least) {
                let template = Template::new(flow, size);
                templates.push(template.ok_or(TrafficError::Size { flow: i, size, least })?);
            }
            by_port[usize::from(flow.from)].push(i as u32);
        }
        let kinds = templates.len() / flows.len();
        Ok(Self { flows, by_port, templates, sizes: kinds, order: sizes.order() })
    }

    /// The flows.
    pub fn flows(&self) -> &[Flow] {
        &self.flows
    }

    /// The numbers of the flows that a port sends.
    pub fn of_port(&self, port: usize) -> &[u32] {
        self.by_port.get(port).map_or(&[], Vec::as_slice)
    }

    /// One more than the highest port that sends.
    pub fn ports(&self) -> usize {
        self.by_port.len()
    }

    /// The template of the `n`th frame that a port sends, if it is one of `flow`.
    #[inline]
    pub fn outgoing(&self, flow: u32, n: u64) -> &Template {
        let kind = if self.sizes == 1 { 0 } else { self.order[turn(n)] };
        &self.templates[flow as usize * self.sizes + usize::from(kind)]
    }

    /// The template of a flow's frames whose IP packet has `ip_len` bytes.
    #[inline]
    pub fn incoming(&self, flow: u32, ip_len: usize) -> Option<&Template> {
        let from = (flow as usize).checked_mul(self.sizes)?;
        let all = self.templates.get(from..from + self.sizes)?;
        all.iter().find(|template| {
            let headers = usize::from(template.stamp_at) - if template.v6 { 48 } else { 28 };
            usize::from(template.len) == headers + ip_len
        })
    }
}

/// The place in [`IMIX_ORDER`] of the `n`th frame: each dozen frames has all places, begun at another one each time, so
/// that every flow has every size however many flows there are.
#[inline]
fn turn(n: u64) -> usize {
    let dozen = n / IMIX_ORDER.len() as u64;
    // Multiplicative hashing by the golden ratio; the four highest bits are the best mixed.
    let shift = dozen.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60;
    ((n + shift) % IMIX_ORDER.len() as u64) as usize
}

/// Frames a second that fill a link of `bits_per_second`.
pub fn line_rate(bits_per_second: f64, sizes: Sizes, least: u16, tags: usize) -> f64 {
    bits_per_second / sizes.wire_bits(least, tags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::tests::flow;

    #[test]
    fn line_rates_are_those_of_the_books() {
        let mpps = |sizes, tags| (line_rate(100e9, sizes, 64, tags) / 1e4).round() / 100.0;
        assert_eq!(mpps(Sizes::Fixed(64), 0).to_string(), "148.81");
        assert_eq!(mpps(Sizes::Fixed(64), 2).to_string(), "135.87");
        assert_eq!(mpps(Sizes::Imix, 2).to_string(), "32.74");
        assert_eq!(mpps(Sizes::Fixed(1518), 0).to_string(), "8.13");
    }

    #[test]
    fn the_mix_is_7_to_4_to_1() {
        let mut counts = [0; 3];
        for size in IMIX_ORDER {
            counts[usize::from(size)] += 1;
        }
        assert_eq!(counts, [7, 4, 1]);
    }

    #[test]
    fn each_flow_of_a_mix_has_each_size() {
        for flows in [1, 2, 3, 4, 6, 12, 24] {
            let all: Vec<_> = (0..flows).map(|n| flow(n, false, 0)).collect();
            let traffic = Traffic::new(all, Sizes::Imix).unwrap();
            let mut seen = vec![[0_u32; 3]; flows as usize];
            for n in 0..12 * 12 * u64::from(flows) {
                let flow = (n % u64::from(flows)) as u32;
                let len = traffic.outgoing(flow, n).len;
                seen[flow as usize][[60, 566, 1514].iter().position(|&l| l == len).unwrap()] += 1;
            }
            let sums = seen.iter().fold([0; 3], |s, f| [s[0] + f[0], s[1] + f[1], s[2] + f[2]]);
            assert_eq!(sums[0] * 4, sums[1] * 7, "{flows} flows");
            assert_eq!(sums[0], sums[2] * 7, "{flows} flows");
            assert!(seen.iter().flatten().all(|&n| n > 0), "{flows} flows: {seen:?}");
        }
    }

    #[test]
    fn sizes_and_ports_that_cannot_be_are_refused() {
        let error = Traffic::new(vec![flow(0, true, 0)], Sizes::Fixed(64)).unwrap_err();
        assert!(matches!(error, TrafficError::Size { least: 84, .. }), "{error}");
        assert!(matches!(Traffic::new(Vec::new(), Sizes::Imix), Err(TrafficError::NoFlows)));
        let other = Flow { dst_port: 8, ..flow(1, false, 0) };
        assert!(matches!(
            Traffic::new(vec![flow(0, false, 0), other], Sizes::Fixed(64)),
            Err(TrafficError::DstPorts)
        ));
    }
}
