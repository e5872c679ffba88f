//! One value or name in the ways in which SQL may write it.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// A string constant for `value`, which is ASCII, as it is read with `standard_conforming_strings` on or off.
pub fn literal(rng: &mut StdRng, value: &str, conforming: bool) -> String {
    loop {
        let text = match rng.random_range(0..6) {
            0 if conforming => format!("'{}'", value.replace('\'', "''")),
            0 | 1 => escaped(rng, value, if conforming { "E" } else { "" }),
            2 if conforming => unicode(rng, value, '\''),
            3 => dollars(value),
            // Two halves with a line between them are one.
            4 if value.len() > 1 => {
                let (a, b) = value.split_at(rng.random_range(1..value.len()));
                let (a, b) = (escaped(rng, a, "E"), escaped(rng, b, ""));
                format!("{a} -- '\n {b}")
            }
            5 if !value.contains('\\') => format!("'{}'", value.replace('\'', "''")),
            _ => String::new(),
        };
        if !text.is_empty() {
            return text;
        }
    }
}

/// An identifier for `name`, which is ASCII.
pub fn identifier(rng: &mut StdRng, name: &str) -> String {
    let plain = name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    match rng.random_range(0..4) {
        0 if plain => name.to_owned(),
        1 if plain => {
            let mut up = |c: char| {
                if rng.random() {
                    c.to_ascii_uppercase()
                } else {
                    c
                }
            };
            name.chars().map(&mut up).collect()
        }
        2 => unicode(rng, name, '"'),
        _ => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

/// Room between two words.
pub fn gap(rng: &mut StdRng) -> &'static str {
    [" ", "\n", "/**/", " /* ' /* \" */ */ ", "\t", " -- '\n"]
        .choose(rng)
        .unwrap()
}

fn escaped(rng: &mut StdRng, value: &str, opening: &str) -> String {
    let mut text = format!("{opening}'");
    for c in value.chars() {
        let code = c as u32;
        text += &match (rng.random_range(0..8), c) {
            (0, _) => format!("\\x{code:02x}"),
            (1, _) => format!("\\{code:03o}"),
            (2, _) => format!("\\u{code:04X}"),
            (3, _) => format!("\\U{code:08x}"),
            (4, '\'') => "''".to_owned(),
            (_, '\'') => "\\'".to_owned(),
            (_, '\\') => "\\\\".to_owned(),
            (_, '\n') => "\\n".to_owned(),
            _ => c.to_string(),
        };
    }
    text + "'"
}

fn unicode(rng: &mut StdRng, value: &str, quote: char) -> String {
    let escape = *['\\', '!', '#'].choose(rng).unwrap();
    let mut text = format!("U&{quote}");
    for c in value.chars() {
        let code = c as u32;
        text += &match rng.random_range(0..4) {
            0 => format!("{escape}{code:04x}"),
            1 => format!("{escape}+{code:06X}"),
            _ if c == quote || c == escape => format!("{c}{c}"),
            _ => c.to_string(),
        };
    }
    text.push(quote);
    match escape {
        '\\' => text,
        _ => format!("{text} UESCAPE '{escape}'"),
    }
}

fn dollars(value: &str) -> String {
    match value.contains('$') {
        true => String::new(),
        false => format!("$a${value}$a$"),
    }
}
