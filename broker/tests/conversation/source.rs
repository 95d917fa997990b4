//! Choices made of arbitrary bytes.

/// Bytes that decide. When none are left, every choice is the first one.
pub struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    pub fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// A number from 0 to `most`, which is included.
    pub fn up_to(&mut self, most: u8) -> u8 {
        self.byte() % most.saturating_add(1)
    }

    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    /// One of `right`, and now and then one of `wrong`.
    pub fn usually<T: Copy>(&mut self, right: &[T], wrong: &[T]) -> T {
        if self.rarely(40) { self.one_of(wrong) } else { self.one_of(right) }
    }

    /// Yes, one time in `rarity`.
    pub fn rarely(&mut self, rarity: u8) -> bool {
        self.byte() % rarity == rarity - 1
    }

    /// A few bytes as they are.
    pub fn bytes(&mut self, most: u8) -> Vec<u8> {
        let length = usize::from(self.up_to(most)).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken.to_vec()
    }
}
