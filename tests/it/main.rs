//! The integration tests: one binary, a file per noun, over real sockets.

mod attachments;
mod auth;
mod commands;
mod demo;
mod handshake;
mod notifications;
mod openapi;
mod search;
mod server;
mod strangers;
mod support;
mod tidy;
