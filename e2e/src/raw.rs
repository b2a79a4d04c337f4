//! Bytes out, bytes in: for requests that no HTTP library would send.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::client::connect;

/// Longest silence before an answer that must come.
const LONGEST: Duration = Duration::from_secs(10);

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The bytes, all of them.
    pub bytes: Vec<u8>,
    /// Whether the other side closed the connection (or reset it).
    pub closed: bool,
}

impl Received {
    /// The bytes as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The status of each answer in them, in order. Looks for status lines only, so a body that
    /// holds one counts too.
    pub fn statuses(&self) -> Vec<u16> {
        self.text()
            .split("HTTP/1.")
            .skip(1)
            .filter_map(|answer| answer.split(' ').nth(1).and_then(|status| status.parse().ok()))
            .collect()
    }
}

/// Sends `bytes` over a connection of its own and reads until the other side closes it or says
/// nothing for `patience`.
///
/// # Errors
/// Nobody listens there.
pub async fn send(
    address: SocketAddr,
    bytes: &[u8],
    patience: Duration,
) -> anyhow::Result<Received> {
    send_for(address, bytes, 0, patience).await
}

/// The same, but silence counts only once there are as many answers; before that it may last 10 s.
///
/// # Errors
/// Nobody listens there.
pub async fn send_for(
    address: SocketAddr,
    bytes: &[u8],
    answers: usize,
    patience: Duration,
) -> anyhow::Result<Received> {
    let mut stream = connect(address, None).await?;
    // The other side may refuse after the first bytes; what it said is then still there to read.
    let written = timeout(patience, stream.write_all(bytes)).await;
    let mut received = Received { bytes: Vec::new(), closed: matches!(written, Ok(Err(_))) };
    let lasting = |received: &Received| {
        if received.statuses().len() < answers { LONGEST } else { patience }
    };
    while let Ok(read) = timeout(lasting(&received), stream.read_buf(&mut received.bytes)).await {
        if read.unwrap_or(0) == 0 {
            received.closed = true;
            break;
        }
    }
    Ok(received)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_answers_on_one_connection_are_two_statuses() {
        let bytes =
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 400 Bad\r\n\r\n".to_vec();
        assert_eq!(Received { bytes, closed: true }.statuses(), [200, 400]);
    }
}
