//! A shard's UDP socket: bound, with a large receive buffer, and kernel stamps.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use socket2::{Domain, Protocol, Socket, Type};

use super::sys;

/// Why the RTP plane could not start.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// Another process has the port.
    #[error(
        "rtp.bind: UDP port {} of {} is in use; set rtp.bind to a free port (shard n takes port + 2n), or stop the process \
         that has it (`ss -ulpn 'sport = :{}'` shows it)", address.port(), address.ip(), address.port()
    )]
    PortInUse {
        /// Address that could not be bound.
        address: SocketAddr,
    },
    /// The address is none of this machine's.
    #[error(
        "rtp.bind: {} is not an address of this machine; set rtp.bind to one that `ip addr` lists, or to 0.0.0.0 or [::] \
         for all, and rtp.advertise to the one that Asterisk shall send to", address.ip()
    )]
    AddressNotLocal {
        /// Address that could not be bound.
        address: SocketAddr,
    },
    /// The port needs privileges.
    #[error("rtp.bind: not allowed to bind {address}; choose a port of 1024 or above")]
    NotAllowed {
        /// Address that could not be bound.
        address: SocketAddr,
    },
    /// Shard n takes port + 2n, and that must exist.
    #[error("rtp.shards: {shards} shards from port {} up do not fit below 65536; set rtp.shards to 1..=16 or rtp.bind \
             to a lower port", bind.port())]
    Ports {
        /// `rtp.bind`.
        bind: SocketAddr,
        /// `rtp.shards`.
        shards: usize,
    },
    /// Some other failure of the system.
    #[error("rtp.bind: cannot {doing} for {address}: {source}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// Address of the socket in question.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// A bound socket and what is known of it.
#[derive(Debug)]
pub(super) struct Bound {
    pub socket: UdpSocket,
    /// As bound: with the port that the system chose, if 0 was asked for.
    pub address: SocketAddr,
    /// Bytes of receive buffer, as counted by whoever asks for one (the kernel books twice as much).
    pub receive_buffer: usize,
}

/// Bind `address` and ask for `receive_buffer` bytes of buffer. Getting less is not an error: see [`Bound`].
pub(super) fn bind(address: SocketAddr, receive_buffer: usize) -> Result<Bound, NetError> {
    let failed = |doing| move |source| NetError::System { doing, address, source };
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))
        .map_err(failed("open a UDP socket"))?;
    socket.set_nonblocking(true).map_err(failed("make the socket non-blocking"))?;
    let granted = grow(&socket, receive_buffer).map_err(failed("size the receive buffer"))?;
    sys::ask_for_stamps(socket.as_fd()).map_err(failed("ask for arrival stamps"))?;
    socket.bind(&address.into()).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => NetError::PortInUse { address },
        io::ErrorKind::AddrNotAvailable => NetError::AddressNotLocal { address },
        io::ErrorKind::PermissionDenied => NetError::NotAllowed { address },
        _ => NetError::System { doing: "bind", address, source },
    })?;
    let socket = UdpSocket::from(socket);
    let address = socket.local_addr().map_err(failed("learn the port"))?;
    Ok(Bound { socket, address, receive_buffer: granted })
}

fn grow(socket: &Socket, wanted: usize) -> io::Result<usize> {
    if socket.recv_buffer_size()? / 2 < wanted {
        socket.set_recv_buffer_size(wanted)?;
    }
    if socket.recv_buffer_size()? / 2 < wanted {
        // Only with CAP_NET_ADMIN; without it, what rmem_max allows is what there is.
        let _ = sys::force_receive_buffer(socket.as_fd(), wanted);
    }
    Ok(socket.recv_buffer_size()? / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_grows_as_far_as_the_system_lets_it() {
        let bound = bind("127.0.0.1:0".parse().unwrap(), 64 << 10).unwrap();
        assert!(bound.receive_buffer >= 64 << 10);
        assert_ne!(bound.address.port(), 0);
    }

    #[test]
    fn a_port_in_use_names_the_setting_and_the_way_out() {
        let first = bind("127.0.0.1:0".parse().unwrap(), 4096).unwrap();
        let error = bind(first.address, 4096).unwrap_err();
        assert!(matches!(error, NetError::PortInUse { .. }));
        let text = error.to_string();
        assert!(text.contains("rtp.bind") && text.contains(&first.address.port().to_string()), "{text}");
        assert!(text.contains("ss -ulpn"), "{text}");
    }

    #[test]
    fn a_foreign_address_names_the_setting_and_the_way_out() {
        let text = bind("192.0.2.1:0".parse().unwrap(), 4096).unwrap_err().to_string();
        assert!(text.contains("rtp.bind: 192.0.2.1") && text.contains("rtp.advertise"), "{text}");
    }
}
