//! What each path and method is answered.

use std::sync::Arc;

use eidetica_proto::{Caller, PROTOCOL_VERSION};
use futures::StreamExt;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use crate::address::KIND;
use crate::body::{FRAMES_MEDIA_TYPE, OutgoingBody};
use crate::client::is_frames;
use crate::clock::Refill;
use crate::connection::{Connection, UnderWay};
use crate::drain::Drain;
use crate::json::{self, Json};
use crate::reader::FrameReader;

/// Where the paths of every version begin.
const ROOT: &str = "/eidetica/v";

/// Answers one request.
pub(crate) async fn answer(
    connection: &Arc<Connection>,
    request: Request<Incoming>,
) -> Response<OutgoingBody> {
    let under_way = connection.begin();
    let drain = Arc::new(Drain::new(connection.tasks.clone()));
    let path = match versioned(request.uri().path()) {
        Ok(path) => Ok(path.to_owned()),
        Err(refusal) => Err(refusal),
    };
    let json = match path.as_deref() {
        Err(_) => None,
        Ok("exchange") => match request.method() == Method::POST {
            false => Some(Json::wrong_method("POST")),
            true if !is_frames(request.headers()) => Some(Json::error(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "an exchange is a body of the type application/vnd.eidetica.frames",
            )),
            true => return exchange(connection, request, drain, under_way).await,
        },
        Ok(path) => Some(match json::question(path) {
            None => Json::not_found(),
            Some(_) if request.method() != Method::GET => Json::wrong_method("GET"),
            Some(question) => Json::inspection(connection.service.inspect(question).await),
        }),
    };
    let json = match (json, path) {
        (Some(json), _) | (None, Err(json)) => json,
        (None, Ok(_)) => Json::not_found(),
    };
    drain.leave(request.into_body());
    connection.answered();
    text(json, drain, under_way)
}

/// Returns what stands behind the version in a path.
fn versioned(path: &str) -> Result<&str, Json> {
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
    let sending = Arc::clone(&under_way.sending);
    let guard = Answering {
        _under_way: under_way,
        drain,
    };
    let body = OutgoingBody::frames(frames, sending, Some(Box::new(guard)));
    let mut response = Response::new(body);
    let media_type = HeaderValue::from_static(FRAMES_MEDIA_TYPE);
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}

fn text(json: Json, drain: Arc<Drain>, under_way: UnderWay) -> Response<OutgoingBody> {
    let sending = Arc::clone(&under_way.sending);
    let guard = Answering {
        _under_way: under_way,
        drain,
    };
    let mut response = Response::new(OutgoingBody::text(json.text, sending, Box::new(guard)));
    *response.status_mut() = json.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(method) = json.allow {
        headers.insert(ALLOW, HeaderValue::from_static(method));
    }
    response
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
