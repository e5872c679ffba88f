//! Texts of key values from a seed: ordinary ones, every spelling, limits, and nonsense.
//!
//! Values are drawn from small pools as often as from the whole range, so that many are equal but spelled differently.

use mothership_shardmap::KeyType;

/// SplitMix64: small, and good enough to choose test values.
pub struct Random(u64);

/// The seed of this run, printed for the one who reads a failure.
pub fn seed() -> u64 {
    let seed = std::env::var("MOTHERSHIP_SEED")
        .ok()
        .map(|seed| seed.parse().expect("MOTHERSHIP_SEED is a number"));
    let seed = seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.unwrap().as_nanos() as u64 % 1_000_000_007
    });
    println!("MOTHERSHIP_SEED={seed}");
    seed
}

impl Random {
    /// A sequence of its own for each purpose.
    pub fn new(seed: u64, purpose: &str) -> Random {
        Random(purpose.bytes().fold(seed, |state, byte| {
            state.wrapping_mul(31).wrapping_add(byte.into())
        }))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len() as u64) as usize]
    }

    fn digits(&mut self, most: u64) -> String {
        (0..self.below(most + 1))
            .map(|_| char::from(b'0' + self.below(10) as u8))
            .collect()
    }
}

/// So many texts for a type; about one in ten is damaged.
pub fn texts(random: &mut Random, key_type: KeyType, count: usize) -> Vec<String> {
    let text = |random: &mut Random| {
        let text = text(random, key_type);
        match key_type {
            KeyType::Text | KeyType::Varchar => text,
            _ if random.one_in(10) => damage(random, text),
            _ if random.one_in(10) => pad(random, text),
            _ => text,
        }
    };
    (0..count).map(|_| text(random)).collect()
}

fn text(random: &mut Random, key_type: KeyType) -> String {
    match key_type {
        KeyType::Bool => boolean(random),
        KeyType::Int2 => integer(random, 16),
        KeyType::Int4 => integer(random, 32),
        KeyType::Int8 => integer(random, 64),
        KeyType::Numeric => numeric(random),
        KeyType::Text | KeyType::Varchar => words(random),
        KeyType::Uuid => uuid(random),
        KeyType::Date => date(random),
        KeyType::Timestamp | KeyType::TimestampTz => timestamp(random),
        KeyType::Bytea => bytea(random),
    }
}

/// Removes, adds or changes a character.
fn damage(random: &mut Random, text: String) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    let at = random.below(chars.len() as u64 + 1) as usize;
    let odd = [
        " ", "-", "+", ".", "_", "0", "9", "x", "e", "E", ":", "\\", "\t", "\n", "\u{b}", "\u{a0}",
        "é", "٣", "'", "{", "T", "Z", "B", "\u{feff}", "\u{2003}", ",", "/",
    ];
    let odd = random.pick(&odd).chars();
    match random.below(3) {
        0 if at < chars.len() => drop(chars.remove(at)),
        1 if at < chars.len() => drop(chars.splice(at..=at, odd)),
        _ => drop(chars.splice(at..at, odd)),
    }
    chars.into_iter().collect()
}

fn pad(random: &mut Random, text: String) -> String {
    let spaces = ["", " ", "  ", "\t", "\n", "\r", "\u{b}", "\u{c}", " \t\n"];
    format!("{}{text}{}", random.pick(&spaces), random.pick(&spaces))
}

fn boolean(random: &mut Random) -> String {
    let word = random.pick(&[
        "true", "false", "yes", "no", "on", "off", "1", "0", "", "10", "null", "2",
    ]);
    let word = &word[..word.len().min(1 + random.below(5) as usize)];
    if random.one_in(3) {
        word.to_uppercase()
    } else {
        word.to_owned()
    }
}

fn integer(random: &mut Random, bits: u32) -> String {
    let limit = 1i128 << (bits - 1);
    let value = match random.below(8) {
        0 => limit - 2 + i128::from(random.below(4)),
        1 => -limit - 2 + i128::from(random.below(4)),
        2 => i128::from(random.below(200)) - 100,
        _ => (random.next() as i64 >> (64 - bits) >> random.below(bits.into())).into(),
    };
    let sign = if value < 0 {
        "-"
    } else {
        random.pick(&["", "", "+"])
    };
    let zeros = random.pick(&["", "", "", "0", "000000000000000000000000"]);
    match random.below(40) {
        0 => format!("{sign}0x{:x}", value.unsigned_abs()),
        1 => format!("{sign}{}_000", value.unsigned_abs()),
        2 => random
            .pick(&[
                "", "-", "+", "1e3", "5.0", "- 5", "--5", "0b1", "0o7", "0x", "NaN", "1 1",
            ])
            .to_owned(),
        _ => format!("{sign}{zeros}{}", value.unsigned_abs()),
    }
}

