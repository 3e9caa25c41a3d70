//! Where the bytes of attachments are kept: a local folder or an S3 bucket. The only place that knows object_store.
//! Keys are drawn at random; nothing that a user typed ever becomes one.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::buffered::BufWriter;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::prefix::PrefixStore;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, RetryConfig};
use tokio::io::AsyncWriteExt;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::Sniffer;
use crate::config::AttachmentStore;

/// What S3 takes as a part at least; a file below it is one request.
const S3_PART_BYTES: usize = 5 * 1024 * 1024;
const LOCAL_PART_BYTES: usize = 256 * 1024;
/// Parts of one upload that are under way at once. With the one being filled they bound an upload's memory.
const PARTS_UNDER_WAY_MAX: usize = 2;
/// How long a request to S3 is retried; the uploader waits meanwhile.
const RETRY_TIMEOUT: Duration = Duration::from_secs(20);

/// The store failed or can't be reached. For the log, never for a client.
#[derive(Debug, thiserror::Error)]
#[error("attachment store: {0}")]
pub struct StoreError(#[from] object_store::Error);

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        Self(object_store::Error::Generic { store: "attachments", source: error.into() })
    }
}

/// Why a file was not stored. Nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
pub enum PutError<E> {
    #[error("the file is larger than allowed")]
    TooLarge,
    /// The stream that the file was read from broke off.
    #[error("the upload broke off")]
    Source(E),
    #[error(transparent)]
    Store(StoreError),
}

/// The bytes of a file, or of a part of one.
pub type FileStream = BoxStream<'static, Result<Bytes, StoreError>>;

/// A fresh random key, sharded by two hexadecimal digits so that no folder grows too large.
pub fn new_key() -> String {
    let name = uuid::Uuid::new_v4().simple().to_string();
    format!("{}/{name}", &name[..2])
}

/// The store of files. Cheap to clone.
#[derive(Clone)]
pub struct FileStore {
    objects: Arc<dyn ObjectStore>,
    /// Where there is one: the local folder.
    folder: Option<PathBuf>,
    part_bytes: usize,
    /// What outlives a request, cleaning up after it; shutdown waits for it.
    tasks: TaskTracker,
    runtime: Handle,
}

impl FileStore {
    /// Opens the store that the settings name: the folder `attachments` of the data folder, or a bucket with the
    /// credentials, region and endpoint of the `AWS_…` variables. Must be called within the runtime.
    pub fn open(place: &AttachmentStore, data_dir: &Path, tasks: TaskTracker) -> anyhow::Result<Self> {
        let folder = data_dir.join("attachments");
        let (objects, folder, part_bytes) = match place {
            AttachmentStore::DataDir => (open_folder(&folder)?, Some(folder), LOCAL_PART_BYTES),
            AttachmentStore::S3 { bucket, prefix } => (open_s3(bucket, prefix)?, None, S3_PART_BYTES),
        };
        Ok(Self { objects, folder, part_bytes, tasks, runtime: Handle::current() })
    }

    /// Writes a stream under a key from [`new_key`], sniffing its type on the way. Memory is bounded by a few parts.
    /// Where it fails, or its caller goes away, nothing is left behind.
    pub async fn put<E>(
        &self,
        key: &str,
        stream: impl Stream<Item = Result<Bytes, E>>,
        bytes_max: Option<u64>,
    ) -> Result<Stored, PutError<E>> {
        let mut upload = Upload::begin(self, key).map_err(PutError::Store)?;
        match upload.fill(stream, bytes_max).await {
            Ok((size, content_type)) => upload.finish(size, content_type).await.map_err(PutError::Store),
            Err(error) => {
                upload.abort().await;
                Err(error)
            }
        }
    }

