//! Connections: how many, how long they may take, and how they end.

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

use crate::unparsed::Explained;
use crate::{Limits, metrics};

/// After a fault of `accept` that concerns the whole process, like too many open files, nothing is accepted for so long.
const PAUSE: Duration = Duration::from_millis(100);

/// Maximum number of headers that the parser reads: more than [`Limits::headers`], so that a request with a few too many reaches
/// its route, and the answer says how many came.
const MOST_HEADERS: usize = 256;
/// Maximum bytes of a request's head that the parser reads, for the same reason.
const MOST_HEADER_BYTES: usize = 64 * 1024;

/// Serves `router` until `shutdown` is done, then lets the requests that are open end.
///
/// # Errors
/// None today; a listener that fails for a while is tried again.
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
        // A place first: who finds none stays in the system's queue, which is bounded.
        let accept = async {
            let place = Arc::clone(&places).acquire_owned().await.expect("it is never closed");
            (listener.accept().await, place)
        };
        tokio::select! {
            () = &mut shutdown => break,
            // What a connection ended with concerns its client alone.
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

/// Serves one connection, whatever carries it, until it ends or `stopped` says that it is to end after the request that is
/// open.
pub async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    limits: &Limits,
    mut stopped: watch::Receiver<bool>,
) {
    metrics::connections(1.0);
    let service = TowerToHyperService::new(router);
    let most_bytes = MOST_HEADER_BYTES.max(limits.header_bytes);
    let stream = Explained::new(stream, most_bytes, MOST_HEADERS);
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_time)
            .max_headers(MOST_HEADERS)
            .max_buf_size(most_bytes)
            .serve_connection(TokioIo::new(stream), service)
    );
    // Both ends of the channel live as long as the server: an error is a stop as well.
    let stop = async { drop(stopped.wait_for(|stop| *stop).await) };
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with a fault");
    }
    metrics::connections(-1.0);
}
