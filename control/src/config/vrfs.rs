//! The VRFs: `default`, those of `[[vrf]]`, and those that interfaces and peerings name.

use dataplane::ids::VrfId;

use super::draft::{Draft, Sub};
use super::errors::{At, Report};
use super::model::Vrf;
use super::suggest::hint;

/// All VRFs, and which of them have an interface.
pub(super) struct Vrfs {
    pub list: Vec<Vrf>,
    in_use: Vec<bool>,
    /// Whether each interface's VRF could be read: else a reference may mean one that is reported already.
    whole: bool,
}

impl Vrfs {
    /// Collects the VRFs of `draft`; a `[[vrf]]` given twice or without an interface is an error.
    pub fn collect(draft: &Draft, report: &mut Report<'_>) -> Self {
        let default = Vrf { name: "default".to_owned(), namespace: None };
        let mut vrfs = Self { list: vec![default], in_use: vec![false], whole: true };
        vrfs.whole = draft.subs.iter().all(|sub| sub.vrf.is_some());
        let mut declared: Vec<&At<String>> = Vec::new();
        for vrf in &draft.vrfs {
            let Some(name) = &vrf.name else { continue };
            if let Some(first) = declared.iter().find(|d| d.value == name.value) {
                let line = report.line(first.place);
                report.error(
                    name.place,
                    format!("VRF {:?} stands on line {line} already: keep one", name.value),
                );
            }
            declared.push(name);
            let index = vrfs.index_of(&name.value);
            if let Some(entry) = vrfs.list.get_mut(index) {
                entry.namespace.clone_from(&vrf.namespace);
            }
        }
        for name in draft.subs.iter().filter_map(|sub| sub.vrf.as_ref()) {
            let index = vrfs.index_of(&name.value);
            if let Some(used) = vrfs.in_use.get_mut(index) {
                *used = true;
            }
        }
        for name in declared {
            vrfs.resolve(name, report);
        }
        vrfs
    }

    fn index_of(&mut self, name: &str) -> usize {
        self.find(name).unwrap_or_else(|| {
            self.list.push(Vrf { name: name.to_owned(), namespace: None });
            self.in_use.push(false);
            self.list.len() - 1
        })
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.list.iter().position(|vrf| vrf.name == name)
    }

    /// The VRF that a sub-interface is in.
    pub fn of(&self, sub: &Sub) -> Option<VrfId> {
        self.find(&sub.vrf.as_ref()?.value).and_then(id)
    }

    /// The VRF named by `reference`, which must have an interface.
    pub fn resolve(&self, reference: &At<String>, report: &mut Report<'_>) -> Option<VrfId> {
        let used = |index: &usize| self.in_use.get(*index).copied().unwrap_or(false);
        if let Some(index) = self.find(&reference.value).filter(used) {
            return id(index);
        }
        let with_interface =
            self.list.iter().enumerate().filter(|(i, _)| used(i)).map(|(_, v)| v.name.as_str());
        let hint = hint(&reference.value, with_interface);
        if self.whole {
            let message = format!("no interface or peering is in VRF {:?}{hint}", reference.value);
            report.error(reference.place, message);
        }
        None
    }
}

fn id(index: usize) -> Option<VrfId> {
    u16::try_from(index).ok().map(VrfId)
}
