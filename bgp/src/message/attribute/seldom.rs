//! A list that is nearly always empty, in the room of one pointer.

use std::fmt;
use std::ops::Deref;

/// A slice behind a thin pointer. There are as many of these as different attributes in memory, times four, and hardly
/// one has anything in it: so the length is stored with the items.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Seldom<T>(
    /// `None`: empty, so that equal lists are equal values.
    Option<Box<Box<[T]>>>,
);

impl<T> Seldom<T> {
    /// What it takes on the heap, without what its items have there.
    pub(super) fn heap_octets(&self) -> usize {
        self.0.as_ref().map_or(0, |items| size_of::<Box<[T]>>() + size_of_val::<[T]>(items))
    }
}

impl<T> Default for Seldom<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Deref for Seldom<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.0.as_deref().map(|items| &**items).unwrap_or_default()
    }
}

impl<T> From<Box<[T]>> for Seldom<T> {
    fn from(items: Box<[T]>) -> Self {
        Self((!items.is_empty()).then(|| Box::new(items)))
    }
}

impl<T> From<Vec<T>> for Seldom<T> {
    fn from(items: Vec<T>) -> Self {
        items.into_boxed_slice().into()
    }
}

impl<T, const N: usize> From<[T; N]> for Seldom<T> {
    fn from(items: [T; N]) -> Self {
        Vec::from(items).into()
    }
}

impl<T> FromIterator<T> for Seldom<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        items.into_iter().collect::<Vec<T>>().into()
    }
}

impl<'a, T> IntoIterator for &'a Seldom<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: fmt::Debug> fmt::Debug for Seldom<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
