//! Values that may be left out, values in lists and tables, values with their place.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use toml::de::DeValue;

use super::{Taken, Value, mismatch, quote, table};
use crate::config::section::{Applies, Entries, Group, Node, Reader, Section, Setting, Shown};

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

    fn describe(setting: Setting) -> Vec<Setting> {
        T::describe(setting)
    }

    fn group() -> Option<Group> {
        T::group().map(|group| Group {
            repeated: true,
            ..group
        })
    }

    /// Tables go by their names. Where only a restart changes which there are, those of before stay in their order.
    fn hold(&mut self, before: &Self, applies: Applies) {
        hold_all(self, before, applies);
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
        let label =
            |(index, item): (usize, &T)| item.label().unwrap_or_else(|| (index + 1).to_string());
        let labels: Vec<String> = self.iter().enumerate().map(label).collect();
        for (label, item) in labels.iter().zip(self) {
            item.enter(&format!("{path}.{label}"), setting, entries);
        }
        // Their order, because rules and patterns count in it.
        let order = format!("[{}]", labels.join(", "));
        entries.insert(
            path.to_owned(),
            Shown {
                value: order,
                ..setting.clone()
            },
        );
    }
}

fn hold_all<T: Value>(list: &mut Vec<T>, before: &[T], applies: Applies) {
    let named = |item: &T, others: &[T]| -> Option<T> {
        let label = item.label()?;
        let mut others = others.iter();
        others
            .find(|other| other.label().as_ref() == Some(&label))
            .cloned()
    };
    let held = |mut item: T, before: &T| {
        item.hold(before, applies);
        item
    };
    if applies == Applies::Restart {
        let kept = before.iter().map(|before| match named(before, list) {
            Some(item) => held(item, before),
            None => before.clone(),
        });
        *list = kept.collect();
        return;
    }
    for item in list {
        if let Some(before) = named(item, before) {
            item.hold(&before, applies);
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

    fn within(&self, range: &RangeInclusive<Self::Bound>) -> bool {
        self.value.within(range)
    }

    fn show(&self) -> String {
        self.value.show()
    }

    fn plain(&self) -> Option<String> {
        self.value.plain()
    }

    fn describe(setting: Setting) -> Vec<Setting> {
        T::describe(setting)
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
