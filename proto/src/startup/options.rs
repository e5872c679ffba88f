//! The `options` parameter of a StartupMessage: `-c name=value --name=value`.
//!
//! Split as `pg_split_opts` does (white space, a backslash takes the next character
//! as it is) and read as `process_postgres_switches` does, but only the two switches
//! that set a parameter. All others are refused: some would change a server process.
//! See <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-OPTIONS>.

/// The settings in their order.
///
/// # Errors
/// Anything but `-c name=value`, `-cname=value` and `--name=value`.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, OptionsError> {
    let mut settings = Vec::new();
    let mut words = split(text).into_iter();
    while let Some(word) = words.next() {
        let setting = if word == "-c" {
            words.next().ok_or(OptionsError::Argument { word })?
        } else if let Some(setting) = word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            setting.to_owned()
        } else if word.len() > 1 && word.starts_with('-') {
            return Err(OptionsError::Switch { word });
        } else {
            return Err(OptionsError::Argument { word });
        };
        settings.push(name_and_value(setting)?);
    }
    Ok(settings)
}

/// Writes settings so that [`parse`] and PostgreSQL read the same ones.
pub fn write(settings: &[(String, String)]) -> String {
    let mut text = String::new();
    for (name, value) in settings {
        text.push_str(if text.is_empty() { "-c " } else { " -c " });
        for character in name.chars().chain(['=']).chain(value.chars()) {
            if is_space(character) || character == '\\' {
                text.push('\\');
            }
            text.push(character);
        }
    }
    text
}

fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut characters = text.chars().peekable();
    loop {
        while characters.next_if(|&next| is_space(next)).is_some() {}
        if characters.peek().is_none() {
            return words;
        }
        let mut word = String::new();
        while let Some(character) = characters.next_if(|&next| !is_space(next)) {
            // A backslash at the very end stands for nothing, as in PostgreSQL.
            let taken = if character == '\\' {
                characters.next()
            } else {
                Some(character)
            };
            word.extend(taken);
        }
        words.push(word);
    }
}

/// C's `isspace`, which also knows the vertical tab.
fn is_space(character: char) -> bool {
    character.is_ascii_whitespace() || character == '\u{b}'
}

fn name_and_value(setting: String) -> Result<(String, String), OptionsError> {
    match setting.split_once('=') {
        Some(("", _)) => Err(OptionsError::NoName),
        Some((name, value)) => Ok((name.replace('-', "_"), value.into())),
        None => Err(OptionsError::NoValue { setting }),
    }
}

/// An `options` parameter that is refused; `Display` is the message for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A word that is no switch, or `-c` at the end.
    #[error("invalid command-line argument for server process: {word}")]
    Argument {
        /// The word.
        word: String,
    },
    /// A switch of `postgres` that sets no parameter, or sets it in a short form.
    #[error("command-line switch \"{word}\" is not supported in \"options\"")]
    Switch {
        /// The word.
        word: String,
    },
    /// A setting without `=`.
    #[error("-c {setting} requires a value")]
    NoValue {
        /// The setting.
        setting: String,
    },
    /// A setting that begins with `=`.
    #[error("unrecognized configuration parameter \"\"")]
    NoName,
}

impl OptionsError {
    /// What PostgreSQL gives for it.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Self::Argument { .. } | Self::NoValue { .. } => "42601",
            Self::Switch { .. } => "0A000",
            Self::NoName => "42704",
        }
    }

    /// Advice.
    pub fn hint(&self) -> &'static str {
        "Use -c name=value or --name=value, with a backslash before each space of the value."
    }
}
