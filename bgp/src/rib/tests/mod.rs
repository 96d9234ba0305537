//! Tests of the RIB as a whole, through its public face.

mod decision;
mod incoming;
mod model;
mod outgoing;
mod views;
