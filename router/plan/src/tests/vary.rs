//! For tests: other texts of a statement, with other literals, letters and white space.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use mothership_sql::lexer::{Kind, Lexer};

/// The statements of the planner's and the analyser's cases.
pub fn statements() -> Vec<String> {
    let plans = include_str!("cases.txt").lines();
    let effects = include_str!("../../../sql/src/effect/cases.sql").lines();
    let written = |line: &&str| !line.starts_with("    ") && !line.starts_with(['#', '-']);
    plans
        .chain(effects)
        .filter(written)
        .map(|line| line.replace("\\n", "\n"))
        .collect()
}

const NUMBERS: &[&str] = &[
    "0",
    "1",
    "2",
    "3",
    "5",
    "6",
    "10",
    "42",
    "99",
    "100",
    "150",
    "200",
    "250",
    "300",
    "007",
    "2147483647",
    "2147483648",
    "9223372036854775807",
    "9223372036854775808",
    "9223372036854775806999",
    "99999999999999999999999999",
    "1.5",
    "5.0",
    "0.0",
    "5.",
    ".5",
    "5e0",
    "1e3",
    "1.5e-3",
];

const STRINGS: &[&str] = &[
    "''",
    "'5'",
    "'6'",
    "' 5 '",
    "'-5'",
    "'007'",
    "'5.0'",
    "'0x5'",
    "'a'",
    "'b'",
    "'B'",
    "'abc'",
    "'O''Brien'",
    "''''",
    "'t'",
    "'f'",
    "'true'",
    "'orders'",
    "'select * from t'",
    "'i4 x'",
    "'{1,2}'",
    "'{5}'",
    "'{}'",
    "'{a,\"b c\"}'",
    "'[2:3]={1,2}'",
    "'2020-01-01'",
    "'2020-02-30'",
    "'2020-01-01 12:00:00+02'",
    "'now'",
    "'infinity'",
    "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
    "'app.tenant'",
    "'timezone'",
    "'nextval'",
    "'query_to_xml'",
    "'operator(x'",
    "'u&'",
    "'a\\b'",
    "'a\\'",
    "'--'",
    "'/*'",
    "'*/'",
    "'žluť'",
    "'a\u{a0}b'",
    "'a\tb'",
    "'a\nb'",
    "'a\u{1}b'",
    "'x' \n 'y'",
    "E'5'",
    "E'a\\'b'",
    "e'\\x41'",
    "$$5$$",
    "$q$a'b$q$",
    "N'5'",
    "U&'5'",
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'",
];

const SPACES: &[&str] = &[
    "  ",
    "\n",
    "\t",
    "\r\n",
    " /* a note */ ",
    " /* of t */ ",
    " /* a /* b */ c */ ",
    " -- of t\n",
    " \u{c}",
];

/// Another text of the statement `sql`.
pub(crate) fn vary(rng: &mut StdRng, sql: &str) -> String {
    let mut out = String::new();
    let mut lexer = Lexer::new(sql.as_bytes(), true);
    let literals = rng.random_bool(0.95);
    let (spaces, words) = (rng.random_bool(0.15), rng.random_bool(0.15));
    while let Some(token) = lexer.next_with_trivia() {
        let text = &sql[token.start..token.end];
        let change = rng.random_bool(0.6);
        match token.kind {
            // Most stay what they are in kind, or few texts would share a shape.
            Kind::Integer | Kind::Decimal if literals && change => {
                let other = NUMBERS.choose(rng).expect("some");
                let alike = rng.random_bool(0.8) && text.parse::<i32>().is_ok();
                if alike && other.parse::<i32>().is_err() {
                    out += &rng.random_range(0..400).to_string();
                } else {
                    out += other;
                }
            }
            kind if kind.is_string() && literals && change => {
                out += STRINGS.choose(rng).expect("some");
            }
            Kind::Space if spaces && change => out += SPACES.choose(rng).expect("some"),
            Kind::Word if words && change => out += &text.to_ascii_uppercase(),
            Kind::Operator if spaces && rng.random_bool(0.3) => {
                out.push(' ');
                out += text;
                out.push(' ');
            }
            _ => out += text,
        }
    }
    out
}
