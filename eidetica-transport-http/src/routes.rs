//! Answers requests by path and method.

use std::sync::Arc;

use eidetica_proto::{Caller, PROTOCOL_VERSION};
use futures::StreamExt;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, DATE, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use crate::address::KIND;
use crate::body::{FRAMES_MEDIA_TYPE, OutgoingBody, is_frames};
use crate::clock::Refill;
use crate::connection::{Connection, UnderWay};
use crate::date::today;
use crate::drain::Drain;
use crate::json::Json;
use crate::quota::Share;
use crate::reader::FrameReader;
use crate::stopping::cut_when_quiet;

/// The prefix of the paths of every version.
const ROOT: &str = "/eidetica/v";

/// Tells nginx, and proxies that follow it, to pass on each piece of an answer at once.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Answers one request.
pub(crate) async fn answer(
    connection: &Arc<Connection>,
    request: Request<Incoming>,
) -> Response<OutgoingBody> {
    let under_way = connection.begin();
    let drain = Arc::new(Drain::new(connection.tasks.clone()));
    let hosts = connection.hosts();
    let path = hosts
        .check(&request)
        .and_then(|()| unversioned(hosts.without_prefix(request.uri().path())));
    let json = match path {
        Err(refusal) => refusal,
        Ok("exchange") if request.method() != Method::POST => Json::wrong_method("POST"),
        Ok("exchange") if !is_frames(request.headers()) => Json::error(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "an exchange is a body of the type application/vnd.eidetica.frames",
        ),
        Ok("exchange") => return exchange(connection, request, drain, under_way).await,
        Ok(path) => match connection.json_api() {
            None => Json::not_found(),
            Some(_) if request.method() != Method::GET => Json::wrong_method("GET"),
            Some(api) => Json::answer(api.get(&connection.remote, path).await),
        },
    };
    drain.leave(request.into_body());
    connection.answered();
    text(json, drain, under_way, connection.untaken())
}

/// Dates an answer, if the clock has a date.
fn dated(mut response: Response<OutgoingBody>) -> Response<OutgoingBody> {
    if let Some(date) = today() {
        response.headers_mut().insert(DATE, date);
    }
    response
}

/// Returns what follows the version in a path.
fn unversioned(path: &str) -> Result<&str, Json> {
    // What asks for these knows no versions.
    if let Some(path @ ("health/live" | "health/ready")) = path.strip_prefix('/') {
        return Ok(path);
    }
    let Some((version, rest)) = path
        .strip_prefix(ROOT)
        .and_then(|path| path.split_once('/'))
    else {
        return Err(Json::not_found());
    };
    match version == PROTOCOL_VERSION.to_string() {
        true => Ok(rest),
        false => Err(Json::other_version(version)),
    }
}

async fn exchange(
    connection: &Arc<Connection>,
    request: Request<Incoming>,
    drain: Arc<Drain>,
    under_way: UnderWay,
) -> Response<OutgoingBody> {
    let caller = Caller {
        transport: KIND,
        key: None,
        remote: connection.remote.clone(),
    };
    let reader = FrameReader::new(request.into_body(), connection.deadlines, Refill::ByBytes)
        .within(connection.memory())
        .leaving_rest_to(Arc::clone(&drain));
    let frames = connection.service.exchange(caller, reader.boxed()).await;
    connection.answered();
    let frames = cut_when_quiet(frames, connection.stopping.clone());
    let sending = Arc::clone(&under_way.sending);
    let untaken = connection.untaken();
    let guard = Answering {
        _under_way: under_way,
        drain,
    };
    let body = OutgoingBody::frames(frames, sending, Some(Box::new(guard))).counted(untaken);
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(FRAMES_MEDIA_TYPE));
    // An answer may go on for hours, one short frame at a time.
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("no-store, no-transform"),
    );
    dated(response)
}

fn text(
    json: Json,
    drain: Arc<Drain>,
    under_way: UnderWay,
    untaken: Share,
) -> Response<OutgoingBody> {
    let sending = Arc::clone(&under_way.sending);
    let guard = Answering {
        _under_way: under_way,
        drain,
    };
    let body = OutgoingBody::text(json.text, sending, Box::new(guard)).counted(untaken);
    let mut response = Response::new(body);
    *response.status_mut() = json.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(method) = json.allow {
        headers.insert(ALLOW, HeaderValue::from_static(method));
    }
    dated(response)
}

/// Lives as long as the body of an answer.
struct Answering {
    _under_way: UnderWay,
    drain: Arc<Drain>,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.drain.answered();
    }
}
