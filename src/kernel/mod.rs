//! The kernel's side: links, addresses and routes, over netlink, and the sysctls that the job depends on.
//! Nothing outside this module speaks netlink.

pub mod fib;
pub mod interfaces;
mod netlink;
pub mod pods;
pub mod sysctl;

pub use netlink::{DumpError, KernelError};
