//! A spout over a channel, for a topology inside a program.
#![expect(clippy::disallowed_types, reason = "a channel joins the threads of a program with a lane")]

use std::fmt;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;

use crate::component::Spout;
use crate::emitter::Emitter;
use crate::place::SourceContext;

/// Creates a channel into a topology; see [`crate::Builder::channel_source`]. At most `capacity` tuples
/// wait in it.
pub fn channel<T>(capacity: usize) -> (ChannelSender<T>, ChannelReceiver<T>) {
    let (sender, receiver) = sync_channel(capacity);
    let reader = Arc::default();
    let receiver = ChannelReceiver { receiver: Arc::new(Mutex::new(receiver)), reader: Arc::clone(&reader) };
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

/// The receiving end of a channel.
pub struct ChannelReceiver<T> {
    receiver: Arc<Mutex<Receiver<T>>>,
    reader: Reader,
}

impl<T> Clone for ChannelReceiver<T> {
    fn clone(&self) -> Self {
        Self { receiver: Arc::clone(&self.receiver), reader: Arc::clone(&self.reader) }
    }
}

/// Reads the channel in lane 0.
pub(super) struct ChannelSpout<T> {
    channel: ChannelReceiver<T>,
    runs: bool,
}

impl<T> ChannelSpout<T> {
    pub(super) fn of(channel: ChannelReceiver<T>) -> Self {
        Self { channel, runs: false }
    }
}

impl<T: Send + 'static> Spout for ChannelSpout<T> {
    type Out = T;
    type Position = ();

    fn open(&mut self, source: &SourceContext) {
        self.runs = source.lane.lane == 0;
        if self.runs {
            let reader = Some(std::thread::current());
            *self.channel.reader.lock().unwrap_or_else(PoisonError::into_inner) = reader;
        }
    }

    fn next(&mut self, (): &mut (), out: &mut Emitter<T>) -> bool {
        if !self.runs {
            return false;
        }
        let Ok(tuple) = self.channel.receiver.lock().unwrap_or_else(PoisonError::into_inner).try_recv() else {
            return false;
        };
        out.emit(tuple);
        true
    }
}
