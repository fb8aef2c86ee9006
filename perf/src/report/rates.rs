//! The line-rate arithmetic: what a link asks of the processor.

use crate::traffic::{Sizes, line_rate};

/// Frame sizes of the arithmetic.
pub const SIZES: [Sizes; 8] = [
    Sizes::Fixed(64),
    Sizes::Fixed(128),
    Sizes::Fixed(256),
    Sizes::Fixed(512),
    Sizes::Fixed(1024),
    Sizes::Fixed(1280),
    Sizes::Fixed(1518),
    Sizes::Imix,
];

/// A size as it is shown.
pub fn name(sizes: Sizes) -> String {
    match sizes {
        Sizes::Fixed(size) => size.to_string(),
        Sizes::Imix => "IMIX".into(),
    }
}

/// Million frames a second that fill 100 Gbit/s.
pub fn mpps_at_100g(sizes: Sizes, tags: usize) -> f64 {
    line_rate(100e9, sizes, 64, tags) / 1e6
}

/// What one measured rate of one core means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Cycles for a packet, all in all.
    pub cycles: f64,
    /// Those of them that the ports alone take, where a peer that does nothing else was measured.
    pub ports: Option<f64>,
}

impl Cost {
    /// From rates in Mpps of one core of `hz` cycles a second.
    pub fn new(hz: f64, mpps: f64, ports_mpps: Option<f64>) -> Self {
        let cycles = |mpps: f64| hz / (mpps * 1e6);
        Self { cycles: cycles(mpps), ports: ports_mpps.filter(|mpps| *mpps > 0.0).map(cycles) }
    }

    /// Cores of `hz` that carry so many Mpps.
    pub fn cores(&self, hz: f64, mpps: f64) -> f64 {
        mpps * 1e6 * self.cycles / hz
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_follow_from_cycles() {
        let cost = Cost::new(2.6e9, 40.0, Some(64.0));
        assert!((cost.cycles - 65.0).abs() < 1e-9);
        assert!((cost.ports.unwrap() - 40.625).abs() < 1e-9);
        assert!((cost.cores(2.6e9, mpps_at_100g(Sizes::Fixed(64), 0)) - 148.809_523 / 40.0).abs() < 1e-4);
        assert!(Cost::new(2.6e9, 40.0, Some(0.0)).ports.is_none());
    }

    #[test]
    fn the_books_figures() {
        let two = |v: f64| (v * 100.0).round() / 100.0;
        assert_eq!(two(mpps_at_100g(Sizes::Fixed(64), 0)).to_string(), "148.81");
        assert_eq!(two(mpps_at_100g(Sizes::Fixed(64), 2)).to_string(), "135.87");
        assert_eq!(two(mpps_at_100g(Sizes::Imix, 2)).to_string(), "32.74");
    }
}
