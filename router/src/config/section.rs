//! Reads one table of the file, and declares settings.
//!
//! [`settings!`] makes a struct, its reading, its defaults, its reference page and
//! its comparison out of one declaration, so that they cannot disagree. It exists
//! because four hand-written lists of the same hundred names would.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use super::problem::{Findings, suggest};
use super::value::{Taken, Value};

/// A value of the file with its position.
pub(crate) type Node<'d> = Spanned<DeValue<'d>>;

/// Where secrets and relative paths come from: the process, or a test's own world.
pub trait Surroundings {
    /// The environment variable `name`.
    fn variable(&self, name: &str) -> Option<String>;
    /// The text of the file at `path`.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn file(&self, path: &Path) -> std::io::Result<String>;
}

/// The environment variables and files of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process;

impl Surroundings for Process {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &Path) -> std::io::Result<String> {
        std::fs::read_to_string(path)
    }
}

/// What goes along while a file is read.
pub(crate) struct Reader<'a> {
    pub(crate) findings: Findings,
    /// A value was wrong or missing, so that checks between values would accuse the innocent.
    pub(crate) incomplete: bool,
    /// Relative paths are relative to the folder of the file.
    pub(crate) folder: &'a Path,
    pub(crate) surroundings: &'a dyn Surroundings,
    /// Where each setting stands that is there; of lists, the last one.
    pub(crate) places: BTreeMap<String, usize>,
    /// The range of the setting that is being read.
    pub(crate) range: Option<String>,
}

impl Reader<'_> {
    /// Reports a wrong value.
    pub(crate) fn wrong(&mut self, offset: usize, what: impl Into<String>, fix: impl Into<String>) {
        self.incomplete = true;
        self.findings.add(offset, what, fix);
    }

    /// Makes a path of the file absolute, or at least relative to the working folder.
    pub(crate) fn path(&self, text: &str) -> PathBuf {
        self.folder.join(text)
    }

    /// The secret in a file, without the line end that editors leave.
    pub(crate) fn secret_file(&self, path: &str) -> std::io::Result<Zeroizing<String>> {
        let text = Zeroizing::new(self.surroundings.file(&self.path(path))?);
        Ok(Zeroizing::new(
            text.trim_end_matches(['\n', '\r']).to_owned(),
        ))
    }
}

/// One table of the file while its keys are taken out.
pub(crate) struct Section<'a, 'd, 'r> {
    pub(crate) table: &'a DeTable<'d>,
    pub(crate) at: usize,
    pub(crate) path: &'a str,
    pub(crate) reader: &'a mut Reader<'r>,
}

impl<'a, 'd> Section<'a, 'd, '_> {
    pub(crate) fn find(&self, key: &str) -> Option<&'a Node<'d>> {
        self.table.get(key)
    }

    pub(crate) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// The value of `key`, else its default. `None` only when a required one is missing or wrong.
    pub(crate) fn take<T: Value>(
        &mut self,
        key: &str,
        default: Option<T>,
        range: Option<String>,
        within: impl FnOnce(&T) -> bool,
    ) -> Option<T> {
        self.reader.range.clone_from(&range);
        if let Some(node) = self.find(key) {
            self.reader
                .places
                .insert(self.path_of(key), node.span().start);
        }
        match T::take(self, key) {
            Taken::Is(value) => {
                if !within(&value) {
                    let fix = range.unwrap_or_default();
                    let at = self.find(key).map_or(self.at, |node| node.span().start);
                    let what =
                        format!("`{}` = {} is out of range", self.path_of(key), value.show());
                    self.reader.wrong(at, what, fix);
                    return default;
                }
                Some(value)
            }
            Taken::Wrong => default,
            Taken::Absent => {
                if default.is_none() {
                    let what = format!("`{}` is missing", self.path_of(key));
                    self.reader
                        .wrong(self.at, what, format!("it takes {}", T::kind()));
                }
                default
            }
        }
    }

    /// Reports every key that nobody knows.
    pub(crate) fn refuse_unknown(&mut self, known: &[String]) {
        for key in self
            .table
            .keys()
            .filter(|key| !known.iter().any(|name| name == key.get_ref()))
        {
            let place = if self.path.is_empty() {
                "in the file".to_owned()
            } else {
                format!("in [{}]", self.path)
            };
            let what = format!("unknown key `{}` {place}", key.get_ref().escape_debug());
            let fix = suggest(key.get_ref(), known.iter().map(String::as_str));
            self.reader.findings.add(key.span().start, what, fix);
        }
    }
}

/// When a changed setting counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applies {
    /// SIGHUP and the console's RELOAD apply it to whatever starts afterwards.
    Reload,
    /// Only a restart changes it.
    Restart,
}

/// One setting as the reference shows it.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The key in its table.
    pub key: String,
    /// What may be written.
    pub kind: String,
    /// What is meant when it is left out; `None` when it must be given.
    pub default: Option<String>,
    /// The allowed range, when there is one.
    pub range: Option<String>,
    /// What it is for.
    pub doc: String,
    /// Whether a reload changes it.
    pub applies: Applies,
    /// The settings inside, when it is a table or a list of tables.
    pub inside: Option<Group>,
}

/// A table of settings as the reference shows it.
#[derive(Debug, Clone)]
pub struct Group {
    /// What it is for.
    pub doc: String,
    /// May it be written several times, as `[[name]]`?
    pub repeated: bool,
    /// Its settings in reading order.
    pub settings: Vec<Setting>,
}

