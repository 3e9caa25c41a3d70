//! Tidings: real-time chat and notifications over WebSocket for platforms that issue their own JWTs.

#[macro_use]
mod planted;

pub mod app;
pub mod auth;
pub mod chat;
pub mod clock;
pub mod commands;
pub mod config;
pub mod error;
pub mod files;
pub mod http;
pub mod hub;
pub mod ids;
pub mod protocol;
pub mod rate_limit;
#[cfg(test)]
mod simulation;
pub mod socket;
pub mod store;
pub mod telemetry;

#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
