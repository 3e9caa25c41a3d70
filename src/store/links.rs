//! Links to attachments, signed by a key that all servers on this database share.

use std::sync::OnceLock;
use std::time::Duration;

use super::sql::{execute, fetch_one};
use super::{Found, Store};
use crate::files::{Link, LinkSigner, Variant};

/// What makes links.
#[derive(Debug, Default)]
pub struct Links {
    signer: OnceLock<LinkSigner>,
    public_url: Option<String>,
    lifetime: Duration,
}

impl Links {
    /// Links are paths, or absolute under the public URL where there is one.
    pub fn new(public_url: Option<String>, lifetime: Duration) -> Self {
        Self { signer: OnceLock::new(), public_url, lifetime }
    }

    /// A link that is good from now on for its lifetime.
    pub fn url(&self, attachment_id: i64, filename: &str, is_thumbnail: bool, now_ms: i64) -> String {
        let variant = if is_thumbnail { Variant::Thumbnail } else { Variant::Original };
        let expires_at_ms = now_ms + self.lifetime.as_millis() as i64;
        let link = Link { attachment_id, filename, variant, expires_at_ms };
        self.signer.get().map(|signer| signer.url(self.public_url.as_deref(), link)).unwrap_or_default()
    }

    /// What a link's query opens, where its signature is right and it has not expired.
    pub fn verify(&self, attachment_id: i64, query: &str, now_ms: i64) -> Option<Variant> {
        self.signer.get()?.verify(attachment_id, query, now_ms)
    }
}

impl Store {
    /// Reads the key of the links, and makes it where there is none yet.
    pub async fn load_link_key(&self) -> Found<()> {
        let mut fresh = [0_u8; 32];
        aws_lc_rs::rand::fill(&mut fresh).map_err(|_| sqlx::Error::WorkerCrashed)?;
        let mut tx = self.begin().await?;
        let sql = "INSERT INTO server_keys (name, value) VALUES ('attachment_links', $1) ON CONFLICT (name) DO NOTHING";
        execute!(&mut tx.conn(), sql, hex(&fresh))?;
        let sql = "SELECT value FROM server_keys WHERE name = 'attachment_links'";
        let (stored,): (String,) = fetch_one!(&mut tx.conn(), (String,), sql)?;
        tx.commit().await?;
        // Another server's key may have been there first; every server signs with the stored one.
        let mut key = [0_u8; 32];
        for (byte, pair) in key.iter_mut().zip(stored.as_bytes().chunks(2)) {
            *byte =
                std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()).unwrap_or_default();
        }
        let _ = self.links.signer.set(LinkSigner::new(&key));
        Ok(())
    }

    /// What makes and checks links to attachments.
    pub fn links(&self) -> &Links {
        &self.links
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
