//! Selects the lane of each tuple.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

/// The rule that selects the lane for each tuple of an edge.
///
/// | grouping | law |
/// |---|---|
/// | local | stays in its lane; the reader is in the same stage |
/// | shuffle | round-robin: the numbers of tuples that two lanes get from one lane differ by at most one |
/// | fields | equal keys go to one lane: murmur2 over the key's bytes modulo lanes |
/// | all | every lane gets a copy |
/// | global | lane 0 |
/// | partial key | each key goes to two lanes, each time to the one that this lane has sent less |
/// | direct | the lane number that the tuple contains, modulo lanes |
/// | custom | the lanes that a function returns |
pub enum Grouping<T> {
    /// Stays in its lane.
    Local,
    /// Round-robin.
    Shuffle,
    /// By a key.
    Fields(KeyOf<T>),
    /// To every lane.
    All,
    /// To lane 0.
    Global,
    /// By a key, to the less used of two lanes.
    PartialKey(KeyOf<T>),
    /// To the lane number that the tuple contains.
    Direct(LaneOf<T>),
    /// To the lanes that a function returns.
    Custom(LanesOf<T>),
}

/// A key of a fields grouping: equal keys have equal texts. The text is the key of the records.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the key of a fields grouping",
    note = "a key is a text, an integer, a `bool` or a `char`; for several fields, format them into one `String` in \
            `fields_with`"
)]
pub trait Key {
    /// Returns the text.
    fn text(&self) -> String;
}

macro_rules! keys {
    ($($of:ty),*) => {
        $(impl Key for $of {
            fn text(&self) -> String {
                self.to_string()
            }
        })*
    };
}

keys!(str, String, Arc<str>, bool, char, u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize);

impl<K: Key + ?Sized> Key for &K {
    fn text(&self) -> String {
        (**self).text()
    }
}

/// Returns the text of a tuple's key.
pub type KeyOf<T> = Arc<dyn Fn(&T) -> String + Send + Sync>;
/// Returns the lane number that a tuple contains.
pub type LaneOf<T> = Arc<dyn Fn(&T) -> u32 + Send + Sync>;
/// Returns the lanes of a tuple, for this number of lanes.
pub type LanesOf<T> = Arc<dyn Fn(&T, u32) -> Vec<u32> + Send + Sync>;

impl<T> Clone for Grouping<T> {
    fn clone(&self) -> Self {
        match self {
            Grouping::Local => Grouping::Local,
            Grouping::Shuffle => Grouping::Shuffle,
            Grouping::Fields(key) => Grouping::Fields(Arc::clone(key)),
            Grouping::All => Grouping::All,
            Grouping::Global => Grouping::Global,
            Grouping::PartialKey(key) => Grouping::PartialKey(Arc::clone(key)),
            Grouping::Direct(lane) => Grouping::Direct(Arc::clone(lane)),
            Grouping::Custom(lanes) => Grouping::Custom(Arc::clone(lanes)),
        }
    }
}

impl<T> Grouping<T> {
    /// Returns its name, as printed.
    pub fn name(&self) -> &'static str {
        match self {
            Grouping::Local => "local",
            Grouping::Shuffle => "shuffle",
            Grouping::Fields(_) => "fields",
            Grouping::All => "all",
            Grouping::Global => "global",
            Grouping::PartialKey(_) => "partial key",
            Grouping::Direct(_) => "direct",
            Grouping::Custom(_) => "custom",
        }
    }
}

/// The destination of one tuple.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// This lane, with this key.
    Lane(u32, Option<Vec<u8>>),
    /// These lanes.
    Lanes(Vec<u32>),
}

/// Applies a grouping in one lane.
pub(crate) struct Chooser<T> {
    pub(crate) grouping: Grouping<T>,
    pub(crate) lanes: u32,
    /// The number of tuples sent to each lane; only for partial key. It is saved state.
    pub(crate) used: Vec<Rc<Cell<u64>>>,
}

