//! Attachment files: where their bytes are kept, what they are, how links to them are signed.
//! Knows nothing of HTTP, of the database or of who may see what.

mod download;
mod link;
mod name;
mod range;
mod sniff;
mod store;
mod thumbnail;

pub use download::{content_disposition, content_type_header, is_inline_safe};
pub use link::{Link, LinkSigner, Variant, expires_at_ms};
pub use name::clean_filename;
pub use range::{RangeAnswer, parse_range};
pub use sniff::Sniffer;
pub use store::{FileStore, FileStream, PutError, StoreError, Stored, new_key};
pub use thumbnail::{ImageInfo, Thumbnail, Thumbnailer, is_inspected};
