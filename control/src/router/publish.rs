//! What the RIB decides becomes what workers read: the tables' snapshot, and the FIBs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dataplane::adjacency::{Adjacency, Forward};
use dataplane::fib::{Fib4Writer, Fib6Writer, FibError};
use dataplane::grace::GracePeriod;
use dataplane::ids::{AdjId, SubIfId, VrfId};
use dataplane::policy::{Features, Policies};
use dataplane::qsbr::Domain;
use dataplane::sub_interface::{SubInterface, SubInterfaces, Tag, Tags};
use dataplane::tables::{Group, ReversePaths, Tables, VrfTables};
use dataplane::verdict::{DropReason, PuntReason};
use dataplane::watch::Watch;

use crate::config::model::{self, Config, Encapsulation};
use crate::rib::{AdjacencyDesc, Change, FibSink, FibSinkError, GroupsSnapshot};
use crate::source::Family;

/// The sub-interfaces of a configuration as the data plane sees them. `macs`: the ports' MAC addresses.
pub fn sub_interfaces(config: &Config, macs: &[[u8; 6]]) -> Vec<SubInterface> {
    let tag = |tag: model::Tag| Tag { tpid: tag.tpid, vid: tag.vid };
    let one = |sub_if: &model::SubInterface| SubInterface {
        port: sub_if.port,
        tags: match sub_if.encapsulation {
            Encapsulation::Untagged => Tags::Untagged,
            Encapsulation::Dot1q(only) => Tags::One(tag(only)),
            Encapsulation::QinQ { outer, inner } => Tags::Two(tag(outer), tag(inner)),
        },
        vrf: sub_if.vrf,
        mac: macs.get(usize::from(sub_if.port.0)).copied().unwrap_or_default(),
        mtu: sub_if.mtu,
        pcp: sub_if.pcp,
    };
    config.sub_interfaces.iter().map(one).collect()
}

/// What the sub-interfaces of a configuration do besides forwarding.
pub fn policies(config: &Config) -> Policies {
    let all = config.sub_interfaces.iter().map(|sub_if| sub_if.policy.clone()).collect();
    Policies::new(all, config.icmp.prohibited)
}

/// The FIBs of all VRFs, as the RIB writes them.
pub struct Fibs {
    v4: Vec<Fib4Writer>,
    v6: Vec<Fib6Writer>,
    /// For each VRF, of which tables the log already says what pages they are on.
    told: Vec<[bool; 2]>,
}

impl Fibs {
    /// Empty FIBs for so many VRFs.
    ///
    /// # Errors
    /// No memory.
    pub fn new(vrfs: usize, grace: &Arc<dyn GracePeriod>) -> Result<Self, FibError> {
        let v4 = (0..vrfs).map(|_| Fib4Writer::new(Arc::clone(grace))).collect::<Result<_, _>>()?;
        let v6 = (0..vrfs).map(|_| Fib6Writer::new(Arc::clone(grace))).collect::<Result<_, _>>()?;
        Ok(Self { v4, v6, told: vec![[false; 2]; vrfs] })
    }

    /// The workers' side of each VRF.
    pub fn readers(&self) -> Vec<VrfTables> {
        self.v4.iter().zip(&self.v6).map(|(v4, v6)| VrfTables { v4: v4.reader(), v6: v6.reader() }).collect()
    }

    /// Says in the log, once for each table that has become large, what pages it is on.
    pub fn tell_pages(&mut self, vrf_name: impl Fn(VrfId) -> String) {
        for (vrf, told) in self.told.iter_mut().enumerate() {
            let (v4, v6) = (self.v4[vrf].reader(), self.v6[vrf].reader());
            for (family, told) in [Family::Ipv4, Family::Ipv6].into_iter().zip(told) {
                let huge = match family {
                    Family::Ipv4 => v4.is_on_huge_pages(),
                    Family::Ipv6 => v6.is_on_huge_pages(),
                };
                let Some(huge) = huge.filter(|_| !*told) else { continue };
                *told = true;
                let name = match family {
                    Family::Ipv4 => "IPv4",
                    Family::Ipv6 => "IPv6",
                };
                let pages = if huge {
                    "on huge pages"
                } else {
                    "on ordinary pages: the kernel grants no huge ones (/sys/kernel/mm/transparent_hugepage/enabled)"
                };
                let vrf = vrf_name(VrfId(vrf as u16));
                // Not how large it is: to find that out, all of its root is read.
                tracing::info!("{name} FIB of VRF {vrf} has become large: it is {pages}");
            }
        }
    }

    /// Takes back the memory that no worker can still read.
    pub fn reclaim(&mut self) {
        self.v4.iter_mut().for_each(Fib4Writer::reclaim);
        self.v6.iter_mut().for_each(Fib6Writer::reclaim);
    }

    /// Each FIB: its VRF and family, its routes, and the bytes of its blocks.
    pub fn sizes(&self) -> impl Iterator<Item = (VrfId, Family, usize, usize)> {
        let both = self.v4.iter().zip(&self.v6).enumerate();
        both.flat_map(|(vrf, (v4, v6))| {
            let vrf = VrfId(vrf as u16);
            [(vrf, Family::Ipv4, v4.len(), v4.block_bytes()), (vrf, Family::Ipv6, v6.len(), v6.block_bytes())]
        })
    }

    /// Routes in all FIBs together.
    pub fn len(&self) -> usize {
        self.v4.iter().map(Fib4Writer::len).sum::<usize>()
            + self.v6.iter().map(Fib6Writer::len).sum::<usize>()
    }
}

