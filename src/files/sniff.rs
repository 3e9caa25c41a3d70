//! What a file is, by its bytes alone: neither its name nor what the uploader claims is asked.
//! Fed chunk by chunk, so that a file need not be in memory; keeps its first 64 KiB.

/// Enough for the first entries of an office file, which tell it from other zips.
const HEAD_BYTES_MAX: usize = 64 * 1024;

const UNKNOWN: &str = "application/octet-stream";
const TEXT: &str = "text/plain";
const ZIP: &str = "application/zip";

/// Decides the content type of a stream.
#[derive(Default)]
pub struct Sniffer {
    head: Vec<u8>,
    text: Utf8Check,
    ole: OleScan,
}

impl Sniffer {
    /// The next bytes of the file.
    pub fn push(&mut self, chunk: &[u8]) {
        let room = HEAD_BYTES_MAX - self.head.len();
        self.head.extend_from_slice(&chunk[..chunk.len().min(room)]);
        self.text.push(chunk);
        self.ole.push(chunk);
    }

    /// The type of the whole file. What is UTF-8 throughout is plain text, markup and scripts included, whatever its
    /// first bytes resemble ("BMW" is no bitmap); only a PDF may be text and yet is none.
    pub fn finish(self) -> &'static str {
        if self.text.is_text() {
            return if self.head.starts_with(b"%PDF-") { "application/pdf" } else { TEXT };
        }
        if self.head.starts_with(&OLE_MAGIC) {
            return self.ole.found.unwrap_or("application/x-ole-storage");
        }
        let Some(kind) = infer::get(&self.head) else { return sniff_3gp(&self.head).unwrap_or(UNKNOWN) };
        match kind.mime_type() {
            ZIP => sniff_office(&self.head).unwrap_or(ZIP),
            // Markup that is not UTF-8 is nothing that could be served safely as what it is.
            _ if kind.matcher_type() == infer::MatcherType::Text => UNKNOWN,
            "image/heif" if matches!(self.head.get(8..12), Some(b"heic" | b"heix")) => "image/heic",
            // The registered names, which browsers know.
            "audio/m4a" => "audio/mp4",
            "audio/opus" => "audio/ogg",
            "audio/x-flac" => "audio/flac",
            "audio/x-wav" => "audio/wav",
            other => other,
        }
    }
}

/// Whether a stream is UTF-8 without U+0000, whichever way it is cut into chunks.
struct Utf8Check {
    valid: bool,
    /// The beginning of a character that the next chunk goes on with.
    open: [u8; 4],
    open_len: usize,
}

impl Default for Utf8Check {
    fn default() -> Self {
        Self { valid: true, open: [0; 4], open_len: 0 }
    }
}

impl Utf8Check {
    fn push(&mut self, mut chunk: &[u8]) {
        while self.valid && self.open_len > 0 && !chunk.is_empty() {
            self.open[self.open_len] = chunk[0];
            self.open_len += 1;
            chunk = &chunk[1..];
            match std::str::from_utf8(&self.open[..self.open_len]) {
                Ok(_) => self.open_len = 0,
                // A prefix of a character is at most three bytes long, so there is room for the next.
                Err(error) => self.valid = error.error_len().is_none(),
            }
        }
        if !self.valid || chunk.is_empty() {
            return;
        }
        if chunk.contains(&0) {
            self.valid = false;
        } else if let Err(error) = std::str::from_utf8(chunk) {
            let rest = &chunk[error.valid_up_to()..];
            self.valid = error.error_len().is_none();
            if self.valid {
                self.open[..rest.len()].copy_from_slice(rest);
                self.open_len = rest.len();
            }
        }
    }

    fn is_text(&self) -> bool {
        self.valid && self.open_len == 0
    }
}

const OLE_MAGIC: [u8; 8] = [0xD0, 0xCF, 0x11, 0xE0, 0xA1, 0xB1, 0x1A, 0xE1];
/// A directory entry of a compound file; they lie at multiples of their size.
const OLE_ENTRY_BYTES: usize = 128;

/// Tells the office files of before 2007 apart by the stream that each must have. Its directory may lie anywhere in
/// the file, so that the head is not enough.
struct OleScan {
    entry: [u8; OLE_ENTRY_BYTES],
    filled: usize,
    is_first: bool,
    found: Option<&'static str>,
    over: bool,
}

