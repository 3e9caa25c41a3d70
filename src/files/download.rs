//! What a download says of its file, so that a browser does with it what is safe. Knows values, not responses.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All but the `attr-char` of RFC 8187, which stand for themselves in `filename*`.
const NO_ATTR_CHAR: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// Whether a browser may show a file in place: nothing that can run or phone home.
pub fn is_inline_safe(content_type: &str) -> bool {
    matches!(
        content_type,
        "image/jpeg"
            | "image/png"
            | "image/gif"
            | "image/webp"
            | "image/avif"
            | "image/heic"
            | "image/heif"
            | "image/bmp"
            | "image/tiff"
            | "image/jxl"
            | "image/vnd.microsoft.icon"
            | "application/pdf"
            | "text/plain"
    ) || content_type.starts_with("audio/")
        || content_type.starts_with("video/")
}

/// The `Content-Type` of a download: text says that it is UTF-8, or browsers guess an old encoding.
pub fn content_type_header(content_type: &str) -> &str {
    match content_type {
        "text/plain" => "text/plain; charset=utf-8",
        other => other,
    }
}

/// The value of `Content-Disposition` (RFC 6266): a plain name for old clients, the real one in `filename*`.
pub fn content_disposition(inline: bool, filename: &str) -> String {
    let kind = if inline { "inline" } else { "attachment" };
    // A percent sign is left out as well: some clients decode it in the plain form.
    let plain: String = filename
        .chars()
        .map(|c| if matches!(c, ' '..='~') && !matches!(c, '"' | '\\' | '%') { c } else { '_' })
        .collect();
    let real = utf8_percent_encode(filename, NO_ATTR_CHAR);
    format!("{kind}; filename=\"{plain}\"; filename*=UTF-8''{real}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disposition_has_a_plain_and_a_real_name() {
        assert_eq!(
            content_disposition(true, "photo.jpg"),
            "inline; filename=\"photo.jpg\"; filename*=UTF-8''photo.jpg"
        );
        assert_eq!(
            content_disposition(false, "Zoë \"1\" 100%\\;'.txt"),
            "attachment; filename=\"Zo_ _1_ 100__;'.txt\"; filename*=UTF-8''Zo%C3%AB%20%221%22%20100%25%5C%3B%27.txt"
        );
        assert_eq!(
            content_disposition(false, "写真\r\n.png"),
            "attachment; filename=\"____.png\"; filename*=UTF-8''%E5%86%99%E7%9C%9F%0D%0A.png"
        );
    }

    #[test]
    fn only_raster_images_media_pdf_and_plain_text_are_shown_in_place() {
        for safe in ["image/png", "image/webp", "audio/mpeg", "video/webm", "application/pdf", "text/plain"] {
            assert!(is_inline_safe(safe), "{safe}");
        }
        for unsafe_type in ["image/svg+xml", "text/html", "text/xml", "application/zip", "application/octet-stream", ""]
        {
            assert!(!is_inline_safe(unsafe_type), "{unsafe_type}");
        }
    }
}
