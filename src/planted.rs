//! Bugs planted on purpose, to see the checker and the simulation find them: only in a build with the feature
//! `planted-bugs`, and there only the one that the variable `PLANTED_BUG` names. docs/testing.md has the list.

/// Whether a bug is planted; `false`, and so compiled out, in every build but those made to show that tests can fail.
#[cfg(not(feature = "planted-bugs"))]
macro_rules! planted {
    ($name:literal) => {
        false
    };
}

#[cfg(feature = "planted-bugs")]
macro_rules! planted {
    ($name:literal) => {
        $crate::planted::is($name)
    };
}

/// Whether this run was asked to have this bug.
#[cfg(feature = "planted-bugs")]
pub fn is(name: &str) -> bool {
    use std::sync::OnceLock;
    static BUG: OnceLock<Option<String>> = OnceLock::new();
    BUG.get_or_init(|| std::env::var("PLANTED_BUG").ok()).as_deref() == Some(name)
}
