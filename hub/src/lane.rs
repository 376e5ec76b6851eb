//! State that the operations of a lane share, and how it is saved.

use topology::{Saver, Stored, Unreadable};

/// State that all operations of a lane share, such as pools or a registry. It is saved with them.
///
/// It is split into keys so that a change costs a small record; [`topology::StateMap`] does this for a
/// map. Settings are not part of the saved state: [`crate::Workflow::configure`] applies them
/// before the first key is loaded.
pub trait LaneState: Default + 'static {
    /// Saves the keys that changed since the last call.
    fn save(&mut self, saver: &mut Saver<'_>);

    /// Loads the state of one key. Keys arrive in any order.
    ///
    /// # Errors
    /// If the state cannot be read.
    fn load(&mut self, stored: &Stored<'_>) -> Result<(), Unreadable>;

    /// Called after all keys have been loaded.
    ///
    /// # Errors
    /// If the keys contradict each other.
    fn loaded(&mut self) -> Result<(), Unreadable> {
        Ok(())
    }
}

/// No shared state.
impl LaneState for () {
    fn save(&mut self, _: &mut Saver<'_>) {}

    fn load(&mut self, stored: &Stored<'_>) -> Result<(), Unreadable> {
        Err(Unreadable(format!("unexpected saved state `{}`", stored.key())))
    }
}
