//! Numbers, truth values, texts, times, sizes and paths.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeInteger;

use super::{Value, mismatch, quote, read_text, text_values};
use crate::config::section::{Node, Reader};
use crate::config::units::{ByteSize, Share, parse_duration, show_duration};

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

impl Value for i8 {
    type Bound = Self;

    fn within(&self, range: &RangeInclusive<Self>) -> bool {
        range.contains(self)
    }

    fn kind() -> String {
        u32::kind()
    }

    fn read(node: &Node<'_>, path: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let number = integer(node, path, reader)?;
        let value = i8::from_str_radix(number.as_str(), number.radix()).ok();
        if value.is_none() {
            let most = format!("from {} to {}", i8::MIN, i8::MAX);
            out_of_range(node, path, &most, reader);
        }
        value
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

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
    let number = integer(node, path, reader)?;
    Some(u64::from_str_radix(number.as_str(), number.radix()).ok())
}

fn integer<'n>(
    node: &'n Node<'_>,
    path: &str,
    reader: &mut Reader<'_>,
) -> Option<&'n DeInteger<'n>> {
    let integer = node.get_ref().as_integer();
    if integer.is_none() {
        mismatch(node, path, "a whole number", reader);
    }
    integer
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
