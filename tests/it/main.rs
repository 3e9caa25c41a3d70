//! The integration tests: one binary, a file per noun, over real sockets.

mod server;
mod support;
mod tidy;
