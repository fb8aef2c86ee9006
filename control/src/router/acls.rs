//! The access lists in force: which counter each rule has, through reloads, and what it counted.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use dataplane::acl::{Acl, MAX_COUNTERS, Rule, RuleCounters};

use crate::api::view;
use crate::config::model::AccessList;
use crate::config::{self, Config};

/// The lists, by their places in the configuration.
#[derive(Clone)]
pub struct Acls {
    lists: Vec<List>,
    /// The lists that each sub-interface has for what comes in, and for what goes out.
    bound: Vec<[Option<usize>; 2]>,
    /// Counters that no rule has and no worker writes to.
    free: Vec<u16>,
}

#[derive(Clone)]
struct List {
    name: String,
    rules: Vec<Counted>,
    /// What no rule matches.
    end: Counted,
}

/// A rule, its counter, and what that had counted before it was this rule's.
#[derive(Clone)]
struct Counted {
    text: String,
    counter: u16,
    before: [u64; 2],
}

/// Lists that are ready to take the place of those in force.
pub struct Plan {
    acls: Acls,
    /// The lists as the workers read them.
    pub compiled: Vec<Arc<Acl>>,
    /// Counters of rules that go.
    released: Vec<u16>,
    /// How many rules go on counting where they were.
    pub kept: usize,
    /// How many rules there are.
    pub rules: usize,
}

/// The text of a list's implicit end.
const END: &str = "(no rule matched: deny)";

impl Acls {
    /// No lists.
    pub fn none() -> Self {
        Self { lists: Vec::new(), bound: Vec::new(), free: (0..MAX_COUNTERS as u16).rev().collect() }
    }

    /// Prepares the lists of `config`. A rule that stands in a list of the same name already keeps its counter.
    ///
    /// # Errors
    /// A list that cannot be compiled, or more rules than there are counters.
    pub fn plan(&self, config: &Config, counters: &[Arc<RuleCounters>]) -> Result<Plan, String> {
        let mut free = self.free.clone();
        let mut old: BTreeMap<&str, &List> =
            self.lists.iter().map(|list| (list.name.as_str(), list)).collect();
        let (mut lists, mut compiled, mut released) = (Vec::new(), Vec::new(), Vec::new());
        let mut kept = 0;
        for list in &config.acls {
            let mut before = old.remove(list.name.as_str()).map(by_text).unwrap_or_default();
            let mut counted = |text: &str| {
                let same = before.get_mut(text).and_then(VecDeque::pop_front);
                kept += usize::from(same.is_some() && text != END);
                same.map_or_else(|| new(text, &mut free, counters), Ok)
            };
            let rules: Vec<Counted> =
                list.rules.iter().map(|rule| counted(&rule.text)).collect::<Result<_, _>>()?;
            let end = counted(END)?;
            released.extend(before.into_values().flatten().map(|counted| counted.counter));
            compiled.push(Arc::new(compile(list, &rules, &end)?));
            lists.push(List { name: list.name.clone(), rules, end });
        }
        let gone = old.into_values().flat_map(|list| list.rules.iter().chain([&list.end]));
        released.extend(gone.map(|counted| counted.counter));
        let bound = config.sub_interfaces.iter().map(|sub_if| [sub_if.acl_in, sub_if.acl_out]).collect();
        let rules = config.acls.iter().map(|list| list.rules.len()).sum();
        Ok(Plan { acls: Self { lists, bound, free }, compiled, released, kept, rules })
    }

    /// Takes over a plan whose lists every worker reads by now, and none the lists before.
    pub fn adopt(&mut self, plan: Plan) {
        *self = plan.acls;
        self.free.extend(plan.released);
    }

    /// What `show acls` shows.
    pub fn views(
        &self,
        counters: &[Arc<RuleCounters>],
        interface: impl Fn(usize) -> String,
    ) -> Vec<view::Acl> {
        let rule = |counted: &Counted| {
            let now = sums(counted.counter, counters);
            view::AclRule {
                rule: counted.text.clone(),
                packets: now[0].wrapping_sub(counted.before[0]),
                bytes: now[1].wrapping_sub(counted.before[1]),
            }
        };
        let bound = |list: usize, direction: usize| {
            let has = |(_, bound): &(usize, &[Option<usize>; 2])| bound[direction] == Some(list);
            self.bound.iter().enumerate().filter(has).map(|(at, _)| interface(at)).collect()
        };
        let one = |(at, list): (usize, &List)| view::Acl {
            name: list.name.clone(),
            inbound: bound(at, 0),
            outbound: bound(at, 1),
            rules: list.rules.iter().chain([&list.end]).map(rule).collect(),
        };
        self.lists.iter().enumerate().map(one).collect()
    }
}

fn by_text(list: &List) -> BTreeMap<String, VecDeque<Counted>> {
    let mut by_text: BTreeMap<String, VecDeque<Counted>> = BTreeMap::new();
    for counted in list.rules.iter().chain([&list.end]) {
        by_text.entry(counted.text.clone()).or_default().push_back(counted.clone());
    }
    by_text
}

/// A new rule, which counts from 0.
fn new(text: &str, free: &mut Vec<u16>, counters: &[Arc<RuleCounters>]) -> Result<Counted, String> {
    let counter = free.pop().ok_or("too many rules in all lists together, old and new")?;
    Ok(Counted { text: text.to_owned(), counter, before: sums(counter, counters) })
}

