//! Who is asking: tokens checked against the configured keys. Knows nothing of HTTP, sockets or the store.
