//! The WebSocket edge: the upgrade, who may come in, one task per connection, replays. The rules of chat
//! are not here.

mod admit;
mod connection;
mod dispatch;
mod join;
mod replay;
pub mod upgrade;
mod websocket;
