//! Protocol messages of a client, built byte by byte: right ones by functions,
//! wrong ones with [`message`] and plain bytes. See "Message Formats".

/// Protocol 3.0.
pub const V3_0: u32 = 0x0003_0000;
/// Protocol 3.2.
pub const V3_2: u32 = 0x0003_0002;
/// The code of SSLRequest.
pub const SSL_REQUEST: u32 = 80_877_103;
/// The code of GSSENCRequest.
pub const GSSENC_REQUEST: u32 = 80_877_104;
/// The code of CancelRequest.
pub const CANCEL_REQUEST: u32 = 80_877_102;

/// A message with its length filled in.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], untyped(body).as_slice()].concat()
}

/// A message without a type, as those before the login are.
pub fn untyped(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [length.to_be_bytes().as_slice(), body].concat()
}

/// StartupMessage.
pub fn startup(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend(text(name));
        body.extend(text(value));
    }
    body.push(0);
    untyped(&body)
}

/// SSLRequest or GSSENCRequest.
pub fn request(code: u32) -> Vec<u8> {
    untyped(&code.to_be_bytes())
}

/// CancelRequest.
pub fn cancel(pid: u32, key: &[u8]) -> Vec<u8> {
    untyped(&[&CANCEL_REQUEST.to_be_bytes(), &pid.to_be_bytes(), key].concat())
}

/// Query.
pub fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &text(sql))
}

/// Parse, with parameter types by OID (0: the server decides).
pub fn parse(name: &str, sql: &str, types: &[u32]) -> Vec<u8> {
    let mut body = [text(name), text(sql), count(types.len())].concat();
    types.iter().for_each(|oid| body.extend(oid.to_be_bytes()));
    message(b'P', &body)
}

/// Whether values travel as text or in PostgreSQL's binary form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Format code 0.
    Text,
    /// Format code 1.
    Binary,
}

impl Format {
    fn code(self) -> [u8; 2] {
        match self {
            Format::Text => [0, 0],
            Format::Binary => [0, 1],
        }
    }
}

/// Bind, with one format for all parameters and one for all results.
pub fn bind(
    portal: &str,
    statement: &str,
    format: Format,
    values: &[Option<&[u8]>],
    results: Format,
) -> Vec<u8> {
    let mut body = [text(portal), text(statement), count(1)].concat();
    body.extend(format.code());
    body.extend(count(values.len()));
    for value in values {
        match value {
            None => body.extend((-1_i32).to_be_bytes()),
            Some(bytes) => {
                body.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
                body.extend(*bytes);
            }
        }
    }
    body.extend(count(1));
    body.extend(results.code());
    message(b'B', &body)
}

/// Bind of the unnamed statement to the unnamed portal, all in text.
pub fn bind_text(values: &[&str]) -> Vec<u8> {
    let values: Vec<_> = values.iter().map(|v| Some(v.as_bytes())).collect();
    bind("", "", Format::Text, &values, Format::Text)
}

/// Describe of a statement.
pub fn describe_statement(name: &str) -> Vec<u8> {
    message(b'D', &[b"S".as_slice(), &text(name)].concat())
}

/// Describe of a portal.
pub fn describe_portal(name: &str) -> Vec<u8> {
    message(b'D', &[b"P".as_slice(), &text(name)].concat())
}

/// Execute; 0 rows means all.
pub fn execute(portal: &str, rows: u32) -> Vec<u8> {
    message(b'E', &[text(portal), rows.to_be_bytes().to_vec()].concat())
}

/// Close of a statement.
pub fn close_statement(name: &str) -> Vec<u8> {
    message(b'C', &[b"S".as_slice(), &text(name)].concat())
}

/// Close of a portal.
pub fn close_portal(name: &str) -> Vec<u8> {
    message(b'C', &[b"P".as_slice(), &text(name)].concat())
}

/// Sync.
pub fn sync() -> Vec<u8> {
    message(b'S', &[])
}

/// Flush.
pub fn flush() -> Vec<u8> {
    message(b'H', &[])
}

/// Terminate.
pub fn terminate() -> Vec<u8> {
    message(b'X', &[])
}

/// CopyData.
pub fn copy_data(data: &[u8]) -> Vec<u8> {
    message(b'd', data)
}

/// CopyDone.
pub fn copy_done() -> Vec<u8> {
    message(b'c', &[])
}

/// CopyFail.
pub fn copy_fail(reason: &str) -> Vec<u8> {
    message(b'f', &text(reason))
}

/// PasswordMessage, and the md5 answer.
pub fn password(password: &str) -> Vec<u8> {
    message(b'p', &text(password))
}

/// SASLInitialResponse.
pub fn sasl_initial(mechanism: &str, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap().to_be_bytes();
    message(b'p', &[&text(mechanism), length.as_slice(), data].concat())
}

/// SASLResponse.
pub fn sasl_response(data: &[u8]) -> Vec<u8> {
    message(b'p', data)
}

fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

fn count(count: usize) -> Vec<u8> {
    u16::try_from(count).unwrap().to_be_bytes().to_vec()
}