/// The value of one setting as text, for comparison and for the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The value as it would be written; `***` for a secret.
    pub value: String,
    /// The same for the default; `None` when there is none.
    pub default: Option<String>,
    /// Whether a reload changes it.
    pub applies: Applies,
    /// Compared and never shown.
    pub(crate) secret: Option<super::secret::Secret>,
}

/// Every setting by its path, such as `pool.max` or `shard.s1.slots`.
pub type Entries = BTreeMap<String, Shown>;

pub(crate) fn show_range<B: Value>(range: &RangeInclusive<B>) -> String {
    format!("from {} to {}", range.start().show(), range.end().show())
}

/// Paragraphs of a doc comment as one text.
pub(crate) fn doc(lines: &[&str]) -> String {
    lines
        .iter()
        .map(|line| line.trim())
        .collect::<Vec<_>>()
        .join(" ")
        .trim()
        .to_owned()
}

/// Declares a table of settings: `reload name: Type = default, least..=most;`
///
/// Without a default the setting must be given, unless its type knows what
/// absence means (`Option`, `Vec`, tables of settings that all have defaults).
macro_rules! settings {
    (
        $(#[doc = $about:literal])*
        $vis:vis struct $name:ident {
            $(
                $(#[doc = $text:literal])*
                $applies:ident $field:ident : $type:ty $(= $default:expr)? $(, $range:expr)? ;
            )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, PartialEq)]
        $vis struct $name {
            $( $(#[doc = $text])* pub $field: $type, )*
        }

        impl $crate::config::value::Value for $name {
            type Bound = ();
            const TABLE: bool = true;

            fn kind() -> String {
                "a table".to_owned()
            }

            fn read(
                node: &$crate::config::section::Node<'_>,
                path: &str,
                reader: &mut $crate::config::section::Reader<'_>,
            ) -> Option<Self> {
                let table = $crate::config::value::table(node, path, reader)?;
                Self::read_table(table, node.span().start, path, reader)
            }

            fn absent() -> Option<Self> {
                $( let $field: $type = $crate::config::section::settings!(@default $type $(, $default)?)?; )*
                Some(Self { $($field),* })
            }

            fn group() -> Option<$crate::config::section::Group> {
                Some($crate::config::section::Group {
                    doc: $crate::config::section::doc(&[$($about),*]),
                    repeated: false,
                    settings: [ $(
                        <$type as $crate::config::value::Value>::describe($crate::config::section::Setting {
                            key: stringify!($field).to_owned(),
                            kind: <$type as $crate::config::value::Value>::kind(),
                            default: $crate::config::section::settings!(@default $type $(, $default)?)
                                .map(|value| $crate::config::value::Value::show(&value)),
                            range: $crate::config::section::settings!(@range $type $(, $range)?),
                            doc: $crate::config::section::doc(&[$($text),*]),
                            applies: $crate::config::section::settings!(@applies $applies),
                            inside: <$type as $crate::config::value::Value>::group(),
                        }),
                    )* ].concat(),
                })
            }

            fn label(&self) -> Option<String> {
                let mut label = None;
                $( if matches!(stringify!($field), "name" | "address") && label.is_none() {
                    label = $crate::config::value::Value::plain(&self.$field);
                } )*
                label
            }

            fn hold(&mut self, before: &Self, _: $crate::config::section::Applies) {
                $(
                    let applies = $crate::config::section::settings!(@applies $applies);
                    $crate::config::value::Value::hold(&mut self.$field, &before.$field, applies);
                )*
            }

            fn enter(&self, path: &str, _: &$crate::config::section::Shown, entries: &mut $crate::config::section::Entries) {
                $(
                    let key = if path.is_empty() {
                        stringify!($field).to_owned()
                    } else {
                        format!("{path}.{}", stringify!($field))
                    };
                    let shown = $crate::config::section::Shown {
                        value: String::new(),
                        default: $crate::config::section::settings!(@default $type $(, $default)?)
                            .map(|value| $crate::config::value::Value::show(&value)),
                        applies: $crate::config::section::settings!(@applies $applies),
                        secret: None,
                    };
                    $crate::config::value::Value::enter(&self.$field, &key, &shown, entries);
                )*
            }
        }

        impl $name {
            fn read_table(
                table: &toml::de::DeTable<'_>,
                at: usize,
                path: &str,
                reader: &mut $crate::config::section::Reader<'_>,
            ) -> Option<Self> {
                let mut section = $crate::config::section::Section { table, at, path, reader };
                let known = [ $( <$type as $crate::config::value::Value>::keys(stringify!($field)), )* ].concat();
                section.refuse_unknown(&known);
                $(
                    let $field = section.take::<$type>(
                        stringify!($field),
                        $crate::config::section::settings!(@default $type $(, $default)?),
                        $crate::config::section::settings!(@range $type $(, $range)?),
                        $crate::config::section::settings!(@within $type $(, $range)?),
                    );
                )*
                Some(Self { $($field: $field?),* })
            }
        }
    };
    (@default $type:ty, $default:expr) => { Some::<$type>($default) };
    (@default $type:ty) => { <$type as $crate::config::value::Value>::absent() };
    (@within $type:ty, $range:expr) => {
        |value: &$type| $crate::config::value::Value::within(value, &$range)
    };
    (@within $type:ty) => { |_: &$type| true };
    (@range $type:ty, $range:expr) => {
        Some($crate::config::section::show_range::<<$type as $crate::config::value::Value>::Bound>(&$range))
    };
    (@range $type:ty) => { None };
    (@applies reload) => { $crate::config::section::Applies::Reload };
    (@applies restart) => { $crate::config::section::Applies::Restart };
}
pub(crate) use settings;
