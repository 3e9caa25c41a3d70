//! Tidings: real-time chat and notifications over WebSocket for platforms that issue their own JWTs.

pub mod auth;
pub mod clock;
pub mod commands;
pub mod config;
pub mod error;
pub mod files;
pub mod hub;
pub mod ids;
pub mod protocol;
pub mod store;

#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
