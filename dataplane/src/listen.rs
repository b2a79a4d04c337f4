//! Listening sockets: one per address and thread, and an error that names the address.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use socket2::{Domain, Protocol, Socket, Type};

/// How many connections may wait to be accepted by one thread.
const BACKLOG: i32 = 4096;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process listens there.
    #[error(
        "cannot listen on `{address}`: the port is in use by another process; stop it or choose another address"
    )]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// A port below 1,024 without the right to it.
    #[error(
        "cannot listen on `{address}`: ports below 1024 need the capability NET_BIND_SERVICE; grant it or choose a higher port"
    )]
    Forbidden {
        /// The address.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen on `{address}`: {source}")]
    Other {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// The sockets of one address, one for each thread; the kernel spreads connections over them.
#[derive(Debug)]
pub(crate) struct Listeners {
    /// The address really bound: with a port, whatever was asked for.
    pub(crate) address: SocketAddr,
    pub(crate) sockets: Vec<std::net::TcpListener>,
}

/// Binds an address for a number of threads.
///
/// It is bound once without sharing first: two processes that share a port would split its
/// connections in silence.
pub(crate) fn bind(asked: SocketAddr, threads: usize) -> Result<Listeners, BindError> {
    let alone = match socket(asked, false) {
        Err(error) if is_without_ipv6(asked, &error) => {
            return bind((Ipv4Addr::UNSPECIFIED, asked.port()).into(), threads);
        }
        alone => alone.map_err(|source| explain(asked, source))?,
    };
    let address = local_address(&alone).map_err(|source| explain(asked, source))?;
    drop(alone);
    let sockets = (0..threads)
        .map(|_| {
            let socket = socket(address, true)?;
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        })
        .collect::<io::Result<_>>()
        .map_err(|source| explain(address, source))?;
    Ok(Listeners { address, sockets })
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// `[::]` means every address; on a machine without IPv6 these are the IPv4 ones.
fn is_without_ipv6(asked: SocketAddr, error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    asked.is_ipv6()
        && asked.ip().is_unspecified()
        && (error.raw_os_error() == Some(EAFNOSUPPORT)
            || error.kind() == io::ErrorKind::AddrNotAvailable)
}

fn explain(address: SocketAddr, source: io::Error) -> BindError {
    if source.kind() == io::ErrorKind::AddrInUse {
        return BindError::InUse { address };
    }
    if source.kind() == io::ErrorKind::PermissionDenied {
        return BindError::Forbidden { address };
    }
    BindError::Other { address, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_said_and_never_shared() {
        let first = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let error = bind(first.address, 2).unwrap_err();
        assert!(error.to_string().contains(&first.address.to_string()), "{error}");
        assert!(matches!(error, BindError::InUse { .. }), "{error}");
    }

    #[test]
    fn every_thread_has_a_socket_on_the_one_port() {
        let listeners = bind("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let ports: Vec<_> =
            listeners.sockets.iter().map(|socket| socket.local_addr().unwrap().port()).collect();
        assert_eq!(ports, [listeners.address.port(); 3]);
    }
}
