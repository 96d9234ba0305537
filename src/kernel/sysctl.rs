//! Sysctls.
