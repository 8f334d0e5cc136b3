//! One connection at the server: its place, and the requests in progress on it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, Weak};

use eidetica_proto::Service;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::body::Sending;
use crate::hosts::Hosts;
use crate::json_api::JsonApi;
use crate::options::Deadlines;
use crate::places;
use crate::quota::{Quota, Share};
use crate::sync::lock;
use crate::tasks::Tasks;

/// One connection that a caller opened.
pub(crate) struct Connection {
    pub(crate) service: Arc<dyn Service>,
    pub(crate) remote: String,
    pub(crate) deadlines: Deadlines,
    pub(crate) tasks: Weak<Tasks>,
    pub(crate) stopping: watch::Receiver<bool>,
    ip: IpAddr,
    shared: Shared,
    /// Its place: among the connections without an answer, later among the others.
    place: Mutex<Place>,
    /// Notified when others need what this connection holds.
    pub(crate) given_up: Arc<Notify>,
    activity: Mutex<Activity>,
}

/// What all connections of a server share.
#[derive(Clone)]
pub(crate) struct Shared {
    /// Places of connections without an answer.
    pub(crate) newcomers: Arc<Quota>,
    /// Places of connections with one.
    pub(crate) answered: Arc<places::Places>,
    /// Memory for frames that are not whole.
    pub(crate) memory: Arc<Quota>,
    /// Memory for answers that are not taken.
    pub(crate) untaken: Arc<Quota>,
    /// What answers people and scripts, if anything does.
    pub(crate) json_api: JsonApiSlot,
    /// The names of the server.
    pub(crate) hosts: Arc<Hosts>,
}

/// Where the implementation of the JSON interface is kept. It can be set at any time.
pub(crate) type JsonApiSlot = Arc<Mutex<Option<Arc<dyn JsonApi>>>>;

/// Where a connection is counted.
enum Place {
    Newcomer(Share),
    Answered(#[expect(dead_code, reason = "held until the end")] places::Place),
}

/// What is in progress on a connection.
struct Activity {
    under_way: BTreeMap<u64, Arc<Sending>>,
    begun: u64,
    /// When the last request ended.
    idle_since: Instant,
}

/// One request in progress. The connection is not idle while this lives.
pub(crate) struct UnderWay {
    connection: Arc<Connection>,
    number: u64,
    pub(crate) sending: Arc<Sending>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut activity = lock(&self.connection.activity);
        activity.under_way.remove(&self.number);
        activity.idle_since = Instant::now();
    }
}

impl Connection {
    pub(crate) fn new(
        service: Arc<dyn Service>,
        remote: SocketAddr,
        deadlines: Deadlines,
        tasks: Weak<Tasks>,
        shared: Shared,
        stopping: watch::Receiver<bool>,
    ) -> Arc<Self> {
        let given_up = Arc::<Notify>::default();
        let place = shared
            .newcomers
            .share(remote.ip().to_string(), Arc::clone(&given_up));
        Arc::new(Self {
            service,
            remote: remote.to_string(),
            deadlines,
            tasks,
            stopping,
            place: Mutex::new(Place::Newcomer(place)),
            ip: remote.ip(),
            shared,
            given_up,
            activity: Mutex::new(Activity {
                under_way: BTreeMap::new(),
                begun: 0,
                idle_since: Instant::now(),
            }),
        })
    }

    /// Takes a place among the newcomers. Another connection may lose its place.
    pub(crate) fn arrive(&self) {
        if let Place::Newcomer(share) = &mut *lock(&self.place) {
            share.set(1);
        }
    }

    /// Records that a request got an answer. If there is room, the connection stops being a newcomer.
    pub(crate) fn answered(&self) {
        let mut place = lock(&self.place);
        if let Place::Newcomer(_) = &*place
            && let Some(taken) = self.shared.answered.take(self.ip)
        {
            *place = Place::Answered(taken);
        }
    }

    /// Returns what answers people and scripts, if anything does.
    pub(crate) fn json_api(&self) -> Option<Arc<dyn JsonApi>> {
        lock(&self.shared.json_api).clone()
    }

    /// Returns the names of the server.
    pub(crate) fn hosts(&self) -> &Hosts {
        &self.shared.hosts
    }

    /// Returns what counts the memory for one request's frames.
    pub(crate) fn memory(&self) -> Share {
        let group = self.ip.to_string();
        self.shared.memory.share(group, Arc::clone(&self.given_up))
    }

    /// Returns what counts the memory for one answer.
    pub(crate) fn untaken(&self) -> Share {
        let group = self.ip.to_string();
        self.shared.untaken.share(group, Arc::clone(&self.given_up))
    }

    /// Records that a request begins.
    pub(crate) fn begin(self: &Arc<Self>) -> UnderWay {
        let sending = Arc::<Sending>::default();
        let mut activity = lock(&self.activity);
        let number = activity.begun;
        activity.begun += 1;
        activity.under_way.insert(number, Arc::clone(&sending));
        UnderWay {
            connection: Arc::clone(self),
            number,
            sending,
        }
    }

    /// Returns when the caller will be late, and for what.
    pub(crate) fn next_deadline(&self) -> (Instant, &'static str) {
        let activity = lock(&self.activity);
        if activity.begun == 0 {
            let deadline = activity.idle_since + self.deadlines.connect;
            return (deadline, "no request arrived in time");
        }
        if activity.under_way.is_empty() {
            let deadline = activity.idle_since + self.deadlines.idle;
            return (deadline, "it was idle");
        }
        let sent = activity.under_way.values();
        let oldest = sent
            .filter_map(|sending| sending.clock.waiting_since())
            .min();
        let since = oldest.unwrap_or_else(Instant::now);
        (since + self.deadlines.idle, "an answer was not taken")
    }
}
