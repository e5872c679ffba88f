//! How a client's process number names its core and its place there, and the secret beside it.

/// How a client's process number names its core and its place there.
///
/// 17 bits of slot, 10 of core, 4 of process; positive, because some drivers read
/// the number as signed. That of the process is not 0, so that no process of a
/// server has a client's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientNumber {
    /// The router process, while one takes over from another; not 0.
    pub process: u8,
    /// The core.
    pub core: usize,
    /// The place in the core's table.
    pub slot: usize,
}

impl ClientNumber {
    /// Most sessions of one core.
    pub const MAX_SLOT: usize = 1 << 17;

    /// The number as BackendKeyData carries it.
    pub fn encode(self) -> i32 {
        let process = i32::from(self.process & 0xf) << 27;
        process | (self.core as i32 & 0x3ff) << 17 | (self.slot as i32 & 0x1ffff)
    }

    /// Reads it back.
    pub fn decode(number: i32) -> Self {
        Self {
            process: (number >> 27) as u8 & 0xf,
            core: (number >> 17) as usize & 0x3ff,
            slot: number as usize & 0x1ffff,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_number_finds_its_owner() {
        for (process, core, slot) in [(1, 0, 0), (15, 1023, 131_071), (3, 7, 12_345)] {
            let number = ClientNumber {
                process,
                core,
                slot,
            };
            assert!(number.encode() > mothership_sql::process::GREATEST);
            assert_eq!(ClientNumber::decode(number.encode()), number);
        }
    }
}
