//! The platform's server keys, compared in a time that tells nothing about them.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

use super::Secret;

/// The keys that platform routes accept, kept as digests: so all are of one length and none can be printed.
pub struct ApiKeys(Vec<aws_lc_rs::digest::Digest>);

impl ApiKeys {
    /// Empty keys open nothing.
    pub fn new(keys: &[Secret]) -> Self {
        let keys = keys.iter().map(|key| key.expose().trim()).filter(|key| !key.is_empty());
        Self(keys.map(|key| digest(&SHA256, key.as_bytes())).collect())
    }

    /// Whether the candidate is one of the keys. Looks at all of them, whichever fits.
    pub fn accepts(&self, candidate: &str) -> bool {
        let candidate = digest(&SHA256, candidate.as_bytes());
        self.0
            .iter()
            .fold(false, |found, key| found | verify_slices_are_equal(key.as_ref(), candidate.as_ref()).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_several_keys_is_accepted_and_nothing_else() {
        let keys = ApiKeys::new(&["first".into(), " second ".into(), "".into(), " ".into()]);
        assert!(keys.accepts("first") && keys.accepts("second"));
        for other in ["", " ", "firs", "first ", "firstsecond", "FIRST", "first,second"] {
            assert!(!keys.accepts(other), "{other:?}");
        }
        assert!(!ApiKeys::new(&[]).accepts(""));
    }
}
