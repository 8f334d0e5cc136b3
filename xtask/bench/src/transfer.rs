//! Throughput of a bootstrap, beside the limits that hashing, decoding and storing alone set.
