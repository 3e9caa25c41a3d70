//! `tidings migrate`: brings the database up to this version.

use anyhow::Result;

use crate::app::open_store;
use crate::clock::Clock;
use crate::config::Settings;

/// Applies what is missing; nothing where the database is up to date.
pub async fn run(settings: Settings) -> Result<()> {
    let store = open_store(&settings, &Clock::system()).await?;
    store.migrate().await?;
    store.close().await;
    println!("the database is up to date");
    Ok(())
}
