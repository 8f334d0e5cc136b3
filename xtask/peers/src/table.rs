//! The figures as a table for people and as rows for programs.

use serde_json::{Value, json};

use crate::peer::Cost;

/// The fetches of one workload in one way.
pub struct Row {
    pub workload: String,
    pub peer: &'static str,
    /// How many entries A lacked in each pair.
    pub missing: Vec<u64>,
    pub costs: Vec<Cost>,
}

/// The head of the table.
pub const HEAD: &str = "\
| workload | missing | peer | round trips (max) | negotiation bytes | redundant | seconds |
|---|--:|---|--:|--:|--:|--:|";

/// How to read the table.
pub const NOTES: &str = "
A fetches all that it lacks from B; means over the pairs, the replicas the same for every peer.
Round trips: until A has everything. Negotiation bytes: both ways, the entries' own bytes left out.
Redundant: entries that A was sent and had. Seconds: on the wall, both sides one after the other.

- eidetica: the filter in the first request. Tips first: the filter only if B asks for it, as in the
  periodic check. Both remember nothing. Seconds include packing, hashing, signatures and storing.
- git fetch: protocol 2 over file://, empty commits. A round trip is a command; the handshake is not
  counted. Seconds include three processes, disk, and a trace of the packets.
- automerge: empty changes. State kept: both remember the heads of the moment at which they were
  last equal, which only these two can use. Where more than a third of the document is missing, all
  of it is sent, compressed, and counts as redundant. Seconds include applying the changes.
- negentropy: ids only, ordered by clocks that are right. One round trip and the ids of what is
  missing are added for fetching the entries by id. Seconds leave the entries and sorting out.
- riblt: ids only, eight bytes of each. A streams until B has decoded; symbols under way by then are
  not counted. Where ids can be chosen by an attacker, they must be whole and a symbol is 2.4 times
  as long. Seconds include making the symbols from the whole set, and leave the entries out.
";

impl Row {
    fn mean(&self, of: impl Fn(&Cost) -> f64) -> f64 {
        self.costs.iter().map(of).sum::<f64>() / self.costs.len() as f64
    }

    fn missing_mean(&self) -> f64 {
        self.missing.iter().sum::<u64>() as f64 / self.missing.len() as f64
    }

    fn round_trips_max(&self) -> u64 {
        let each = self.costs.iter().map(|cost| cost.round_trips);
        each.max().unwrap_or(0)
    }

    /// Writes the row of the table.
    pub fn line(&self) -> String {
        format!(
            "| {} | {:.0} | {} | {:.1} ({}) | {:.0} | {:.1} | {:.4} |",
            self.workload,
            self.missing_mean(),
            self.peer,
            self.mean(|cost| cost.round_trips as f64),
            self.round_trips_max(),
            self.mean(|cost| cost.negotiation_bytes as f64),
            self.mean(|cost| cost.redundant as f64),
            self.mean(|cost| cost.elapsed.as_secs_f64()),
        )
    }

    /// Writes the row for programs.
    pub fn json(&self) -> Value {
        json!({
            "workload": self.workload,
            "peer": self.peer,
            "pairs": self.costs.len(),
            "missing_entries_mean": self.missing_mean(),
            "round_trips_mean": self.mean(|cost| cost.round_trips as f64),
            "round_trips_max": self.round_trips_max(),
            "negotiation_bytes_mean": self.mean(|cost| cost.negotiation_bytes as f64),
            "redundant_entries_mean": self.mean(|cost| cost.redundant as f64),
            "elapsed_s_mean": self.mean(|cost| cost.elapsed.as_secs_f64()),
        })
    }
}
