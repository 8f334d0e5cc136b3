//! How long a sync takes over a warm connection.
