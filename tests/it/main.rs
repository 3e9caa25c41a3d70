//! The integration tests: one binary, a file per noun, over real sockets.

mod attachments;
mod auth;
mod backpressure;
mod clearing;
mod commands;
mod conversations;
mod demo;
mod drain;
mod fold;
mod handshake;
mod limits;
mod messages_rest;
mod notifications;
mod openapi;
mod outage;
mod participants;
mod proxy;
mod resume;
mod schemathesis;
mod search;
mod server;
mod strangers;
mod support;
mod tidy;
mod token_life;
mod users;
