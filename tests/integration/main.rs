//! Integration tests: the real kernel in network namespaces, and foreign daemons.

mod nd;
