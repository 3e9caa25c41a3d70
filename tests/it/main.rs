//! The integration tests: one binary, a file per noun, over real sockets.

mod attachments;
mod demo;
mod notifications;
mod openapi;
mod search;
mod server;
mod support;
mod tidy;
