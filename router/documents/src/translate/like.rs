//! A pattern of LIKE or ILIKE as a regular expression of PCRE.

use super::super::Fault;

/// What of a pattern is another than PostgreSQL's own, and which letters are alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Likeness {
    /// ILIKE: letters are alike in both cases. By the collation `C`, only those of ASCII have two.
    pub folds: bool,
    /// What ESCAPE says.
    pub escape: Escape,
}

/// What makes the character behind it mean itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Escape {
    /// A backslash, without ESCAPE.
    #[default]
    Backslash,
    /// Nothing does.
    None,
    /// This character.
    Character(char),
}

impl Escape {
    /// Of the text behind ESCAPE.
    pub fn of(text: &str) -> Option<Escape> {
        let mut characters = text.chars();
        match (characters.next(), characters.next()) {
            (None, _) => Some(Escape::None),
            (Some('\\'), None) => Some(Escape::Backslash),
            (Some(character), None) => Some(Escape::Character(character)),
            (Some(_), Some(_)) => None,
        }
    }

    /// A pattern with backslashes; see `do_like_escape` of PostgreSQL's `like_match.c`.
    pub fn plain(self, pattern: &str) -> String {
        let escape = match self {
            Escape::Backslash => return pattern.to_owned(),
            Escape::None => return pattern.replace('\\', "\\\\"),
            Escape::Character(escape) => escape,
        };
        let mut plain = String::with_capacity(pattern.len());
        let mut is_escaped = false;
        for character in pattern.chars() {
            if character == escape && !is_escaped {
                plain.push('\\');
                is_escaped = true;
                continue;
            }
            if character == '\\' && !is_escaped {
                plain.push('\\');
            }
            plain.push(character);
            is_escaped = false;
        }
        plain
    }
}

/// Whether a pattern ends within an escape. PostgreSQL complains when a value gets it there, and not otherwise.
pub(super) fn is_unfinished(pattern: &str) -> bool {
    let backslashes = pattern
        .bytes()
        .rev()
        .take_while(|byte| *byte == b'\\')
        .count();
    backslashes % 2 == 1
}

/// For the option `s`, with which a dot is any character. `$` would also match before a newline at the end, and the
/// option `i` would find letters alike that are no ASCII.
pub(super) fn regex(pattern: &str, likeness: Likeness) -> Result<String, Fault> {
    let pattern = likeness.escape.plain(pattern);
    if is_unfinished(&pattern) {
        return Err(Fault::new(
            "22025",
            "LIKE pattern must not end with escape character",
        ));
    }
    let mut regex = String::from("\\A");
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '%' => regex.push_str(".*"),
            '_' => regex.push('.'),
            '\\' => characters
                .next()
                .into_iter()
                .for_each(|escaped| push(&mut regex, escaped, likeness)),
            character => push(&mut regex, character, likeness),
        }
    }
    regex.push_str("\\z");
    Ok(regex)
}

fn push(regex: &mut String, character: char, likeness: Likeness) {
    if likeness.folds && character.is_ascii_alphabetic() {
        let both = [
            character.to_ascii_lowercase(),
            character.to_ascii_uppercase(),
        ];
        regex.push('[');
        regex.extend(both);
        regex.push(']');
        return;
    }
    if character.is_ascii_punctuation() {
        regex.push('\\');
    }
    regex.push(character);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(pattern: &str) -> Result<String, Fault> {
        super::regex(pattern, Likeness::default())
    }

    #[test]
    fn only_letters_of_ascii_have_two_cases() {
        let folds = Likeness {
            folds: true,
            ..Likeness::default()
        };
        let regex = |pattern| super::regex(pattern, folds);
        assert_eq!(regex("a%\\Z").as_deref(), Ok("\\A[aA].*[zZ]\\z"));
        assert_eq!(regex("é1_").as_deref(), Ok("\\Aé1.\\z"));
    }

    #[test]
    fn an_escape_of_its_own_takes_the_place_of_the_backslash() {
        let plain = |pattern, escape| Escape::of(escape).map(|escape| escape.plain(pattern));
        assert_eq!(plain("a!%\\!!%", "!").as_deref(), Some("a\\%\\\\\\!%"));
        assert_eq!(plain("a!\\b", "!").as_deref(), Some("a\\\\b"));
        assert_eq!(plain("a\\%", "").as_deref(), Some("a\\\\%"));
        assert_eq!(plain("a\\%", "\\").as_deref(), Some("a\\%"));
        assert_eq!(plain("é%é", "é").as_deref(), Some("\\%\\"));
        assert_eq!(plain("a", "ab"), None);
    }

    #[test]
    fn only_percent_and_underscore_are_special() {
        assert_eq!(regex("a%_b").as_deref(), Ok("\\Aa.*.b\\z"));
        assert_eq!(regex("5\\%.[x]\n").as_deref(), Ok("\\A5\\%\\.\\[x\\]\n\\z"));
        assert_eq!(regex("é\\\\").as_deref(), Ok("\\Aé\\\\\\z"));
        assert_eq!(regex("a\\").map_err(|fault| fault.sqlstate), Err("22025"));
    }
}