impl Default for OleScan {
    fn default() -> Self {
        Self { entry: [0; OLE_ENTRY_BYTES], filled: 0, is_first: true, found: None, over: false }
    }
}

impl OleScan {
    fn push(&mut self, mut chunk: &[u8]) {
        while !self.over && !chunk.is_empty() {
            let taken = chunk.len().min(OLE_ENTRY_BYTES - self.filled);
            self.entry[self.filled..self.filled + taken].copy_from_slice(&chunk[..taken]);
            self.filled += taken;
            chunk = &chunk[taken..];
            if self.filled == OLE_ENTRY_BYTES {
                self.filled = 0;
                self.look_at_entry();
            }
        }
    }

    fn look_at_entry(&mut self) {
        if std::mem::take(&mut self.is_first) {
            self.over = !self.entry.starts_with(&OLE_MAGIC);
            return;
        }
        self.found = [
            ("WordDocument", "application/msword"),
            ("Workbook", "application/vnd.ms-excel"),
            ("Book", "application/vnd.ms-excel"),
            ("PowerPoint Document", "application/vnd.ms-powerpoint"),
        ]
        .into_iter()
        .find(|(name, _)| self.is_named(name))
        .map(|(_, content_type)| content_type);
        self.over = self.found.is_some();
    }

    /// Names are UTF-16 with a terminator, padded to 64 bytes, then their length in bytes.
    fn is_named(&self, name: &str) -> bool {
        let units = name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes);
        let length = (name.len() + 1) * 2;
        units.eq(self.entry[..length].iter().copied()) && self.entry[64..66] == (length as u16).to_le_bytes()
    }
}

/// Which office file a zip is: its first entry is one that such a package has, and a later one names the program.
fn sniff_office(head: &[u8]) -> Option<&'static str> {
    const ENTRY: &[u8] = b"PK\x03\x04";
    const PACKAGE: [&[u8]; 7] =
        [b"[Content_Types].xml", b"_rels/", b"docProps/", b"customXml/", b"word/", b"xl/", b"ppt/"];
    let starts = head.windows(ENTRY.len()).enumerate().filter(|(_, window)| *window == ENTRY).map(|(at, _)| at);
    let mut names = starts.filter_map(|at| head.get(at + 30..)).peekable();
    let first = *names.peek()?;
    if !PACKAGE.iter().any(|name| first.starts_with(name)) {
        return None;
    }
    names.find_map(|name| match name {
        _ if name.starts_with(b"word/") => {
            Some("application/vnd.openxmlformats-officedocument.wordprocessingml.document")
        }
        _ if name.starts_with(b"xl/") => Some("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        _ if name.starts_with(b"ppt/") => {
            Some("application/vnd.openxmlformats-officedocument.presentationml.presentation")
        }
        _ => None,
    })
}

