//! What somebody searches for. Nothing of their text is ever an operator of a database's query language.

use std::ops::Range;

use super::words::words_of;

/// Words that must all be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    /// The beginning of a word.
    Prefix(String),
    /// Adjacent characters of a script that is written without spaces.
    Run(String),
}

impl Query {
    pub fn parse(q: &str) -> Self {
        let mut terms: Vec<Term> = Vec::new();
        let mut end = None;
        for word in words_of(q) {
            let follows = end == Some(word.range.start);
            end = Some(word.range.end);
            match terms.last_mut() {
                Some(Term::Run(run)) if word.is_alone && follows => run.push_str(&word.text),
                _ if word.is_alone => terms.push(Term::Run(word.text)),
                _ => terms.push(Term::Prefix(word.text)),
            }
        }
        Self { terms }
    }

    /// Whether there is no word in it, so that it finds nothing.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Words are letters, digits and marks alone, so that quotes hold them on either database.
    pub fn fts5(&self) -> String {
        self.join(" AND ", |prefix| format!("\"{prefix}\"*"), |character| format!("\"{character}\""))
    }

    pub fn tsquery(&self) -> String {
        self.join(" & ", |prefix| format!("'{prefix}':*"), |character| format!("'{character}'"))
    }

    fn join(&self, and: &str, prefix: impl Fn(&str) -> String, character: impl Fn(char) -> String) -> String {
        let mut parts: Vec<String> = Vec::new();
        for term in &self.terms {
            match term {
                Term::Prefix(word) => parts.push(prefix(word)),
                Term::Run(run) => parts.extend(run.chars().map(&character)),
            }
        }
        parts.join(and)
    }

    /// Runs that a message's text must contain: the index says only that their characters are there.
    pub fn runs(&self) -> impl Iterator<Item = &str> {
        self.terms.iter().filter_map(|term| match term {
            Term::Run(run) if run.chars().nth(1).is_some() => Some(run.as_str()),
            _ => None,
        })
    }

    /// Where a text matches, in order and without overlaps.
    pub fn matches(&self, content: &str) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        for word in words_of(content).iter().filter(|word| !word.is_alone) {
            if self.terms.iter().any(|term| matches!(term, Term::Prefix(prefix) if word.text.starts_with(prefix))) {
                found.push(word.range.clone());
            }
        }
        for term in &self.terms {
            if let Term::Run(run) = term {
                found.extend(content.match_indices(run.as_str()).map(|(at, run)| at..at + run.len()));
            }
        }
        found.sort_by_key(|range| (range.start, range.end));
        let mut merged: Vec<Range<usize>> = Vec::new();
        for range in found {
            match merged.last_mut() {
                Some(last) if range.start < last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_and_all_must_match() {
        let query = Query::parse(r#"Foo OR "bar" NEAR(x*) -y 東京 駅"#);
        assert_eq!(
            query.fts5(),
            r#""foo"* AND "or"* AND "bar"* AND "near"* AND "x"* AND "y"* AND "東" AND "京" AND "駅""#
        );
        assert_eq!(query.tsquery(), "'foo':* & 'or':* & 'bar':* & 'near':* & 'x':* & 'y':* & '東' & '京' & '駅'");
        assert_eq!(query.runs().collect::<Vec<_>>(), ["東京"]);
    }

    #[test]
    fn signs_alone_are_no_question() {
        for q in ["", " ", "\"", "*", "%", "_", "''", "\\", "👍", ":*", "(", "!!!"] {
            assert!(Query::parse(q).is_empty(), "{q}");
        }
    }

    #[test]
    fn overlapping_matches_are_one() {
        assert_eq!(Query::parse("東京 京都 駅").matches("東京都 駅"), [0..9, 10..13]);
        assert_eq!(Query::parse("he hel").matches("Hello he"), [0..5, 6..8]);
    }
}
