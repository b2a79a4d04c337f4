//! Where the frames of a WebSocket begin and end (RFC 6455 section 5.2): as far as it takes to say
//! something in between.

/// The code of an endpoint that goes away (RFC 6455 section 7.4.1).
pub(super) const GOING_AWAY: u16 = 1001;
/// The code of a breach of policy.
pub(super) const POLICY: u16 = 1008;

/// Longest payload of a control frame (RFC 6455 section 5.5), without the code.
const REASON_LIMIT: usize = 123;

/// The frames of one direction, followed byte by byte and not kept.
#[derive(Debug, Default)]
pub(super) struct Frames {
    header: [u8; 14],
    /// How many bytes of the header have come.
    have: usize,
    /// How many bytes of the payload are still to come.
    payload: u64,
    closed: bool,
}

impl Frames {
    /// Follows what is passed on.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.payload > 0 {
                let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX).min(self.payload);
                self.payload -= length;
                bytes = bytes.get(usize::try_from(length).unwrap_or(bytes.len())..).unwrap_or(&[]);
                continue;
            }
            if let Some(place) = self.header.get_mut(self.have) {
                *place = *first;
            }
            self.have += 1;
            bytes = rest;
            if self.have >= 2 && self.have == self.header_length() {
                self.closed |= self.header[0] & 0x0f == 8;
                self.payload = self.payload_length();
                self.have = 0;
            }
        }
    }

    /// Whether a frame of ours may come next.
    pub(super) fn is_between(&self) -> bool {
        self.have == 0 && self.payload == 0 && !self.closed
    }

    fn header_length(&self) -> usize {
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        let length = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + mask
    }

    fn payload_length(&self) -> u64 {
        let [_, short, length @ ..] = &self.header;
        let extended = |count: usize| {
            length.iter().take(count).fold(0, |sum: u64, byte| (sum << 8) | u64::from(*byte))
        };
        match short & 0x7f {
            126 => extended(2),
            127 => extended(8),
            short => u64::from(short),
        }
    }
}

/// A Close frame of a server.
pub(super) fn close(code: u16, reason: &str) -> Vec<u8> {
    let reason = reason.as_bytes().get(..REASON_LIMIT).unwrap_or(reason.as_bytes());
    let length = u8::try_from(2 + reason.len()).unwrap_or(2);
    let mut frame = vec![0x88, length];
    frame.extend_from_slice(&code.to_be_bytes());
    frame.extend_from_slice(reason);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of a server, or of a client if it is masked.
    fn frame(opcode: u8, length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x80 | opcode];
        if let Some(short) = u8::try_from(length).ok().filter(|length| *length < 126) {
            frame.push(mask | short);
        } else if let Ok(length) = u16::try_from(length) {
            frame.push(mask | 0x7e);
            frame.extend_from_slice(&length.to_be_bytes());
        } else {
            frame.push(mask | 0x7f);
            frame.extend_from_slice(&u64::try_from(length).unwrap().to_be_bytes());
        }
        if masked {
            frame.extend_from_slice(&[1, 2, 3, 4]);
        }
        frame.resize(frame.len() + length, 0x88);
        frame
    }

    #[test]
    fn the_end_of_each_frame_is_found_however_its_bytes_come() {
        let lengths = [0, 1, 125, 126, 127, 65_535, 65_536, 100_000];
        for (length, masked) in lengths.into_iter().flat_map(|one| [(one, false), (one, true)]) {
            let bytes = frame(2, length, masked).repeat(2);
            for size in [1, 2, 3, 7, 4_096, usize::MAX] {
                let mut frames = Frames::default();
                let mut between = 0;
                let mut followed = 0;
                for part in bytes.chunks(size.min(bytes.len())) {
                    frames.follow(part);
                    followed += part.len();
                    let whole = followed % (bytes.len() / 2) == 0;
                    assert_eq!(frames.is_between(), whole, "{length} {masked} {size} {followed}");
                    between += usize::from(whole);
                }
                assert!(between >= 1);
            }
        }
    }

    #[test]
    fn after_a_close_frame_nothing_may_come() {
        let mut frames = Frames::default();
        frames.follow(&close(GOING_AWAY, "bye"));
        assert!(!frames.is_between());
    }

    #[test]
    fn a_close_frame_is_no_longer_than_control_frames_may_be() {
        let frame = close(POLICY, &"x".repeat(200));
        assert_eq!((frame.len(), frame[1], &frame[2..4]), (127, 125, &[3, 240][..]));
    }
}
