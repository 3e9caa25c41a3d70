//! Attachment files: where their bytes are kept, what they are, how links to them are signed.
