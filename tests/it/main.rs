//! The integration tests: one binary, a file per noun, over real sockets.

mod tidy;
