//! Uploads and downloads on a real folder and both databases.

use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;

use super::*;
use crate::config::AttachmentStore;
use crate::store::commit::Change;
use crate::store::testing::{LINK_LIFETIME, TestStore, both};

both!(
    a_file_is_taken_in_and_handed_out_by_its_link_until_it_expires,
    an_image_has_dimensions_and_a_thumbnail,
    what_is_too_large_or_of_another_type_is_refused_and_leaves_nothing,
    an_upload_that_nobody_keeps_leaves_nothing,
    an_upload_repeated_under_its_key_is_the_first_one,
    files_go_with_their_message,
    files_that_no_message_took_go_after_a_day,
    what_a_crash_left_goes_after_a_day,
);

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

struct Place {
    store: TestStore,
    attachments: Attachments,
    dir: tempfile::TempDir,
}

impl Place {
    async fn new(store: TestStore) -> Self {
        store.put_conversation(1, &[1, 2]).await;
        let dir = tempfile::tempdir().unwrap();
        let tasks = TaskTracker::new();
        let files = FileStore::open(&AttachmentStore::DataDir, dir.path(), tasks.clone()).unwrap();
        let settings = Settings { attachment_bytes_max: Some(1000), ..Settings::default() };
        let attachments = Attachments::new(&settings, (*store).clone(), files, tasks);
        Self { store, attachments, dir }
    }

    async fn upload(&self, bytes: &[u8]) -> Result<Attachment> {
        let upload = self.attachments.receive(Some("../a.bin"), chunked(bytes)).await?;
        Ok(first(self.attachments.keep(1, upload, None).await?))
    }

    /// How many files there are, once nothing is under way.
    async fn count(&self) -> usize {
        self.attachments.tasks.close();
        self.attachments.tasks.wait().await;
        count_files(self.dir.path())
    }

    async fn download(&self, url: &str) -> Result<Download> {
        let (path, query) = url.split_once('?').unwrap();
        let id = path.split('/').nth(4).unwrap().parse().unwrap();
        self.attachments.open(id, query).await
    }
}

fn first(once: Once<Attachment>) -> Attachment {
    match once {
        Once::First(attachment) => attachment,
        Once::Repeated(answer) => panic!("{answer:?}"),
    }
}

fn chunked(bytes: &[u8]) -> impl Stream<Item = Result<Bytes>> + use<> {
    let chunks: Vec<_> = bytes.chunks(400).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    stream::iter(chunks)
}

fn count_files(dir: &Path) -> usize {
    let entries: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.iter().map(|path| if path.is_dir() { count_files(path) } else { 1 }).sum()
}

async fn text(download: &Download, range: Range<u64>) -> Vec<u8> {
    download.read(range).await.unwrap().try_collect::<Vec<_>>().await.unwrap().concat()
}

fn png() -> Vec<u8> {
    // One pixel, by hand.
    const HEX: &str = "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de\
                       0000000c49444154789c63f8cfc0000003010100c9fe92ef0000000049454e44ae426082";
    (0..HEX.len()).step_by(2).map(|at| u8::from_str_radix(&HEX[at..at + 2], 16).unwrap()).collect()
}

async fn a_file_is_taken_in_and_handed_out_by_its_link_until_it_expires(store: TestStore) {
    let place = Place::new(store).await;
    let made = place.upload(&[b'x'; 1000]).await.unwrap();
    assert_eq!((made.filename.as_str(), made.content_type.as_str(), made.size), ("a.bin", "text/plain", 1000));
    assert_eq!((&made.thumbnail_url, made.width), (&None, None));
    assert_eq!(place.attachments.find(made.id, 1).await.unwrap().id, made.id);
    assert_eq!(place.attachments.find(made.id, 2).await.unwrap_err().code, Code::NotFound);
    let download = place.download(&made.url).await.unwrap();
    assert_eq!((download.filename.as_str(), download.size), ("a.bin", 1000));
    assert_eq!(download.expires_at_ms, place.store.clock.now_ms() + LINK_LIFETIME.as_millis() as i64);
    assert_eq!(text(&download, 0..1000).await, [b'x'; 1000]);
    assert_eq!(text(&download, 990..1000).await, [b'x'; 10]);
    assert_eq!(place.download(&made.url).await.unwrap().etag, download.etag);
    place.store.clock.advance_ms(LINK_LIFETIME.as_millis() as i64);
    assert_eq!(place.download(&made.url).await.err().unwrap().code, Code::NotFound);
    let empty = place.upload(b"").await.unwrap();
    let download = place.download(&empty.url).await.unwrap();
    assert_eq!(text(&download, 0..0).await, b"");
    assert_ne!(place.download(&empty.url).await.unwrap().etag, "");
}

