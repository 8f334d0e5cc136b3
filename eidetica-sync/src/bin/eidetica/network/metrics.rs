//! Serves metrics as text for Prometheus.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use eidetica_sync::Node;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::output::failure::{Context, Failure, Result};

/// Connections at a time: a scraper needs one, a person another.
const CONNECTIONS_MAX: usize = 8;

/// How long a connection may last. Each is for one answer.
const CONNECTION_TIME: Duration = Duration::from_secs(10);

/// How often the exporter folds what was measured into its histograms, so that its memory stays
/// bounded without a scraper.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The upper bounds of the buckets of durations, in seconds: from an exchange on one machine to one
/// that moves a whole tree.
const BUCKETS_SECONDS: [f64; 10] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0];

/// What Prometheus expects.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A server of metrics.
pub(crate) struct Exporter {
    listener: TcpListener,
    address: SocketAddr,
    handle: PrometheusHandle,
}

impl Exporter {
    /// Begins to record metrics, and listens at an address. One beyond this machine is refused unless
    /// `anywhere`: metrics are not authenticated.
    pub(crate) async fn listen(at: SocketAddr, anywhere: bool) -> Result<Self> {
        if !at.ip().to_canonical().is_loopback() && !anywhere {
            let failure = Failure::new(format!("{at} can be reached from other machines"));
            let failure = failure.hint(
                "metrics are not authenticated: use a loopback address, or --metrics-anywhere",
            );
            return Err(failure.into());
        }
        let failed = "could not serve metrics";
        let listener = TcpListener::bind(at).await.context(failed)?;
        let address = listener.local_addr().context(failed)?;
        let builder = PrometheusBuilder::new();
        let durations = Matcher::Suffix("_seconds".to_owned());
        let builder = builder.set_buckets_for_metric(durations, &BUCKETS_SECONDS);
        let recorder = builder.context(failed)?.build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).context(failed)?;
        eidetica_sync::metrics::describe();
        Ok(Self {
            listener,
            address,
            handle,
        })
    }

    /// Returns where the metrics are.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/metrics", self.address)
    }

    /// Answers until it is dropped.
    pub(crate) async fn run(self, node: Node) -> Infallible {
        let Self {
            listener, handle, ..
        } = self;
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = tokio::task::JoinSet::new();
        let mut upkeep = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            let accepted = async {
                let place = places.clone().acquire_owned().await;
                (listener.accept().await, place)
            };
            tokio::select! {
                (accepted, place) = accepted => {
                    let Ok((stream, _)) = accepted else {
                        // Such as too many open files: time may help.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    };
                    let (node, handle) = (node.clone(), handle.clone());
                    connections.spawn(async move {
                        let _place = place;
                        let service = service_fn(|request| {
                            let answer = answer(&request, &node, &handle);
                            async { Ok::<_, Infallible>(answer) }
                        });
                        let mut http = http1::Builder::new();
                        let serving = http
                            .keep_alive(false)
                            // It panics where the clock is before 1970 or after 9999.
                            .auto_date_header(false)
                            .serve_connection(TokioIo::new(stream), service);
                        let _cut_or_broken = tokio::time::timeout(CONNECTION_TIME, serving).await;
                    });
                }
                _ = upkeep.tick() => {
                    handle.run_upkeep();
                    while connections.try_join_next().is_some() {}
                }
            }
        }
    }
}

fn answer(
    request: &Request<Incoming>,
    node: &Node,
    handle: &PrometheusHandle,
) -> Response<Full<Bytes>> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => {
            node.record_gauges();
            (StatusCode::OK, handle.render())
        }
        (_, "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, "use GET\n".to_owned()),
        _ => (
            StatusCode::NOT_FOUND,
            "metrics are at /metrics\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let text = hyper::header::HeaderValue::from_static(TEXT);
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
}
