//! What each crate of the workspace may depend on, and what it must never see.
//!
//! A list that stands in the way is not wrong by that alone: it asks for a decision. Change it
//! together with the reason in ARCHITECTURE.md.

/// The rules of one crate. Names may end in `*`, which stands for any ending.
pub struct CrateRule {
    pub name: &'static str,
    /// Its folder, from the workspace's root.
    pub folder: &'static str,
    /// What the rules of this crate protect, for whoever breaks one.
    pub boundary: &'static str,
    /// What it may declare as a dependency, on any platform. Tests may use more.
    pub direct: &'static [&'static str],
    /// What it may declare only as optional, behind a feature.
    pub optional: &'static [&'static str],
    /// What must not appear under it at any depth.
    pub never: &'static [&'static str],
    /// What its code must not name, tests apart.
    pub unnamed: &'static [Pattern],
}

/// Something that code must not name.
#[derive(Clone, Copy, Debug)]
pub enum Pattern {
    /// These segments in a row, anywhere in a path: `std::fs` is in `::std::fs::File`.
    Segments(&'static str),
    /// A path that starts with this crate and goes on.
    Crate(&'static str),
}

use Pattern::{Crate, Segments};

const DAG: CrateRule = CrateRule {
    name: "eidetica-dag",
    folder: "eidetica-dag",
    boundary: "eidetica-dag is pure and synchronous: no async, clocks, random sources, network or \
               files. Time, randomness and identity are arguments",
    direct: &[
        "bytes",
        "data-encoding",
        "ed25519-dalek",
        "postcard",
        "serde",
        "serde_bytes",
        "sha2",
        "smallvec",
        "thiserror",
    ],
    // For the real history among the test helpers.
    optional: &["flate2"],
    never: &[
        "async-trait",
        "eidetica-*",
        "futures*",
        "hyper*",
        "iroh*",
        "mio",
        "quinn*",
        "redb",
        "tokio*",
    ],
    unnamed: &[
        Segments("async"),
        Segments("await"),
        Segments("SystemTime"),
        Segments("Instant::now"),
        Segments("OsRng"),
        Crate("getrandom"),
        Crate("rand"),
        Segments("std::env"),
        Segments("std::fs"),
        Segments("std::net"),
        Segments("std::process"),
        Segments("std::thread"),
    ],
};

const PROTO: CrateRule = CrateRule {
    name: "eidetica-proto",
    folder: "eidetica-proto",
    boundary: "eidetica-proto decides and does no I/O: no runtime, network library, clocks, random \
               sources or files. A driver feeds it",
    direct: &[
        "async-trait",
        "bytes",
        "data-encoding",
        "eidetica-dag",
        "futures-core",
        "percent-encoding",
        "postcard",
        "serde",
        "serde_bytes",
        "sha2",
        "smallvec",
        "thiserror",
        "zstd",
    ],
    // For the in-memory transport among the test helpers.
    optional: &["futures"],
    never: &[
        "eidetica-sync",
        "eidetica-transport-*",
        "hyper*",
        "iroh*",
        "mio",
        "quinn*",
        "redb",
        "tokio*",
    ],
    unnamed: &[
        Segments("SystemTime"),
        Segments("Instant::now"),
        Segments("OsRng"),
        Crate("getrandom"),
        Crate("rand"),
        Segments("std::env"),
        Segments("std::fs"),
        Segments("std::net"),
        Segments("std::process"),
        Segments("std::thread"),
    ],
};

const HTTP: CrateRule = CrateRule {
    name: "eidetica-transport-http",
    folder: "eidetica-transport-http",
    boundary: "a transport carries opaque frames: it knows neither entries nor stores nor the \
               other transport, so each can be used, replaced and tested alone",
    direct: &[
        "async-trait",
        "bytes",
        "eidetica-proto",
        "futures",
        "futures-core",
        "futures-util",
        "h2",
        "http",
        "http-body",
        "http-body-util",
        "httpdate",
        "hyper",
        "hyper-util",
        "serde",
        "serde_json",
        "socket2",
        "thiserror",
        "tokio",
        "tokio-util",
        "tracing",
    ],
    // For TLS. The other library of cryptography would be a second one beside that of iroh.
    optional: &[
        "rcgen",
        "rustls",
        "rustls-platform-verifier",
        "tokio-rustls",
        "tower-service",
    ],
    never: &[
        "aws-lc-*",
        "eidetica-sync",
        "eidetica-transport-iroh",
        "iroh*",
        "redb",
    ],
    unnamed: &[Segments("eidetica_dag")],
};

const IROH: CrateRule = CrateRule {
    name: "eidetica-transport-iroh",
    folder: "eidetica-transport-iroh",
    boundary: HTTP.boundary,
    direct: &[
        "async-trait",
        "bytes",
        "eidetica-proto",
        "futures",
        "futures-core",
        "futures-util",
        "iroh",
        "iroh-tickets",
        "thiserror",
        "tokio",
        "tokio-util",
        "tracing",
    ],
    optional: &["iroh-mdns-address-lookup", "iroh-relay"],
    never: &["eidetica-sync", "eidetica-transport-http", "redb"],
    unnamed: &[Segments("eidetica_dag")],
};

const SYNC: CrateRule = CrateRule {
    name: "eidetica-sync",
    folder: "eidetica-sync",
    boundary: "eidetica-sync does what eidetica-proto decides: each transport stands behind its \
               feature, and no type of hyper or iroh shows in its signatures",
    direct: &[
        "async-trait",
        "bytes",
        "data-encoding",
        "eidetica-dag",
        "eidetica-proto",
        "futures",
        "futures-core",
        "futures-util",
        "postcard",
        "rand",
        "serde",
        "serde_bytes",
        "sha2",
        "thiserror",
        "tokio",
        "tokio-util",
        "tracing",
    ],
    optional: &[
        "clap",
        "directories",
        "eidetica-transport-http",
        "eidetica-transport-iroh",
        "indicatif",
        "jiff",
        "redb",
        "serde_json",
        "tempfile",
        "tracing-subscriber",
    ],
    never: &["xtask"],
    // Without a dependency on them, a re-export by a transport is the only way left.
    unnamed: &[
        Crate("hyper"),
        Crate("hyper_util"),
        Crate("iroh"),
        Crate("iroh_tickets"),
        Segments("eidetica_transport_http::hyper"),
        Segments("eidetica_transport_iroh::iroh"),
    ],
};

const XTASK: CrateRule = CrateRule {
    name: "xtask",
    folder: "xtask",
    boundary: "xtask starts at once and judges the other crates from outside: it depends on none \
               of them, and on very little",
    direct: &["serde_json"],
    optional: &[],
    never: &[
        "async-trait",
        "eidetica-*",
        "futures*",
        "hyper*",
        "iroh*",
        "tokio*",
    ],
    unnamed: &[],
};

const BENCH: CrateRule = CrateRule {
    name: "eidetica-bench",
    folder: "xtask/bench",
    boundary: "benchmarks measure every crate from outside, and may use whatever that takes",
    direct: &["*"],
    optional: &[],
    never: &["xtask"],
    unnamed: &[],
};

/// Every member of the workspace.
pub const CRATES: &[CrateRule] = &[DAG, PROTO, HTTP, IROH, SYNC, XTASK, BENCH];

/// A crate on which nothing may depend, not even tests.
pub struct Top {
    pub name: &'static str,
    /// Who may all the same.
    pub except: &'static [&'static str],
    pub boundary: &'static str,
}

/// The tops of the stack.
pub const TOPS: &[Top] = &[
    Top {
        name: "eidetica-sync",
        except: &["eidetica-bench"],
        boundary: "nothing but the benchmarks depends on eidetica-sync: programs on a lower layer \
                   never build the upper one",
    },
    Top {
        name: "eidetica-bench",
        except: &[],
        boundary: "nothing depends on the benchmarks: what a library needs belongs into one",
    },
];

/// Why libraries have no default features.
pub const DEFAULT_BOUNDARY: &str =
    "default = [] in every library: features only add, and users pay for what they ask for";

/// Why every member has rules.
pub const MEMBER_BOUNDARY: &str =
    "the workspace consists of the crates in the rules, and each of them has a boundary";