    /// Reads a file, or the part of it that a range within its size names; nothing where there is no such file.
    pub async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Option<FileStream>, StoreError> {
        let options = GetOptions { range: range.map(Into::into), ..GetOptions::default() };
        match self.objects.get_opts(&object_path(key)?, options).await {
            Ok(file) => Ok(Some(file.into_stream().map(|chunk| chunk.map_err(StoreError)).boxed())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a whole file into memory; its caller knows that it is small enough.
    pub async fn read(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        match self.objects.get(&object_path(key)?).await {
            Ok(file) => Ok(Some(file.bytes().await?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes a file; one that is not there is deleted already. What a crash left of a file half written to a folder
    /// goes as well; in a bucket that is for a lifecycle rule on incomplete multipart uploads.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self.objects.delete(&object_path(key)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let Some(folder) = &self.folder else { return Ok(()) };
        // Keys are used once, so the name that object_store stages a file under never has another number.
        match tokio::fs::remove_file(folder.join(format!("{key}#1"))).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for FileStore {
    /// Without the settings of the store, which hold its credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileStore({})", self.objects)
    }
}

fn object_path(key: &str) -> Result<ObjectPath, StoreError> {
    ObjectPath::parse(key).map_err(|error| StoreError(error.into()))
}

fn open_folder(folder: &Path) -> anyhow::Result<Arc<dyn ObjectStore>> {
    let open = || {
        std::fs::create_dir_all(folder)?;
        anyhow::Ok(LocalFileSystem::new_with_prefix(folder)?.with_fsync(true))
    };
    Ok(Arc::new(open().with_context(|| format!("can't open the attachment folder {}", folder.display()))?))
}

fn open_s3(bucket: &str, prefix: &str) -> anyhow::Result<Arc<dyn ObjectStore>> {
    let prefix = ObjectPath::parse(prefix).context("the prefix of the S3 store is no path")?;
    let settings = AmazonS3Builder::from_env();
    // Whoever names an endpoint without TLS means it.
    let endpoint = settings.get_config_value(&AmazonS3ConfigKey::Endpoint).unwrap_or_default();
    let settings = if endpoint.starts_with("http://") { settings.with_allow_http(true) } else { settings };
    let retries = RetryConfig { retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() };
    let objects = settings.with_bucket_name(bucket).with_retry(retries).build().context("can't open the S3 store")?;
    Ok(Arc::new(PrefixStore::new(objects, prefix)))
}

/// A stored file that nobody vouches for yet: dropped without [`Stored::keep`], it is deleted again, so that a refused
/// type, a failed transaction or a vanished client leaves no file behind.
#[derive(Debug)]
#[must_use = "dropping it deletes the file"]
pub struct Stored {
    pub size: u64,
    /// As sniffed.
    pub content_type: &'static str,
    /// Where the file is, while it is to be deleted.
    unclaimed: Option<(FileStore, String)>,
}

impl Stored {
    /// Says that the file's row is written: from now on it lives until it is deleted by its key.
    pub fn keep(mut self) {
        self.unclaimed = None;
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        let Some((files, key)) = self.unclaimed.take() else { return };
        let runtime = files.runtime.clone();
        files.tasks.clone().spawn_on(
            async move {
                if let Err(error) = files.delete(&key).await {
                    tracing::warn!(%error, "a refused attachment's file could not be deleted");
                }
            },
            &runtime,
        );
    }
}

/// A file on its way into the store. Dropped half-way (its client went away), it cleans up behind itself.
struct Upload {
    files: FileStore,
    key: String,
    writer: Option<BufWriter>,
    has_failed: bool,
}

impl Upload {
    fn begin(files: &FileStore, key: &str) -> Result<Self, StoreError> {
        let writer = BufWriter::with_capacity(files.objects.clone(), object_path(key)?, files.part_bytes)
            .with_max_concurrency(PARTS_UNDER_WAY_MAX);
        Ok(Self { files: files.clone(), key: key.to_owned(), writer: Some(writer), has_failed: false })
    }

    async fn fill<E>(
        &mut self,
        stream: impl Stream<Item = Result<Bytes, E>>,
        bytes_max: Option<u64>,
    ) -> Result<(u64, &'static str), PutError<E>> {
        let mut stream = std::pin::pin!(stream);
        let mut sniffer = Sniffer::default();
        let mut size = 0;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(PutError::Source)?;
            size += chunk.len() as u64;
            if bytes_max.is_some_and(|max| size > max) {
                return Err(PutError::TooLarge);
            }
            sniffer.push(&chunk);
            self.write(&chunk).await.map_err(PutError::Store)?;
        }
        Ok((size, sniffer.finish()))
    }

    /// Copies the chunk: keeping it would pin the connection's whole read buffer.
    async fn write(&mut self, chunk: &[u8]) -> Result<(), StoreError> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let result = writer.write_all(chunk).await;
        self.has_failed = result.is_err();
        Ok(result?)
    }

    /// Completes the file in a task of its own: cancelled in the middle, it could not be known whether the file is
    /// there. Where nobody waits for the answer any more, it is dropped and takes the file with it.
    async fn finish(mut self, size: u64, content_type: &'static str) -> Result<Stored, StoreError> {
        let writer = self.writer.take();
        let unclaimed = Some((self.files.clone(), std::mem::take(&mut self.key)));
        let (answer, answered) = oneshot::channel();
        self.files.tasks.spawn_on(
            async move {
                let result = match writer {
                    Some(mut writer) => writer.shutdown().await,
                    None => Ok(()),
                };
                let stored = result.map(|()| Stored { size, content_type, unclaimed });
                drop(answer.send(stored));
            },
            &self.files.runtime,
        );
        match answered.await {
            Ok(stored) => Ok(stored?),
            Err(_) => Err(std::io::Error::other("the runtime is shutting down").into()),
        }
    }

    async fn abort(mut self) {
        if let Some(task) = self.start_abort() {
            drop(task.await);
        }
    }

    fn start_abort(&mut self) -> Option<tokio::task::JoinHandle<()>> {
        let mut writer = self.writer.take()?;
        let has_failed = self.has_failed;
        let abort = async move {
            // An upload that is only just being opened has to be open before it can be aborted.
            let opened = if has_failed { Ok(()) } else { writer.flush().await };
            if opened.is_ok()
                && let Err(error) = writer.abort().await
            {
                tracing::warn!(%error, "an attachment's broken upload could not be cleaned up");
            }
        };
        Some(self.files.tasks.spawn_on(abort, &self.files.runtime))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.start_abort();
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;

    use super::*;

    /// A store in a temporary folder, and what is in it.
    struct Folder {
        files: FileStore,
        dir: tempfile::TempDir,
    }

    impl Folder {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let files =
                FileStore::open(&AttachmentStore::DataDir, &dir.path().join("not/there/yet"), TaskTracker::new())
                    .unwrap();
            Self { files, dir }
        }

        /// How many files lie in the folder, once all clean-up is done.
        async fn count(&self) -> usize {
            self.files.tasks.close();
            self.files.tasks.wait().await;
            count_files(self.dir.path())
        }

        async fn text(&self, key: &str, range: Option<Range<u64>>) -> Vec<u8> {
            let chunks: Vec<_> = self.files.get(key, range).await.unwrap().unwrap().collect().await;
            chunks.into_iter().flat_map(|chunk| chunk.unwrap()).collect()
        }
    }

    fn count_files(dir: &Path) -> usize {
        let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| if path.is_dir() { count_files(&path) } else { 1 }).sum()
    }

    fn chunks(count: usize, size: usize) -> impl Stream<Item = Result<Bytes, &'static str>> {
        stream::iter((0..count).map(move |number| Ok(Bytes::from(vec![b'a' + (number % 26) as u8; size]))))
    }

    #[tokio::test]
    async fn a_file_is_read_back_whole_and_in_parts_until_it_is_deleted() {
        let folder = Folder::new();
        // Below a part, exactly one, and several with a rest.
        for (count, size) in [(1, 10), (4, LOCAL_PART_BYTES / 4), (11, 100_000)] {
            let key = new_key();
            let stored = folder.files.put(&key, chunks(count, size), None).await.unwrap();
            assert_eq!((stored.size, stored.content_type), ((count * size) as u64, "text/plain"));
            stored.keep();
            let whole: Vec<u8> = chunks(count, size).map(Result::unwrap).collect::<Vec<_>>().await.concat();
            assert_eq!(folder.text(&key, None).await, whole);
            assert_eq!(folder.files.read(&key).await.unwrap().unwrap(), whole);
            assert_eq!(folder.text(&key, Some(3..7)).await, whole[3..7]);
            let end = whole.len() as u64;
            assert_eq!(folder.text(&key, Some(end - 1..end)).await, whole[whole.len() - 1..]);
            assert_eq!(folder.count().await, 1);
            for _ in 0..2 {
                folder.files.delete(&key).await.unwrap();
                assert!(folder.files.get(&key, None).await.unwrap().is_none());
                assert!(folder.files.read(&key).await.unwrap().is_none());
            }
            assert_eq!(folder.count().await, 0);
        }
    }

    #[tokio::test]
    async fn an_empty_file_is_a_file() {
        let folder = Folder::new();
        let key = new_key();
        let stored = folder.files.put(&key, stream::empty::<Result<Bytes, Infallible>>(), Some(0)).await.unwrap();
        assert_eq!((stored.size, stored.content_type), (0, "text/plain"));
        stored.keep();
        assert_eq!(folder.text(&key, None).await, b"");
    }

    #[tokio::test]
    async fn a_file_of_the_greatest_size_is_kept_and_one_byte_more_is_refused() {
        let folder = Folder::new();
        for size in [1000, 3 * LOCAL_PART_BYTES] {
            let key = new_key();
            folder.files.put(&key, chunks(4, size), Some(4 * size as u64)).await.unwrap().keep();
            assert_eq!(folder.count().await, 1);
            let refused = folder.files.put(&new_key(), chunks(4, size), Some(4 * size as u64 - 1)).await;
            assert!(matches!(refused, Err(PutError::TooLarge)));
            assert_eq!(folder.count().await, 1);
            folder.files.delete(&key).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_stream_that_breaks_off_leaves_nothing_behind() {
        let folder = Folder::new();
        for count in [0, 1, 20] {
            let broken = chunks(count, 100_000).chain(stream::iter([Err("reset")]));
            let refused = folder.files.put(&new_key(), broken, None).await;
            assert!(matches!(refused, Err(PutError::Source("reset"))));
            assert_eq!(count_files(folder.dir.path()), 0, "already when it is answered");
        }
    }

    #[tokio::test]
    async fn an_upload_whose_caller_goes_away_leaves_nothing_behind() {
        let folder = Folder::new();
        for count in [0, 1, 20] {
            let endless = chunks(count, 100_000).chain(stream::pending());
            let key = new_key();
            let mut put = Box::pin(folder.files.put(&key, endless, None));
            // The upload has taken all chunks once it waits for one that never comes, however many polls that takes.
            for _ in 0..100 {
                assert!(futures_util::poll!(&mut put).is_pending());
                tokio::task::yield_now().await;
            }
            drop(put);
            assert_eq!(folder.count().await, 0);
        }
    }

    #[tokio::test]
    async fn what_a_crash_leaves_of_a_file_goes_with_its_key() {
        let folder = Folder::new();
        let key = new_key();
        let mut put = Box::pin(folder.files.put(&key, chunks(20, 100_000).chain(stream::pending()), None));
        while count_files(folder.dir.path()) == 0 {
            assert!(futures_util::poll!(&mut put).is_pending());
            tokio::task::yield_now().await;
        }
        std::mem::forget(put);
        folder.files.delete(&key).await.unwrap();
        assert_eq!(folder.count().await, 0);
    }

    #[tokio::test]
    async fn a_file_that_nobody_keeps_is_deleted() {
        let folder = Folder::new();
        for count in [1, 20] {
            let stored = folder.files.put(&new_key(), chunks(count, 100_000), None).await.unwrap();
            assert_eq!(folder.count().await, 1);
            drop(stored);
            assert_eq!(folder.count().await, 0);
            // Cancelled while it is being completed.
            let key = new_key();
            let mut put = Box::pin(folder.files.put(&key, chunks(count, 100_000), None));
            while futures_util::poll!(&mut put).is_pending() && folder.files.tasks.is_empty() {
                tokio::task::yield_now().await;
            }
            drop(put);
            assert_eq!(folder.count().await, 0);
        }
    }

    #[tokio::test]
    async fn a_store_that_fails_says_so_and_leaves_nothing_behind() {
        let folder = Folder::new();
        std::fs::write(folder.dir.path().join("not/there/yet/attachments/ab"), "in the way").unwrap();
        for count in [1, 20] {
            let failed = folder.files.put("ab/key", chunks(count, 100_000), None).await;
            assert!(matches!(failed, Err(PutError::Store(_))), "{failed:?}");
        }
        assert_eq!(folder.count().await, 1);
    }

    #[tokio::test]
    async fn a_key_never_leaves_the_folder() {
        let folder = Folder::new();
        for key in ["../secret", "a/../../secret", "/etc//passwd"] {
            assert!(folder.files.get(key, None).await.is_err(), "{key}");
            assert!(folder.files.put(key, chunks(1, 1), None).await.is_err(), "{key}");
        }
    }

    #[test]
    fn keys_are_sharded_and_never_the_same() {
        let (one, two) = (new_key(), new_key());
        assert_ne!(one, two);
        let (shard, name) = one.split_once('/').unwrap();
        assert_eq!((shard.len(), name.len()), (2, 32));
        assert!(name.starts_with(shard) && name.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }

    #[tokio::test]
    async fn a_prefix_that_is_no_path_is_refused() {
        let open = |prefix: &str| {
            let place = AttachmentStore::S3 { bucket: "files".to_owned(), prefix: prefix.to_owned() };
            FileStore::open(&place, Path::new("unused"), TaskTracker::new())
        };
        assert!(open("").is_ok() && open("chat/a").is_ok());
        assert!(open("chat/../a").is_err());
    }
}
