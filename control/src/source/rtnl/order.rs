//! Which of a prefix's routes counts in the kernel, which has a list of them; zebra has one.

use super::decode;
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

/// Changes a prefix's routes in the kernel as `said`, whose route is `new` if it is one that we take. `shrunk`: a route
/// that loses a hop, before and after.
pub(super) fn edit(
    list: &mut Vec<Route>,
    said: &decode::Route,
    new: Option<Route>,
    shrunk: Option<(Route, Route)>,
) {
    let with_metric = |route: &Route| route.metric == said.metric;
    if said.gone {
        let Some(new) = new else { return };
        if let Some((before, after)) = shrunk {
            list.iter_mut().filter(|route| route.is(&before)).for_each(|route| *route = after);
            return;
        }
        let exact = list.iter().position(|route| route.is(&new));
        let alike = || list.iter().position(|route| with_metric(route) && route.protocol == new.protocol);
        if let Some(place) = exact.or_else(alike) {
            list.remove(place);
        }
        return;
    }
    // IPv6 has one route for each metric, over all its hops.
    if (said.replace || said.prefix.is_ipv6())
        && let Some(place) = list.iter().position(with_metric)
    {
        list.remove(place);
    }
    let Some(new) = new else { return };
    if said.append
        && let Some(same) = list.iter_mut().find(|route| route.is(&new))
    {
        same.generation = new.generation;
        return;
    }
    // The kernel has no two that are the same.
    list.retain(|route| !route.is(&new));
    let behind =
        |route: &Route| if said.append { route.metric > said.metric } else { route.metric >= said.metric };
    let place = list.iter().position(behind).unwrap_or(list.len());
    list.insert(place, new);
}