/// Packets and bytes that all workers counted.
fn sums(counter: u16, counters: &[Arc<RuleCounters>]) -> [u64; 2] {
    let sum = |of: &dyn Fn(&RuleCounters) -> u64| {
        counters.iter().map(|counters| of(counters)).fold(0, u64::wrapping_add)
    };
    [sum(&|c| c.get(counter).packets.get()), sum(&|c| c.get(counter).bytes.get())]
}

fn compile(list: &AccessList, rules: &[Counted], end: &Counted) -> Result<Acl, String> {
    let counters: Vec<u16> = rules.iter().chain([end]).map(|counted| counted.counter).collect();
    let rules: Vec<Rule> = list.rules.iter().map(|rule| rule.rule.clone()).collect();
    Acl::new(&rules, &counters).map_err(|error| format!("access list `{}`: {error}", list.name))
}

/// Reads the access lists of a configuration file for a router that runs with `config`: that configuration, with the
/// file's lists and what its interfaces say of them.
///
/// # Errors
/// All that is wrong with the file, or an interface of the router that the file does not have.
pub fn read(file: &Path, mut config: Config) -> Result<Config, String> {
    let new = config::load(file).map_err(|errors| errors.to_string())?;
    for sub_if in &mut config.sub_interfaces {
        let same = new.sub_interfaces.iter().find(|same| same.name == sub_if.name);
        let same = same.ok_or_else(|| {
            format!(
                "{}: it has no interface `{}`, which the running router has; only access lists can be reloaded: \
                 restart turnpike for the rest",
                file.display(),
                sub_if.name
            )
        })?;
        (sub_if.acl_in, sub_if.acl_out) = (same.acl_in, same.acl_out);
    }
    config.acls = new.acls;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(rules: &[(&str, &[&str])]) -> Config {
        let mut text = String::from(
            "port = [{ name = \"p\", device = \"net_null0\" }]\n\
             interface = [{ name = \"a\", port = \"p\", addresses = [\"192.0.2.1/24\"], acl_in = \"one\" }]\n",
        );
        for (name, rules) in rules {
            text.push_str(&format!("[[acl]]\nname = {name:?}\nrules = {rules:?}\n"));
        }
        config::parse("t.toml", &text).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn hits(acls: &Acls, counters: &[Arc<RuleCounters>]) -> Vec<(String, u64)> {
        let views = acls.views(counters, |_| "a".into());
        views.into_iter().flat_map(|acl| acl.rules).map(|rule| (rule.rule, rule.packets)).collect()
    }

    #[test]
    fn rules_keep_their_counts_as_long_as_they_stand() {
        let counters: Vec<Arc<RuleCounters>> = vec![Arc::default(), Arc::default()];
        let mut acls = Acls::none();
        let plan =
            acls.plan(&config(&[("one", &["permit tcp", "deny udp", "deny udp"])]), &counters).unwrap();
        acls.adopt(plan);
        let counter_of = |acls: &Acls, at: usize| acls.lists[0].rules[at].counter;
        for (worker, at, packets) in [(0, 0, 5), (1, 0, 6), (0, 1, 7), (1, 2, 8)] {
            counters[worker].add(counter_of(&acls, at), packets, packets * 100);
        }
        let expect = |acls: &Acls, expected: &[(&str, u64)]| {
            let expected: Vec<_> = expected.iter().map(|(rule, n)| ((*rule).to_owned(), *n)).collect();
            assert_eq!(hits(acls, &counters), expected);
        };
        expect(&acls, &[("permit tcp", 11), ("deny udp", 7), ("deny udp", 8), (END, 0)]);

        // One rule goes, one moves, one is new.
        let gone = counter_of(&acls, 2);
        let plan =
            acls.plan(&config(&[("one", &["deny udp", "permit icmp", "permit  tcp"])]), &counters).unwrap();
        assert_eq!((plan.kept, plan.rules), (2, 3));
        // What the workers still count by the old list is not lost.
        counters[0].add(counter_of(&acls, 0), 1, 100);
        acls.adopt(plan);
        expect(&acls, &[("deny udp", 7), ("permit icmp", 0), ("permit tcp", 12), (END, 0)]);
        assert!(acls.free.contains(&gone));

        // A counter that another rule had begins anew.
        let many: Vec<String> =
            (0..acls.free.len().min(4000)).map(|port| format!("permit tcp to any port {port}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        acls.free.retain(|counter| *counter == gone || *counter < 4000 + 64);
        let plan = acls.plan(&config(&[("one", &many)]), &counters).unwrap();
        acls.adopt(plan);
        assert!(acls.lists[0].rules.iter().any(|rule| rule.counter == gone));
        assert!(hits(&acls, &counters).iter().all(|(_, packets)| *packets == 0));

        // A list of another name is another list.
        let other = Config {
            acls: vec![AccessList { name: "two".into(), rules: vec![] }],
            ..config(&[("one", &[])])
        };
        let plan = acls.plan(&other, &counters).unwrap();
        assert_eq!(plan.kept, 0);
    }

    #[test]
    fn running_out_of_counters_changes_nothing() {
        let acls = Acls { free: vec![1, 2], ..Acls::none() };
        assert!(acls.plan(&config(&[("one", &["permit tcp", "deny udp"])]), &[]).is_err());
        assert_eq!(acls.free, [1, 2]);
    }
}
