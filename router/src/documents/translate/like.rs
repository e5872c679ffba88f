//! A pattern of LIKE as a regular expression of PCRE.

use super::super::Fault;

/// Whether a pattern ends within an escape. PostgreSQL complains when a value gets it there, and not otherwise.
pub(super) fn is_unfinished(pattern: &str) -> bool {
    let backslashes = pattern
        .bytes()
        .rev()
        .take_while(|byte| *byte == b'\\')
        .count();
    backslashes % 2 == 1
}

/// For the option `s`, with which a dot is any character. `$` would also match before a newline at the end.
pub(super) fn regex(pattern: &str) -> Result<String, Fault> {
    if is_unfinished(pattern) {
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
                .for_each(|escaped| push(&mut regex, escaped)),
            character => push(&mut regex, character),
        }
    }
    regex.push_str("\\z");
    Ok(regex)
}

fn push(regex: &mut String, character: char) {
    if character.is_ascii_punctuation() {
        regex.push('\\');
    }
    regex.push(character);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_percent_and_underscore_are_special() {
        assert_eq!(regex("a%_b").as_deref(), Ok("\\Aa.*.b\\z"));
        assert_eq!(regex("5\\%.[x]\n").as_deref(), Ok("\\A5\\%\\.\\[x\\]\n\\z"));
        assert_eq!(regex("é\\\\").as_deref(), Ok("\\Aé\\\\\\z"));
        assert_eq!(regex("a\\").map_err(|fault| fault.sqlstate), Err("22025"));
    }
}
