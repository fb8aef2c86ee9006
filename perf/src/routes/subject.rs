//! Who is measured.

use std::net::SocketAddr;

use super::lab::Lab;

/// A router that takes a feed.
pub trait Subject {
    /// Where it listens for BGP.
    fn address(&self) -> SocketAddr;

    /// Routes of the feed that have come as far as this subject is to bring them, of those `wanted`; an error if it has
    /// died.
    fn count(&mut self, lab: &Lab, wanted: usize) -> Result<usize, String>;

    /// Its processes.
    fn pids(&self) -> Vec<u32>;

    /// Threads that are not counted as work on routes: how their names begin.
    fn leave_out(&self) -> &'static str {
        ""
    }
}

/// The subjects that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Into the FIB, forwarding.
    Turnpike,
    /// BIRD 2, into its own tables.
    Bird,
    /// BIRD 2, into the kernel.
    BirdKernel,
    /// FRR, into the kernel.
    FrrKernel,
    /// `GoBGP`, into its own tables.
    Gobgp,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::Turnpike, Self::Bird, Self::BirdKernel, Self::FrrKernel, Self::Gobgp];

    pub fn name(self) -> &'static str {
        match self {
            Self::Turnpike => "turnpike",
            Self::Bird => "bird",
            Self::BirdKernel => "bird-kernel",
            Self::FrrKernel => "frr-kernel",
            Self::Gobgp => "gobgp",
        }
    }
}
