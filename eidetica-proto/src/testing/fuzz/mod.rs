//! What must hold for any bytes that a peer sends or a person pastes: the bodies of the fuzz
//! targets. See [`eidetica_dag::testing::fuzz`].

mod batches;
mod filters;
mod frames;
mod messages;
mod proofs;
mod records;
mod replicas;
mod shortest;
mod syncs;
mod texts;
mod tips;
mod watches;

use eidetica_dag::testing::fuzz::Target;

pub use batches::{batch, batch_edit};
pub use filters::{filter, filter_build};
pub use frames::frames;
pub use messages::{part, request, response};
pub use proofs::{request_proof, response_proof};
pub use records::batch_records;
pub use syncs::sync;
pub use texts::{address, ticket, ticket_build};
pub use tips::{sketch, tips};
pub use watches::{address_record, watch, watch_frame};

type Check = fn(&[u8]) -> bool;
type Seeds = fn() -> Vec<Vec<u8>>;

/// Every target of this crate.
pub const TARGETS: &[Target] = &[
    target("request", request, messages::request_seeds),
    target("response", response, messages::response_seeds),
    target("request_proof", request_proof, proofs::request_proof_seeds),
    target(
        "response_proof",
        response_proof,
        proofs::response_proof_seeds,
    ),
    target("part", part, messages::part_seeds),
    target("frames", frames, frames::seeds),
    target("batch", batch, batches::batch_seeds),
    target("batch_edit", batch_edit, batches::batch_edit_seeds),
    target("batch_records", batch_records, records::seeds),
    target("filter", filter, filters::filter_seeds),
    target("filter_build", filter_build, filters::filter_build_seeds),
    target("sketch", sketch, tips::sketch_seeds),
    target("tips", tips, tips::tips_seeds),
    target("ticket", ticket, texts::ticket_seeds),
    target("ticket_build", ticket_build, texts::ticket_build_seeds),
    target("address", address, texts::address_seeds),
    target("sync", sync, syncs::seeds),
    target("watch_frame", watch_frame, watches::frame_seeds),
    target("watch", watch, watches::seeds),
    target("address_record", address_record, watches::record_seeds),
];

const fn target(name: &'static str, check: Check, seeds: Seeds) -> Target {
    Target { name, check, seeds }
}