/// Videos of older phones.
fn sniff_3gp(head: &[u8]) -> Option<&'static str> {
    (head.get(4..10) == Some(b"ftyp3g")).then_some("video/3gpp")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sniff(bytes: &[u8]) -> &'static str {
        sniff_in_chunks(bytes, bytes.len().max(1))
    }

    fn sniff_in_chunks(bytes: &[u8], size: usize) -> &'static str {
        let mut sniffer = Sniffer::default();
        bytes.chunks(size).for_each(|chunk| sniffer.push(chunk));
        sniffer.finish()
    }

    /// The local headers of a zip whose entries are empty.
    fn zip(names: &[&str]) -> Vec<u8> {
        let entry = |name: &&str| {
            let mut header = [&b"PK\x03\x04"[..], &[0; 26], name.as_bytes()].concat();
            header[26] = name.len() as u8;
            header
        };
        names.iter().flat_map(entry).collect()
    }

    /// A compound file with a directory of these names, `padding` bytes after its header.
    fn ole(names: &[&str], padding: usize) -> Vec<u8> {
        let mut file = [&OLE_MAGIC[..], &vec![0xEE; 504 + padding]].concat();
        for name in names {
            let mut entry = [0; OLE_ENTRY_BYTES];
            let units: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
            entry[..units.len()].copy_from_slice(&units);
            entry[64] = units.len() as u8 + 2;
            file.extend(entry);
        }
        file
    }

    #[test]
    fn everything_that_is_utf8_is_plain_text() {
        let texts = [
            "",
            "hello",
            "Zoë 📷 снимок 語",
            "\u{FEFF}with a byte order mark",
            "<svg xmlns=\"http://www.w3.org/2000/svg\" onload=\"alert(1)\"/>",
            "<?xml version=\"1.0\"?><svg/>",
            "<!DOCTYPE html><html><script>alert(1)</script></html>",
            "  <html >",
            "#!/bin/sh\nrm -rf /\n",
            "{\"json\":true}",
            "a,b\n1,2\n",
            "{\\rtf1 text}",
            "-----BEGIN CERTIFICATE-----",
            // What a careless look at the first bytes would call a bitmap, an MP3, a PDF, a GIF, a drawing.
            "BMW is a car maker",
            "ID3 is a decision tree",
            "About the %PDF- header",
            "GIF89a; a polyglot <script>alert(1)</script>",
            "AC1015 is a room",
        ];
        for text in texts {
            assert_eq!(sniff(text.as_bytes()), TEXT, "{text:?}");
        }
    }

    #[test]
    fn text_is_judged_by_the_whole_stream_however_it_is_cut() {
        let text = "aé語📷 ".repeat(40_000);
        for size in [1, 2, 3, 5, 7, 4096, 65_537] {
            assert_eq!(sniff_in_chunks(text.as_bytes(), size), TEXT, "chunks of {size}");
            let late = [text.as_bytes(), &[0xFF]].concat();
            assert_eq!(sniff_in_chunks(&late, size), UNKNOWN, "a byte that is never UTF-8, at the end, by {size}");
            let cut_off = &text.as_bytes()[..text.len() - 2];
            assert_eq!(sniff_in_chunks(cut_off, size), UNKNOWN, "a character cut off at the end, by {size}");
            let nul = [text.as_bytes(), &[0]].concat();
            assert_eq!(sniff_in_chunks(&nul, size), UNKNOWN, "U+0000, by {size}");
        }
    }

    #[test]
    fn what_is_not_utf8_never_passes_as_text() {
        let surrogate = b"\xED\xA0\x80";
        let overlong = b"\xC0\xAF";
        let above = b"\xF4\x90\x80\x80";
        let stray = b"a\x80";
        let restart = b"\xE8\xAA\xE8\xAA\x9E";
        for bytes in [&surrogate[..], overlong, above, stray, restart, b"caf\xE9", b"<html>caf\xE9</html>"] {
            for size in [1, 2, 8] {
                assert_eq!(sniff_in_chunks(bytes, size), UNKNOWN, "{bytes:x?} by {size}");
            }
        }
        assert_eq!(sniff(b"<?xml version='1.0'?>\xFF"), UNKNOWN);
        assert_eq!(sniff(b"#!/bin/sh\n\xFF"), UNKNOWN);
    }

    #[test]
    fn binary_formats_are_known_by_their_first_bytes() {
        let table: [(&[u8], &str); 18] = [
            (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "image/png"),
            (b"\xFF\xD8\xFF\xE0\0\x10JFIF", "image/jpeg"),
            (b"GIF89a\x01\0\x01\0", "image/gif"),
            (b"RIFF\x10\0\0\0WEBPVP8 ", "image/webp"),
            (b"\0\0\0\x18ftypheic\0\0\0\0heicmif1", "image/heic"),
            (b"\0\0\0\x18ftypmif1\0\0\0\0heicmif1", "image/heif"),
            (b"\0\0\0\x18ftypavif\0\0\0\0avifmif1", "image/avif"),
            (b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0", "image/bmp"),
            (b"II*\0\x08\0\0\0\0\0\0\0", "image/tiff"),
            (b"%PDF-1.7\n%\xE2\xE3\xCF\xD3\n", "application/pdf"),
            (b"%PDF-1.4\n1 0 obj", "application/pdf"),
            (b"\0\0\0\x18ftypisom\0\0\0\0", "video/mp4"),
            (b"\0\0\0\x18ftyp3gp5\0\0\0\0", "video/3gpp"),
            (b"\0\0\0\x18ftypM4A \0\0\0\0", "audio/mp4"),
            (b"ID3\x04\0\0\0\0", "audio/mpeg"),
            (b"OggS\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x13OpusHead\x01\x02", "audio/ogg"),
            (b"RIFF\x10\0\0\0WAVEfmt \0", "audio/wav"),
            (b"\x7FELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "application/x-executable"),
        ];
        for (bytes, content_type) in table {
            for size in [1, 1000] {
                assert_eq!(sniff_in_chunks(bytes, size), content_type, "{}", bytes.escape_ascii());
            }
        }
        assert_eq!(sniff(&[0; 100]), UNKNOWN);
    }

    #[test]
    fn a_polyglot_is_what_its_first_bytes_say() {
        let markup = b"<html><script>alert(1)</script></html>";
        for (start, content_type) in [(&b"\x89PNG\r\n\x1a\n\0"[..], "image/png"), (b"GIF89a\0", "image/gif")] {
            assert_eq!(sniff(&[start, markup].concat()), content_type);
        }
        // Markup first, an archive appended: no type that a browser would run.
        assert_eq!(sniff(&[&markup[..], b"PK\x03\x04\0\0"].concat()), UNKNOWN);
    }

    #[test]
    fn office_files_are_told_from_zips() {
        let word = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
        let excel = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
        let powerpoint = "application/vnd.openxmlformats-officedocument.presentationml.presentation";
        let table: [(&[&str], &str); 10] = [
            (&["[Content_Types].xml", "_rels/.rels", "word/document.xml"], word),
            (
                &[
                    "[Content_Types].xml",
                    "_rels/.rels",
                    "docProps/app.xml",
                    "docProps/core.xml",
                    "ppt/presentation.xml",
                ],
                powerpoint,
            ),
            (&["docProps/app.xml", "docProps/core.xml", "xl/theme/theme1.xml"], excel),
            (&["xl/workbook.xml", "[Content_Types].xml"], excel),
            (&["word/numbering.xml"], word),
            (&["[Content_Types].xml", "_rels/.rels", "3D/model.model"], ZIP),
            (&["holiday/", "word/letter.txt"], ZIP),
            (&["mimetypeapplication/vnd.oasis.opendocument.text"], "application/vnd.oasis.opendocument.text"),
            (
                &["mimetypeapplication/vnd.oasis.opendocument.spreadsheet"],
                "application/vnd.oasis.opendocument.spreadsheet",
            ),
            (&["mimetypeapplication/epub+zip"], "application/epub+zip"),
        ];
        for (names, content_type) in table {
            for size in [7, 100_000] {
                assert_eq!(sniff_in_chunks(&zip(names), size), content_type, "{names:?}");
            }
        }
        assert_eq!(sniff(b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), ZIP);
    }

    #[test]
    fn older_office_files_are_told_apart_wherever_their_directory_lies() {
        let table: [(&[&str], &str); 6] = [
            (&["Root Entry", "1Table", "WordDocument"], "application/msword"),
            (&["Root Entry", "Workbook"], "application/vnd.ms-excel"),
            (&["Root Entry", "Book"], "application/vnd.ms-excel"),
            (&["Root Entry", "Current User", "PowerPoint Document"], "application/vnd.ms-powerpoint"),
            (&["Root Entry", "WordDocumentary"], "application/x-ole-storage"),
            (&[], "application/x-ole-storage"),
        ];
        for (names, content_type) in table {
            for padding in [0, 512, 512 * 1000] {
                for size in [100, 8192] {
                    assert_eq!(sniff_in_chunks(&ole(names, padding), size), content_type, "{names:?} {padding}");
                }
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_chunks_make_no_difference(
            magic in 0usize..4, bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600), size in 1usize..50,
        ) {
            let magic = [&b""[..], b"PK\x03\x04", &OLE_MAGIC, b"\0\0\0\x18ftyp"][magic];
            let file = [magic, &bytes].concat();
            proptest::prop_assert_eq!(sniff(&file), sniff_in_chunks(&file, size));
        }
    }
}
