//! Attachments: taken in as a stream, looked at, kept until a message takes them, handed out by signed links, and
//! deleted when nobody needs them any more. Knows nothing of requests.

use std::ops::Range;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::time::MissedTickBehavior;
use tokio_util::task::TaskTracker;

use crate::config::{AttachmentTypes, Settings};
use crate::error::{Code, Error, Result};
use crate::files::{
    FileStore, FileStream, ImageInfo, PutError, StoreError, Stored, Thumbnailer, Variant, clean_filename,
    expires_at_ms, is_inspected, new_key,
};
use crate::protocol::Attachment;
use crate::store::commit::fingerprint_of;
use crate::store::idempotency::{IdempotencyKey, Once};
use crate::store::{NewAttachment, Store};

/// How often files that nobody needs are looked for.
const COLLECT: Duration = Duration::from_secs(60);

/// The attachments of one server. Cheap to clone.
#[derive(Clone)]
pub struct Attachments {
    store: Store,
    files: FileStore,
    thumbnailer: Thumbnailer,
    types: AttachmentTypes,
    bytes_max: Option<u64>,
    tasks: TaskTracker,
}

/// A file that is stored and not yet anybody's. Dropped, it is deleted again.
pub struct Upload {
    filename: String,
    image: Option<ImageInfo>,
    file: Stored,
    file_key: String,
    thumbnail: Option<(Stored, &'static str)>,
    thumbnail_key: String,
    digest: String,
}

/// What a link opens.
pub struct Download {
    pub filename: String,
    pub content_type: String,
    pub size: u64,
    /// Another one for each file, the same for all its links.
    pub etag: String,
    /// Until when the link is good.
    pub expires_at_ms: i64,
    bytes: Source,
}

enum Source {
    File(FileStore, String),
    Memory(Bytes),
}

impl Attachments {
    pub fn new(settings: &Settings, store: Store, files: FileStore, tasks: TaskTracker) -> Self {
        Self {
            store,
            files,
            thumbnailer: Thumbnailer::default(),
            types: settings.attachment_types.clone(),
            bytes_max: settings.attachment_bytes_max,
            tasks,
        }
    }

    /// Takes a file in: its size, what it is by its bytes, and, of an image, its dimensions and a thumbnail.
    pub async fn receive(&self, filename: Option<&str>, bytes: impl Stream<Item = Result<Bytes>>) -> Result<Upload> {
        let (file_key, thumbnail_key) = (new_key(), new_key());
        self.store.reserve_files(&[&file_key, &thumbnail_key]).await?;
        let mut digest = Context::new(&SHA256);
        let bytes = bytes.inspect(|chunk| chunk.iter().for_each(|bytes| digest.update(bytes)));
        let file = self.files.put(&file_key, bytes, self.bytes_max).await.map_err(|error| self.refusal(error))?;
        if !self.types.allow(file.content_type) {
            let sentence = format!("files of the type {} are not taken here", file.content_type);
            return Err(Error { field: Some("file"), ..Error::new(Code::Unsupported, sentence) });
        }
        let image = match is_inspected(file.content_type, file.size) {
            true => self.thumbnailer.inspect(self.read(&file_key)).await?,
            false => None,
        };
        let thumbnail = match image.as_ref().and_then(|image| image.thumbnail.clone()) {
            Some(thumbnail) => {
                let bytes = stream::iter([Ok(thumbnail.bytes)]);
                let stored = self.files.put(&thumbnail_key, bytes, None).await.map_err(|error| self.refusal(error))?;
                Some((stored, thumbnail.content_type))
            }
            None => None,
        };
        let filename = clean_filename(filename.unwrap_or_default());
        let digest = digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Upload { filename, image, file, file_key, thumbnail, thumbnail_key, digest })
    }

    /// Makes an upload somebody's attachment, unless its key has made one before.
    pub async fn keep(
        &self,
        uploader_id: i64,
        upload: Upload,
        key: Option<IdempotencyKey>,
    ) -> Result<Once<Attachment>> {
        let store = self.store.clone();
        // In a task of its own: were it cancelled in the middle, the row might be there and the file not.
        let kept = self.tasks.spawn(async move {
            let side = |side: fn(&ImageInfo) -> u32| upload.image.as_ref().map(|image| i64::from(side(image)));
            let new = NewAttachment {
                uploader_id,
                filename: &upload.filename,
                content_type: upload.file.content_type,
                size: upload.file.size as i64,
                width: side(|image| image.width),
                height: side(|image| image.height),
                file_key: &upload.file_key,
                thumbnail: upload.thumbnail.as_ref().map(|(_, kind)| (upload.thumbnail_key.as_str(), *kind)),
            };
            let once = store.insert_attachment(new, key.as_ref()).await??;
            if let Once::First(_) = once {
                upload.file.keep();
                if let Some((thumbnail, _)) = upload.thumbnail {
                    thumbnail.keep();
                }
            }
            Ok(once)
        });
        kept.await.unwrap_or_else(|_| Err(Error::internal()))
    }