/// What the FIBs say of a VRF that is not there; the RIB has the same VRFs.
fn no_such_vrf(vrf: VrfId) -> FibSinkError {
    format!("there is no VRF {}", vrf.0).into()
}

impl FibSink for Fibs {
    fn write4(&mut self, vrf: VrfId, changes: &[Change<u32>]) -> Result<(), (usize, FibSinkError)> {
        let fib = self.v4.get_mut(usize::from(vrf.0)).ok_or_else(|| (0, no_such_vrf(vrf)))?;
        fib.apply(changes).map_err(|(at, error)| (at, error.into()))
    }

    fn write6(&mut self, vrf: VrfId, changes: &[Change<u128>]) -> Result<(), (usize, FibSinkError)> {
        let fib = self.v6.get_mut(usize::from(vrf.0)).ok_or_else(|| (0, no_such_vrf(vrf)))?;
        fib.apply(changes).map_err(|(at, error)| (at, error.into()))
    }
}

/// The snapshot's writer, with control's own copy of what it published last.
pub struct Publisher {
    domain: Arc<Domain<Tables>>,
    /// What workers see, or are about to.
    pub tables: Tables,
    /// What each adjacency stands for.
    pub adjacencies: Vec<AdjacencyDesc>,
}

/// How long a worker may take for a burst before we say that it does not come round.
const SLOW: Duration = Duration::from_secs(2);

impl Publisher {
    /// The writer of `domain`, whose first snapshot is `tables`.
    pub fn new(domain: Arc<Domain<Tables>>, tables: Tables) -> Self {
        Self { domain, tables, adjacencies: Vec::new() }
    }

    /// Publishes the RIB's groups, and returns when each worker uses them.
    pub fn publish(&mut self, groups: &GroupsSnapshot) {
        let sub_interfaces: &SubInterfaces = &self.tables.sub_interfaces;
        let adjacencies = groups.adjacencies.iter().map(|desc| adjacency(*desc, sub_interfaces)).collect();
        let group = |desc: &crate::rib::GroupDesc| Group {
            first: desc.first_bucket,
            mask: desc.buckets.saturating_sub(1),
        };
        let next_hops = groups.groups.iter().map(group).collect();
        self.tables.set_next_hops(next_hops, groups.buckets.clone(), adjacencies);
        self.adjacencies.clone_from(&groups.adjacencies);
        if self.tables.policies.any().any_of(Features::REVERSE_PATH) {
            self.tables.reverse_paths = reverse_paths(groups);
        }
        self.publish_tables();
    }

    /// Publishes traces and captures, and returns when each worker serves these and no others.
    pub fn set_watch(&mut self, watch: Option<Arc<Watch>>) {
        self.tables.watch = watch;
        self.publish_tables();
    }

    /// Publishes what `tables` holds now, and returns when each worker uses it.
    pub fn publish_tables(&mut self) {
        let ticket = self.domain.publish(self.tables.clone());
        let started = Instant::now();
        let mut complained = false;
        while !self.domain.has_passed(ticket) {
            if started.elapsed() > SLOW && !complained {
                complained = true;
                tracing::warn!("a worker has not come round for {} s: is its core taken?", SLOW.as_secs());
            }
            std::thread::sleep(Duration::from_micros(20));
        }
        self.domain.collect();
    }

    /// What an adjacency stands for.
    pub fn adjacency(&self, id: AdjId) -> AdjacencyDesc {
        self.adjacencies.get(id.0 as usize).copied().unwrap_or(AdjacencyDesc::NoRoute)
    }
}

/// The sub-interfaces that each group leads out of, whether their neighbours are known or not.
fn reverse_paths(groups: &GroupsSnapshot) -> ReversePaths {
    let sub_if = |id: &AdjId| match groups.adjacencies.get(id.0 as usize)? {
        AdjacencyDesc::Glean { subif }
        | AdjacencyDesc::Incomplete { subif, .. }
        | AdjacencyDesc::Forward { subif, .. } => Some(*subif),
        AdjacencyDesc::NoRoute | AdjacencyDesc::Discard | AdjacencyDesc::Local => None,
    };
    let mut paths = ReversePaths::default();
    for group in &groups.groups {
        let buckets = groups.buckets.iter().skip(group.first_bucket as usize).take(group.buckets as usize);
        paths.push(buckets.filter_map(sub_if));
    }
    paths
}

fn adjacency(desc: AdjacencyDesc, sub_interfaces: &SubInterfaces) -> Adjacency {
    let forward = |id: SubIfId, mac: [u8; 6]| {
        sub_interfaces.get(id).map(|sub_if| Adjacency::Forward(Forward::new(id, sub_if, mac)))
    };
    match desc {
        AdjacencyDesc::NoRoute => Adjacency::Punt(PuntReason::NoRoute),
        AdjacencyDesc::Discard => Adjacency::Drop(DropReason::DiscardRoute),
        AdjacencyDesc::Local => Adjacency::Punt(PuntReason::Local),
        AdjacencyDesc::Glean { .. } | AdjacencyDesc::Incomplete { .. } => {
            Adjacency::Punt(PuntReason::Unresolved)
        }
        AdjacencyDesc::Forward { subif, mac, .. } => {
            forward(subif, mac).unwrap_or(Adjacency::Drop(DropReason::InterfaceDown))
        }
    }
}
