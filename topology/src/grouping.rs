//! Selects the lane of each tuple.

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
/// | direct | the lane number that the tuple contains, modulo lanes |
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
    /// To the lane number that the tuple contains.
    Direct(LaneOf<T>),
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

impl<T> Clone for Grouping<T> {
    fn clone(&self) -> Self {
        match self {
            Grouping::Local => Grouping::Local,
            Grouping::Shuffle => Grouping::Shuffle,
            Grouping::Fields(key) => Grouping::Fields(Arc::clone(key)),
            Grouping::All => Grouping::All,
            Grouping::Global => Grouping::Global,
            Grouping::Direct(lane) => Grouping::Direct(Arc::clone(lane)),
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
            Grouping::Direct(_) => "direct",
        }
    }
}

/// The destination of one tuple.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// This lane, with this key.
    Lane(u32, Option<Vec<u8>>),
    /// All lanes.
    Every,
}

/// Applies a grouping in one lane.
pub(crate) struct Chooser<T> {
    pub(crate) grouping: Grouping<T>,
    pub(crate) lanes: u32,
}

impl<T> Chooser<T> {
    /// Returns the destination of a tuple. `sent` is the number of tuples sent before it.
    pub(crate) fn choose(&self, tuple: &T, sent: u64, own_lane: u32) -> Target {
        match &self.grouping {
            Grouping::Local => Target::Lane(own_lane, None),
            Grouping::Shuffle => {
                let lane = sent % u64::from(self.lanes);
                Target::Lane(u32::try_from(lane).expect("it is less than the number of lanes"), None)
            }
            Grouping::Fields(key) => {
                let key = key(tuple).into_bytes();
                Target::Lane(wire::routing::lane_of(&key, self.lanes), Some(key))
            }
            Grouping::All => Target::Every,
            Grouping::Global => Target::Lane(0, None),
            Grouping::Direct(lane) => Target::Lane(lane(tuple) % self.lanes, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chooser(grouping: Grouping<u32>, lanes: u32) -> Chooser<u32> {
        Chooser { grouping, lanes }
    }

    #[test]
    fn shuffle_is_exactly_even() {
        let shuffle = chooser(Grouping::Shuffle, 6);
        let mut got = [0; 6];
        for i in 0..30_000 {
            let Target::Lane(lane, None) = shuffle.choose(&i, u64::from(i), 0) else { panic!("one lane") };
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
        assert_eq!(direct.choose(&3, 0, 0), Target::Lane(3, None));
        assert_eq!(direct.choose(&7, 0, 0), Target::Lane(3, None));
    }
}
