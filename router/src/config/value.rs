//! How each type of setting is read from the file, shown, and compared.
//!
//! One trait, because the reader, the reference page and the comparison all walk
//! over the same values. A value that cannot be read reports what was expected and
//! never repeats what was found when that could be a secret.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::problem::suggest;
use super::secret::Secret;
use super::section::{Entries, Group, Node, Reader, Section, Setting, Shown};
use super::units::{ByteSize, Share, parse_duration, show_duration};

/// A type that a setting can have.
pub(crate) trait Value: Sized {
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

text_values! {
    Duration: "a time such as \"5s\", \"200ms\" or \"1h\" (us, ms, s, min, h, d)", parse_duration, |time| show_duration(*time), ordered;
    ByteSize: "a size such as \"64KiB\" (B, KiB, MiB, GiB)", ByteSize::parse, ByteSize::to_string, ordered;
    Share: "a share such as \"10%\"", Share::parse, Share::to_string, ordered;
    IpAddr: "an IP address", |text| text.parse().ok(), IpAddr::to_string;
}

macro_rules! number_values {
    ($($type:ty),*) => { $(
        impl Value for $type {
            type Bound = Self;
            const OFF: bool = true;
            fn within(&self, range: &RangeInclusive<Self>) -> bool {
                range.contains(self)
            }
            fn kind() -> String {
                "a whole number".to_owned()
            }
            fn read(node: &Node<'_>, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
                let number = whole_number(node, path, reader)?;
                let value = number.and_then(|number| <$type>::try_from(number).ok());
                if value.is_none() {
                    let most = format!("from {} to {}", <$type>::MIN, <$type>::MAX);
                    out_of_range(node, path, &most, reader);
                }
                value
            }
            fn show(&self) -> String {
                self.to_string()
            }
        }
    )* };
}
number_values!(u8, u16, u32);

impl Value for NonZeroU32 {
    type Bound = Self;
    const OFF: bool = true;

    fn within(&self, range: &RangeInclusive<Self>) -> bool {
        range.contains(self)
    }

    fn kind() -> String {
        u32::kind()
    }

