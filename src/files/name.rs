//! Names of files: what is left of what an uploader calls one.

/// What most file systems take.
const NAME_BYTES_MAX: usize = 255;
/// An extension longer than this is a part of the name like any other.
const EXTENSION_BYTES_MAX: usize = 32;
/// The name of a file whose own is no name.
const FALLBACK: &str = "file";

/// A name that can be stored, shown and saved under: the last component of a path, without characters that hide
/// or reorder others, at most 255 bytes with the extension kept, never empty.
pub fn clean_filename(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let shown: String = last.chars().filter(|c| !c.is_control() && !breaks_a_line_or_its_order(*c)).collect();
    match shown.trim() {
        "" | "." | ".." => FALLBACK.to_owned(),
        name => cut(name),
    }
}

/// Embeddings, overrides and isolates (`gpj.exe` shown as `exe.jpg`), line and paragraph separators.
fn breaks_a_line_or_its_order(c: char) -> bool {
    matches!(c, '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

fn cut(name: &str) -> String {
    if name.len() <= NAME_BYTES_MAX {
        return name.to_owned();
    }
    let (stem, extension) = match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= EXTENSION_BYTES_MAX => name.split_at(dot),
        _ => (name, ""),
    };
    let stem = &stem[..stem.floor_char_boundary(NAME_BYTES_MAX - extension.len())];
    format!("{stem}{extension}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_last_component_without_tricks() {
        let table = [
            ("report.pdf", "report.pdf"),
            ("../../etc/passwd", "passwd"),
            ("C:\\Users\\me\\photo.jpg", "photo.jpg"),
            ("a/b\\c/d.txt", "d.txt"),
            ("Zoë 📷 снимок.png", "Zoë 📷 снимок.png"),
            ("a\u{0}b\r\n\t\u{7f}\u{85}.txt", "ab.txt"),
            ("invoice\u{202E}gpj.exe", "invoicegpj.exe"),
            ("a\u{2066}b\u{2069}c\u{2028}d", "abcd"),
            ("  spaced name .txt ", "spaced name .txt"),
            (".gitignore", ".gitignore"),
            ("...", "..."),
            ("", "file"),
            ("/", "file"),
            ("folder/", "file"),
            (".", "file"),
            ("..", "file"),
            ("x/..", "file"),
            ("\u{202E}..\u{202C}", "file"),
            (" \u{0} ", "file"),
        ];
        for (name, clean) in table {
            assert_eq!(clean_filename(name), clean, "{name:?}");
        }
    }

    #[test]
    fn a_name_of_255_bytes_stays_and_a_longer_one_keeps_its_extension() {
        let bound = format!("{}.jpeg", "a".repeat(250));
        assert_eq!(clean_filename(&bound), bound);
        assert_eq!(clean_filename(&format!("a{bound}")), bound);
        // 250 bytes of stem hold 83 characters of three bytes each.
        assert_eq!(clean_filename(&format!("{}.jpeg", "語".repeat(100))), format!("{}.jpeg", "語".repeat(83)));
        assert_eq!(clean_filename(&"x".repeat(300)), "x".repeat(255));
        let dotted = format!("a.{}", "b".repeat(300));
        assert_eq!(clean_filename(&dotted), dotted[..255]);
        assert_eq!(clean_filename(&format!(".{}", "é".repeat(200))), format!(".{}", "é".repeat(127)));
    }

    proptest::proptest! {
        #[test]
        fn cleaning_is_bounded_idempotent_and_never_a_path(name in "\\PC{0,300}") {
            let clean = clean_filename(&name);
            proptest::prop_assert!(!clean.is_empty() && clean.len() <= NAME_BYTES_MAX && !clean.contains(['/', '\\']));
            proptest::prop_assert_eq!(clean_filename(&clean), clean);
        }
    }
}
