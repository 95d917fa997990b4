//! Choices made of arbitrary bytes.

/// Bytes that decide. When none are left, every choice is the first one.
pub struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A number below `end`, which is at least 1.
    pub fn below(&mut self, end: usize) -> usize {
        let wide = if end > 256 { [0, self.byte(), self.byte(), self.byte()] } else { [0, 0, 0, self.byte()] };
        u32::from_be_bytes(wide) as usize % end
    }

    /// Yes, one time in `rarity`; no when no bytes are left.
    pub fn rarely(&mut self, rarity: u8) -> bool {
        self.byte() % rarity == rarity - 1
    }

    pub fn one_of<'b, T>(&mut self, choices: &'b [T]) -> &'b T {
        &choices[self.below(choices.len())]
    }

    /// Numbers at which something may happen, and any other.
    pub fn number(&mut self) -> u64 {
        const EDGES: [u64; 16] = [
            0,
            1,
            2,
            255,
            256,
            257,
            300,
            65_535,
            65_536,
            u32::MAX as u64,
            (1 << 53) - 1,
            1 << 53,
            i64::MAX as u64,
            (1 << 63) + 1,
            u64::MAX - 1,
            u64::MAX,
        ];
        match self.below(4) {
            0 => *self.one_of(&EDGES),
            1 => u64::from(self.byte()),
            2 => u64::from(u16::from_be_bytes([self.byte(), self.byte()])),
            _ => u64::from_be_bytes(std::array::from_fn(|_| self.byte())),
        }
    }

    /// A few bytes as they are.
    pub fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most + 1).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken.to_vec()
    }

    /// All bytes that are left, as they are.
    pub fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0).to_vec()
    }
}
