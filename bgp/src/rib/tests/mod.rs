//! Tests of the RIB as a whole, through its public face, and of the layout beneath it.

mod decision;
mod incoming;
mod kept_default;
mod leaves;
mod lending;
mod model;
mod outgoing;
mod policies;
mod restart;
mod views;
