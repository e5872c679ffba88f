//! Constants, by their content and not as they were written.

use mothership_sql::quote;
use sqlparser::ast::{DateTimeField, Expr, Interval, Value};

use crate::refuse::not_understood;

use super::{Done, Writer};

impl Writer {
    /// A constant by its content, as the planner takes it.
    pub(super) fn constant(&mut self, value: &Value) -> Done {
        match value {
            Value::Number(digits, long) => {
                self.put(digits);
                self.put(if *long { "L" } else { "" });
            }
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => {
                self.string(text);
            }
            Value::DollarQuotedString(text) => self.string(&text.value),
            Value::NationalStringLiteral(text) => {
                self.lettered("N", text);
            }
            Value::HexStringLiteral(text) => {
                self.lettered("X", text);
            }
            Value::SingleQuotedByteStringLiteral(text) => {
                self.lettered("B", text);
            }
            Value::Boolean(value) => self.put(if *value { "TRUE" } else { "FALSE" }),
            Value::Null => self.put("NULL"),
            Value::Placeholder(text) => self.put(text),
            Value::TripleSingleQuotedString(_)
            | Value::TripleDoubleQuotedString(_)
            | Value::UnicodeStringLiteral(_)
            | Value::DoubleQuotedByteStringLiteral(_)
            | Value::TripleSingleQuotedByteStringLiteral(_)
            | Value::TripleDoubleQuotedByteStringLiteral(_)
            | Value::SingleQuotedRawStringLiteral(_)
            | Value::DoubleQuotedRawStringLiteral(_)
            | Value::TripleSingleQuotedRawStringLiteral(_)
            | Value::TripleDoubleQuotedRawStringLiteral(_)
            | Value::QuoteDelimitedStringLiteral(_)
            | Value::NationalQuoteDelimitedStringLiteral(_)
            | Value::DoubleQuotedString(_) => return not_understood(),
        }
        Ok(())
    }

    fn string(&mut self, text: &str) {
        self.put(&quote::literal(text));
    }

    /// Behind a letter of its own.
    fn lettered(&mut self, letter: &str, text: &str) {
        self.put(&format!("{letter}'{}'", text.replace('\'', "''")));
    }

    pub(super) fn field(&mut self, field: &DateTimeField) -> Done {
        match field {
            DateTimeField::Custom(ident) => match ident.quote_style {
                Some('\'') => {
                    self.string(&ident.value);
                    Ok(())
                }
                _ => self.ident(ident),
            },
            field => {
                self.put(&field.to_string());
                Ok(())
            }
        }
    }

    pub(super) fn interval(&mut self, interval: &Interval) -> Done {
        let Interval {
            value,
            leading_field,
            leading_precision,
            last_field,
            fractional_seconds_precision,
        } = interval;
        let Expr::Value(value) = &**value else {
            return not_understood();
        };
        self.put("INTERVAL ");
        self.constant(&value.value)?;
        if let Some(field) = leading_field {
            self.put(&format!(" {field}"));
        }
        if let Some(field) = last_field {
            self.put(&format!(" TO {field}"));
        }
        match (leading_precision, fractional_seconds_precision) {
            (None, None) => {}
            (Some(digits), None) | (None, Some(digits)) => self.put(&format!("({digits})")),
            (Some(_), Some(_)) => return not_understood(),
        }
        Ok(())
    }
}
