//! Deterministic random numbers.

/// A random number generator that draws the same numbers for the same seed.
///
/// ```
/// use simulation::Dice;
/// let (mut one, mut other) = (Dice::seeded(7), Dice::seeded(7));
/// assert_eq!(one.roll(1_000_000), other.roll(1_000_000));
/// assert!(["red", "blue"].contains(one.pick(&["red", "blue"])));
/// ```
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Creates a generator from `seed`. Adjacent seeds yield unrelated sequences.
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        wire::hash::splitmix64(&mut self.0)
    }

    /// Draws a number from 0 to below `sides`; 0 if `sides` is 0.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.next() % sides.max(1)
    }

    /// Draws an index into a list of `length` elements; 0 if it is empty.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.roll(length as u64)).unwrap_or(0)
    }

    /// Draws a number from `least` to below `most`; `least` if the range is empty.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.roll(most.saturating_sub(least))
    }

    /// Returns true with a probability of `permille` / 1000.
    pub fn chance(&mut self, permille: u32) -> bool {
        self.roll(1_000) < u64::from(permille)
    }

    /// Picks one element.
    ///
    /// # Panics
    /// If there are none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.index(of.len())]
    }

    /// Creates an independent generator with one draw, so that the draws of one component do not
    /// change those of another.
    #[must_use]
    pub fn split(&mut self) -> Self {
        Self(self.next())
    }

    /// Creates an independent generator without a draw: code that was added later does not change
    /// earlier draws. The same tag yields the same generator.
    #[must_use]
    pub fn tagged(&self, tag: u64) -> Self {
        Self(Self(self.0 ^ tag).next())
    }

    /// Shuffles the elements.
    pub fn shuffle<T>(&mut self, of: &mut [T]) {
        for last in (1..of.len()).rev() {
            of.swap(last, self.index(last + 1));
        }
    }
}
