//! What bounds the REST interface itself.

use std::time::Duration;

/// How much of everything a client may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The longest body, in bytes. A request to create a flow has a hundred.
    pub body_bytes: usize,
    /// So many headers a request may have. Browsers and proxies together send some thirty.
    pub headers: usize,
    /// So many bytes its headers may have, names and values together.
    pub header_bytes: usize,
    /// So many requests are answered at once; one more is told to come back. With bodies of 64 KiB, 64 MB.
    pub requests: usize,
    /// So many connections are open at once; one more waits in the system's own queue. Twice the requests, since many are
    /// idle.
    pub connections: usize,
    /// A client has so long to send its headers, and so long to begin the next request on a connection.
    pub header_time: Duration,
    /// A client has so long to send its body.
    pub body_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 64 * 1024,
            headers: 64,
            header_bytes: 16 * 1024,
            requests: 1_024,
            connections: 2_048,
            header_time: Duration::from_secs(10),
            body_time: Duration::from_secs(10),
        }
    }
}
