//! The agent beside real peers, one link at a time: what FRR and BIRD do with it, and it with them, in the ways that
//! the rack does not show.

mod bfd;
mod bird;
mod default_route;
mod drain;
mod fixture;
mod hostile;
mod inject;
mod kubernetes;
mod limit;
mod links;
mod operator;
mod peers;
mod pod;
mod policy;
mod reload;
mod speaker;
mod unit;
