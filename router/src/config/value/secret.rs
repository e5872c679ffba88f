//! Secrets, which may also stand in a file or in an environment variable.

use std::path::PathBuf;

use super::{Taken, Value, mismatch};
use crate::config::secret::Secret;
use crate::config::section::{Entries, Node, Reader, Section, Setting, Shown};

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
