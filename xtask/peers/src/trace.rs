//! What git says about its packets (`GIT_TRACE_PACKET`).

/// Bytes of a packet's length, and of the packets that are nothing but that.
const LENGTH_BYTES: u64 = 4;

/// The asking side's conversation. The pack itself goes over another band, and the handshake, which
/// tells versions and capabilities, is left out: it belongs to the connection.
#[derive(Debug, Default, PartialEq)]
pub struct Trace {
    /// Commands that were sent: one to list the branches, the others to negotiate.
    pub round_trips: u64,
    /// Bytes of the packets both ways.
    pub bytes: u64,
}

impl Trace {
    /// Reads a trace. Lines of other processes are passed over.
    pub fn of(text: &str) -> Self {
        let mut trace = Self::default();
        for line in text.lines() {
            let sent = line.split_once(" fetch> ");
            let Some((_, packet)) = sent.or_else(|| line.split_once(" fetch< ")) else {
                continue;
            };
            trace.round_trips += u64::from(packet.starts_with("command="));
            if trace.round_trips > 0 {
                trace.bytes += match packet {
                    "0000" | "0001" | "0002" => LENGTH_BYTES,
                    // The line's end is not shown.
                    text => LENGTH_BYTES + text.len() as u64 + 1,
                };
            }
        }
        trace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_and_the_other_process_are_left_out() {
        let text = "\
10:00:00.000000 pkt-line.c:86           packet:        fetch< version 2
10:00:00.000000 pkt-line.c:86           packet:        fetch< 0000
10:00:00.000000 pkt-line.c:86           packet:        fetch> command=ls-refs
10:00:00.000000 pkt-line.c:86           packet:        fetch> 0000
10:00:00.000000 pkt-line.c:86           packet:  upload-pack< command=ls-refs
10:00:00.000000 pkt-line.c:86           packet:        fetch< 0000
10:00:00.000000 pkt-line.c:86           packet:     sideband< PACK ...
";
        let expected = Trace {
            round_trips: 1,
            bytes: 4 + 15 + 1 + 4 + 4,
        };
        assert_eq!(Trace::of(text), expected);
    }
}