    fn read(node: &Node<'_>, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let number = whole_number(node, path, reader)?;
        let value =
            number.and_then(|number| NonZeroU32::try_from(u32::try_from(number).ok()?).ok());
        if value.is_none() {
            out_of_range(node, path, "it must be at least 1", reader);
        }
        value
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// A number that is there; inside, one that is not negative.
fn whole_number(node: &Node<'_>, path: &str, reader: &mut Reader<'_>) -> Option<Option<u64>> {
    let Some(integer) = node.get_ref().as_integer() else {
        mismatch(node, path, "a whole number", reader);
        return None;
    };
    Some(u64::from_str_radix(integer.as_str(), integer.radix()).ok())
}

/// Names the range of the setting, or of the type when the setting has none.
fn out_of_range(node: &Node<'_>, path: &str, of_type: &str, reader: &mut Reader<'_>) {
    let digits: String = node
        .get_ref()
        .as_integer()
        .map(|number| number.as_str().chars().take(64).collect())
        .unwrap_or_default();
    let fix = reader.range.clone().unwrap_or_else(|| of_type.to_owned());
    reader.wrong(
        node.span().start,
        format!("`{path}` = {digits} is out of range"),
        fix,
    );
}

/// A number that is not zero, for defaults and ranges.
pub(crate) const fn nonzero(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("defaults and bounds written in the code are not zero")
}

impl Value for bool {
    type Bound = ();

    fn kind() -> String {
        "true or false".to_owned()
    }

    fn read(node: &Node<'_>, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let value = node.get_ref().as_bool();
        if value.is_none() {
            mismatch(node, path, &Self::kind(), reader);
        }
        value
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for String {
    type Bound = ();

    fn kind() -> String {
        "text".to_owned()
    }

    fn read(node: &Node<'_>, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let text = read_text(node, path, reader, |text| Some(text.to_owned()))?;
        if text.contains('\0') {
            reader.wrong(
                node.span().start,
                format!("`{path}` contains a zero byte"),
                "PostgreSQL has no such text",
            );
            return None;
        }
        Some(text)
    }

    fn show(&self) -> String {
        quote(self)
    }

    fn plain(&self) -> Option<String> {
        Some(self.clone())
    }
}

impl Value for PathBuf {
    type Bound = ();

    fn kind() -> String {
        "a path, relative to the folder of this file".to_owned()
    }

    fn read(node: &Node<'_>, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let folder = reader.folder.to_owned();
        read_text(node, path, reader, |text| {
            (!text.is_empty()).then(|| folder.join(text))
        })
    }

    fn show(&self) -> String {
        quote(&self.display().to_string())
    }
}

impl<T: Value> Value for Option<T> {
    type Bound = T::Bound;
    const TABLE: bool = T::TABLE;

    fn kind() -> String {
        if T::OFF {
            format!("{} or \"off\"", T::kind())
        } else {
            T::kind()
        }
    }

    fn read(node: &Node<'_>, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        if T::OFF && node.get_ref().as_str() == Some("off") {
            return Some(None);
        }
        T::read(node, path, reader).map(Some)
    }

    fn within(&self, range: &RangeInclusive<Self::Bound>) -> bool {
        self.as_ref().is_none_or(|value| value.within(range))
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn show(&self) -> String {
        match self {
            Some(value) => value.show(),
            None if T::OFF => quote("off"),
            None => "not set".to_owned(),
        }
    }

    fn plain(&self) -> Option<String> {
        self.as_ref().and_then(T::plain)
    }

    fn keys(key: &str) -> Vec<String> {
        T::keys(key)
    }

    fn group() -> Option<Group> {
        T::group()
    }

    fn describe(setting: Setting) -> Vec<Setting> {
        T::describe(setting)
    }

    fn take(section: &mut Section<'_, '_, '_>, key: &str) -> Taken<Self> {
        if T::OFF && section.find(key).and_then(|node| node.get_ref().as_str()) == Some("off") {
            return Taken::Is(None);
        }
        match T::take(section, key) {
            Taken::Absent => Taken::Absent,
            Taken::Wrong => Taken::Wrong,
            Taken::Is(value) => Taken::Is(Some(value)),
        }
    }

    fn enter(&self, path: &str, setting: &Shown, entries: &mut Entries) {
        match self {
            Some(value) => value.enter(path, setting, entries),
            None => {
                entries.insert(
                    path.to_owned(),
                    Shown {
                        value: self.show(),
                        ..setting.clone()
                    },
                );
            }
        }
    }
}

impl<T: Value> Value for Vec<T> {
    type Bound = ();
    const TABLE: bool = T::TABLE;

    fn kind() -> String {
        if T::TABLE {
            "a list of tables".to_owned()
        } else {
            format!("{}, or a list of such", T::kind())
        }
    }

    fn read(node: &Node<'_>, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Array(items) => {
                let mut values = Vec::with_capacity(items.len());
                let mut whole = true;
                for item in items.iter() {
                    match T::read(item, path, reader) {
                        Some(value) => values.push(value),
                        None => whole = false,
                    }
                }
                whole.then_some(values)
            }
            DeValue::Table(_) if T::TABLE => {
                let what = format!("[{path}] may be there several times");
                reader.wrong(node.span().start, what, format!("write [[{path}]]"));
                None
            }
            _ if T::TABLE => {
                mismatch(
                    node,
                    path,
                    &format!("tables, each begun with [[{path}]]"),
                    reader,
                );
                None
            }
            _ => T::read(node, path, reader).map(|value| vec![value]),
        }
    }

    fn absent() -> Option<Self> {
        Some(Vec::new())
    }

    fn show(&self) -> String {
        format!(
            "[{}]",
            self.iter().map(T::show).collect::<Vec<_>>().join(", ")
        )
    }

    fn group() -> Option<Group> {
        T::group().map(|group| Group {
            repeated: true,
            ..group
        })
    }

    fn enter(&self, path: &str, setting: &Shown, entries: &mut Entries) {
        if !T::TABLE {
            entries.insert(
                path.to_owned(),
                Shown {
                    value: self.show(),
                    ..setting.clone()
                },
            );
            return;
        }
        for (index, item) in self.iter().enumerate() {
            let label = item.label().unwrap_or_else(|| (index + 1).to_string());
            item.enter(&format!("{path}.{label}"), setting, entries);
        }
    }
}

impl<T: Value> Value for BTreeMap<String, T> {
    type Bound = ();

    fn kind() -> String {
        format!("a table with {} for each name", T::kind())
    }

    fn read(node: &Node<'_>, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let mut values = BTreeMap::new();
        for (key, node) in table(node, path, reader)? {
            let value = T::read(node, &format!("{path}.{}", key.get_ref()), reader)?;
            values.insert(key.get_ref().to_string(), value);
        }
        Some(values)
    }

    fn absent() -> Option<Self> {
        Some(BTreeMap::new())
    }

    fn show(&self) -> String {
        let pairs: Vec<_> = self
            .iter()
            .map(|(key, value)| format!("{} = {}", quote(key), value.show()))
            .collect();
        format!("{{{}}}", pairs.join(", "))
    }
}

/// A value with its place in the file, so that later checks can point at it.
///
/// Two of them are equal when the values are, wherever they stand.
#[derive(Debug, Clone)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Byte offset in the file.
    pub(crate) offset: usize,
}

impl<T: PartialEq> PartialEq for At<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Value> Value for At<T> {
    type Bound = T::Bound;
    const TABLE: bool = T::TABLE;
    const OFF: bool = T::OFF;

