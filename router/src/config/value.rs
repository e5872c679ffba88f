//! How each type of setting is read from the file, shown, and compared.
//!
//! One trait, because the reader, the reference page and the comparison all walk
//! over the same values. A value that cannot be read reports what was expected and
//! never repeats what was found when that could be a secret.

mod plain;
mod secret;
mod several;
mod words;

use std::ops::RangeInclusive;

use toml::de::{DeTable, DeValue};

pub(crate) use self::plain::nonzero;
pub use self::several::At;
pub(crate) use self::words::{any_of, word, words};
use super::section::{Applies, Entries, Group, Node, Reader, Section, Setting, Shown};

/// A type that a setting can have.
pub(crate) trait Value: Sized + Clone {
    /// What a range of it is made of.
    type Bound;
    /// Is it written as a table of its own?
    const TABLE: bool = false;
    /// May an optional one be written as "off"?
    const OFF: bool = false;

    /// What may be written, for messages and the reference.
    fn kind() -> String;

    /// Reads a value that is there; reports and returns `None` when it is wrong.
    fn read(node: &Node<'_>, path: &str, reader: &mut Reader<'_>) -> Option<Self>;

    /// Is it within a range? What is off is within every range, and what has no order too.
    fn within(&self, _range: &RangeInclusive<Self::Bound>) -> bool {
        true
    }

    /// What is meant when the setting is left out; `None` when it may not be.
    fn absent() -> Option<Self> {
        None
    }

    /// The value as it is written in the file.
    fn show(&self) -> String {
        String::new()
    }

    /// The text of a name, without quotes, to address an entry of a list by.
    fn plain(&self) -> Option<String> {
        None
    }

    /// The name of a table in a list.
    fn label(&self) -> Option<String> {
        None
    }

    /// The settings inside, when it is a table.
    fn group() -> Option<Group> {
        None
    }

    /// The keys that belong to this setting.
    fn keys(key: &str) -> Vec<String> {
        vec![key.to_owned()]
    }

    /// The lines of the reference for this setting.
    fn describe(setting: Setting) -> Vec<Setting> {
        vec![setting]
    }

    /// Takes the setting out of its table.
    fn take(section: &mut Section<'_, '_, '_>, key: &str) -> Taken<Self> {
        let path = section.path_of(key);
        match section.find(key) {
            None => Taken::Absent,
            Some(node) => Self::read(node, &path, section.reader).map_or(Taken::Wrong, Taken::Is),
        }
    }

    /// Takes back from `before` what a reload does not change.
    fn hold(&mut self, before: &Self, applies: Applies) {
        if applies == Applies::Restart {
            self.clone_from(before);
        }
    }

    /// Notes the value under its path.
    fn enter(&self, path: &str, setting: &Shown, entries: &mut Entries) {
        entries.insert(
            path.to_owned(),
            Shown {
                value: self.show(),
                ..setting.clone()
            },
        );
    }
}

/// What was found under a key.
pub(crate) enum Taken<T> {
    /// Nothing.
    Absent,
    /// Something wrong, already reported.
    Wrong,
    /// This.
    Is(T),
}

/// Reports that `node` is not what it should be.
pub(crate) fn mismatch(node: &Node<'_>, path: &str, expected: &str, reader: &mut Reader<'_>) {
    let found = match node.get_ref() {
        DeValue::String(_) => "text".to_owned(),
        DeValue::Integer(_) | DeValue::Float(_) => "a number".to_owned(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    };
    reader.wrong(
        node.span().start,
        format!("`{path}` is {found}"),
        format!("it takes {expected}"),
    );
}

/// Reports that the text of `node` cannot be read; quotes it.
pub(crate) fn unreadable(node: &Node<'_>, path: &str, expected: &str, reader: &mut Reader<'_>) {
    let text: String = node
        .get_ref()
        .as_str()
        .unwrap_or_default()
        .chars()
        .take(64)
        .collect();
    reader.wrong(
        node.span().start,
        format!("`{path}` = {text:?} cannot be read"),
        format!("it takes {expected}"),
    );
}

pub(crate) fn table<'a, 'd>(
    node: &'a Node<'d>,
    path: &str,
    reader: &mut Reader<'_>,
) -> Option<&'a DeTable<'d>> {
    let table = node.get_ref().as_table();
    if table.is_none() {
        mismatch(node, path, "a table", reader);
    }
    table
}

/// Reads text through `parse`, which knows what is right.
pub(crate) fn read_text<T: Value>(
    node: &Node<'_>,
    path: &str,
    reader: &mut Reader<'_>,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    let Some(text) = node.get_ref().as_str() else {
        mismatch(node, path, &T::kind(), reader);
        return None;
    };
    let value = parse(text);
    if value.is_none() {
        unreadable(node, path, &T::kind(), reader);
    }
    value
}

pub(crate) fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Types that are text in the file: `Type: "what it takes", parse, show;`, with `, ordered` when they may have a range.
macro_rules! text_values {
    (@ordered ordered) => {
        type Bound = Self;
        const OFF: bool = true;

        fn within(&self, range: &std::ops::RangeInclusive<Self>) -> bool {
            range.contains(self)
        }
    };
    (@ordered) => {
        type Bound = ();
    };
    ($($type:ty : $kind:literal, $parse:expr, $show:expr $(, $ordered:ident)?;)*) => { $(
        impl $crate::config::value::Value for $type {
            $crate::config::value::text_values!(@ordered $($ordered)?);
            fn kind() -> String {
                $kind.to_owned()
            }
            fn read(
                node: &$crate::config::section::Node<'_>,
                path: &str,
                reader: &mut $crate::config::section::Reader<'_>,
            ) -> Option<Self> {
                $crate::config::value::read_text(node, path, reader, $parse)
            }
            fn show(&self) -> String {
                $crate::config::value::quote(&self.plain().unwrap_or_default())
            }
            fn plain(&self) -> Option<String> {
                let show: fn(&$type) -> String = $show;
                Some(show(self))
            }
        }
    )* };
}
pub(crate) use text_values;
