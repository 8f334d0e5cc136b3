//! Local discovery without the feature `mdns`: there is none.

use eidetica_proto::DiscoveredStream;

/// A value of this type does not exist.
#[derive(Debug)]
pub(crate) enum LocalDiscovery {}

impl LocalDiscovery {
    pub(crate) fn restart(&self) {
        match *self {}
    }

    pub(crate) fn set_serving(&self, _serving: bool) {
        match *self {}
    }

    pub(crate) fn close(&self) {
        match *self {}
    }

    pub(crate) fn stream(&self) -> DiscoveredStream {
        match *self {}
    }
}
