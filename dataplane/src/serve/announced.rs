//! The PROXY protocol: a trusted proxy announces whose connection it passes on, before anything
//! else. <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>, versions 1 and 2.

use std::{io, net::SocketAddr};

use decision::client::Remote;
use ppp::{HeaderResult, PartialResult, v1, v2};
use tokio::{io::AsyncReadExt, net::TcpStream};

/// Every header begins with so many bytes; the shortest of version 1 has 15.
const BEGINNING: usize = 12;
/// Version 2: signature, command, family, length.
const FIXED: usize = 16;
/// The longest line of version 1, with its end.
const LINE: usize = 107;
/// More than addresses and the usual extensions take. What is longer is refused.
const LONGEST: usize = 4096;

/// Reads the header that a trusted proxy must send. Not one byte behind it is taken.
///
/// # Errors
/// If there is none, it cannot be read, or the connection ends.
pub(super) async fn read(socket: &mut TcpStream, proxy: SocketAddr) -> io::Result<Remote> {
    let mut header = vec![0; BEGINNING];
    socket.read_exact(&mut header).await?;
    if header == v2::PROTOCOL_PREFIX {
        read_rest(socket, &mut header, FIXED).await?;
        let length = header.last_chunk().map_or(0, |length| u16::from_be_bytes(*length));
        let whole = FIXED + usize::from(length);
        if whole > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        read_rest(socket, &mut header, whole).await?;
    } else {
        // The line has an end, and what follows it is not ours: byte by byte.
        while !header.ends_with(b"\r\n") {
            if header.len() >= LINE || !b"PROXY ".starts_with(header.get(..6).unwrap_or_default()) {
                return Err(io::ErrorKind::InvalidData.into());
            }
            header.push(socket.read_u8().await?);
        }
    }
    remote(&header, proxy).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

async fn read_rest(socket: &mut TcpStream, header: &mut Vec<u8>, whole: usize) -> io::Result<()> {
    let begun = header.len();
    header.resize(whole, 0);
    socket.read_exact(header.get_mut(begun..).unwrap_or_default()).await.map(drop)
}

/// What a whole header says.
fn remote(header: &[u8], proxy: SocketAddr) -> Option<Remote> {
    let parsed = HeaderResult::parse(header);
    if parsed.is_incomplete() {
        return None;
    }
    match parsed {
        HeaderResult::V1(Ok(header)) => Some(match header.addresses {
            v1::Addresses::Tcp4(it) => announced((it.source_address, it.source_port).into(), proxy),
            v1::Addresses::Tcp6(it) => announced((it.source_address, it.source_port).into(), proxy),
            v1::Addresses::Unknown => Remote::Hidden { proxy },
        }),
        HeaderResult::V2(Ok(header)) => Some(match (header.command, header.addresses) {
            // The proxy speaks for itself: a look whether we live.
            (v2::Command::Local, _) => Remote::Socket(proxy),
            (v2::Command::Proxy, v2::Addresses::IPv4(it)) => {
                announced((it.source_address, it.source_port).into(), proxy)
            }
            (v2::Command::Proxy, v2::Addresses::IPv6(it)) => {
                announced((it.source_address, it.source_port).into(), proxy)
            }
            (v2::Command::Proxy, v2::Addresses::Unix(_) | v2::Addresses::Unspecified) => {
                Remote::Hidden { proxy }
            }
        }),
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => None,
    }
}

fn announced(client: SocketAddr, proxy: SocketAddr) -> Remote {
    Remote::Announced { client, proxy }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], 4000))
    }

    /// A header of version 2: command, family, addresses.
    fn second(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [v2::PROTOCOL_PREFIX, &[0x20 | command, family], &length, addresses].concat()
    }

    #[test]
    fn each_form_says_who_the_client_is_or_that_nobody_knows() {
        let client = SocketAddr::from(([203, 0, 113, 9], 56_324));
        let v4 = [203, 0, 113, 9, 192, 0, 2, 7, 0xdc, 0x04, 0x01, 0xbb];
        for (header, expected) in [
            (
                b"PROXY TCP4 203.0.113.9 192.0.2.7 56324 443\r\n".to_vec(),
                announced(client, proxy()),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), Remote::Hidden { proxy: proxy() }),
            (second(1, 0x11, &v4), announced(client, proxy())),
            (second(1, 0x00, &[]), Remote::Hidden { proxy: proxy() }),
            (second(0, 0x00, &[]), Remote::Socket(proxy())),
            (second(0, 0x11, &v4), Remote::Socket(proxy())),
        ] {
            assert_eq!(remote(&header, proxy()), Some(expected), "{header:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_no_header() {
        for header in [
            b"PROXY TCP4 203.0.113.9 192.0.2.7 56324\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.999 192.0.2.7 1 2\r\n".to_vec(),
            b"GET / HTTP/1.1\r\n".to_vec(),
            second(1, 0x11, &[1, 2, 3]),
            second(7, 0x11, &[0; 12]),
        ] {
            assert_eq!(remote(&header, proxy()), None, "{header:?}");
        }
    }
}
