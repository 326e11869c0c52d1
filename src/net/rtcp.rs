//! RTCP beside a shard's RTP: who is answered, from which socket, and when.
//!
//! A shard that has port n also binds n + 1 for RTCP, and takes RTCP on n as well (RFC 5761). A datagram belongs to the leg whose
//! sender has the same address and the port below, or the same port. A leg answers once its peer has sent a sender report, to
//! where that came from, from the port it came to. Asterisk's ExternalMedia sends none: such a leg costs nothing and sends nothing.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use super::socket::{self, Bound};
use crate::media::counter::Ssrc;
use crate::media::rtcp::{Compound, MAX_REPORT, Packet, Reception, RtcpConfig, RtcpSession};
use crate::media::time::MediaInstant;
use crate::telemetry::metric;

/// Bytes of receive buffer: a report of each of 500 legs, 1 s of 2500 peers'.
const RECEIVE_BUFFER: usize = 512 << 10;
/// 5 % (RFC 3550, section 6.2) of G.711 in 20 ms packets with its headers, 200 bytes 50 times a second. Of a pair of participants
/// any bandwidth above 50 bytes a second gives the least interval.
const BANDWIDTH: f64 = 0.05 * 200.0 * 50.0;

/// The socket to which a datagram came, and from which its sender is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// That of the media (RFC 5761).
    Rtp,
    /// The one above it.
    Rtcp,
}

/// A shard's sockets, for sending.
#[derive(Debug)]
pub(super) struct Sockets {
    rtp: UdpSocket,
    rtcp: Option<UdpSocket>,
    is_ipv6: bool,
}

impl Sockets {
    /// Those of a shard on `rtp`, and its RTCP port if it has one.
    pub(super) fn of(rtp: &Bound, rtcp: Option<&Bound>) -> std::io::Result<Arc<Self>> {
        let rtcp = rtcp.map(|bound| bound.socket.try_clone()).transpose()?;
        Ok(Arc::new(Self { rtp: rtp.socket.try_clone()?, rtcp, is_ipv6: rtp.address.is_ipv6() }))
    }

    /// Send a packet of media; false if the system did not take it.
    pub(super) fn send_rtp(&self, bytes: &[u8], to: SocketAddr) -> bool {
        self.rtp.send_to(bytes, reachable(to, self.is_ipv6)).is_ok()
    }

    fn send(&self, via: Via, bytes: &[u8], to: SocketAddr) {
        let socket = match (via, &self.rtcp) {
            (Via::Rtcp, Some(rtcp)) => rtcp,
            _ => &self.rtp,
        };
        // A report that cannot be sent is like one that gets lost: the next one follows in seconds.
        if socket.send_to(bytes, reachable(to, self.is_ipv6)).is_ok() {
            metric::RTCP_SENT.add(1);
        }
    }
}

/// `to` as a socket has to name it: one of IPv6 reaches IPv4 addresses by their mapping.
fn reachable(to: SocketAddr, by_ipv6: bool) -> SocketAddr {
    match to.ip() {
        IpAddr::V4(ip) if by_ipv6 => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
        _ => to,
    }
}

/// The RTCP socket of the shard on `rtp`, one port up; `None`, with a warning, where that is taken.
pub(super) fn bind_above(rtp: SocketAddr) -> Option<Bound> {
    let mut address = rtp;
    address.set_port(rtp.port().checked_add(1)?);
    socket::bind(address, RECEIVE_BUFFER)
        .inspect_err(|error| {
            let cause: &dyn std::error::Error = error;
            tracing::warn!(
                %address,
                cause,
                "no RTCP port beside the RTP port: reports of peers are taken on the RTP port alone; free the port, or \
                 choose another rtp.bind"
            );
        })
        .ok()
}

/// RTCP of one leg, from its peer's first sender report on.
#[derive(Debug)]
pub(super) struct LegRtcp {
    session: RtcpSession,
    sockets: Arc<Sockets>,
    via: Via,
    to: SocketAddr,
}

impl LegRtcp {
    /// The session that `datagram`, which came from `from`, begins: it is valid, and has a sender report.
    pub(super) fn begun_by(
        datagram: &[u8],
        arrival: MediaInstant,
        from: SocketAddr,
        via: Via,
        sockets: &Arc<Sockets>,
    ) -> Option<Box<Self>> {
        let is_report = |packet| matches!(packet, Packet::SenderReport { .. });
        Compound::parse(datagram).ok()?.packets().any(is_report).then(|| {
            let config = RtcpConfig {
                source: Ssrc(random() as u32),
                // RFC 7022: unlike any other's, and no address that says where we are.
                cname: format!("{:016x}", random()),
                peer_configured: false,
                bandwidth: BANDWIDTH,
                seed: random(),
            };
            let session = RtcpSession::new(config, arrival);
            Box::new(Self { session, sockets: sockets.clone(), via, to: from })
        })
    }

    /// A datagram of the peer; `false` if it is not valid.
    pub(super) fn on_packet(
        &mut self,
        arrival: MediaInstant,
        datagram: &[u8],
        from: SocketAddr,
        via: Via,
    ) -> bool {
        let heard = self.session.on_packet(arrival, datagram);
        if heard.is_ok_and(|heard| heard.sender_report) {
            (self.via, self.to) = (via, from);
        }
        heard.is_ok()
    }

    pub(super) fn next_deadline(&self) -> Option<MediaInstant> {
        self.session.next_deadline()
    }

    /// Send the report that is due at `now`, if any is.
    pub(super) fn report(&mut self, now: MediaInstant, reception: Option<&Reception>) {
        let mut buffer = [0; MAX_REPORT];
        if let Some(report) = self.session.report(now, reception, None, &mut buffer) {
            self.sockets.send(self.via, report, self.to);
        }
    }

    /// Take leave of the peer.
    pub(super) fn goodbye(&mut self, now: MediaInstant, reception: Option<&Reception>) {
        let mut buffer = [0; MAX_REPORT];
        if let Some(last) = self.session.goodbye(now, reception, None, &mut buffer) {
            self.sockets.send(self.via, last, self.to);
        }
    }

    /// There and back, milliseconds, where anything says so.
    pub(super) fn round_trip_ms(&self) -> Option<f64> {
        self.session.round_trip().map(|time| time.as_secs_f64() * 1_000.0)
    }
}

/// Some number, from the system's randomness.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
