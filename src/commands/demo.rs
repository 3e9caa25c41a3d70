//! `tidings demo`: everything at once, in a temporary folder.

use anyhow::Result;

use crate::config::Settings;

/// Runs the demo.
pub async fn run(_settings: Settings) -> Result<()> {
    anyhow::bail!("the demo comes with the next commit")
}
