//! Router Discovery (RFC 4861) on the uplinks: learns the link-local address of the router at the other end,
//! and lets it learn ours. That is how BGP unnumbered finds its peer.
