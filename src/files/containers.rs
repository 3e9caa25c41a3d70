//! What is read of icons and TIFFs before a decoder is: both may hold images of other formats, whose decoders would then
//! run without the limits that they have by themselves.

/// How an icon begins.
pub const ICON_MAGIC: [u8; 4] = [0, 0, 1, 0];
const ICON_HEAD_BYTES: usize = 6;
const ICON_ENTRY_BYTES: usize = 16;

const PNG_MAGIC: &[u8] = b"\x89PNG\r\n\x1a\n";

/// The greatest picture of an icon, as a file of its own: a PNG as such, to be decoded as one; a bitmap as an icon that
/// holds nothing else. Nothing where the icon is broken.
pub fn main_picture(icon: &[u8]) -> Option<Vec<u8>> {
    let count = usize::from(u16::from_le_bytes(field(icon, 4)?));
    let entries = icon.get(ICON_HEAD_BYTES..)?.chunks_exact(ICON_ENTRY_BYTES).take(count);
    // A side of 256 is written as 0.
    let side = |byte: u8| if byte == 0 { 256 } else { u32::from(byte) };
    let entry =
        entries.max_by_key(|entry| (side(entry[0]) * side(entry[1]), field(entry, 6).map(u16::from_le_bytes)))?;
    let length = u32::from_le_bytes(field(entry, 8)?) as usize;
    let start = u32::from_le_bytes(field(entry, 12)?) as usize;
    let picture = icon.get(start..start.checked_add(length)?)?;
    if picture.starts_with(PNG_MAGIC) {
        return Some(picture.to_vec());
    }
    let start = (ICON_HEAD_BYTES + ICON_ENTRY_BYTES) as u32;
    Some([&ICON_MAGIC[..], &[1, 0], &entry[..12], &start.to_le_bytes(), picture].concat())
}

const COMPRESSION: u16 = 259;
const SAMPLES_PER_PIXEL: u16 = 277;
const TILE_WIDTH: u16 = 322;
/// None, LZW, deflate under both of its numbers, and PackBits.
const COMPRESSIONS: [u32; 5] = [1, 5, 8, 32_946, 32_773];
const SAMPLES_MAX: u32 = 5;

/// Whether the first image of a TIFF is what decodes within its own size: in strips of a few samples a pixel. A tile may
/// be far greater than its image, and a JPEG inside as well.
pub fn is_plain_tiff(tiff: &[u8]) -> bool {
    is_plain(tiff).unwrap_or(false)
}

fn is_plain(tiff: &[u8]) -> Option<bool> {
    let is_big_endian = tiff.starts_with(b"MM");
    let short = |bytes| if is_big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) };
    let long = |bytes| if is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
    let directory = tiff.get(long(field(tiff, 4)?) as usize..)?;
    let count = usize::from(short(field(directory, 0)?));
    let mut earlier = None;
    for entry in directory[2..].chunks_exact(12).take(count) {
        let tag = short(field(entry, 0)?);
        // Tags grow, so that none is there twice, to be read in two ways.
        if earlier.is_some_and(|earlier| earlier >= tag) {
            return Some(false);
        }
        earlier = Some(tag);
        // One number of 16 or 32 bits, or nothing that is known here.
        let value = match (short(field(entry, 2)?), long(field(entry, 4)?)) {
            (3, 1) => Some(u32::from(short(field(entry, 8)?))),
            (4, 1) => Some(long(field(entry, 8)?)),
            _ => None,
        };
        let is_plain = match tag {
            COMPRESSION => value.is_some_and(|compression| COMPRESSIONS.contains(&compression)),
            SAMPLES_PER_PIXEL => value.is_some_and(|samples| samples <= SAMPLES_MAX),
            tag => tag != TILE_WIDTH,
        };
        if !is_plain {
            return Some(false);
        }
    }
    Some(true)
}

