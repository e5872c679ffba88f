//! What two processes say to each other while one takes over from the other: a line of JSON for each word.
//!
//! Pure. They may be of different versions: a field that one does not know is passed over, a word that it does not
//! know is [`Word::Unknown`]. What changes the meaning of a word needs a new [`VERSION`].

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of this conversation; both must have the same.
pub const VERSION: u32 = 1;
/// The longest line, in bytes.
pub const LONGEST: usize = 16 * 1024 * 1024;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "snake_case")]
pub enum Word {
    /// New to old: it wants the ports.
    TakeOver {
        /// [`VERSION`].
        version: u32,
        /// Its process id.
        pid: u32,
    },
    /// Old to new: it does not get them.
    Refused {
        /// Why.
        why: String,
    },
    /// Old to new: some of the ports; as many descriptors come along.
    Sockets {
        /// What each is for.
        uses: Vec<Use>,
    },
    /// Old to new: these were all, and this is what else there is to know.
    Facts(Facts),
    /// New to old: all is prepared.
    Ready {
        /// Which ports it has use for, by their place among all. The old one closes the others.
        kept: Vec<usize>,
    },
    /// Old to new: from now on it takes the clients.
    Yours,
    /// Either way: a cancel request for a client of the other one.
    Cancel {
        /// The client's process number.
        number: i32,
        /// The secret beside it, in hexadecimal digits.
        secret: String,
    },
    /// Either way: definitions have changed.
    Schema,
    /// Old to new: how many clients it still has.
    Clients {
        /// How many.
        count: u32,
    },
    /// New to old: it closes its ports for good, and so shall the other.
    Closing,
    /// A command to the one that serves: it shall start its successor.
    Upgrade,
    /// The answer: who serves now, and how many clients are still served by the one before.
    Upgraded {
        /// The process id.
        pid: u32,
        /// Clients of the old one.
        clients: u32,
    },
    /// Of a newer version.
    #[serde(other)]
    Unknown,
}

/// What a port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// Clients, over TCP.
    Clients,
    /// Clients, over a unix socket.
    Unix,
    /// Metrics over HTTP.
    Metrics,
    /// The next one that takes over.
    Takeover,
}

/// What the old process tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// Its process id.
    pub pid: u32,
    /// Its number in cancel keys.
    pub process: u8,
    /// Databases that were disabled by hand.
    pub disabled: Vec<String>,
    /// Settings that say where rows are, by their paths.
    pub layout: BTreeMap<String, String>,
}

impl Word {
    /// The word with its line end.
    pub fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("words have only plain fields");
        line.push(b'\n');
        line
    }

    /// Takes the first word out of what has arrived. `None`: its end is still to come.
    ///
    /// # Errors
    /// When that is no line of ours.
    pub fn take(input: &mut Vec<u8>) -> Result<Option<Word>, NotAWord> {
        let Some(end) = input.iter().position(|byte| *byte == b'\n') else {
            return if input.len() > LONGEST {
                Err(NotAWord)
            } else {
                Ok(None)
            };
        };
        let word = serde_json::from_slice(&input[..end]).map_err(|_| NotAWord);
        input.drain(..=end);
        word.map(Some)
    }
}

/// Something that no process of ours says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other side does not speak as a mothership does")]
pub struct NotAWord;

/// A secret as hexadecimal digits.
pub fn digits(secret: &[u8]) -> String {
    secret.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads what [`digits`] wrote.
pub fn undigits(text: &str) -> Option<Vec<u8>> {
    let even = text.is_ascii() && text.len().is_multiple_of(2);
    let pairs = even.then(|| text.as_bytes().chunks_exact(2))?;
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_arrive_as_they_were_said_however_they_are_cut() {
        let words = [
            Word::TakeOver {
                version: VERSION,
                pid: 7,
            },
            Word::Sockets {
                uses: vec![Use::Clients, Use::Unix, Use::Metrics, Use::Takeover],
            },
            Word::Facts(Facts {
                pid: 3,
                process: 15,
                disabled: vec!["a \"b\"\n".to_owned()],
                layout: BTreeMap::from([("shard.a.home".to_owned(), "true".to_owned())]),
            }),
            Word::Ready { kept: vec![0, 3] },
            Word::Yours,
            Word::Cancel {
                number: -3,
                secret: digits(&[0, 255, 16]),
            },
            Word::Closing,
        ];
        let all: Vec<u8> = words.iter().flat_map(Word::line).collect();
        let mut input = Vec::new();
        let mut told = Vec::new();
        for byte in all {
            input.push(byte);
            told.extend(Word::take(&mut input).unwrap());
        }
        assert_eq!(told, words);
        assert!(input.is_empty());
    }

    #[test]
    fn what_a_newer_one_says_is_passed_over_and_anything_else_is_refused() {
        let take = |text: &str| Word::take(&mut text.as_bytes().to_vec());
        assert_eq!(
            take("{\"word\":\"sing\",\"song\":7}\n"),
            Ok(Some(Word::Unknown))
        );
        let facts = "{\"word\":\"facts\",\"pid\":1,\"songs\":[1,2]}\n";
        let told = Facts {
            pid: 1,
            ..Facts::default()
        };
        assert_eq!(take(facts), Ok(Some(Word::Facts(told))));
        assert_eq!(take("GET / HTTP/1.1\r\n"), Err(NotAWord));
        assert_eq!(take(&"x".repeat(LONGEST + 1)), Err(NotAWord));
        assert_eq!(take("{\"word\":\"yours\"}"), Ok(None));
    }

    #[test]
    fn a_secret_is_the_same_after_its_way() {
        for secret in [vec![], vec![0], vec![1, 171, 255]] {
            assert_eq!(undigits(&digits(&secret)), Some(secret));
        }
        for wrong in ["0", "0g", "é", "g0"] {
            assert_eq!(undigits(wrong), None, "{wrong}");
        }
    }
}
