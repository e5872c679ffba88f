//! Settings whose value is one of a few words.

use super::mismatch;
use crate::config::problem::suggest;
use crate::config::section::{Node, Reader};

/// Declares an enum, with the word that stands for each variant in the configuration file.
macro_rules! words {
    (
        $(#[$about:meta])*
        $vis:vis enum $name:ident {
            $( $(#[doc = $text:literal])* $variant:ident = $word:literal, )*
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis enum $name {
            $( $(#[doc = $text])* $variant, )*
        }

        impl $name {
            /// All values, in the order in which docs/configuration.md lists them.
            pub const ALL: &[$name] = &[$($name::$variant),*];

            /// The word that stands for the value in the configuration file.
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

            fn describe(
                mut setting: $crate::config::section::Setting,
            ) -> Vec<$crate::config::section::Setting> {
                $(
                    let meaning = $crate::config::section::doc(&[$($text),*]);
                    setting.doc.push_str(&format!(" `{}`: {meaning}", $word));
                )*
                vec![setting]
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

/// Reads a setting that must be one of `words`. Reports any other value as a problem and returns None.
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
