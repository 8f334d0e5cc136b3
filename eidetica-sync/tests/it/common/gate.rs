//! A service around a node's own that can be cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use eidetica_proto::{Caller, FrameStream, Service, TransportError};
use eidetica_sync::Node;
use futures::{StreamExt, stream};
use tokio::sync::watch;

use super::served::start;

/// A way to a node that can be cut.
#[derive(Clone)]
pub(crate) struct Gate {
    is_open: watch::Sender<bool>,
    /// How many of the next exchanges are lost.
    to_lose: Arc<AtomicUsize>,
    lost: watch::Sender<usize>,
}

impl Gate {
    /// Lets a node serve behind a gate, which is open.
    pub(crate) async fn serve(node: &Node) -> Self {
        let gate = Self {
            is_open: watch::Sender::new(true),
            to_lose: Arc::default(),
            lost: watch::Sender::new(0),
        };
        let gated = Gated {
            inner: node.service(),
            gate: gate.clone(),
        };
        start(node, gated).await;
        gate
    }

    /// Cuts all that runs and all that comes.
    pub(crate) fn close(&self) {
        self.is_open.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.is_open.send_replace(true);
    }

    /// Loses the next exchange, and returns once it is lost.
    pub(crate) fn lose_one(&self) -> impl Future<Output = ()> + use<> {
        let mut lost = self.lost.subscribe();
        lost.mark_unchanged();
        self.to_lose.fetch_add(1, Ordering::Relaxed);
        async move { lost.changed().await.expect("the gate lasts") }
    }
}

struct Gated {
    inner: Arc<dyn Service>,
    gate: Gate,
}

#[async_trait]
impl Service for Gated {
    async fn exchange(&self, caller: Caller, request: FrameStream) -> FrameStream {
        let lose = |left: usize| left.checked_sub(1);
        let (to_lose, order) = (&self.gate.to_lose, Ordering::Relaxed);
        let is_lost = to_lose.fetch_update(order, order, lose).is_ok();
        if is_lost {
            self.gate.lost.send_modify(|lost| *lost += 1);
        }
        if is_lost {
            // As behind a proxy that gives up: an answer that ends before it begins.
            return Box::pin(stream::empty());
        }
        if !*self.gate.is_open.borrow() {
            let cut = Err(TransportError::connection_lost("the gate is closed"));
            return Box::pin(stream::iter([cut]));
        }
        let mut is_open = self.gate.is_open.subscribe();
        let answer = self.inner.exchange(caller, request).await;
        Box::pin(answer.take_until(async move {
            let _the_gate_is_gone = is_open.wait_for(|is_open| !is_open).await;
        }))
    }
}
