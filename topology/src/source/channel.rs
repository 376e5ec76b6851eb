//! A spout over a channel, for a topology inside a program.
#![expect(clippy::disallowed_types, reason = "a channel joins the threads of a program with a lane")]

use std::fmt;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::Thread;

use crate::component::Spout;
use crate::emitter::Emitter;
use crate::place::SourceContext;

/// Creates a channel into a topology; see [`crate::Builder::channel_source`]. At most `capacity` tuples
/// wait in it.
pub fn channel<T>(capacity: usize) -> (ChannelSender<T>, ChannelReceiver<T>) {
    let (sender, receiver) = sync_channel(capacity);
    let reader = Arc::default();
    let receiver = ChannelReceiver { receiver: Arc::new(Mutex::new(Some(receiver))), reader: Arc::clone(&reader) };
    (ChannelSender { sender, reader }, receiver)
}

/// The thread that reads a channel; `None` before its lane runs.
type Reader = Arc<Mutex<Option<Thread>>>;

/// Sends tuples into a topology; clones share the channel.
pub struct ChannelSender<T> {
    sender: SyncSender<T>,
    reader: Reader,
}

/// A tuple that was not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendError<T> {
    /// The channel is full.
    Full(T),
    /// The topology is gone.
    Closed(T),
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Full(_) => "the channel is full",
            SendError::Closed(_) => "the topology that reads the channel is gone",
        })
    }
}

impl<T: fmt::Debug> std::error::Error for SendError<T> {}

impl<T> Clone for ChannelSender<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), reader: Arc::clone(&self.reader) }
    }
}

impl<T> ChannelSender<T> {
    /// Sends a tuple; waits while the channel is full.
    ///
    /// # Errors
    /// [`SendError::Closed`].
    pub fn send(&self, tuple: T) -> Result<(), SendError<T>> {
        self.sender.send(tuple).map_err(|unsent| SendError::Closed(unsent.0))?;
        self.wake();
        Ok(())
    }

    /// Sends a tuple if the channel has room.
    ///
    /// # Errors
    /// [`SendError::Full`] and [`SendError::Closed`].
    pub fn try_send(&self, tuple: T) -> Result<(), SendError<T>> {
        self.sender.try_send(tuple).map_err(|unsent| match unsent {
            TrySendError::Full(tuple) => SendError::Full(tuple),
            TrySendError::Disconnected(tuple) => SendError::Closed(tuple),
        })?;
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        if let Some(reader) = &*self.reader.lock().unwrap_or_else(PoisonError::into_inner) {
            reader.unpark();
        }
    }
}

/// The receiving end of a channel. One topology reads it.
pub struct ChannelReceiver<T> {
    /// `None` while a lane reads the channel, and after it was closed.
    receiver: Arc<Mutex<Option<Receiver<T>>>>,
    reader: Reader,
}

impl<T> ChannelReceiver<T> {
    fn lock(&self) -> MutexGuard<'_, Option<Receiver<T>>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the receiver for the lane of this thread. `None` if another lane has it, or the channel
    /// was closed.
    fn take(&self) -> Option<Receiver<T>> {
        let receiver = self.lock().take()?;
        *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::thread::current());
        Some(receiver)
    }
}

/// Reads the channel while its lane runs.
pub(super) struct ChannelSpout<T> {
    channel: ChannelReceiver<T>,
    receiver: Option<Receiver<T>>,
    shard: Weak<()>,
}

impl<T> ChannelSpout<T> {
    pub(super) fn of(ChannelReceiver { receiver, reader }: &ChannelReceiver<T>) -> Self {
        let channel = ChannelReceiver { receiver: Arc::clone(receiver), reader: Arc::clone(reader) };
        Self { channel, receiver: None, shard: Weak::new() }
    }
}

impl<T> Drop for ChannelSpout<T> {
    /// Gives the receiver back to the next owner of the lane. Without one the channel is closed: the
    /// declaration of the topology, which may exist for longer, must not keep senders waiting.
    fn drop(&mut self) {
        if self.shard.strong_count() > 0
            && let Some(receiver) = self.receiver.take()
        {
            *self.channel.lock() = Some(receiver);
        }
    }
}

impl<T: Send + 'static> Spout for ChannelSpout<T> {
    type Out = T;
    type Position = ();

    fn open(&mut self, source: &SourceContext) {
        self.shard = Weak::clone(&source.shard);
        self.receiver = self.channel.take();
        if self.receiver.is_none() {
            let (topology, stage) = (&*source.lane.topology, &*source.lane.stage);
            tracing::error!(
                topology,
                stage,
                "another topology reads the channel of this stage, or the topology that read it has ended: the stage gets \
                 no tuples; create a channel for each topology that runs"
            );
        }
    }

    fn next(&mut self, (): &mut (), out: &mut Emitter<T>) -> bool {
        let Some(tuple) = self.receiver.as_ref().and_then(|receiver| receiver.try_recv().ok()) else { return false };
        out.emit(tuple);
        true
    }
}