    /// An attachment with fresh links, for those who may see it.
    pub async fn find(&self, id: i64, user_id: i64) -> Result<Attachment> {
        self.store.find_attachment(id, user_id).await?.ok_or_else(no_attachment)
    }

    /// The file that a link's query opens. A link that was never good, one that has expired and a file that is gone
    /// are not told apart.
    pub async fn open(&self, id: i64, query: &str) -> Result<Download> {
        let now = self.store.now_ms();
        let variant = self.store.links().verify(id, query, now).ok_or_else(no_attachment)?;
        let row = self.store.find_attachment_row(id).await?.ok_or_else(no_attachment)?;
        let (key, content_type) = match variant {
            Variant::Original => (row.file_key, row.content_type),
            Variant::Thumbnail => row.thumbnail_key.zip(row.thumbnail_type).ok_or_else(no_attachment)?,
        };
        let etag = format!("\"{:x}\"", fingerprint_of(key.as_bytes()));
        let (size, bytes) = match variant {
            Variant::Original => (row.size as u64, Source::File(self.files.clone(), key)),
            Variant::Thumbnail => {
                let bytes = self.read(&key).await?;
                (bytes.len() as u64, Source::Memory(bytes))
            }
        };
        let expires_at_ms = expires_at_ms(query).unwrap_or(now);
        Ok(Download { filename: row.filename, content_type, size, etag, expires_at_ms, bytes })
    }

    async fn read(&self, key: &str) -> Result<Bytes> {
        self.files.read(key).await.map_err(unavailable)?.ok_or_else(|| missing(key))
    }

    /// Collects every so often, until it is dropped; a turn left in the middle is taken up by the next one.
    pub async fn collect_often(self) {
        let mut turns = tokio::time::interval(COLLECT);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            self.collect().await;
        }
    }

    /// Deletes the files of deleted messages, of uploads that no message took in a day, and of broken uploads.
    pub async fn collect(&self) {
        // Faults are logged where they become errors; the next turn tries again.
        let _ = self.collect_all().await;
    }

    async fn collect_all(&self) -> Result<()> {
        self.store.expire_uploads().await?;
        let mut after = String::new();
        loop {
            let keys = self.store.list_files_to_delete(&after).await?;
            let Some(last) = keys.last() else { return Ok(()) };
            after.clone_from(last);
            let mut deleted = Vec::with_capacity(keys.len());
            for key in keys {
                match self.files.delete(&key).await {
                    Ok(()) => deleted.push(key),
                    Err(error) => tracing::warn!(%error, "a file could not be deleted; it is tried again"),
                }
            }
            self.store.forget_files(&deleted).await?;
        }
    }

    fn refusal(&self, error: PutError<Error>) -> Error {
        match error {
            PutError::TooLarge => {
                let most = self.bytes_max.unwrap_or_default();
                Error::too_large("file", format!("a file has at most {most} bytes"))
            }
            PutError::Source(error) => error,
            PutError::Store(error) => unavailable(error),
        }
    }
}

impl Upload {
    pub fn filename(&self) -> &str {
        &self.filename
    }

    /// SHA-256 of its bytes, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

impl Download {
    /// The file, or a part of it that lies within its size.
    pub async fn read(&self, range: Range<u64>) -> Result<FileStream> {
        match &self.bytes {
            Source::File(files, key) => {
                // No store takes an empty range.
                let part = Some(range).filter(|range| !range.is_empty() && *range != (0..self.size));
                files.get(key, part).await.map_err(unavailable)?.ok_or_else(|| missing(key))
            }
            Source::Memory(bytes) => {
                let part = bytes.slice(range.start as usize..range.end as usize);
                Ok(stream::iter([Ok(part)]).boxed())
            }
        }
    }
}

fn no_attachment() -> Error {
    Error::not_found("there is no such attachment, you may not see it, or its link has expired")
}

fn unavailable(error: StoreError) -> Error {
    tracing::warn!(%error, "the attachment store failed");
    Error::unavailable()
}

/// A file whose row is there and whose bytes are not: deleted this moment, or lost by the store.
fn missing(key: &str) -> Error {
    tracing::warn!(file.key = key, "an attachment's file is not there");
    no_attachment()
}

#[cfg(test)]
mod tests;
