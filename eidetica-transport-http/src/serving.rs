//! Serves one connection, with the deadlines that hyper does not have.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
#[cfg(feature = "tls")]
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use crate::connection::Connection;
use crate::limits::{EXCHANGES_PER_CONNECTION_MAX, READ_BYTES_MAX, REQUEST_WINDOW_BYTES};
use crate::routes;
use crate::tasks::TasksExecutor;
#[cfg(feature = "tls")]
use crate::tls::ServerTls;

impl Connection {
    /// Completes the handshake and serves the connection to its end. The handshake shares the
    /// deadline of the first request's head.
    #[cfg(feature = "tls")]
    pub(crate) async fn serve_tls(self: Arc<Self>, tls: ServerTls, stream: TcpStream) {
        let mut stopping = self.stopping.clone();
        let accepted = tokio::select! {
            // An error means that the server is gone.
            _ = stopping.wait_for(|stopping| *stopping) => return,
            why = self.late() => {
                tracing::debug!(remote = self.remote, why, "a handshake was too slow");
                return;
            }
            () = self.given_up.notified() => {
                tracing::debug!(remote = self.remote, "a handshake was cut to make room");
                return;
            }
            accepted = tls.accept(stream) => accepted,
        };
        match accepted {
            Ok(Some(stream)) => self.serve(stream).await,
            Ok(None) => tracing::debug!(remote = self.remote, "the caller does not speak TLS"),
            // Most of these are the caller's fault, and affect this connection alone.
            Err(error) => tracing::debug!(remote = self.remote, %error, "a handshake failed"),
        }
    }

    /// Serves the connection to its end, over TCP or TLS.
    pub(crate) async fn serve<S>(self: Arc<Self>, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut stopping = self.stopping.clone();
        let mut builder = auto::Builder::new(TasksExecutor(self.tasks.clone()));
        // `late` covers heads too, even before the version of HTTP is known.
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            // It panics where the clock has no date that HTTP can write; `routes` does not.
            .auto_date_header(false)
            .max_buf_size(READ_BYTES_MAX);
        builder
            .http2()
            .timer(TokioTimer::new())
            .auto_date_header(false)
            .max_concurrent_streams(EXCHANGES_PER_CONNECTION_MAX)
            .initial_stream_window_size(REQUEST_WINDOW_BYTES)
            // An exchange that is not read must leave room for all others.
            .initial_connection_window_size(REQUEST_WINDOW_BYTES * EXCHANGES_PER_CONNECTION_MAX)
            .keep_alive_interval(self.deadlines.idle)
            .keep_alive_timeout(self.deadlines.connect);
        let connection = Arc::clone(&self);
        let service = service_fn(move |request| {
            let connection = Arc::clone(&connection);
            // Boxed, so that it takes no memory any more while the answer waits for its reader.
            Box::pin(async move { Ok::<_, Infallible>(routes::answer(&connection, request).await) })
        });
        let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut late = pin!(self.late());
        let mut leaving = false;
        loop {
            tokio::select! {
                ended = served.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(remote = self.remote, error, "a connection broke");
                    }
                    return;
                }
                _ = stopping.wait_for(|stopping| *stopping), if !leaving => {
                    leaving = true;
                    served.as_mut().graceful_shutdown();
                }
                why = late.as_mut() => {
                    tracing::debug!(remote = self.remote, why, "a connection was closed");
                    return;
                }
                () = self.given_up.notified() => {
                    tracing::debug!(remote = self.remote, "a connection was closed to make room");
                    return;
                }
            }
        }
    }

    /// Waits until the caller is late for something, and returns what.
    async fn late(&self) -> &'static str {
        loop {
            let now = Instant::now();
            let (deadline, why) = self.next_deadline();
            if deadline <= now {
                return why;
            }
            // A request that begins in the meantime is noticed after a quarter of the deadline at most.
            sleep_until(deadline.min(now + self.deadlines.idle / 4)).await;
        }
    }
}