/// So many bytes from a place on, where there are as many.
fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use image::{DynamicImage, ImageFormat};

    use super::*;
    use crate::files::{ImageInfo, Thumbnailer};

    /// An icon of pictures of these sides.
    fn icon(pictures: &[(u8, &[u8])]) -> Vec<u8> {
        let mut start = ICON_HEAD_BYTES + pictures.len() * ICON_ENTRY_BYTES;
        let mut icon = [&ICON_MAGIC[..], &[pictures.len() as u8, 0]].concat();
        for (side, picture) in pictures {
            icon.extend([*side, *side, 0, 0, 1, 0, 32, 0]);
            icon.extend((picture.len() as u32).to_le_bytes());
            icon.extend((start as u32).to_le_bytes());
            start += picture.len();
        }
        pictures.iter().for_each(|(_, picture)| icon.extend(*picture));
        icon
    }

    #[test]
    fn the_greatest_picture_of_an_icon_is_taken_by_itself() {
        let png = [PNG_MAGIC, b"and so on"].concat();
        assert_eq!(main_picture(&icon(&[(16, b"bitmap"), (0, &png), (32, b"other")])), Some(png.clone()));
        assert_eq!(main_picture(&icon(&[(16, &png), (48, b"bitmap")])), Some(icon(&[(48, b"bitmap")])));
        let whole = icon(&[(16, b"bitmap")]);
        for length in 0..whole.len() {
            assert_eq!(main_picture(&whole[..length]), None, "cut to {length}");
        }
        assert_eq!(main_picture(&icon(&[])), None);
    }

    /// A little-endian TIFF whose directory has these numbers of 16 bits.
    fn tiff(tags: &[(u16, u16)]) -> Vec<u8> {
        let mut tiff = [&b"II*\0\x08\0\0\0"[..], &(tags.len() as u16).to_le_bytes()].concat();
        for (tag, value) in tags {
            tiff.extend([&tag.to_le_bytes()[..], &[3, 0, 1, 0, 0, 0], &value.to_le_bytes(), &[0; 2]].concat());
        }
        tiff
    }

    #[test]
    fn a_tiff_is_plain_in_strips_of_few_samples_and_a_simple_compression() {
        for tags in [&[(256, 8), (257, 8)][..], &[(COMPRESSION, 1), (SAMPLES_PER_PIXEL, 4)], &[(COMPRESSION, 32_773)]] {
            assert!(is_plain_tiff(&tiff(tags)), "{tags:?}");
        }
        for tags in [
            &[(COMPRESSION, 7)][..],
            &[(COMPRESSION, 6)],
            &[(COMPRESSION, 1), (COMPRESSION, 7)],
            &[(SAMPLES_PER_PIXEL, 3), (COMPRESSION, 1)],
            &[(SAMPLES_PER_PIXEL, 6)],
            &[(TILE_WIDTH, 16)],
        ] {
            assert!(!is_plain_tiff(&tiff(tags)), "{tags:?}");
        }
        // Eight bytes for a number, as only a larger kind of TIFF has them.
        let mut odd = tiff(&[(COMPRESSION, 1)]);
        odd[12] = 16;
        assert!(!is_plain_tiff(&odd) && !is_plain_tiff(b"II*\0") && !is_plain_tiff(b""));
    }
    async fn look(bytes: Vec<u8>) -> Option<ImageInfo> {
        Thumbnailer::default().inspect(async { Ok::<_, ()>(bytes.into()) }).await.expect("loaded")
    }

    fn encoded(format: ImageFormat) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(vec![]);
        DynamicImage::new_rgba8(8, 6).write_to(&mut bytes, format).expect("encoded");
        bytes.into_inner()
    }

    #[tokio::test]
    async fn a_tiff_that_is_not_plain_has_dimensions_alone() {
        let mut tiff = encoded(ImageFormat::Tiff);
        let info = look(tiff.clone()).await.expect("an image");
        assert!((info.width, info.height) == (8, 6) && info.thumbnail.is_some());
        let compression = [COMPRESSION.to_le_bytes(), 3_u16.to_le_bytes(), [1, 0], [0, 0]].concat();
        let at = tiff.windows(8).position(|window| window == compression).expect("a compression");
        tiff[at + 8] = 7;
        let info = look(tiff).await.expect("an image");
        assert_eq!((info.width, info.height, info.thumbnail), (8, 6, None));
    }

    #[tokio::test]
    async fn an_icon_is_shown_by_its_greatest_picture_of_either_kind() {
        let png = encoded(ImageFormat::Png);
        // A bitmap of an icon: two rows of two, and then a mask, which the height counts as well.
        let mut bitmap = [&[40, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 1, 0, 32, 0][..], &[0; 24], &[255; 16]].concat();
        bitmap.extend([0; 8]);
        for (pictures, size) in [([(2, &bitmap), (8, &png)], (8, 6)), ([(2, &bitmap), (1, &png)], (2, 2))] {
            let info = look(icon(&pictures.map(|(side, picture)| (side, &picture[..])))).await.expect("an image");
            assert_eq!((info.width, info.height), size);
            assert!(info.thumbnail.is_some());
        }
    }
}
