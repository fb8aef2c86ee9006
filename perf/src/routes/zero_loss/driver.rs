//! What happens to the table in a trial: it comes, changes its next hop, and goes.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use crate::routes::feed::{Feed, NextHops, Prefix};
use crate::routes::lab::{Lab, Stop};
use crate::routes::ours::Turnpike;
use crate::routes::speaker::Speaker;
use crate::routes::subject::Subject as _;
use crate::routes::{HOPS, probe};

/// Brings the table, changes it, and takes it.
pub struct Driver<'a> {
    pub turnpike: &'a mut Turnpike,
    pub speaker: &'a mut Speaker,
    pub feed: &'a Feed,
    pub lab: &'a Lab,
    pub stop: &'a Stop,
    pub stage: &'a AtomicU8,
}

impl Driver<'_> {
    /// All stages, each within the time that is left of `patience`.
    pub fn change(&mut self, patience: Duration) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        let settled = Duration::from_millis(300);
        self.stop.sleep(settled)?;
        let (all, last) = (self.feed.prefixes.len(), self.last());
        let other = NextHops { v4: Ipv4Addr::new(198, 51, 100, 3), ..HOPS };
        let changed = self.feed.announced_by(other);
        for stage in 1..=3u8 {
            self.stage.store(stage, Ordering::Release);
            let bytes = [&self.feed.announce, &changed, &self.feed.withdraw][usize::from(stage) - 1];
            self.speaker.send(bytes)?;
            loop {
                let have = self.turnpike.count(self.lab, all)?;
                let there = match stage {
                    1 => have == all,
                    2 => self.leads_to(last, other.v4.into())?,
                    _ => have == 0,
                };
                if there {
                    break;
                }
                if Instant::now() > deadline {
                    return Err(format!("stage {stage} does not end: {have} of {all} routes"));
                }
                self.stop.sleep(Duration::from_millis(20))?;
            }
            self.stop.sleep(settled)?;
        }
        Ok(())
    }

    fn last(&self) -> IpAddr {
        let v4 = self.feed.prefixes.iter().rev().find(|p| matches!(p, Prefix::V4(..)));
        v4.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |prefix| probe::address(*prefix))
    }

    fn leads_to(&self, address: IpAddr, gateway: IpAddr) -> Result<bool, String> {
        let chain = self.turnpike.ask(&format!(r#"{{"show":"routes","target":"{address}"}}"#))?;
        Ok(chain[0]["members"][0]["gateway"] == gateway.to_string())
    }
}
