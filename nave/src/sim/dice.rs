//! Chance, from one seed.

/// Draws numbers: the same ones for the same seed.
///
/// ```
/// use nave::sim::Dice;
/// let (mut one, mut other) = (Dice::seeded(7), Dice::seeded(7));
/// assert_eq!(one.roll(1_000_000), other.roll(1_000_000));
/// assert!(["red", "blue"].contains(one.pick(&["red", "blue"])));
/// ```
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice of this seed. Seeds that stand side by side have nothing in common.
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// `SplitMix64` (Steele, Lea, Flood 2014).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to below `sides`; 0 where it has none.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.next() % sides.max(1)
    }

    /// The same for places in a list.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.roll(length as u64)).unwrap_or(0)
    }

    /// A number from `least` to below `most`.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.roll(most.saturating_sub(least))
    }

    /// True so many times in a thousand.
    pub fn chance(&mut self, permille: u32) -> bool {
        self.roll(1_000) < u64::from(permille)
    }

    /// One of these.
    ///
    /// # Panics
    /// Where there are none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.index(of.len())]
    }

    /// Dice of their own, so that what one part of a simulation draws does not change what another one does.
    #[must_use]
    pub fn split(&mut self) -> Self {
        Self(self.next())
    }

    /// Dice of their own without a draw from these, for what was added later: what these draw stays the same. Two with one tag
    /// are the same.
    #[must_use]
    pub fn tagged(&self, tag: u64) -> Self {
        Self(Self(self.0 ^ tag).next())
    }

    /// Puts these in another order.
    pub fn shuffle<T>(&mut self, of: &mut [T]) {
        for last in (1..of.len()).rev() {
            of.swap(last, self.index(last + 1));
        }
    }
}
