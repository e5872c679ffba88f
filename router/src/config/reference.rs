//! Writes `docs/configuration.md`, the reference page of all settings, from the declarations of the settings.

use std::fmt::Write;

use super::section::{Applies, Group, Setting};
use super::value::Value;
use super::written::Written;

const HEAD: &str = "\
# Configuration

This page is generated from the code by `mothership config-reference`; do not edit it.

The configuration is one TOML file. The router rejects unknown settings, values of the wrong type and values out of range. It reports all errors of a file at once, with line numbers. `mothership check-config --config FILE` does so without starting anything. `docs/mothership.example.toml` is an annotated example.

- Times are text with a unit: `\"200ms\"`, `\"5s\"`, `\"1h\"`; units are us, ms, s, min, h, d.
- Sizes are text with a unit, too: `\"64KiB\"`; units are B, KiB, MiB, GiB.
- A setting that can be switched off takes `\"off\"`.
- A setting that takes a list also takes one value.
- A secret is given in one of three ways: as itself, as `..._file`, or as `..._env`. It never appears in a log, a message or the console.
- *Reload*: after SIGHUP or the console's `RELOAD`, whatever starts next uses the new value. *Restart*: the new value is used after a restart. A reload does not change such a setting; the log and the answer to `RELOAD` say so, and all other settings change. A reload with a wrong file changes nothing.
";

/// The page as Markdown.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    if let Some(group) = Written::group() {
        group
            .settings
            .iter()
            .for_each(|setting| section(setting, "", &mut page));
    }
    page
}

/// Writes one section of the configuration as a heading and a table, then the sections inside it.
fn section(setting: &Setting, outer: &str, page: &mut String) {
    let Some(group) = &setting.inside else { return };
    let path = if outer.is_empty() {
        setting.key.clone()
    } else {
        format!("{outer}.{}", setting.key)
    };
    let title = if group.repeated {
        format!("[[{path}]]")
    } else {
        format!("[{path}]")
    };
    let _ = write!(
        page,
        "\n## {title}\n\n{}\n\n| Setting | Takes | Default | Changed by | |\n|---|---|---|---|---|\n",
        group.doc
    );
    group
        .settings
        .iter()
        .filter(|setting| setting.inside.is_none())
        .for_each(|setting| row(setting, page));
    inner(group, &path, page);
}

fn inner(group: &Group, path: &str, page: &mut String) {
    group
        .settings
        .iter()
        .for_each(|setting| section(setting, path, page));
}

fn row(setting: &Setting, page: &mut String) {
    let default = match &setting.default {
        None => "must be given".to_owned(),
        Some(value) if value == "not set" => "not set".to_owned(),
        Some(value) => format!("`{}`", cell(value)),
    };
    let range = setting
        .range
        .as_ref()
        .map(|range| format!(", {range}"))
        .unwrap_or_default();
    let applies = match setting.applies {
        Applies::Reload => "reload",
        Applies::Restart => "restart",
    };
    let _ = writeln!(
        page,
        "| `{}` | {}{} | {default} | {applies} | {} |",
        setting.key,
        cell(&setting.kind),
        cell(&range),
        cell(&setting.doc)
    );
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
