//! The tokio half: sockets, timers and tasks that drive the pure one.
