//! The places of connections that have had an answer, so many for one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use crate::limits::CONNECTIONS_OF_ONE;
use crate::sync::lock;

/// How many connections there may be.
pub(crate) struct Places {
    all_max: usize,
    by_one_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by: HashMap<IpAddr, usize>,
}

/// The place of one connection, until it is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    of: IpAddr,
}

impl Places {
    pub(crate) fn new(all_max: usize) -> Arc<Self> {
        let (part, whole) = CONNECTIONS_OF_ONE;
        Arc::new(Self {
            all_max,
            by_one_max: (all_max * part).div_ceil(whole),
            taken: Mutex::default(),
        })
    }

    /// Takes a place for a connection from this address, if there is one.
    pub(crate) fn take(self: &Arc<Self>, of: IpAddr) -> Option<Place> {
        let mut taken = lock(&self.taken);
        let own = taken.by.get(&of).copied().unwrap_or(0);
        if taken.all >= self.all_max || own >= self.by_one_max {
            return None;
        }
        taken.all += 1;
        taken.by.insert(of, own + 1);
        Some(Place {
            places: Arc::clone(self),
            of,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.places.taken);
        taken.all -= 1;
        if let Some(own) = taken.by.get_mut(&self.of) {
            *own -= 1;
            if *own == 0 {
                taken.by.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_leaves_room_for_others() {
        let places = Places::new(8);
        let [crowd, other] = [[192, 0, 2, 1], [192, 0, 2, 2]].map(IpAddr::from);
        let mut held: Vec<_> = std::iter::from_fn(|| places.take(crowd)).collect();
        assert_eq!(held.len(), 6);
        held.extend(std::iter::from_fn(|| places.take(other)));
        assert_eq!(held.len(), 8);
        held.remove(0);
        assert!(places.take(other).is_some());
        drop(held);
        let taken = lock(&places.taken);
        assert_eq!((taken.all, taken.by.len()), (0, 0));
    }
}
