//! Connections: their number, their timeouts and their end.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::parser_problems::ParserProblems;
use crate::{Limits, metrics};

/// Delay after an `accept` error of the whole process, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Maximum number of headers that the parser reads: more than [`Limits::headers`], so that a
/// request with slightly too many reaches its route, and the answer names their number.
const MOST_HEADERS: usize = 256;
/// Maximum size of a request head in bytes that the parser reads, for the same reason.
const MOST_HEADER_BYTES: usize = 64 * 1024;

/// Serves `router` until `shutdown` completes, then waits for the open requests.
///
/// # Errors
/// None today; a failing listener is retried.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(limits.connections));
    let (stop, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        // First a permit: without one, connections stay in the bounded queue of the operating
        // system.
        let accept = async {
            let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
            (listener.accept().await, place)
        };
        tokio::select! {
            () = &mut shutdown => break,
            // The result of a connection concerns only its client.
            Some(_) = connections.join_next() => {}
            (accepted, place) = accept => match accepted {
                Ok((stream, _)) => {
                    // An answer is one small packet: it must not wait for the next one.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "a connection keeps Nagle's algorithm");
                    }
                    let (router, limits, stopped) = (router.clone(), limits.clone(), stopped.clone());
                    connections.spawn(async move {
                        connection(stream, router, &limits, stopped).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    stop.send_replace(true);
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// Serves one connection until it ends or `stopped` becomes true; then the open request is
/// completed.
pub async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    limits: &Limits,
    mut stopped: watch::Receiver<bool>,
) {
    metrics::connections(1.0);
    let service = TowerToHyperService::new(router);
    let most_bytes = MOST_HEADER_BYTES.max(limits.header_bytes);
    let stream = ParserProblems::new(stream, most_bytes, MOST_HEADERS);
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_time)
            .max_headers(MOST_HEADERS)
            .max_buf_size(most_bytes)
            .serve_connection(TokioIo::new(stream), service)
    );
    // Both ends of the channel live as long as the server, so an error means stop as well.
    let stop = async { drop(stopped.wait_for(|stop| *stop).await) };
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
    metrics::connections(-1.0);
}
