//! The agent: which tasks there are and what flows between them.