    fn kind() -> String {
        T::kind()
    }

    fn read(node: &Node<'_>, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        T::read(node, path, reader).map(|value| At {
            value,
            offset: node.span().start,
        })
    }

    fn show(&self) -> String {
        self.value.show()
    }

    fn plain(&self) -> Option<String> {
        self.value.plain()
    }

    fn label(&self) -> Option<String> {
        self.value.label()
    }

    fn group() -> Option<Group> {
        T::group()
    }

    fn enter(&self, path: &str, setting: &Shown, entries: &mut Entries) {
        self.value.enter(path, setting, entries);
    }
}

/// A secret is written in one of three ways: `key`, `key_file`, `key_env`.
impl Value for Secret {
    type Bound = ();

    fn kind() -> String {
        "text".to_owned()
    }

    fn read(node: &Node<'_>, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(text) = node.get_ref().as_str() else {
            mismatch(node, path, &Self::kind(), reader);
            return None;
        };
        if text.is_empty() || text.contains('\0') {
            reader.wrong(
                node.span().start,
                format!("`{path}` is empty or contains a zero byte"),
                "PostgreSQL lets nobody in with it",
            );
            return None;
        }
        Some(Secret::new(text.to_owned()))
    }

    fn show(&self) -> String {
        "***".to_owned()
    }

    fn keys(key: &str) -> Vec<String> {
        vec![key.to_owned(), format!("{key}_file"), format!("{key}_env")]
    }

    fn describe(setting: Setting) -> Vec<Setting> {
        let from_file = Setting {
            key: format!("{}_file", setting.key),
            kind: PathBuf::kind(),
            doc: format!(
                "A file that holds nothing but the `{}`. Read at start and at reload.",
                setting.key
            ),
            ..setting.clone()
        };
        let from_env = Setting {
            key: format!("{}_env", setting.key),
            kind: "the name of an environment variable".to_owned(),
            doc: format!("An environment variable that holds the `{}`.", setting.key),
            ..setting.clone()
        };
        vec![setting, from_file, from_env]
    }

    fn take(section: &mut Section<'_, '_, '_>, key: &str) -> Taken<Self> {
        let given: Vec<String> = Self::keys(key)
            .into_iter()
            .filter(|key| section.find(key).is_some())
            .collect();
        let [name] = given.as_slice() else {
            let Some(second) = given.get(1).and_then(|name| section.find(name)) else {
                return Taken::Absent;
            };
            let what = format!("`{}` are given together", given.join("` and `"));
            section
                .reader
                .wrong(second.span().start, what, "keep one of them");
            return Taken::Wrong;
        };
        take_secret(section, key, name).map_or(Taken::Wrong, Taken::Is)
    }

    fn enter(&self, path: &str, setting: &Shown, entries: &mut Entries) {
        let shown = Shown {
            value: self.show(),
            secret: Some(self.clone()),
            ..setting.clone()
        };
        entries.insert(path.to_owned(), shown);
    }
}

