//! Problem bodies for requests that the HTTP parser refuses.
//!
//! hyper answers such a request with a status and an empty body, and closes the connection: no
//! handler sees the request. [`ParserProblems`] sits between hyper and the socket and adds a
//! problem to that answer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::http::StatusCode;
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wire::Code;

use crate::http::problem::ProblemResponse;

/// The header that identifies an empty answer: every answer of a handler from 400 up has a body.
const EMPTY: &str = "content-length: 0\r\n";

/// A stream that adds a problem to the empty answers of the parser.
pub(crate) struct ParserProblems<S> {
    stream: S,
    /// Maximum size of a request head in bytes, for the text of the problem.
    most_bytes: usize,
    /// Maximum number of headers, for the text of the problem.
    most_headers: usize,
    /// The unwritten part of a replaced answer.
    pending: Bytes,
}

impl<S: AsyncWrite + Unpin> ParserProblems<S> {
    pub(crate) fn new(stream: S, most_bytes: usize, most_headers: usize) -> Self {
        Self { stream, most_bytes, most_headers, pending: Bytes::new() }
    }

    /// Writes the pending bytes.
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

    /// The answer with a problem as its body, if `answer` is an empty one of the parser.
    fn explained(&self, answer: &[u8]) -> Option<Bytes> {
        let head = std::str::from_utf8(answer).ok().filter(|head| head.ends_with("\r\n\r\n"))?;
        let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let refused = match StatusCode::from_u16(status).ok()? {
            StatusCode::BAD_REQUEST => {
                ProblemResponse::new(Code::BadRequest, "the request line or a header is not valid HTTP/1.1 (RFC 9112)")
            }
            StatusCode::URI_TOO_LONG => {
                ProblemResponse::new(Code::UriTooLong, "the path and query are too long; the limit is 65534 bytes")
            }
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                let (bytes, headers) = (self.most_bytes, self.most_headers);
                let detail = format!("the limits are {headers} headers, and {bytes} bytes with the request line");
                ProblemResponse::new(Code::HeadersTooLarge, detail)
            }
            _ => return None,
        };
        let (_, body) = refused.into_parts();
        let (before, after) = head.split_once(EMPTY)?;
        let length = body.len();
        let head = format!("{before}content-type: application/problem+json\r\ncontent-length: {length}\r\n{after}");
        Some((head + &body).into())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ParserProblems<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buf)
    }
}

/// Vectored writes stay off, the default of the trait: hyper then writes each head in one piece.
impl<S: AsyncWrite + Unpin> AsyncWrite for ParserProblems<S> {
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
