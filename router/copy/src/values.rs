//! All fields of one row, for whoever stores rows himself.
//!
//! A [`Splitter`](super::Splitter) finds the row; what its fields mean is not known here.

use super::binary::BinaryReader;
use super::error::CopyError;
use super::fields::{CsvFields, Field, Force, TextFields};
use super::format::CopyFormat;

/// A field as it stands in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// NULL.
    Null,
    /// The column's default.
    Default,
    /// A text without escapes and quotes, or a binary form.
    Bytes(Vec<u8>),
}

/// Reads rows of one form.
#[derive(Debug)]
pub struct Values {
    format: CopyFormat,
    /// By column.
    forces: Vec<Force>,
}

impl Values {
    /// Of these columns, in the order of the rows.
    pub fn new(format: &CopyFormat, columns: &[&str]) -> Values {
        let force = |name: &&str| match format {
            CopyFormat::Csv(csv) => Force {
                null: csv.force_null.contain(name.as_bytes()),
                not_null: csv.force_not_null.contain(name.as_bytes()),
            },
            _ => Force::default(),
        };
        Values {
            format: format.clone(),
            forces: columns.iter().map(force).collect(),
        }
    }

    /// The fields of a row without its line end, as many as it has. `special` says whether it has a backslash.
    pub fn read(&self, content: &[u8], special: bool) -> Result<Vec<Value>, CopyError> {
        let (mut values, mut scratch) = (Vec::new(), Vec::new());
        match &self.format {
            CopyFormat::Text(format) => {
                let mut fields = TextFields::new(format, content, special);
                while let Some(field) = fields.take(&mut scratch) {
                    values.push(value(field));
                }
            }
            CopyFormat::Csv(format) => {
                let mut fields = CsvFields::new(format, content);
                loop {
                    let force = self.forces.get(values.len()).copied().unwrap_or_default();
                    let Some(field) = fields.take(force, &mut scratch)? else {
                        break;
                    };
                    values.push(value(field));
                }
            }
            CopyFormat::Binary => {
                let mut reader = BinaryReader::new(self.forces.len());
                reader.next(content, true)?;
                let field = |at: usize| match reader.field(at) {
                    Some(range) => Value::Bytes(content[range].to_vec()),
                    None => Value::Null,
                };
                values = (0..self.forces.len()).map(field).collect();
            }
        }
        Ok(values)
    }
}

fn value(field: Field<'_>) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Default => Value::Default,
        Field::Value(bytes) => Value::Bytes(bytes.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::CopyOptions;
    use super::*;

    fn read(options: &str, columns: &[&str], content: &[u8]) -> Vec<Value> {
        let sql = format!("COPY t FROM STDIN {options}");
        let format = CopyOptions::parse(sql.as_bytes(), true).unwrap().format;
        let special = content.contains(&b'\\');
        Values::new(&format, columns)
            .read(content, special)
            .unwrap()
    }

    fn bytes(text: &str) -> Value {
        Value::Bytes(text.into())
    }

    #[test]
    fn a_row_has_all_its_fields() {
        let ab = &["a", "b"];
        assert_eq!(
            read("", ab, b"1\\t\t\\N\tx"),
            [bytes("1\t"), Value::Null, bytes("x")]
        );
        assert_eq!(read("CSV", ab, b"\"\","), [bytes(""), Value::Null]);
        assert_eq!(
            read(
                "(FORMAT csv, FORCE_NULL (a), FORCE_NOT_NULL (b))",
                ab,
                b"\"\","
            ),
            [Value::Null, bytes("")]
        );
        let row = b"\0\x02\xff\xff\xff\xff\0\0\0\x01x";
        assert_eq!(read("BINARY", ab, row), [Value::Null, bytes("x")]);
    }
}