fn take_secret(section: &mut Section<'_, '_, '_>, key: &str, name: &str) -> Option<Secret> {
    let node = section.find(name)?;
    let path = section.path_of(name);
    if name == key {
        return Secret::read(node, &path, section.reader);
    }
    let place = String::read(node, &path, section.reader)?;
    let text = if name.ends_with("_file") {
        section
            .reader
            .secret_file(&place)
            .map(|text| text.to_string())
            .map_err(|error| error.to_string())
    } else {
        section
            .reader
            .surroundings
            .variable(&place)
            .ok_or_else(|| "the variable is not set".to_owned())
    };
    match text {
        Ok(text) if !text.is_empty() && !text.contains('\0') => Some(Secret::new(text)),
        Ok(_) => {
            section.reader.wrong(
                node.span().start,
                format!("`{path}` = {place:?} holds no secret"),
                "it is empty or contains a zero byte",
            );
            None
        }
        Err(error) => {
            section.reader.wrong(
                node.span().start,
                format!("`{path}` = {place:?} cannot be used"),
                error,
            );
            None
        }
    }
}

/// Declares an enum whose variants are words of the file.
macro_rules! words {
    (
        $(#[$about:meta])*
        $vis:vis enum $name:ident {
            $( $(#[$text:meta])* $variant:ident = $word:literal, )*
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis enum $name {
            $( $(#[$text])* $variant, )*
        }

        impl $name {
            /// Every value, in the order of the reference.
            pub const ALL: &[$name] = &[$($name::$variant),*];

            /// The word as it is written in the file.
            pub const fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }

        impl $crate::config::value::Value for $name {
            type Bound = ();

            fn kind() -> String {
                $crate::config::value::any_of([$($word),*].as_slice())
            }

            fn read(
                node: &$crate::config::section::Node<'_>,
                path: &str,
                reader: &mut $crate::config::section::Reader<'_>,
            ) -> Option<Self> {
                let word = $crate::config::value::word(node, path, &[$($word),*], reader)?;
                Self::ALL.iter().copied().find(|value| value.word() == word)
            }

            fn show(&self) -> String {
                $crate::config::value::quote(self.word())
            }
        }
    };
}
pub(crate) use words;

pub(crate) fn any_of(words: &[&str]) -> String {
    words
        .iter()
        .map(|word| format!("\"{word}\""))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Reads one of `words`.
pub(crate) fn word(
    node: &Node<'_>,
    path: &str,
    words: &[&'static str],
    reader: &mut Reader<'_>,
) -> Option<&'static str> {
    let Some(text) = node.get_ref().as_str() else {
        mismatch(node, path, &any_of(words), reader);
        return None;
    };
    let found = words.iter().find(|word| **word == text).copied();
    if found.is_none() {
        let shown: String = text.chars().take(64).collect();
        let fix = suggest(text, words.iter().copied());
        reader.wrong(
            node.span().start,
            format!("`{path}` = {shown:?} is not one of its values"),
            fix,
        );
    }
    found
}
