//! Limits of the REST interface.

use std::time::Duration;

/// Limits of the REST interface, for all clients together or per request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Maximum size of a body in bytes. A request to create a flow has a hundred.
    pub body_bytes: usize,
    /// Maximum number of headers of a request. Browsers and proxies together send some thirty.
    pub headers: usize,
    /// Maximum size of the headers of a request in bytes, names and values together.
    pub header_bytes: usize,
    /// Maximum number of concurrent requests. With bodies of 64 KiB they take 64 MB.
    pub requests: usize,
    /// Maximum number of open connections; further ones wait in the queue of the operating system.
    /// Twice the number of requests, since many are idle.
    pub connections: usize,
    /// Maximum time for the headers of a request, and for the start of the next request on a
    /// connection.
    pub header_time: Duration,
    /// Maximum time for the body of a request.
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
