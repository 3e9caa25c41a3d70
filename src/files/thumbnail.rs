//! Dimensions and thumbnails of images, made off the async threads and within limits: whatever bytes come, it neither
//! panics nor takes much memory. Knows nothing of where files are kept.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, ImageResult, Limits};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// A larger file is not looked into: it would have to be in memory whole.
pub const IMAGE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// A larger image has neither dimensions nor a thumbnail and is never decoded.
const PIXELS_MAX: u64 = 50_000_000;
/// Images above this are decoded one at a time.
const PIXELS_AT_ONCE_MAX: u64 = 12_500_000;
/// What a decoder may allocate: 50 megapixels of 16-bit RGBA and its own tables.
const DECODER_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// The longer side of a thumbnail.
const THUMBNAIL_SIDE_MAX: u32 = 320;
const JPEG_QUALITY: u8 = 82;
/// Images looked into at once.
const AT_ONCE_MAX: usize = 2;

/// What is known of an image, as it is shown: Exif's turn is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    pub width: u32,
    pub height: u32,
    /// Nothing where the image is broken.
    pub thumbnail: Option<Thumbnail>,
}

/// A small version of an image, encoded anew: it has no metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thumbnail {
    pub bytes: Bytes,
    /// `image/jpeg`, or `image/png` where something shows through.
    pub content_type: &'static str,
}

/// Looks into images, a few at a time. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Thumbnailer {
    slots: Arc<Semaphore>,
    large: Arc<Mutex<()>>,
}

impl Default for Thumbnailer {
    fn default() -> Self {
        Self { slots: Arc::new(Semaphore::new(AT_ONCE_MAX)), large: Arc::default() }
    }
}

impl Thumbnailer {
    /// Looks into the image that `bytes` loads, which is polled only once there is a free slot, so that waiting images
    /// are not in memory. Nothing where it is no image of a known format or above 50 megapixels.
    pub async fn inspect<E>(&self, bytes: impl Future<Output = Result<Bytes, E>>) -> Result<Option<ImageInfo>, E> {
        let Ok(slot) = self.slots.clone().acquire_owned().await else { return Ok(None) };
        let bytes = bytes.await?;
        let large = self.large.clone();
        let work = move || {
            // The work holds the slot: its caller may go away, the work goes on.
            let _slot = slot;
            inspect_image(&bytes, &large)
        };
        Ok(tokio::task::spawn_blocking(work).await.ok().flatten())
    }
}

/// Decoders are written with care, yet fed by strangers: one that panics found no image.
fn inspect_image(bytes: &[u8], large: &Mutex<()>) -> Option<ImageInfo> {
    catch_unwind(AssertUnwindSafe(|| inspect(bytes, large))).ok().flatten()
}

fn inspect(bytes: &[u8], large: &Mutex<()>) -> Option<ImageInfo> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(DECODER_BYTES_MAX);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), image::guess_format(bytes).ok()?);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().ok()?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > PIXELS_MAX {
        return None;
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let _turn = (pixels > PIXELS_AT_ONCE_MAX).then(|| large.lock());
    // A panic past this point still leaves the dimensions.
    let thumbnail = catch_unwind(AssertUnwindSafe(|| make_thumbnail(decoder, limits, orientation)));
    let (width, height) = if is_sideways(orientation) { (height, width) } else { (width, height) };
    Some(ImageInfo { width, height, thumbnail: thumbnail.ok().and_then(Result::ok) })
}

fn is_sideways(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    )
}

fn make_thumbnail(
    mut decoder: impl ImageDecoder,
    mut limits: Limits,
    orientation: Orientation,
) -> ImageResult<Thumbnail> {
    limits.reserve(decoder.total_bytes())?;
    decoder.set_limits(limits)?;
    // Of an animation this is the first frame.
    let mut image = DynamicImage::from_decoder(decoder)?;
    if image.width().max(image.height()) > THUMBNAIL_SIDE_MAX {
        image = image.thumbnail(THUMBNAIL_SIDE_MAX, THUMBNAIL_SIDE_MAX);
    }
    // Turned once it is small.
    image.apply_orientation(orientation);
    encode(image)
}

fn encode(image: DynamicImage) -> ImageResult<Thumbnail> {
    let mut bytes = Vec::new();
    let image = image.into_rgba8();
    let content_type = if image.pixels().all(|pixel| pixel[3] == u8::MAX) {
        let image = DynamicImage::from(image).into_rgb8();
        JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY).encode_image(&image)?;
        "image/jpeg"
    } else {
        image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)?;
        "image/png"
    };
    Ok(Thumbnail { bytes: bytes.into(), content_type })
}
