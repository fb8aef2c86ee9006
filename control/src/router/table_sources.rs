//! The sources that follow others' tables: FRR's FPM and the kernel's netlink.

use std::collections::HashMap;

use dataplane::ids::{SubIfId, VrfId};

use super::error::RouterError;
use super::sub_if_ids;
use crate::config::model::Config;
use crate::kernel::KernelSide;
use crate::source::fpm::FpmServer;
use crate::source::netlink::NetlinkSource;
use crate::source::queue::Feed;
use crate::source::{RouteSource as _, SourceId, SourceKind, SourceStatus};

/// The first number of FPM's tables; below are BGP sessions.
const FIRST_FPM: u32 = 1 << 16;
/// The first number of the kernel's tables.
const FIRST_NETLINK: u32 = 2 << 16;

/// Both, as far as the configuration has them.
#[derive(Debug, Default)]
pub struct TableSources {
    fpm: Option<FpmServer>,
    netlink: Option<NetlinkSource>,
}

impl TableSources {
    /// Starts what the configuration has. `feed` makes a queue for a thread.
    ///
    /// # Errors
    /// One does not start.
    pub fn start(
        config: &Config,
        kernel: Option<&KernelSide>,
        mut feed: impl FnMut() -> Feed,
    ) -> Result<Self, RouterError> {
        let interfaces = |vrf: VrfId| -> HashMap<u32, SubIfId> {
            let in_vrf = sub_if_ids(config).filter(|(_, sub_if)| sub_if.vrf == vrf);
            in_vrf.filter_map(|(id, _)| Some((kernel?.kernel_index(id)?, id))).collect()
        };
        let mut this = Self::default();
        if let Some(fpm) = &config.fpm {
            this.fpm = Some(FpmServer::start(fpm, SourceId(FIRST_FPM), &interfaces, &mut feed)?);
        }
        if let Some(netlink) = &config.netlink {
            let taps = config.kernel.taps;
            let first = SourceId(FIRST_NETLINK);
            this.netlink = Some(NetlinkSource::start(netlink, first, &interfaces, taps, &mut feed)?);
        }
        Ok(this)
    }

    /// All of them by number.
    pub fn ids(config: &Config) -> impl Iterator<Item = (SourceId, SourceKind)> {
        let fpm = config.fpm.as_ref().map_or(0, |fpm| fpm.tables.len() as u32);
        let netlink = config.netlink.as_ref().map_or(0, |netlink| netlink.tables.len() as u32);
        let fpm = (FIRST_FPM..FIRST_FPM + fpm).map(|id| (SourceId(id), SourceKind::Fpm));
        fpm.chain((FIRST_NETLINK..FIRST_NETLINK + netlink).map(|id| (SourceId(id), SourceKind::Netlink)))
    }

    /// Whether a number is one of theirs.
    pub fn is(id: SourceId) -> bool {
        id.0 >= FIRST_FPM
    }

    /// The name of a source, for output.
    pub fn name(id: SourceId) -> String {
        if id.0 >= FIRST_NETLINK { SourceKind::Netlink } else { SourceKind::Fpm }.name().to_owned()
    }

    /// FPM's connections that were closed: see [`FpmServer::closed`].
    pub fn fpm_closed(&self) -> [u64; 2] {
        self.fpm.as_ref().map_or([0; 2], FpmServer::closed)
    }

    /// One entry for each table.
    pub fn status(&self) -> Vec<SourceStatus> {
        let fpm = self.fpm.iter().flat_map(FpmServer::status);
        fpm.chain(self.netlink.iter().flat_map(NetlinkSource::status)).collect()
    }
}
