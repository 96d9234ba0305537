//! The interner for the project's own bench; no part of the library's face.
//!
//! In: attributes, as a path that comes in brings them. Out: nothing but the time that it takes.

use super::interner;
use crate::message::Attributes;

/// Attributes, each kept once.
#[derive(Debug)]
pub struct Interner(interner::Interner<Attributes>);

/// A path's hold on its attributes.
#[derive(Debug, Clone, Copy)]
pub struct Held(interner::Handle);

impl Interner {
    /// Empty.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "the one inside has no default either")]
    pub fn new() -> Self {
        Self(interner::Interner::new())
    }

    /// A path with these attributes comes; `None` when there are four billion of them.
    pub fn hold(&mut self, attributes: Attributes) -> Option<Held> {
        self.0.intern(attributes).map(Held)
    }

    /// It goes. Attributes that no other path has are freed.
    pub fn release(&mut self, held: Held) {
        self.0.release(held.0);
    }
}
