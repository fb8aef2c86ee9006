//! Real daemons that push routes to turnpike: FRR, BIRD, GoBGP, ExaBGP and OpenBGPD by BGP, FRR by FPM and BIRD by the
//! kernel's table; alone and together, each with the configuration of its page and some more routes.
//!
//! After each step what turnpike holds is compared with what the daemon itself says that it has, and packets go where
//! the routes lead.

mod bird;
mod exabgp;
mod frr;
mod gobgp;
mod guarded;
mod mixed;
mod openbgpd;
mod page;
mod route;
mod speaker;
mod who;
mod yard;

use self::route::{Route, Routes, changed, thinned};
use self::who::{BIRD, EXABGP, FPM, FRR, GOBGP, KERNEL, OPENBGPD, Who};
pub use self::yard::Yard;
use crate::suite::{SOON, Step};
use crate::wait;

/// What each speaker does alone, a step for each.
macro_rules! alone {
    ($($name:literal $who:ident),*; $($more:expr),*) => {
        /// The steps, in order.
        pub const STEPS: &[Step<Yard>] = &[
            $((concat!($name, "_pushes"), |yard| pushes(yard, $who)),
            (concat!($name, "_changes"), |yard| changes(yard, $who)),
            (concat!($name, "_withdraws"), |yard| withdraws(yard, $who)),)*
            $((concat!($name, "_goes_to_restart"), |yard| goes(yard, $who)),)*
            $((concat!($name, "_has_restarted"), |yard| is_back(yard, $who)),)*
            $($more),*
        ];
    };
}

alone!(
    "frr" FRR, "bird" BIRD, "exabgp" EXABGP, "openbgpd" OPENBGPD, "kernel" KERNEL, "fpm" FPM, "gobgp" GOBGP;
    ("the_best_of_all_is_used", mixed::the_best_of_all_is_used),
    ("killed_one_by_one_each_leaves_to_the_next", mixed::killed_one_by_one),
    ("one_that_comes_back_takes_over_again", mixed::comes_back),
    ("a_guarded_session", guarded::a_guarded_session),
    ("turnpike_takes_leave", mixed::takes_leave)
);

fn pushes(yard: &mut Yard, who: Who) {
    if yard.routes[who.index].is_empty() {
        yard.launch(who, who.feed());
    }
    yard.wait_for(who);
    yard.holds(who);
}

/// Next hops of a third of its routes, and attributes of another third.
fn changes(yard: &mut Yard, who: Who) {
    yard.set(who, changed(&who.feed(), who.bgp));
    yard.holds(who);
}

fn withdraws(yard: &mut Yard, who: Who) {
    let fewer = thinned(&yard.routes[who.index], 5);
    yard.set(who, fewer);
    yard.holds(who);
}

/// It goes, and its routes stay in use. It is started again with some routes less.
fn goes(yard: &mut Yard, who: Who) {
    let before = yard.installed(who);
    yard.leave(who);
    assert_eq!(yard.installed(who), before, "they stay");
    yard.forwards(&samples(&yard.routes[who.index]));
    let fewer = thinned(&yard.routes[who.index], 7);
    yard.launch(who, fewer);
}

/// Until it is back, what it will announce again is in use. What it has not announced again goes.
fn is_back(yard: &mut Yard, who: Who) {
    wait::until_true(SOON, &format!("the return of {}", who.name()), || {
        yard.forwards(&samples(&yard.routes[who.index]));
        yard.is_back(who)
    });
    yard.holds(who);
}

/// Some of the routes that it has alone.
fn samples(routes: &Routes) -> Vec<&Route> {
    routes.iter().step_by(50).filter(|route| !route.shared()).collect()
}
