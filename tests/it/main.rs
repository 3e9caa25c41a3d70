//! The integration tests: one binary, a file per noun, over real sockets.

mod notifications;
mod server;
mod support;
mod tidy;
