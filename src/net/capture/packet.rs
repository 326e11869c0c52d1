//! From a captured frame to a UDP payload: link layers, VLAN tags, IPv4, IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

// The LINKTYPE_ registry of tcpdump.
const NULL: u32 = 0;
const ETHERNET: u32 = 1;
const RAW_IP: [u32; 3] = [12, 14, 101];
const LOOP: u32 = 108;
const LINUX_SLL: u32 = 113;
const IPV4: u32 = 228;
const IPV6: u32 = 229;
const LINUX_SLL2: u32 = 276;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const VLAN_TAGS: [u16; 4] = [0x8100, 0x88a8, 0x9100, 0x9200];
/// Extension headers or VLAN tags in a row beyond this are an attack, not traffic.
const MAX_NESTED: usize = 8;

const PROTOCOL_UDP: u8 = 17;

/// What a frame holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    Udp {
        src: SocketAddr,
        dst: SocketAddr,
        payload: &'a [u8],
    },
    /// A part of an IP packet.
    Fragment,
    /// UDP of which the capture holds less than was sent.
    CutShort,
    UnknownLink,
    Other,
}

/// Whether frames of this link type can be decoded.
pub(super) fn is_known(link: u32) -> bool {
    RAW_IP.contains(&link) || matches!(link, NULL | ETHERNET | LOOP | LINUX_SLL | IPV4 | IPV6 | LINUX_SLL2)
}

/// Take `frame` apart.
pub(super) fn decode(link: u32, frame: &[u8]) -> Packet<'_> {
    if !is_known(link) {
        return Packet::UnknownLink;
    }
    network(link, frame).and_then(ip).unwrap_or(Packet::Other)
}

/// The IP packet in `frame`.
fn network(link: u32, frame: &[u8]) -> Option<&[u8]> {
    match link {
        ETHERNET => ethertype(be16(frame, 12)?, frame.get(14..)?),
        LINUX_SLL => ethertype(be16(frame, 14)?, frame.get(16..)?),
        LINUX_SLL2 => ethertype(be16(frame, 0)?, frame.get(20..)?),
        // An address family, in whichever byte order the capturing machine had: what follows is IP or it is not.
        NULL | LOOP => frame.get(4..),
        _ => Some(frame),
    }
}

fn ethertype(mut kind: u16, mut rest: &[u8]) -> Option<&[u8]> {
    for _ in 0..MAX_NESTED {
        match kind {
            ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => return Some(rest),
            tag if VLAN_TAGS.contains(&tag) => {
                kind = be16(rest, 2)?;
                rest = rest.get(4..)?;
            }
            _ => return None,
        }
    }
    None
}

fn ip(packet: &[u8]) -> Option<Packet<'_>> {
    match packet.first()? >> 4 {
        4 => ipv4(packet),
        6 => ipv6(packet),
        _ => None,
    }
}

fn ipv4(packet: &[u8]) -> Option<Packet<'_>> {
    let header = packet.get(..20)?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    if header[9] != PROTOCOL_UDP || header_len < 20 {
        return None;
    }
    // More fragments to come, or not the first.
    if be16(header, 6)? & 0x3fff != 0 {
        return Some(Packet::Fragment);
    }
    let src = Ipv4Addr::from(*header[12..].first_chunk::<4>()?);
    let dst = Ipv4Addr::from(*header[16..].first_chunk::<4>()?);
    // 0 where the network card splits large packets after the capture.
    let total = match usize::from(be16(header, 2)?) {
        0 => packet.len(),
        total => total.min(packet.len()),
    };
    udp(src.into(), dst.into(), packet.get(header_len..total).unwrap_or_default())
}

fn ipv6(packet: &[u8]) -> Option<Packet<'_>> {
    let header = packet.get(..40)?;
    let src = Ipv6Addr::from(*header[8..].first_chunk::<16>()?);
    let dst = Ipv6Addr::from(*header[24..].first_chunk::<16>()?);
    let len = usize::from(be16(header, 4)?);
    let mut rest = packet.get(40..)?;
    rest = rest.get(..len).unwrap_or(rest);
    let mut next = header[6];
    for _ in 0..MAX_NESTED {
        let len = match next {
            PROTOCOL_UDP => return udp(src.into(), dst.into(), rest),
            // Hop by hop, routing, destination options.
            0 | 43 | 60 => (usize::from(*rest.get(1)?) + 1) * 8,
            // Authentication header.
            51 => (usize::from(*rest.get(1)?) + 2) * 4,
            44 => {
                // Offset and "more": both zero in an atomic fragment, which is whole.
                if be16(rest, 2)? & 0xfff9 != 0 {
                    return Some(Packet::Fragment);
                }
                8
            }
            _ => return None,
        };
        next = *rest.first()?;
        rest = rest.get(len..)?;
    }
    None
}

fn udp(src: IpAddr, dst: IpAddr, segment: &[u8]) -> Option<Packet<'_>> {
    let Some(header) = segment.get(..8) else { return Some(Packet::CutShort) };
    let (src, dst) = (SocketAddr::new(src, be16(header, 0)?), SocketAddr::new(dst, be16(header, 2)?));
    let len = usize::from(be16(header, 4)?);
    if len < 8 {
        return None;
    }
    Some(match segment.get(8..len) {
        Some(payload) => Packet::Udp { src, dst, payload },
        None => Packet::CutShort,
    })
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}
