//! The frames that an HTTP/2 client sends, counted as they pass by (RFC 9113 section 4.1).
//!
//! Requests and bodies pay for themselves: the one is limited, the other is throttled. All other
//! frames cost us as much as they cost the client to write: PING and SETTINGS want answers,
//! `RST_STREAM` throws work away, `WINDOW_UPDATE` of a byte makes frames of a byte, and DATA that is
//! empty or padding alone moves no window: h2 gives back padding at once. h2 limits some kinds of
//! resets and DATA that is empty; the rest is ours.

use std::error::Error;

/// Length, type, flags, stream.
const HEADER: usize = 9;

/// What comes before the first frame (RFC 9113 section 3.4).
const PREFACE: usize = 24;

const DATA: u8 = 0;
const END_STREAM: u8 = 1;
const PADDED: u8 = 8;

/// What h2 says of an error of hyper.
pub(crate) fn cause(error: &hyper::Error) -> Option<&h2::Error> {
    error.source()?.downcast_ref()
}

/// Whether h2 itself ended a connection because more came than it keeps: small frames that nobody
/// takes, or answers to what was given up.
pub(crate) fn is_exhausted(error: &h2::Error) -> bool {
    error.is_library() && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM)
}

/// How far the bytes of a connection were looked at.
#[derive(Debug)]
pub(crate) struct Frames {
    /// How much of the current payload, or of the preface, is still to come.
    skip: usize,
    /// The beginning of a frame's header of which the rest is still to come; behind it the length of
    /// the padding, if DATA has some.
    begun: [u8; HEADER + 1],
    held: usize,
}

impl Frames {
    pub(crate) const fn new() -> Self {
        Self { skip: PREFACE, begun: [0; HEADER + 1], held: 0 }
    }

    /// Looks at the bytes that came next: how many frames began in them that carry no part of a
    /// body, and end none.
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) -> u32 {
        let mut count = 0_u32;
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            if bytes.is_empty() {
                return count;
            }
            let end = if self.held < HEADER { HEADER } else { HEADER + 1 };
            let room = self.begun.get_mut(self.held..end).unwrap_or_default();
            let taken = room.len().min(bytes.len());
            let (head, rest) = bytes.split_at_checked(taken).unwrap_or((bytes, &[]));
            if let Some(room) = room.get_mut(..head.len()) {
                room.copy_from_slice(head);
            }
            (bytes, self.held) = (rest, self.held + head.len());
            if self.held > HEADER || (self.held == HEADER && !self.is_padded()) {
                count = count.saturating_add(self.begin());
            }
        }
    }

    fn length(&self) -> usize {
        let [high, middle, low, ..] = self.begun;
        usize::try_from(u32::from_be_bytes([0, high, middle, low])).unwrap_or(usize::MAX)
    }

    /// Whether its payload begins with the length of its padding (RFC 9113 section 6.1).
    fn is_padded(&self) -> bool {
        let [_, _, _, kind, flags, ..] = self.begun;
        kind == DATA && flags & PADDED != 0 && self.length() > 0
    }

    /// Begins with the frame of which enough is there, and says whether it counts.
    fn begin(&mut self) -> u32 {
        let [_, _, _, kind, flags, .., padding] = self.begun;
        let (mut data, mut rest) = (self.length(), self.length());
        if self.is_padded() {
            rest -= 1;
            data = rest.saturating_sub(usize::from(padding));
        }
        (self.held, self.skip) = (0, rest);
        u32::from(kind != DATA || (data == 0 && flags & END_STREAM == 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// How many frames of the conversation count.
    const COUNTED: u32 = 8;

    fn conversation() -> Vec<u8> {
        let parts = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(4, 0, b""),
            frame(1, 4, b"headers"),
            frame(DATA, 0, b"a body, \0\0\0\x06\0"),
            frame(DATA, END_STREAM, b""),
            frame(DATA, 0, b""),
            frame(DATA, PADDED, &[0]),
            frame(DATA, PADDED, &[3, 0, 0, 0]),
            frame(DATA, PADDED, &[3, b'x', 0, 0, 0]),
            frame(DATA, PADDED | END_STREAM, &[1, 0]),
            frame(6, 0, &[0; 8]),
            frame(3, 0, &[0; 4]),
            frame(0xee, 0, b"?"),
        ];
        parts.concat()
    }

    #[test]
    fn all_but_bodies_counts() {
        assert_eq!(Frames::new().pass(&conversation()), COUNTED);
    }

    #[test]
    fn it_does_not_matter_how_the_bytes_are_cut() {
        let bytes = conversation();
        for size in 1..bytes.len() {
            let mut frames = Frames::new();
            let sum: u32 = bytes.chunks(size).map(|chunk| frames.pass(chunk)).sum();
            assert_eq!(sum, COUNTED, "in pieces of {size}");
        }
    }
}
