//! What the operations of a lane share, and how it is saved.

use topology::{Saver, Stored, Unreadable};

/// What all operations of a lane share: pools, a registry. It is saved with them.
///
/// It is cut into keys, so that a change costs a small record: [`crate::Kept`] is a map that does. Settings do not belong to
/// what is saved; they come by [`crate::Workflow::configure`], before the first key is loaded.
pub trait LaneState: Default + 'static {
    /// Saves what has changed since the last call.
    fn save(&mut self, saver: &mut Saver<'_>);

    /// Takes in the state of one key. They come in any order.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn load(&mut self, stored: &Stored<'_>) -> Result<(), Unreadable>;

    /// Every key was loaded.
    ///
    /// # Errors
    /// Where what was loaded does not fit together.
    fn loaded(&mut self) -> Result<(), Unreadable> {
        Ok(())
    }
}

/// Operations that share nothing.
impl LaneState for () {
    fn save(&mut self, _: &mut Saver<'_>) {}

    fn load(&mut self, stored: &Stored<'_>) -> Result<(), Unreadable> {
        Err(Unreadable(format!("nobody reads the saved state `{}`", stored.key())))
    }
}
