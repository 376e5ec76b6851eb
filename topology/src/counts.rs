//! The counters that a step increments. They are data until the step is committed; a replay
//! increments none.

/// A label of a counter and its value. The component that counts must bound the number of values:
/// each is a time series.
pub type Label = (&'static str, String);

/// Counters and by how much each has grown, in the order of their first count.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Counts(Vec<(&'static str, Vec<Label>, u64)>);

impl Counts {
    /// Adds `by` to the counter `name` with these labels.
    pub fn add(&mut self, name: &'static str, labels: Vec<Label>, by: u64) {
        match self.position(name, &labels) {
            Some(index) => self.0[index].2 += by,
            None => self.0.push((name, labels, by)),
        }
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: Counts) {
        for (name, labels, by) in other.0 {
            self.add(name, labels, by);
        }
    }

    /// Takes back what [`Counts::add`] added.
    pub(crate) fn take_back(&mut self, name: &'static str, labels: &[Label], by: u64) {
        if let Some(index) = self.position(name, labels) {
            self.0[index].2 -= by;
            if self.0[index].2 == 0 {
                self.0.remove(index);
            }
        }
    }

    /// Names are compared by address, which is cheap: a name that exists twice is only two entries.
    fn position(&self, name: &'static str, labels: &[Label]) -> Option<usize> {
        self.0.iter().position(|(known, with, _)| std::ptr::eq(*known, name) && with == labels)
    }

    /// True if nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Iterates over name and growth of each entry, whatever its labels are.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(name, _, by)| (*name, *by))
    }

    /// Removes and returns all entries.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (&'static str, Vec<Label>, u64)> {
        self.0.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &str = "sent";

    fn of(service: &str) -> Vec<Label> {
        vec![("service", service.to_owned())]
    }

    #[test]
    fn entries_differ_by_name_and_labels() {
        let mut counts = Counts::default();
        counts.add(SENT, of("car"), 1);
        counts.add(SENT, of("room"), 1);
        let mut more = Counts::default();
        more.add(SENT, of("car"), 2);
        counts.extend(more);
        assert_eq!(counts.drain().collect::<Vec<_>>(), [(SENT, of("car"), 3), (SENT, of("room"), 1)]);
    }

    #[test]
    fn a_count_that_is_taken_back_leaves_no_entry() {
        let mut counts = Counts::default();
        counts.add(SENT, of("car"), 2);
        counts.add(SENT, Vec::new(), 1);
        counts.take_back(SENT, &of("car"), 2);
        counts.take_back(SENT, &of("room"), 1);
        assert_eq!(counts.iter().collect::<Vec<_>>(), [(SENT, 1)]);
    }
}
