//! The words of a search: what stands between white space, or in double quotes.

/// Most words of a search.
pub(crate) const MAX_WORDS: usize = 16;

/// The words of a search text, each of which a record is to hold in one of its searched fields.
///
/// They stand between white space. What stands in double quotes is one word with its blanks; the
/// first quote begins a word and the second one ends it. Any other quote is a character of its
/// word. A text without words is one empty word.
pub(crate) fn words(text: &str) -> Vec<&str> {
    let (mut words, mut rest) = (Vec::new(), text.trim_start());
    while !rest.is_empty() {
        let (word, behind) = phrase(rest).unwrap_or_else(|| {
            let end = rest.find(char::is_whitespace);
            rest.split_at(end.unwrap_or(rest.len()))
        });
        words.push(word);
        rest = behind.trim_start();
    }
    if words.is_empty() {
        words.push("");
    }
    words
}

/// The phrase in quotes that the text begins with, and what is behind it.
fn phrase(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('"')?;
    let quotes = inner.match_indices('"');
    let mut pairs = quotes.map(|(at, quote)| (&inner[..at], &inner[at + quote.len()..]));
    let ends = |behind: &str| behind.chars().next().is_none_or(char::is_whitespace);
    let phrase = pairs.find(|(_, behind)| ends(behind))?;
    (!phrase.0.is_empty()).then_some(phrase)
}

#[cfg(test)]
mod tests {
    use super::super::query::check_search;
    use super::*;

    #[test]
    fn words_stand_between_white_space_and_phrases_in_quotes() {
        for (text, expected) in [
            ("ada", vec!["ada"]),
            (" ada\u{a0} king\n", vec!["ada", "king"]),
            ("\"ada king\"", vec!["ada king"]),
            ("x \" ada king \"  y", vec!["x", " ada king ", "y"]),
            ("\"a b\" \"c d\"", vec!["a b", "c d"]),
            ("\"ada king", vec!["\"ada", "king"]),
            ("19\" rack 4\"", vec!["19\"", "rack", "4\""]),
            ("\"a b\"c", vec!["\"a", "b\"c"]),
            ("\"a\"b\"", vec!["a\"b"]),
            ("\"\" \"", vec!["\"\"", "\""]),
            ("100%_", vec!["100%_"]),
            ("", vec![""]),
            (" \t", vec![""]),
        ] {
            assert_eq!(words(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_search_has_at_most_sixteen_words() {
        check_search(Some(&"ab ".repeat(MAX_WORDS))).unwrap();
        let refusal = check_search(Some(&"ab ".repeat(MAX_WORDS + 1))).unwrap_err();
        assert!(
            refusal.to_string().contains("at most 16 words"),
            "{refusal}"
        );
    }
}