async fn an_image_has_dimensions_and_a_thumbnail(store: TestStore) {
    let place = Place::new(store).await;
    let made = place.upload(&png()).await.unwrap();
    assert_eq!((made.content_type.as_str(), made.width, made.height), ("image/png", Some(1), Some(1)));
    assert_eq!(place.count().await, 2);
    let thumbnail = place.download(made.thumbnail_url.as_deref().unwrap()).await.unwrap();
    assert_eq!(thumbnail.content_type, "image/jpeg");
    let bytes = text(&thumbnail, 0..thumbnail.size).await;
    assert_eq!((bytes.len() as u64, &bytes[..2]), (thumbnail.size, &[0xFF, 0xD8][..]));
    assert_eq!(text(&thumbnail, 1..3).await, bytes[1..3]);
    assert_ne!(thumbnail.etag, place.download(&made.url).await.unwrap().etag);
}

async fn what_is_too_large_or_of_another_type_is_refused_and_leaves_nothing(store: TestStore) {
    let place = Place::new(store).await;
    let error = place.upload(&[b'x'; 1001]).await.unwrap_err();
    assert_eq!((error.code, error.field), (Code::TooLarge, Some("file")));
    let error = place.upload(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0").await.unwrap_err();
    assert_eq!((error.code, error.field), (Code::Unsupported, Some("file")));
    let broken = stream::iter([Ok(Bytes::from("a")), Err(Error::field("file", "broken"))]);
    assert_eq!(place.attachments.receive(None, broken).await.err().unwrap().message, "broken");
    assert_eq!(place.count().await, 0);
}

async fn an_upload_that_nobody_keeps_leaves_nothing(store: TestStore) {
    let place = Place::new(store).await;
    let upload = place.attachments.receive(None, chunked(&png())).await.unwrap();
    assert_eq!((upload.filename(), place.count().await), ("file", 2));
    drop(upload);
    assert_eq!(place.count().await, 0);
    // Nobody of that id is known, so the row is refused.
    let upload = place.attachments.receive(None, chunked(&png())).await.unwrap();
    assert_eq!(place.attachments.keep(99, upload, None).await.unwrap_err().code, Code::Unavailable);
    assert_eq!(place.count().await, 0);
}

async fn an_upload_repeated_under_its_key_is_the_first_one(store: TestStore) {
    let place = Place::new(store).await;
    let keep = async |bytes: &[u8], fingerprint| {
        let upload = place.attachments.receive(None, chunked(bytes)).await.unwrap();
        let key = IdempotencyKey { caller_id: 1, key: "k".to_owned(), fingerprint };
        place.attachments.keep(1, upload, Some(key)).await
    };
    let made = first(keep(&png(), 1).await.unwrap());
    let Once::Repeated(answer) = keep(&png(), 1).await.unwrap() else { panic!("not repeated") };
    assert_eq!((answer.status, answer.body), (201, serde_json::to_string(&made).unwrap()));
    assert_eq!(keep(b"other", 2).await.unwrap_err().code, Code::Conflict);
    assert_eq!(place.count().await, 2);
    assert_eq!(place.attachments.find(made.id, 1).await.unwrap().id, made.id);
    let upload = place.attachments.receive(None, chunked(b"abc")).await.unwrap();
    assert!(upload.digest().starts_with("ba7816bf8f01cfea"), "{}", upload.digest());
}

async fn files_go_with_their_message(store: TestStore) {
    let place = Place::new(store).await;
    let made = place.upload(&png()).await.unwrap();
    let message_id = place.store.say(1, 1, "", &[made.id]).await;
    place.attachments.collect().await;
    assert_eq!(place.count().await, 2);
    let opened = place.download(&made.url).await.unwrap();
    place.store.change(1, 1, Change::Delete { message_id }).await.unwrap();
    assert_eq!(place.download(&made.url).await.err().unwrap().code, Code::NotFound);
    place.attachments.collect().await;
    assert_eq!(place.count().await, 0);
    assert_eq!(opened.read(0..1).await.err().unwrap().code, Code::NotFound);
}

async fn files_that_no_message_took_go_after_a_day(store: TestStore) {
    let place = Place::new(store).await;
    let made = place.upload(&png()).await.unwrap();
    place.store.clock.advance_ms(DAY_MS);
    place.attachments.collect().await;
    assert_eq!(place.count().await, 2);
    place.store.clock.advance_ms(1);
    place.attachments.collect().await;
    assert_eq!(place.count().await, 0);
    assert_eq!(place.attachments.find(made.id, 1).await.unwrap_err().code, Code::NotFound);
}

async fn what_a_crash_left_goes_after_a_day(store: TestStore) {
    let place = Place::new(store).await;
    // Its clean-up never runs, as in a crash between the file and its row.
    std::mem::forget(place.attachments.receive(None, chunked(&png())).await.unwrap());
    place.store.clock.advance_ms(DAY_MS - 1);
    place.attachments.collect().await;
    assert_eq!(place.count().await, 2);
    place.store.clock.advance_ms(1);
    place.attachments.collect().await;
    assert_eq!(place.count().await, 0);
    assert_eq!(place.store.list_files_to_delete("").await.unwrap(), [""; 0]);
}
