//! Access lists anew, while the router runs: read and compiled in a thread of its own, since BFD does not wait for that,
//! then put in force in one turn.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded};
use dataplane::acl::RuleCounters;
use dataplane::ids::{AclId, SubIfId};
use dataplane::policy::Policies;

use super::acls::{self, Acls, Plan};
use super::control::Control;
use super::publish;
use crate::api::{Reply, view};
use crate::config::Config;

/// The access lists in force, and those on their way.
pub struct AclsInForce {
    acls: Acls,
    /// Where they are read from unless an order says otherwise.
    file: Option<PathBuf>,
    reload: Option<Reload>,
}

/// A reload that is under way.
struct Reload {
    outcome: Receiver<Result<Ready, String>>,
    /// Who waits for it.
    reply: Sender<Reply>,
}

/// What is to be put in force.
struct Ready {
    config: Config,
    policies: Policies,
    plan: Plan,
}

impl AclsInForce {
    /// The lists of `config`, and the policies of its interfaces with them.
    ///
    /// # Errors
    /// A list cannot be compiled.
    pub fn new(config: &Config) -> Result<(Self, Policies), String> {
        let mut acls = Acls::none();
        let plan = acls.plan(config, &[])?;
        let policies = policies(config, &plan);
        acls.adopt(plan);
        Ok((Self { acls, file: None, reload: None }, policies))
    }

    /// Says where they are read from unless an order says otherwise.
    pub fn reload_from(&mut self, file: PathBuf) {
        self.file = Some(file);
    }
}

/// What the interfaces do besides forwarding, with the lists of `plan`.
fn policies(config: &Config, plan: &Plan) -> Policies {
    let id = |list: Option<usize>| list.map(|list| AclId(list as u16));
    let access = config.sub_interfaces.iter().map(|sub_if| [id(sub_if.acl_in), id(sub_if.acl_out)]).collect();
    publish::policies(config).with_access(access, plan.compiled.clone())
}

impl Control {
    /// Begins a reload; `reply` hears what comes of it.
    ///
    /// # Errors
    /// It cannot begin.
    pub(super) fn start_reload(&mut self, file: Option<&Path>, reply: Sender<Reply>) -> Result<(), String> {
        if self.acls.reload.is_some() {
            return Err("a reload of the access lists is under way: try again when it is done".into());
        }
        let file = file.map(Path::to_owned).or_else(|| self.acls.file.clone());
        let file = file.ok_or("this turnpike was started without a configuration file: name one")?;
        let (config, acls, counters) = (self.config.clone(), self.acls.acls.clone(), self.rule_counters());
        let (done, outcome) = bounded(1);
        let work = move || {
            let ready = || {
                // To open a FIFO would be to wait for whoever writes to it.
                if std::fs::metadata(&file).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
                    return Err(format!("{}: is no regular file", file.display()));
                }
                let config = acls::read(&file, config)?;
                let plan = acls.plan(&config, &counters)?;
                let policies = policies(&config, &plan);
                Ok(Ready { config, policies, plan })
            };
            // If nobody waits any more, the router is stopping.
            let _ = done.send(ready());
        };
        let thread = std::thread::Builder::new().name("acl-reload".to_owned()).spawn(work);
        thread.map_err(|error| format!("cannot start a thread for the reload: {error}"))?;
        self.acls.reload = Some(Reload { outcome, reply });
        Ok(())
    }

    /// Puts in force what a reload has brought. Returns whether there was anything.
    pub(super) fn end_reload(&mut self) -> bool {
        let Some(reload) = &self.acls.reload else { return false };
        let outcome = match reload.outcome.try_recv() {
            Ok(outcome) => outcome,
            Err(TryRecvError::Empty) => return false,
            Err(TryRecvError::Disconnected) => Err("the reload ended by a fault of ours".into()),
        };
        let reply = outcome.map(|ready| self.put_in_force(ready));
        let reply = match reply.and_then(|done| super::views::json(&done)) {
            Ok(value) => Reply::Ok(value),
            Err(why) => {
                tracing::warn!("access lists are as they were: {why}");
                Reply::Error(why)
            }
        };
        if let Some(reload) = self.acls.reload.take() {
            // A client that did not wait gets no answer.
            let _ = reload.reply.send(reply);
        }
        true
    }

    fn put_in_force(&mut self, ready: Ready) -> view::AclReload {
        let Ready { config, policies, plan } = ready;
        let done = view::AclReload { lists: plan.compiled.len(), rules: plan.rules, kept: plan.kept };
        for (sub_if, new) in self.config.sub_interfaces.iter_mut().zip(&config.sub_interfaces) {
            (sub_if.acl_in, sub_if.acl_out) = (new.acl_in, new.acl_out);
        }
        self.config.acls = config.acls;
        // One snapshot holds all lists: each burst is judged by the old ones or by the new ones.
        self.publisher.tables.policies = Arc::new(policies);
        self.publisher.publish_tables();
        self.acls.acls.adopt(plan);
        tracing::info!("{} access lists with {} rules are in force", done.lists, done.rules);
        done
    }

    /// Everybody's counters of rules.
    fn rule_counters(&self) -> Vec<Arc<RuleCounters>> {
        let workers = self.workers.counters.iter().map(|worker| Arc::clone(&worker.rules));
        workers.chain([Arc::clone(self.punts.rule_counters())]).collect()
    }

    pub(super) fn acl_views(&self) -> Vec<view::Acl> {
        self.acls.acls.views(&self.rule_counters(), |interface| self.sub_if_name(SubIfId(interface as u16)))
    }
}
