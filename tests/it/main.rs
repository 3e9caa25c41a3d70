//! The integration tests: one binary, a file per noun, over real sockets.

mod attachments;
mod auth;
mod commands;
mod demo;
mod handshake;
mod notifications;
mod openapi;
mod conversations;
mod messages_rest;
mod notifications;
mod participants;
mod search;
mod server;
mod support;
mod tidy;
mod users;
