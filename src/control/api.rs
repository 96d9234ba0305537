//! Types of the control API, as they stand in JSON.
