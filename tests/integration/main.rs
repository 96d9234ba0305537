//! Integration tests: the real kernel in network namespaces, and foreign daemons.

// The attribute tells clippy that helpers outside of `#[test]` may panic too.
#[cfg(test)]
mod nd;
