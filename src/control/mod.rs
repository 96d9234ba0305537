//! The control API over a Unix socket: what `bgpctl` and scripts ask, and what they may tell the daemon to do.
//!
//! In: HTTP/1.1 requests on the socket, and the agent's answers. Out: one [`Request`] for each, over a bounded
//! channel, to whoever owns the state; JSON ([`api`]) back to the client. Nothing here knows the agent.

pub mod api;
mod request;
mod server;

pub use request::{
    DrainOrder, PageQuery, ReloadOrder, Reply, Request, Selector, ServiceSelector, ServicesQuery, TableQuery,
};
pub use server::{BindError, REQUEST_QUEUE, Server};
