//! Problem bodies for requests that the HTTP parser refuses.
//!
//! hyper answers such a request by itself, with a status and an empty body, and closes the connection: no handler sees the request.
//! [`Explained`] stands between hyper and the socket and puts a problem into that answer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::http::StatusCode;
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wire::Code;

use crate::http::problem::Refused;

/// The header by which an empty answer is known: every answer of a handler from 400 up has a body.
const EMPTY: &str = "content-length: 0\r\n";

/// A stream whose peer is told why its request could not be parsed.
pub(crate) struct Explained<S> {
    stream: S,
    /// Maximum bytes of a request's head, for the text of the problem.
    most_bytes: usize,
    /// Maximum number of its headers.
    most_headers: usize,
    /// The part of a replaced answer that is not written yet.
    pending: Bytes,
}

impl<S: AsyncWrite + Unpin> Explained<S> {
    pub(crate) fn new(stream: S, most_bytes: usize, most_headers: usize) -> Self {
        Self { stream, most_bytes, most_headers, pending: Bytes::new() }
    }

    /// Writes what is pending.
    fn drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.pending))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Returns the answer with a problem as its body, where `answer` is an empty one of the parser.
    fn explained(&self, answer: &[u8]) -> Option<Bytes> {
        let head = std::str::from_utf8(answer).ok().filter(|head| head.ends_with("\r\n\r\n"))?;
        let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let refused = match StatusCode::from_u16(status).ok()? {
            StatusCode::BAD_REQUEST => {
                Refused::new(Code::BadRequest, "the request line or a header is not HTTP/1.1 as RFC 9112 has it")
            }
            StatusCode::URI_TOO_LONG => {
                Refused::new(Code::UriTooLong, "the path and query are too long; at most 65534 bytes are allowed")
            }
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                let (bytes, headers) = (self.most_bytes, self.most_headers);
                let detail =
                    format!("at most {headers} headers are read, and with the request line at most {bytes} bytes");
                Refused::new(Code::HeadersTooLarge, detail)
            }
            _ => return None,
        };
        let (_, body) = refused.told();
        let (before, after) = head.split_once(EMPTY)?;
        let length = body.len();
        let head = format!("{before}content-type: application/problem+json\r\ncontent-length: {length}\r\n{after}");
        Some((head + &body).into())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Explained<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buf)
    }
}

/// Vectored writes stay off, as the trait has it by default: hyper then hands over each head in one piece.
impl<S: AsyncWrite + Unpin> AsyncWrite for Explained<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.drain(context))?;
        match self.explained(bytes) {
            Some(answer) => {
                self.pending = answer;
                Poll::Ready(Ok(bytes.len()))
            }
            None => Pin::new(&mut self.stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.drain(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.drain(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
