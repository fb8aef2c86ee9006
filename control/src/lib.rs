//! All that is not per packet: configuration, route sources, RIB and next-hop resolution, neighbours, kernel
//! interfaces, the API and the command line of `turnpike`.

pub mod api;
pub mod cli;
pub mod config;
pub mod demo;
pub mod kernel;
pub mod metrics;
mod prefix;
pub mod rib;
pub mod router;
pub mod source;
pub mod watch;