impl<T> Chooser<T> {
    /// Returns the destination of a tuple. `sent` is the number of tuples sent before it.
    ///
    /// # Errors
    /// If a custom grouping returns a lane that does not exist.
    pub(crate) fn choose(&self, tuple: &T, sent: u64, own_lane: u32) -> Result<Target, String> {
        Ok(match &self.grouping {
            Grouping::Local => Target::Lane(own_lane, None),
            Grouping::Shuffle => {
                let lane = sent % u64::from(self.lanes);
                Target::Lane(u32::try_from(lane).expect("it is less than the number of lanes"), None)
            }
            Grouping::Fields(key) => {
                let key = key(tuple).into_bytes();
                Target::Lane(wire::routing::lane_of(&key, self.lanes), Some(key))
            }
            Grouping::PartialKey(key) => {
                let key = key(tuple).into_bytes();
                Target::Lane(self.less_used_of_two(&key), Some(key))
            }
            Grouping::All => Target::Lanes((0..self.lanes).collect()),
            Grouping::Global => Target::Lane(0, None),
            Grouping::Direct(lane) => Target::Lane(lane(tuple) % self.lanes, None),
            Grouping::Custom(of) => {
                let lanes = of(tuple, self.lanes);
                if let Some(lane) = lanes.iter().find(|lane| **lane >= self.lanes) {
                    return Err(format!(
                        "its custom grouping returned lane {lane}; allowed are 0 to {}",
                        self.lanes - 1
                    ));
                }
                Target::Lanes(lanes)
            }
        })
    }

    /// Power of two choices, as in "The Power of Both Choices" (Nasir et al., ICDE 2015).
    fn less_used_of_two(&self, key: &[u8]) -> u32 {
        let first = wire::routing::lane_of(key, self.lanes);
        let Some(others @ 1..) = self.lanes.checked_sub(1) else { return first };
        let step = wire::hash::fnv1a(key.iter().copied()) % u64::from(others);
        let step = u32::try_from(step).expect("it is less than the number of lanes");
        let second = (first + 1 + step) % self.lanes;
        let used = |lane: u32| self.used[lane as usize].get();
        if used(second) < used(first) { second } else { first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chooser(grouping: Grouping<u32>, lanes: u32) -> Chooser<u32> {
        Chooser { grouping, lanes, used: (0..lanes).map(|_| Rc::default()).collect() }
    }

    #[test]
    fn shuffle_is_exactly_even() {
        let shuffle = chooser(Grouping::Shuffle, 6);
        let mut got = [0; 6];
        for i in 0..30_000 {
            let Ok(Target::Lane(lane, None)) = shuffle.choose(&i, u64::from(i), 0) else { panic!("one lane") };
            got[lane as usize] += 1;
        }
        assert_eq!(got, [5_000; 6]);
    }

    #[test]
    fn fields_send_equal_keys_to_one_lane() {
        let fields = chooser(Grouping::Fields(Arc::new(|n: &u32| (n % 10).text())), 4);
        for n in 0..1_000 {
            assert_eq!(fields.choose(&n, 0, 0), fields.choose(&(n % 10), 7, 3));
        }
    }

    #[test]
    fn direct_takes_the_lane_of_the_tuple_modulo_lanes() {
        let direct = chooser(Grouping::Direct(Arc::new(|n: &u32| *n)), 4);
        assert_eq!(direct.choose(&3, 0, 0), Ok(Target::Lane(3, None)));
        assert_eq!(direct.choose(&7, 0, 0), Ok(Target::Lane(3, None)));
    }
    #[test]
    fn partial_key_sends_each_key_evenly_to_two_lanes() {
        let partial = chooser(Grouping::PartialKey(Arc::new(|n: &u32| n.text())), 5);
        for key in 0..20 {
            let before: Vec<u64> = partial.used.iter().map(|used| used.get()).collect();
            for _ in 0..100 {
                let Ok(Target::Lane(lane, Some(_))) = partial.choose(&key, 0, 0) else { panic!("one lane") };
                let used = &partial.used[lane as usize];
                used.set(used.get() + 1);
            }
            let more = partial.used.iter().zip(&before).filter(|(used, before)| used.get() > **before).count();
            assert!((1..=2).contains(&more), "key {key} uses {more} lanes");
        }
        let used: Vec<u64> = partial.used.iter().map(|used| used.get()).collect();
        assert!(used.iter().all(|used| (300..=500).contains(used)), "close to 400 each: {used:?}");
    }

    #[test]
    fn custom_decides_the_lanes_of_each_tuple() {
        let custom = chooser(Grouping::Custom(Arc::new(|n: &u32, lanes| vec![n % lanes, n + 1])), 4);
        assert_eq!(custom.choose(&2, 0, 0), Ok(Target::Lanes(vec![2, 3])));
        let error = custom.choose(&3, 0, 0);
        assert_eq!(error, Err("its custom grouping returned lane 4; allowed are 0 to 3".to_owned()));
    }
}
