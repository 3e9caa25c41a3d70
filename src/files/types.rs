//! Which content types may be attached and which a browser may show in place. Knows types, not bytes.

use std::str::FromStr;

/// The allow list when the settings name none: images, audio, video, PDF, text, office files, zip.
pub const DEFAULT_ATTACHMENT_TYPES: &str = "image/*,audio/*,video/*,application/pdf,text/plain,\
application/msword,application/vnd.ms-excel,application/vnd.ms-powerpoint,\
application/vnd.openxmlformats-officedocument.wordprocessingml.document,\
application/vnd.openxmlformats-officedocument.spreadsheetml.sheet,\
application/vnd.openxmlformats-officedocument.presentationml.presentation,\
application/vnd.oasis.opendocument.text,application/vnd.oasis.opendocument.spreadsheet,\
application/vnd.oasis.opendocument.presentation,application/zip";

/// The allow list of content types: exact ones, whole families (`image/*`) or everything (`*/*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachmentTypes {
    patterns: Vec<String>,
}

impl AttachmentTypes {
    /// Whether a file of this type, as sniffed, may be attached.
    pub fn allows(&self, content_type: &str) -> bool {
        self.patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some("*/") => true,
            Some(family) => content_type.starts_with(family),
            None => content_type == pattern,
        })
    }
}

impl Default for AttachmentTypes {
    fn default() -> Self {
        DEFAULT_ATTACHMENT_TYPES.parse().expect("the default list is well formed")
    }
}

impl FromStr for AttachmentTypes {
    type Err = String;

    /// Reads a comma-separated list; the error names the entry that is none.
    fn from_str(list: &str) -> Result<Self, String> {
        let patterns: Vec<_> =
            list.split(',').map(|entry| entry.trim().to_ascii_lowercase()).filter(|entry| !entry.is_empty()).collect();
        match patterns.iter().find(|pattern| !is_pattern(pattern)) {
            Some(bad) => Err(format!("`{bad}` is no content type: write `image/png`, `image/*` or `*/*`")),
            None if patterns.is_empty() => Err("name at least one content type, such as `image/*`".to_owned()),
            None => Ok(Self { patterns }),
        }
    }
}

fn is_pattern(text: &str) -> bool {
    let is_token =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b));
    match text.split_once('/') {
        Some(("*", subtype)) => subtype == "*",
        Some((family, subtype)) => is_token(family) && (subtype == "*" || is_token(subtype)),
        None => false,
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_list_takes_the_usual_files_and_no_programs() {
        let types = AttachmentTypes::default();
        for allowed in [
            "image/png",
            "image/heic",
            "audio/ogg",
            "video/mp4",
            "application/pdf",
            "text/plain",
            "application/msword",
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            "application/vnd.oasis.opendocument.text",
            "application/zip",
        ] {
            assert!(types.allows(allowed), "{allowed}");
        }
        for refused in
            ["application/octet-stream", "application/x-executable", "application/pdfx", "text/html", "", "image"]
        {
            assert!(!types.allows(refused), "{refused}");
        }
    }

    #[test]
    fn a_list_may_name_types_families_or_everything() {
        let types: AttachmentTypes = " image/* , Application/PDF,".parse().unwrap();
        assert!(types.allows("image/webp") && types.allows("application/pdf"));
        assert!(!types.allows("application/zip") && !types.allows("imagery/png"));
        assert!("*/*".parse::<AttachmentTypes>().unwrap().allows("application/octet-stream"));
    }

    #[test]
    fn a_bad_entry_is_named() {
        for bad in ["png", "*/png", "image/", "/png", "image/p*", "image/png/x", "image/p ng"] {
            let error = format!("image/gif,{bad}").parse::<AttachmentTypes>().unwrap_err();
            assert!(error.contains(&format!("`{bad}`")), "{error}");
        }
        assert!("".parse::<AttachmentTypes>().is_err());
        assert!(" , ".parse::<AttachmentTypes>().is_err());
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
