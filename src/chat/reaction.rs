//! Reactions: the configured names, or any single emoji as its own name.

use super::Chat;
use crate::config::Reactions;
use crate::error::{Error, Result};

/// The selector that asks for an emoji's coloured form; it makes no difference to which reaction it is.
const VARIATION_SELECTOR_16: char = '\u{FE0F}';

impl Chat {
    /// The name and emoji of a reaction that a client names; one outside the set is refused.
    pub fn resolve_reaction(&self, given: &str) -> Result<(String, String)> {
        resolve(&self.reactions, given)
    }
}

fn resolve(reactions: &Reactions, given: &str) -> Result<(String, String)> {
    match reactions {
        Reactions::Named(named) => {
            let known = named.iter().find(|reaction| reaction.name == given);
            known.map(|reaction| (reaction.name.clone(), reaction.emoji.clone())).ok_or_else(|| {
                let names: Vec<&str> = named.iter().map(|reaction| reaction.name.as_str()).collect();
                Error::field("reaction", format!("`reaction` must be one of {}", names.join(", ")))
            })
        }
        Reactions::Any => {
            let name: String = given.chars().filter(|character| *character != VARIATION_SELECTOR_16).collect();
            if is_emoji(given) || is_emoji(&name) {
                Ok((name, given.to_owned()))
            } else {
                Err(Error::field("reaction", "`reaction` must be a single emoji"))
            }
        }
    }
}

fn is_emoji(text: &str) -> bool {
    emojis::get(text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NamedReaction;

    #[test]
    fn a_named_set_takes_its_names_alone() {
        let like = NamedReaction { name: "like".to_owned(), emoji: "👍".to_owned() };
        let set = Reactions::Named(vec![like]);
        assert_eq!(resolve(&set, "like").expect("in the set"), ("like".to_owned(), "👍".to_owned()));
        for outside in ["👍", "LIKE", "", "nope"] {
            assert_eq!(resolve(&set, outside).expect_err(outside).field, Some("reaction"));
        }
    }

    #[test]
    fn any_single_emoji_is_its_own_name_without_the_variation_selector() {
        let (name, emoji) = resolve(&Reactions::Any, "❤\u{FE0F}").expect("an emoji");
        assert_eq!((name.as_str(), emoji.as_str()), ("❤", "❤\u{FE0F}"));
        assert_eq!(resolve(&Reactions::Any, "❤").expect("an emoji").0, "❤");
        assert!(resolve(&Reactions::Any, "👩‍👩‍👧").is_ok());
        for outside in ["", "a", "👍👍", "like", "👍 "] {
            assert!(resolve(&Reactions::Any, outside).is_err(), "{outside:?}");
        }
    }
}
