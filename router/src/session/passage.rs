//! The way of a server's messages to the client.
//!
//! What passes as it came goes in one piece, however many messages it is; what is written in between goes after it.

use mothership_pool::connection::Fate;
use mothership_pool::wire::Wire;
use mothership_proto::frame::Frame;

/// The client's output, while one message of a server is looked at.
pub struct Passage<'a> {
    client: &'a mut Wire,
    /// Passes before whatever is written now.
    before: &'a [u8],
    /// The message is as the server sent it, and nothing was written ahead of it: it may pass in one piece with `before`.
    is_original: bool,
    fate: Fate,
}

impl<'a> Passage<'a> {
    /// For a message that follows `before`; `is_original` if its bytes are the server's own.
    pub fn new(client: &'a mut Wire, before: &'a [u8], is_original: bool) -> Self {
        Self {
            client,
            before,
            is_original,
            fate: Fate::Used,
        }
    }

    /// The client gets the message.
    pub fn pass(&mut self, frame: Frame<'_>) {
        debug_assert!(self.fate == Fate::Used, "a message passes once");
        if self.is_original && self.fate == Fate::Used {
            self.fate = Fate::Passes;
        } else {
            self.client().send(frame.bytes);
        }
    }

    /// The client's output, for what is written in the message's place.
    pub fn client(&mut self) -> &mut Wire {
        debug_assert!(
            self.fate == Fate::Used,
            "nothing is written after a message that passes"
        );
        let before = std::mem::take(&mut self.before);
        self.client.send(before);
        self.is_original = false;
        self.client
    }

    /// What became of the message. What was to pass before it has passed, unless it does, too.
    pub fn end(mut self) -> Fate {
        if self.fate == Fate::Used {
            self.client();
        }
        self.fate
    }
}
