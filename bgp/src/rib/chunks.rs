//! A list that grows and shrinks at its end in pieces of one size: no operation moves what is there, or gives back
//! more than one piece, however long the list is.

use crate::memory::list_octets;

/// Elements of a piece.
const PIECE: usize = 1024;

#[derive(Debug)]
pub(crate) struct Chunks<T> {
    /// All full but the last, none empty.
    pieces: Vec<Vec<T>>,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self { pieces: Vec::new() }
    }
}

impl<T> Chunks<T> {
    pub(crate) fn len(&self) -> usize {
        let before_last = self.pieces.len().saturating_sub(1) * PIECE;
        before_last + self.pieces.last().map_or(0, Vec::len)
    }

    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        self.pieces.get(at / PIECE)?.get(at % PIECE)
    }

    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.pieces.get_mut(at / PIECE)?.get_mut(at % PIECE)
    }

    pub(crate) fn last(&self) -> Option<&T> {
        self.pieces.last()?.last()
    }

    /// On the heap, without what elements have there.
    pub(crate) fn octets(&self) -> usize {
        list_octets(&self.pieces) + self.pieces.iter().map(list_octets).sum::<usize>()
    }

    pub(crate) fn push(&mut self, element: T) {
        match self.pieces.last_mut().filter(|last| last.len() < PIECE) {
            Some(last) => last.push(element),
            None => {
                // A short list costs what it holds; the pieces behind the first are going to be full.
                let mut piece = Vec::with_capacity(if self.pieces.is_empty() { 1 } else { PIECE });
                piece.push(element);
                self.pieces.push(piece);
            }
        }
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        let last = self.pieces.last_mut()?;
        let element = last.pop();
        if last.is_empty() {
            self.pieces.pop();
            if self.pieces.capacity() / 4 > self.pieces.len() {
                self.pieces.shrink_to(self.pieces.len() * 2);
            }
        }
        element
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_list() {
        let mut chunks = Chunks::default();
        for number in 0..3 * PIECE + 1 {
            assert_eq!((chunks.len(), chunks.get(number)), (number, None));
            chunks.push(number);
            assert_eq!((chunks.last(), chunks.get(number / 2)), (Some(&number), Some(&(number / 2))));
        }
        *chunks.get_mut(PIECE).unwrap() = 7;
        assert_eq!(chunks.get(PIECE), Some(&7));
        for number in (0..3 * PIECE + 1).rev() {
            assert_eq!(chunks.pop(), Some(if number == PIECE { 7 } else { number }));
            assert_eq!(chunks.len(), number);
        }
        assert_eq!((chunks.pop(), chunks.pieces.capacity()), (None, 0));
    }
}
