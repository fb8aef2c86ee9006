//! Which of a prefix's routes counts in the kernel, which has a list of them; zebra has one.

use super::decode::{self, Lead, Place};
use super::routes::Route;

/// How the other side speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manners {
    /// zebra: a prefix has one route in a table.
    Zebra,
    /// The kernel: a prefix may have several, of which the first with the lowest metric counts. What goes with an
    /// object or another route may go unsaid.
    Kernel,
}

/// Changes a prefix's routes in the kernel as `said`, whose route is `new` if it is one that we take. `turned`: a route
/// that becomes another one in its place, before and after. Whether that is what the kernel has now; if not, its list
/// is to be read.
pub(super) fn edit(
    list: &mut Vec<Route>,
    said: &decode::Route,
    new: Option<Route>,
    turned: Option<(Route, Route)>,
) -> bool {
    let with_metric = |route: &Route| route.metric == said.metric;
    if said.gone {
        let Some(new) = new else { return true };
        if let Some((before, after)) = turned {
            list.iter_mut().filter(|route| route.is(&before)).for_each(|route| *route = after);
            return true;
        }
        let exact = list.iter().position(|route| route.is(&new));
        let alike = || list.iter().position(|route| with_metric(route) && route.protocol == new.protocol);
        if let Some(place) = exact.or_else(alike) {
            list.remove(place);
            return exact.is_some();
        }
        return true;
    }
    if said.place == Place::Dumped {
        // In the order in which they count; what was not told yet comes behind, until it is swept.
        let Some(new) = new else { return true };
        list.retain(|route| !route.is(&new));
        let behind = |route: &Route| {
            route.metric > new.metric || (with_metric(route) && route.generation != new.generation)
        };
        list.insert(list.iter().position(behind).unwrap_or(list.len()), new);
        return true;
    }
    if let Some((before, after)) = turned {
        list.retain(|route| route.is(&before) || !route.is(&after));
        list.iter_mut().filter(|route| route.is(&before)).for_each(|route| *route = after);
        return true;
    }
    // That a route's object changed is said as if the route took its own place.
    if said.place == Place::Instead
        && matches!(said.lead, Lead::Object(_))
        && let Some(same) = new.and_then(|new| list.iter_mut().find(|route| route.is(&new)))
    {
        same.generation = new.map_or(same.generation, |new| new.generation);
        return true;
    }
    if said.place == Place::Instead
        && let Some(place) = list.iter().position(with_metric)
    {
        list.remove(place);
    }
    let Some(new) = new else { return true };
    // The kernel has no two that are the same.
    list.retain(|route| !route.is(&new));
    let comes_last = said.place == Place::Last || said.prefix.is_ipv6();
    let behind =
        |route: &Route| if comes_last { route.metric > said.metric } else { route.metric >= said.metric };
    let place = list.iter().position(behind).unwrap_or(list.len());
    list.insert(place, new);
    true
}