fn numeric(random: &mut Random) -> String {
    if random.one_in(12) {
        return random
            .pick(&[
                "NaN",
                "nan",
                "inf",
                "-inf",
                "Infinity",
                "-Infinity",
                "+inf",
                "+Infinity",
                "infinit",
                "-nan",
                "",
                ".",
                "-",
                "e5",
                "1e",
                "1e+",
                "1 e5",
                "1e 5",
                "0x1F",
                "1_000",
                "1e99999",
                "1e-99999",
                "1e131071",
                "1e131072",
                "1e-16383",
                "1e-16384",
                "0e-20000",
                "0e999999",
                "1e2147483648",
                "1e-2147483649",
                "9223372036854775807.0",
                "9223372036854775808",
                "-9223372036854775808",
                "-0",
                "-0.000",
                "1e1e1",
            ])
            .to_owned();
    }
    let sign = random.pick(&["", "", "-", "-", "+"]);
    let (whole, fraction) = match random.below(5) {
        0 => (random.digits(2), random.digits(2)),
        1 => (random.digits(60), random.digits(60)),
        2 => (random.digits(9), "0".repeat(random.below(9) as usize)),
        3 => (
            "0".repeat(random.below(9) as usize),
            "0".repeat(random.below(12) as usize) + &random.digits(3),
        ),
        _ => (random.digits(20), random.digits(9)),
    };
    let point = if fraction.is_empty() {
        random.pick(&["", "."])
    } else {
        "."
    };
    let exponent = match random.below(10) {
        0 => format!("e{}", random.below(12) as i64 - 6),
        1 => format!("E+{:03}", random.below(40)),
        2 => format!("e{}", random.below(6000) as i64 - 3000),
        _ => String::new(),
    };
    format!("{sign}{whole}{point}{fraction}{exponent}")
}

fn words(random: &mut Random) -> String {
    let parts = [
        "",
        "a",
        "A",
        "b",
        " ",
        "  ",
        "é",
        "e\u{301}",
        "ß",
        "日本",
        "🦀",
        "\u{7f}",
        "\t",
        "\n",
        "\\",
        "'",
        "\"",
        "0",
        "\u{10ffff}",
        "\u{1}",
        "\u{feff}",
        "ı",
        "I",
    ];
    let count = if random.one_in(50) {
        400
    } else {
        random.below(6)
    };
    (0..count).map(|_| random.pick(&parts)).collect()
}

fn uuid(random: &mut Random) -> String {
    let value = match random.below(4) {
        0 => u128::from(random.below(50)) << 64,
        1 => u128::MAX >> random.below(128),
        _ => (u128::from(random.next()) << 64) | u128::from(random.next()),
    };
    let hex = format!("{value:032x}");
    let spelling = random.below(6);
    let mut text = String::new();
    for (index, digit) in hex.chars().enumerate() {
        let dash = match spelling {
            0 => false,
            1 => index % 4 == 0 && index > 0 && random.one_in(2),
            2 => random.one_in(60),
            _ => [8, 12, 16, 20].contains(&index),
        };
        if dash {
            text.push('-');
        }
        text.push(if random.one_in(3) {
            digit.to_ascii_uppercase()
        } else {
            digit
        });
    }
    match random.below(8) {
        0 => format!("{{{text}}}"),
        1 if random.one_in(4) => format!("{{{text}"),
        1 if random.one_in(4) => format!("{text}}}"),
        _ => text,
    }
}

/// Day and era apart, since a time stands between them.
fn day(random: &mut Random) -> (String, &'static str) {
    let (year, era) = match random.below(10) {
        0 => (1 + random.below(4716), " BC"),
        1 => (4711 + random.below(5), " BC"),
        2 => (5_874_895 + random.below(5), ""),
        3 => (294_274 + random.below(5), ""),
        4 => (random.below(12_000), ""),
        5 => (
            random.next() >> (41 + random.below(23)),
            random.pick(&["", " BC", " AD", " bc"]),
        ),
        _ => (1995 + random.below(40), ""),
    };
    let month = if random.one_in(60) {
        random.below(15)
    } else {
        1 + random.below(12)
    };
    let day = if random.one_in(20) {
        random.below(34)
    } else {
        1 + random.below(28)
    };
    let text = match random.below(40) {
        0 => format!("{year}-{month}-{day}"),
        1 => format!("{month:02}/{day:02}/{year:04}"),
        2 => format!("{year:04}{month:02}{day:02}"),
        3 => format!("{day:02}-Feb-{year:04}"),
        4 => format!("{year:03}-{month:02}-{day:02}"),
        5 => format!("{year:06}-{month:02}-{day:02}"),
        _ => format!("{year:04}-{month:02}-{day:02}"),
    };
    (text, era)
}

