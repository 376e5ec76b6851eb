//! Ready-made spouts, each with a position.

mod items;

use items::Items;

use crate::builder::{Builder, Declared};

impl Builder {
    /// Declares a spout that emits the items of an iterator. A restarted process skips those that
    /// were emitted before, so `make` must return the same items each time. Several lanes share the
    /// items: lane i of n emits every n-th one, from the i-th on.
    ///
    /// ```
    /// # use topology::Topology;
    /// let t = Topology::named("squares");
    /// t.items("numbers", || 0_u64..100)
    ///     .map("square", |n| n * n)
    ///     .for_each("print", |square| println!("{square}"));
    /// # t.build()?;
    /// # Ok::<(), topology::BuildErrors>(())
    /// ```
    pub fn items<I>(&self, name: &str, make: impl Fn() -> I + Clone + Send + Sync + 'static) -> Declared<(), I::Item>
    where
        I: IntoIterator<Item: 'static, IntoIter: 'static> + 'static,
    {
        self.spout(name, move || Items::new(make.clone()))
    }
}
