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
const IMAGE_BYTES_MAX: u64 = 64 * 1024 * 1024;
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

/// Whether a file is to be looked into: an image of a format that can be decoded and small enough to be in memory.
pub fn is_inspected(content_type: &str, size: u64) -> bool {
    matches!(content_type, "image/jpeg" | "image/png" | "image/gif" | "image/webp" | "image/bmp")
        && size <= IMAGE_BYTES_MAX
}

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
fn unless_it_panics<T>(work: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok().flatten()
}

fn inspect_image(bytes: &[u8], large: &Mutex<()>) -> Option<ImageInfo> {
    unless_it_panics(|| inspect(bytes, large))
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
    let thumbnail = unless_it_panics(|| make_thumbnail(decoder, limits, orientation).ok());
    let (width, height) = if is_sideways(orientation) { (height, width) } else { (width, height) };
    Some(ImageInfo { width, height, thumbnail })
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt;
    use image::codecs::gif::GifEncoder;
    use image::codecs::png::PngEncoder;
    use image::codecs::webp::WebPEncoder;
    use image::{Frame, ImageEncoder, Rgb, RgbImage, Rgba, RgbaImage};
    use tokio::sync::oneshot;

    use super::*;

    const RED: [u8; 3] = [255, 0, 0];
    const GREEN: [u8; 3] = [0, 255, 0];
    const BLUE: [u8; 3] = [0, 0, 255];
    const WHITE: [u8; 3] = [255, 255, 255];
    const FORMATS: [ImageFormat; 5] =
        [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Gif, ImageFormat::WebP, ImageFormat::Bmp];

    fn look(bytes: &[u8]) -> Option<ImageInfo> {
        inspect_image(bytes, &Mutex::default())
    }

    /// An image of four quarters: red, green, blue and white as one reads.
    fn quarters(width: u32, height: u32) -> DynamicImage {
        let color = |x, y| match (x < width / 2, y < height / 2) {
            (true, true) => RED,
            (false, true) => GREEN,
            (true, false) => BLUE,
            (false, false) => WHITE,
        };
        RgbImage::from_fn(width, height, |x, y| Rgb(color(x, y))).into()
    }

    fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Vec::new();
        image.write_to(&mut Cursor::new(&mut bytes), format).unwrap();
        bytes
    }

    fn decoded(info: &ImageInfo) -> DynamicImage {
        let thumbnail = info.thumbnail.as_ref().unwrap();
        let format = ImageFormat::from_mime_type(thumbnail.content_type).unwrap();
        image::load_from_memory_with_format(&thumbnail.bytes, format).unwrap()
    }

    /// The colours of the quarters, as one reads.
    fn corners(image: &DynamicImage) -> [[u8; 3]; 4] {
        let image = image.to_rgb8();
        let (right, bottom) = (image.width() * 3 / 4, image.height() * 3 / 4);
        let (left, top) = (image.width() / 4, image.height() / 4);
        [(left, top), (right, top), (left, bottom), (right, bottom)]
            .map(|(x, y)| image[(x, y)].0.map(|channel| if channel > 127 { 255 } else { 0 }))
    }

    /// An Exif block that holds an orientation and something private.
    fn exif(orientation: u8) -> Vec<u8> {
        let entry = [0x12, 0x01, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0];
        [&b"II*\0\x08\0\0\0\x01\0"[..], &entry, &[0; 4], b"taken at home"].concat()
    }

    /// A JPEG with an APP1 segment right after its start, as cameras write it.
    fn jpeg_with_exif(image: &DynamicImage, orientation: u8) -> Vec<u8> {
        let jpeg = encoded(image, ImageFormat::Jpeg);
        let segment = [b"Exif\0\0", &exif(orientation)[..]].concat();
        let length = (segment.len() as u16 + 2).to_be_bytes();
        [&jpeg[..2], &[0xFF, 0xE1], &length, &segment, &jpeg[2..]].concat()
    }

    /// What each orientation shows of the quarters, and whether it lies on its side.
    const TURNS: [(u8, [[u8; 3]; 4], bool); 8] = [
        (1, [RED, GREEN, BLUE, WHITE], false),
        (2, [GREEN, RED, WHITE, BLUE], false),
        (3, [WHITE, BLUE, GREEN, RED], false),
        (4, [BLUE, WHITE, RED, GREEN], false),
        (5, [RED, BLUE, GREEN, WHITE], true),
        (6, [BLUE, RED, WHITE, GREEN], true),
        (7, [WHITE, GREEN, BLUE, RED], true),
        (8, [GREEN, WHITE, RED, BLUE], true),
    ];

    #[test]
    fn each_orientation_of_exif_is_applied_and_none_of_it_is_left() {
        for (orientation, shown, sideways) in TURNS {
            let jpeg = jpeg_with_exif(&quarters(640, 320), orientation);
            let info = look(&jpeg).unwrap();
            let size = if sideways { (320, 640) } else { (640, 320) };
            assert_eq!((info.width, info.height), size, "orientation {orientation}");
            let thumbnail = decoded(&info);
            let size = if sideways { (160, 320) } else { (320, 160) };
            assert_eq!((thumbnail.width(), thumbnail.height()), size, "orientation {orientation}");
            assert_eq!(corners(&thumbnail), shown, "orientation {orientation}");
            let bytes = &info.thumbnail.unwrap().bytes;
            for trace in [&b"Exif"[..], b"taken at home"] {
                assert!(jpeg.windows(trace.len()).any(|window| window == trace));
                assert!(!bytes.windows(trace.len()).any(|window| window == trace));
            }
        }
    }

    #[test]
    fn png_and_webp_are_turned_as_well() {
        let image = quarters(64, 32).into_rgb8();
        let mut png = Vec::new();
        let mut encoder = PngEncoder::new(&mut png);
        encoder.set_exif_metadata(exif(6)).unwrap();
        encoder.write_image(&image, 64, 32, image::ExtendedColorType::Rgb8).unwrap();
        let mut webp = Vec::new();
        let mut encoder = WebPEncoder::new_lossless(&mut webp);
        encoder.set_exif_metadata(exif(6)).unwrap();
        encoder.write_image(&image, 64, 32, image::ExtendedColorType::Rgb8).unwrap();
        for bytes in [png, webp] {
            let info = look(&bytes).unwrap();
            assert_eq!((info.width, info.height), (32, 64));
            assert_eq!(corners(&decoded(&info)), [BLUE, RED, WHITE, GREEN]);
        }
    }

    #[test]
    fn a_broken_orientation_is_passed_over() {
        for orientation in [0, 9, 255] {
            let info = look(&jpeg_with_exif(&quarters(64, 32), orientation)).unwrap();
            assert_eq!((info.width, info.height), (64, 32));
        }
    }

    #[test]
    fn a_thumbnail_fits_its_bounds_and_small_images_keep_their_size() {
        let table = [
            ((1000, 500), (320, 160)),
            ((500, 1000), (160, 320)),
            ((321, 321), (320, 320)),
            ((320, 200), (320, 200)),
            ((16, 8), (16, 8)),
            ((1, 1), (1, 1)),
            ((2000, 1), (320, 1)),
        ];
        for format in FORMATS {
            for ((width, height), size) in table {
                let info = look(&encoded(&quarters(width, height), format)).unwrap();
                assert_eq!((info.width, info.height), (width, height), "{format:?}");
                let thumbnail = decoded(&info);
                assert_eq!((thumbnail.width(), thumbnail.height()), size, "{format:?} {width}x{height}");
                assert_eq!(info.thumbnail.unwrap().content_type, "image/jpeg");
            }
        }
    }

    #[test]
    fn what_shows_through_stays_so_and_what_is_opaque_becomes_a_jpeg() {
        let clear = |alpha| DynamicImage::from(RgbaImage::from_pixel(400, 400, Rgba([255, 0, 0, alpha])));
        for format in [ImageFormat::Png, ImageFormat::WebP] {
            let opaque = look(&encoded(&clear(255), format)).unwrap();
            assert_eq!(opaque.thumbnail.unwrap().content_type, "image/jpeg");
            let info = look(&encoded(&clear(128), format)).unwrap();
            assert_eq!(info.thumbnail.as_ref().unwrap().content_type, "image/png");
            assert_eq!(decoded(&info).to_rgba8()[(5, 5)].0, [255, 0, 0, 128]);
        }
        let deep = DynamicImage::from(quarters(400, 400).into_rgb16());
        assert_eq!(corners(&decoded(&look(&encoded(&deep, ImageFormat::Png)).unwrap())), [RED, GREEN, BLUE, WHITE]);
        let gray = DynamicImage::from(quarters(400, 400).into_luma8());
        assert!(look(&encoded(&gray, ImageFormat::Jpeg)).unwrap().thumbnail.is_some());
    }

    #[test]
    fn an_animation_is_shown_by_its_first_frame() {
        let mut gif = Vec::new();
        let frame = |color| Frame::new(RgbaImage::from_pixel(30, 20, Rgba(color)));
        GifEncoder::new(&mut gif).encode_frames([frame([255, 0, 0, 255]), frame([0, 0, 255, 255])]).unwrap();
        let info = look(&gif).unwrap();
        assert_eq!((info.width, info.height), (30, 20));
        assert_eq!(corners(&decoded(&info)), [RED; 4]);
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc: u32, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
        })
    }

    /// A small image whose header claims another size.
    fn claiming(format: ImageFormat, width: u32, height: u32) -> Vec<u8> {
        let mut bytes = encoded(&quarters(8, 8), format);
        match format {
            ImageFormat::Png => {
                bytes[16..20].copy_from_slice(&width.to_be_bytes());
                bytes[20..24].copy_from_slice(&height.to_be_bytes());
                let crc = crc32(&bytes[12..29]).to_be_bytes();
                bytes[29..33].copy_from_slice(&crc);
            }
            ImageFormat::Bmp => {
                bytes[18..22].copy_from_slice(&width.to_le_bytes());
                bytes[22..26].copy_from_slice(&height.to_le_bytes());
            }
            ImageFormat::Gif => {
                bytes[6..8].copy_from_slice(&(width as u16).to_le_bytes());
                bytes[8..10].copy_from_slice(&(height as u16).to_le_bytes());
            }
            ImageFormat::Jpeg => {
                let frame = bytes.windows(2).position(|marker| marker == [0xFF, 0xC0]).unwrap();
                bytes[frame + 5..frame + 7].copy_from_slice(&(height as u16).to_be_bytes());
                bytes[frame + 7..frame + 9].copy_from_slice(&(width as u16).to_be_bytes());
            }
            other => panic!("no such claim for {other:?}"),
        }
        bytes
    }

    #[test]
    fn an_image_above_fifty_megapixels_is_not_looked_into() {
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Gif, ImageFormat::Bmp] {
            for (width, height) in [(60_000, 60_000), (10_000, 5_001), (65_535, 65_535)] {
                assert_eq!(look(&claiming(format, width, height)), None, "{format:?} {width}x{height}");
            }
        }
        assert_eq!(look(&claiming(ImageFormat::Png, i32::MAX as u32, i32::MAX as u32)), None);
        assert_eq!(look(&claiming(ImageFormat::Png, 0, 8)), None);
        // At the bound it is: of this one only the claim is true.
        let info = look(&claiming(ImageFormat::Png, 10_000, 5_000)).unwrap();
        assert_eq!((info.width, info.height, info.thumbnail), (10_000, 5_000, None));
    }

    #[test]
    fn garbage_and_broken_images_are_no_failure() {
        for bytes in [&b""[..], b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xFF\xD8\xFF", b"RIFF\0\0\0\0WEBP", b"BM", &[7; 999]]
        {
            assert_eq!(look(bytes), None, "{bytes:x?}");
        }
        for format in FORMATS {
            let whole = encoded(&quarters(50, 40), format);
            for length in 0..whole.len() {
                if let Some(info) = look(&whole[..length]) {
                    assert_eq!((info.width, info.height), (50, 40), "{format:?} cut to {length}");
                }
            }
        }
        let png = encoded(&quarters(50, 40), ImageFormat::Png);
        assert_eq!(look(&png[..png.len() / 2]), Some(ImageInfo { width: 50, height: 40, thumbnail: None }));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]
        #[test]
        fn damaged_images_never_panic(
            format in 0..FORMATS.len(), damage in proptest::collection::vec((0usize..600, proptest::num::u8::ANY), 1..6),
        ) {
            let mut bytes = encoded(&quarters(20, 12), FORMATS[format]);
            for (at, byte) in damage {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            if let Some(info) = look(&bytes) {
                proptest::prop_assert!(u64::from(info.width) * u64::from(info.height) <= PIXELS_MAX);
            }
        }
    }

    #[test]
    fn what_could_not_be_decoded_is_not_looked_into() {
        for format in FORMATS {
            assert!(is_inspected(format.to_mime_type(), IMAGE_BYTES_MAX));
            assert!(!is_inspected(format.to_mime_type(), IMAGE_BYTES_MAX + 1));
        }
        assert!(!is_inspected("image/heic", 1) && !is_inspected("text/plain", 1));
    }

    #[test]
    fn a_decoder_that_panics_found_no_image() {
        assert_eq!(unless_it_panics(|| Some(1)), Some(1));
        assert_eq!(unless_it_panics::<()>(|| panic!("as a decoder might")), None);
    }

    #[tokio::test]
    async fn only_two_images_are_in_memory_at_once() {
        let thumbnailer = Thumbnailer::default();
        let image = Bytes::from(encoded(&quarters(8, 8), ImageFormat::Png));
        let loads = AtomicUsize::new(0);
        let mut senders = Vec::new();
        let mut inspections = Vec::new();
        for _ in 0..3 {
            let (sender, receiver) = oneshot::channel();
            senders.push(sender);
            inspections.push(Box::pin(thumbnailer.inspect(async {
                loads.fetch_add(1, Ordering::Relaxed);
                receiver.await
            })));
        }
        for inspection in &mut inspections {
            assert!(futures_util::poll!(inspection).is_pending());
        }
        assert_eq!(loads.load(Ordering::Relaxed), 2);
        senders.remove(0).send(image.clone()).unwrap();
        assert_eq!(inspections.remove(0).await.unwrap().unwrap().width, 8);
        assert!(futures_util::poll!(&mut inspections[1]).is_pending());
        assert_eq!(loads.load(Ordering::Relaxed), 3);
        // A load that fails is its caller's, and frees its slot.
        senders.clear();
        for inspection in inspections {
            assert!(inspection.await.is_err());
        }
        assert_eq!(thumbnailer.slots.available_permits(), AT_ONCE_MAX);
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_still_holds_its_slot() {
        let thumbnailer = Thumbnailer::default();
        let image = Bytes::from(claiming(ImageFormat::Png, 10_000, 5_000));
        {
            let _large = thumbnailer.large.lock();
            let inspection = thumbnailer.inspect(async { Ok::<_, ()>(image) });
            assert!(inspection.now_or_never().is_none());
            assert_eq!(thumbnailer.slots.available_permits(), AT_ONCE_MAX - 1);
        }
        assert!(thumbnailer.slots.acquire_many(AT_ONCE_MAX as u32).await.is_ok());
    }
}
