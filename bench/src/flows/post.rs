//! The same flows as POSTs to a `nave up` process, as a client sees them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bus::{Clock, MonoTime};
use nave::SystemClock;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::load::Latencies;
use crate::child::Nave;

/// The delay before a retry after 429 or 503.
const RETRY_DELAY: Duration = Duration::from_millis(10);

/// A `nave up` process.
pub(super) struct NaveUp {
    rest: SocketAddr,
    _nave: Nave,
}

impl NaveUp {
    /// Starts `nave up` with these options and waits until it is ready.
    pub(super) fn start(options: &[String]) -> anyhow::Result<Self> {
        let up = ["up", "--rest", "127.0.0.1:0", "--admin", "127.0.0.1:0"].map(str::to_owned);
        let nave = Nave::start(&[&up[..], options].concat())?;
        Ok(Self { rest: nave.address("REST")?, _nave: nave })
    }

    /// Keeps one request on each of `in_flight` connections until `flows` are answered, after a
    /// warm-up of a tenth.
    pub(super) fn measure(&self, flows: usize, in_flight: usize) -> anyhow::Result<Latencies> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            self.post(0..(flows / 10).max(in_flight), in_flight).await?;
            let first = flows;
            self.post(first..first + flows, in_flight).await
        })
    }

    async fn post(&self, numbers: std::ops::Range<usize>, in_flight: usize) -> anyhow::Result<Latencies> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let next = Arc::new(AtomicUsize::new(numbers.start));
        let mut clients = JoinSet::new();
        let begun = clock.mono();
        for _ in 0..in_flight {
            let (next, clock, end, rest) = (Arc::clone(&next), Arc::clone(&clock), numbers.end, self.rest);
            clients.spawn(async move {
                let mut stream = tokio::io::BufReader::new(TcpStream::connect(rest).await?);
                stream.get_ref().set_nodelay(true)?;
                let mut latencies = Vec::new();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= end {
                        return anyhow::Ok(latencies);
                    }
                    let sent = clock.mono();
                    let done = async {
                        // Retries like a client after 429 or 503.
                        while !create(&mut stream, n).await? {
                            tokio::time::sleep(RETRY_DELAY).await;
                        }
                        anyhow::Ok(())
                    };
                    tokio::time::timeout(Duration::from_mins(2), done).await??;
                    latencies.push(clock.mono().since(sent));
                }
            });
        }
        let mut latencies = Vec::with_capacity(numbers.len());
        while let Some(client) = clients.join_next().await {
            latencies.extend(client??);
        }
        let took = MonoTime::since(clock.mono(), begun);
        Ok(Latencies::new(latencies, took))
    }
}

/// Sends one request. Returns false for 429 and 503.
async fn create(stream: &mut tokio::io::BufReader<TcpStream>, n: usize) -> anyhow::Result<bool> {
    let body = format!(r#"{{"flowid": "post-{n}", "length": 10}}"#);
    let head = "POST /flow HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: ";
    stream.write_all(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes()).await?;
    let (mut status, mut length) = (String::new(), 0);
    stream.read_line(&mut status).await?;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    if status.contains(" 429 ") || status.contains(" 503 ") {
        return Ok(false);
    }
    // 200: the flow exists, because only the answer of the first attempt was lost.
    anyhow::ensure!(
        status.contains(" 201 ") || status.contains(" 200 "),
        "{}: {}",
        status.trim_end(),
        String::from_utf8_lossy(&answer)
    );
    Ok(true)
}