fn special_moment(random: &mut Random) -> String {
    let words = [
        "infinity",
        "-infinity",
        "Infinity",
        "-INFINITY",
        "+infinity",
        "epoch",
        "now",
        "today",
        "tomorrow",
        "",
        "BC",
        "January 8, 1999",
        "2024-W05-1",
        "2024-060",
        "J2451187",
        "99-01-08",
        "1999.008",
        "allballs",
        "2024-02-29 BCE",
        "1999-01-08 04:05:06 PST",
    ];
    random.pick(&words).to_owned()
}

fn date(random: &mut Random) -> String {
    if random.one_in(25) {
        return special_moment(random);
    }
    let (day, era) = day(random);
    match random.below(15) {
        0 => format!("{day} 00:00:00{era}"),
        1 => format!("{day}{era} {}", clock(random)),
        _ => format!("{day}{era}"),
    }
}

fn clock(random: &mut Random) -> String {
    let hour = if random.one_in(40) {
        random.below(27)
    } else {
        random.below(24)
    };
    let minute = if random.one_in(40) {
        random.below(70)
    } else {
        random.below(60)
    };
    let second = if random.one_in(40) {
        random.below(70)
    } else {
        random.below(60)
    };
    let fraction = match random.below(5) {
        0 => format!(".{}", random.digits(6)),
        1 => format!(".{:06}", random.below(1_000_000)),
        2 if random.one_in(4) => format!(".{}", random.digits(12)),
        _ => String::new(),
    };
    match random.below(30) {
        0 => format!("{hour:02}:{minute:02}"),
        1 => format!("{hour}:{minute}:{second}"),
        2 => format!("{hour:02}{minute:02}{second:02}"),
        3 => format!("{hour:02}:{minute:02}:{second:02} PM"),
        _ => format!("{hour:02}:{minute:02}:{second:02}{fraction}"),
    }
}

fn offset(random: &mut Random) -> String {
    let sign = random.pick(&["+", "-"]);
    let hours = if random.one_in(10) { 20 } else { 15 };
    let (hour, minute) = (random.below(hours), random.below(60));
    match random.below(24) {
        0..=4 => String::new(),
        5 => "Z".to_owned(),
        6 => format!("{sign}{hour:02}{minute:02}"),
        7 => format!("{sign}{hour:02}:{minute:02}:{:02}", random.below(60)),
        8 => random
            .pick(&[
                "z",
                " UTC",
                " Europe/Berlin",
                " PST",
                "+5",
                " +05",
                " Z",
                "GMT+3",
                "+5:30",
            ])
            .to_owned(),
        9..=11 => format!("{sign}{hour:02}:{minute:02}"),
        12..=16 => format!("{sign}{hour:02}"),
        _ => String::new(),
    }
}

fn timestamp(random: &mut Random) -> String {
    if random.one_in(25) {
        return special_moment(random);
    }
    let (day, era) = day(random);
    if random.one_in(20) {
        return format!("{day}{era}");
    }
    let between = if random.one_in(8) {
        random.pick(&["t", "  ", "\t"])
    } else {
        random.pick(&[" ", " ", "T"])
    };
    let clock = if random.one_in(6) {
        "00:00:00".to_owned()
    } else {
        clock(random)
    };
    format!("{day}{between}{clock}{}{era}", offset(random))
}

fn bytea(random: &mut Random) -> String {
    let count = if random.one_in(50) {
        100
    } else {
        random.below(6)
    };
    let bytes: Vec<u8> = (0..count)
        .map(|_| random.next() as u8 >> random.below(8))
        .collect();
    if random.one_in(2) {
        let mut text = random.pick(&["\\x", "\\x", "\\x", "\\X"]).to_owned();
        for byte in bytes {
            text.push_str(&if random.one_in(2) {
                format!("{byte:02x}")
            } else {
                format!("{byte:02X}")
            });
            if random.one_in(8) {
                text.push_str(random.pick(&[" ", "\n", "\t", "  ", "\r"]));
            }
        }
        return text;
    }
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b'!'..=b'~' if random.one_in(2) => text.push(byte.into()),
            0xe0.. if random.one_in(4) => text.push(byte.into()),
            _ => text.push_str(&format!("\\{byte:03o}")),
        }
    }
    text
}
