//! The system calls that neither std nor socket2 has: recvmmsg(2), sendmmsg(2), ppoll(2) and three socket options.

#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use crate::clock;
use crate::media::time::MediaInstant;

/// Datagrams taken by one call at most.
pub(super) const BATCH: usize = 64;
/// Bytes kept of a datagram. Asterisk's longest frames are 70 ms: 2252 bytes of `slin16` with the RTP header.
pub(super) const SLOT: usize = 4096;
/// From one datagram's bytes to the next: were it a page, the beginnings of all would contend for the same few places of the
/// processor's first cache.
const STRIDE: usize = SLOT + 192;
/// Room for one SCM_TIMESTAMPNS.
const CONTROL: usize = 32;
/// SK_MEMINFO_DROPS of linux/sock_diag.h: where the drops are among what SO_MEMINFO tells.
const DROPS: usize = 8;
/// A kernel stamp older than this says that the wall clock was set meanwhile, not that the datagram waited.
const MAX_AGE_NS: u64 = 10_000_000_000;
/// Two reads of the monotonic clock around one of the wall clock this close together make a good offset.
const CLOSE_NS: u64 = 20_000;

#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Name([u8; size_of::<libc::sockaddr_storage>()]);

#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

#[derive(Clone, Copy)]
struct Meta {
    source: Option<SocketAddr>,
    arrival: MediaInstant,
    len: usize,
    truncated: bool,
}

/// One received datagram, borrowed from its [`Batch`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Datagram<'a> {
    /// Sender; an IPv4 address mapped into IPv6 is given as IPv4.
    pub source: SocketAddr,
    /// When the kernel took it from the network. Never earlier than that of the datagram before it.
    pub arrival: MediaInstant,
    /// At most [`SLOT`] bytes.
    pub payload: &'a [u8],
    /// It was longer than [`SLOT`].
    pub truncated: bool,
}

/// Buffers for one recvmmsg(2), allocated once.
pub(super) struct Batch {
    slab: Box<[[u8; STRIDE]]>,
    names: Box<[Name]>,
    controls: Box<[Control]>,
    iovecs: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
    metas: Box<[Meta]>,
    filled: usize,
    newest: MediaInstant,
}

impl Batch {
    pub(super) fn new() -> Self {
        let meta = Meta { source: None, arrival: MediaInstant::default(), len: 0, truncated: false };
        // SAFETY: mmsghdr is a plain C struct; null pointers and zero lengths are valid values of its fields.
        let header: libc::mmsghdr = unsafe { mem::zeroed() };
        let iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let mut batch = Self {
            slab: vec![[0; STRIDE]; BATCH].into_boxed_slice(),
            names: vec![Name([0; _]); BATCH].into_boxed_slice(),
            controls: vec![Control([0; _]); BATCH].into_boxed_slice(),
            iovecs: vec![iovec; BATCH].into_boxed_slice(),
            headers: vec![header; BATCH].into_boxed_slice(),
            metas: vec![meta; BATCH].into_boxed_slice(),
            filled: 0,
            newest: MediaInstant::default(),
        };
        batch.arm();
        batch
    }

    /// Take what the socket holds, at most [`BATCH`] datagrams, without waiting. Returns how many; none is not an error.
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.rearm();
        let headers = self.headers.as_mut_ptr();
        // SAFETY: `headers` points to BATCH headers, each armed once with pointers into the boxed slices of `self`, which
        // never move or grow, and rearmed with their true lengths after each use. `self` is borrowed mutably until after
        // the call, so that nothing frees or reads them meanwhile. The kernel writes only within those lengths. A null
        // timeout is allowed.
        let n = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers,
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        if n < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock => Ok(0),
                _ => Err(error),
            };
        }
        self.filled = n as usize;
        if self.filled > 0 {
            self.read_metas();
        }
        Ok(self.filled)
    }

    /// The datagrams of the last [`receive`](Self::receive), in order.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> + Clone {
        self.metas[..self.filled].iter().zip(&self.slab).filter_map(|(meta, slot)| {
            Some(Datagram {
                source: meta.source?,
                arrival: meta.arrival,
                payload: &slot[..meta.len],
                truncated: meta.truncated,
            })
        })
    }

    /// When the newest datagram of all so far arrived: none from before it is left in the socket.
    pub(super) fn newest(&self) -> MediaInstant {
        self.newest
    }

    /// Give back to the headers of the last batch what the kernel wrote over. The others were left alone.
    fn rearm(&mut self) {
        for header in &mut self.headers[..self.filled] {
            header.msg_hdr.msg_namelen = size_of::<Name>() as _;
            header.msg_hdr.msg_controllen = CONTROL as _;
            header.msg_hdr.msg_flags = 0;
        }
        self.filled = 0;
    }

    fn arm(&mut self) {
        let buffers = self.slab.iter_mut().zip(&mut self.names).zip(&mut self.controls);
        let vectors = self.iovecs.iter_mut().zip(&mut self.headers);
        for (((slot, name), control), (iovec, header)) in buffers.zip(vectors) {
            iovec.iov_base = slot.as_mut_ptr().cast();
            iovec.iov_len = SLOT;
            header.msg_hdr.msg_name = name.0.as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = size_of::<Name>() as _;
            header.msg_hdr.msg_iov = iovec;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL as _;
            header.msg_hdr.msg_flags = 0;
            header.msg_len = 0;
        }
    }

    fn read_metas(&mut self) {
        let clocks = Clocks::read();
        for i in 0..self.filled {
            let header = &self.headers[i];
            // Not a usize in every libc.
            let used: usize = header.msg_hdr.msg_controllen as _;
            let stamp = parse_stamp(&self.controls[i].0[..used.min(CONTROL)]);
            let arrival = stamp.map_or(clocks.monotonic, |stamp| clocks.monotonic_of(stamp));
            self.newest = self.newest.max(arrival);
            self.metas[i] = Meta {
                source: parse_name(&self.names[i].0),
                arrival: self.newest,
                len: (header.msg_len as usize).min(SLOT),
                truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            };
        }
    }
}

/// Both clocks at one instant.
struct Clocks {
    monotonic: MediaInstant,
    realtime: u64,
}

impl Clocks {
    fn read() -> Self {
        let mut best = None::<(u64, Self)>;
        // Being scheduled away between the reads would shift the stamps of a whole batch: look again then.
        for _ in 0..3 {
            let before = clock::now();
            let realtime = clock::realtime_nanos();
            let after = clock::now();
            let width = after.as_nanos() - before.as_nanos();
            if best.as_ref().is_none_or(|(least, _)| width < *least) {
                let monotonic = MediaInstant::from_nanos(before.as_nanos() + width / 2);
                best = Some((width, Self { monotonic, realtime }));
            }
            if width < CLOSE_NS {
                break;
            }
        }
        best.map_or_else(|| Self { monotonic: clock::now(), realtime: clock::realtime_nanos() }, |(_, b)| b)
    }

    fn monotonic_of(&self, realtime: u64) -> MediaInstant {
        match self.realtime.checked_sub(realtime) {
            Some(age) if age <= MAX_AGE_NS => {
                MediaInstant::from_nanos(self.monotonic.as_nanos().saturating_sub(age))
            }
            _ => self.monotonic,
        }
    }
}

/// The kernel's stamp among control messages, nanoseconds since the epoch.
fn parse_stamp(mut bytes: &[u8]) -> Option<u64> {
    const HEADER: usize = size_of::<libc::cmsghdr>();
    const WORD: usize = size_of::<usize>();
    let int = |b: &[u8]| b.first_chunk().map(|b| i32::from_ne_bytes(*b));
    let long = |b: &[u8]| b.first_chunk().map(|b| i64::from_ne_bytes(*b));
    while let Some(len) = bytes.first_chunk::<WORD>().map(|b| usize::from_ne_bytes(*b)) {
        if len < HEADER || len > bytes.len() {
            break;
        }
        let data = &bytes[HEADER..len];
        let kind = (int(&bytes[WORD..]), int(&bytes[WORD + 4..]));
        if kind == (Some(libc::SOL_SOCKET), Some(libc::SCM_TIMESTAMPNS))
            && let (Some(seconds), Some(nanos)) = (long(data), data.get(8..).and_then(long))
        {
            return Some((seconds as u64).wrapping_mul(1_000_000_000).wrapping_add(nanos as u64));
        }
        bytes = bytes.get(len.next_multiple_of(WORD)..).unwrap_or_default();
    }
    None
}

fn parse_name(name: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(*name.first_chunk()?);
    let port = u16::from_be_bytes(*name.get(2..)?.first_chunk()?);
    let ip: IpAddr = match i32::from(family) {
        libc::AF_INET => Ipv4Addr::from(*name.get(4..)?.first_chunk::<4>()?).into(),
        libc::AF_INET6 => Ipv6Addr::from(*name.get(8..)?.first_chunk::<16>()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}

/// Bytes of a datagram that [`SendBatch`] sends at most.
pub(super) const SEND_SLOT: usize = 512;
/// One IP_PKTINFO: its header and an in_pktinfo, padded.
const PACKET_INFO: usize = 32;

/// Datagrams for one sendmmsg(2), allocated once. Each has a source address of its own: of the loopback network all
/// addresses are this machine's, and IP_PKTINFO (ip(7)) chooses one a datagram. So one socket is as many senders as wanted.
pub(super) struct SendBatch {
    slab: Box<[[u8; SEND_SLOT]]>,
    names: Box<[libc::sockaddr_in]>,
    controls: Box<[Control]>,
    iovecs: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
    filled: usize,
}

impl SendBatch {
    pub(super) fn new() -> Self {
        // SAFETY: both are plain C structs; zeros and null pointers are valid values of their fields.
        let (header, name): (libc::mmsghdr, libc::sockaddr_in) = unsafe { (mem::zeroed(), mem::zeroed()) };
        let iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Self {
            slab: vec![[0; SEND_SLOT]; BATCH].into_boxed_slice(),
            names: vec![name; BATCH].into_boxed_slice(),
            controls: vec![Control([0; _]); BATCH].into_boxed_slice(),
            iovecs: vec![iovec; BATCH].into_boxed_slice(),
            headers: vec![header; BATCH].into_boxed_slice(),
            filled: 0,
        }
    }

    /// Whether it holds as many as one call sends.
    pub(super) fn is_full(&self) -> bool {
        self.filled == BATCH
    }

    /// Add a datagram from `from` to `to`, whose bytes `fill` writes and counts. There must be room.
    pub(super) fn push(
        &mut self,
        from: Ipv4Addr,
        to: SocketAddrV4,
        fill: impl FnOnce(&mut [u8; SEND_SLOT]) -> usize,
    ) {
        let at = self.filled;
        self.iovecs[at].iov_len = fill(&mut self.slab[at]).min(SEND_SLOT);
        self.names[at].sin_family = libc::AF_INET as libc::sa_family_t;
        self.names[at].sin_port = to.port().to_be();
        self.names[at].sin_addr.s_addr = u32::from_ne_bytes(to.ip().octets());
        let control = &mut self.controls[at].0;
        let length = size_of::<libc::cmsghdr>() + size_of::<libc::in_pktinfo>();
        control[..8].copy_from_slice(&(length as u64).to_ne_bytes());
        control[8..12].copy_from_slice(&libc::IPPROTO_IP.to_ne_bytes());
        control[12..16].copy_from_slice(&libc::IP_PKTINFO.to_ne_bytes());
        // ipi_ifindex stays 0 (any), ipi_addr is ignored.
        control[20..24].copy_from_slice(&from.octets());
        self.filled += 1;
    }

    /// Send what it holds, all of it; it is empty afterwards. Waits for room in the socket's buffer.
    pub(super) fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let count = std::mem::take(&mut self.filled);
        for at in 0..count {
            self.iovecs[at].iov_base = self.slab[at].as_mut_ptr().cast();
            let header = &mut self.headers[at].msg_hdr;
            header.msg_name = (&raw mut self.names[at]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in>() as _;
            header.msg_iov = &raw mut self.iovecs[at];
            header.msg_iovlen = 1;
            header.msg_control = self.controls[at].0.as_mut_ptr().cast();
            header.msg_controllen = PACKET_INFO as _;
        }
        let mut sent = 0;
        while sent < count {
            let left = &mut self.headers[sent..count];
            // SAFETY: `left` points to initialised headers, each just armed with pointers into the boxed slices of `self`
            // and lengths within them. `self` is borrowed mutably until after the call, so that nothing moves, frees or
            // writes them meanwhile. The kernel only reads what they point to, and writes msg_len.
            let n = unsafe {
                libc::sendmmsg(socket.as_raw_fd(), left.as_mut_ptr(), left.len() as libc::c_uint, 0)
            };
            match usize::try_from(n) {
                Ok(n) => sent += n,
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Have the kernel stamp arrivals (SO_TIMESTAMPNS).
pub(super) fn ask_for_stamps(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_int(socket, libc::SO_TIMESTAMPNS, 1)
}

/// The socket's count of datagrams dropped for want of buffer, modulo 2^32. Asked for (SO_MEMINFO) and not told with every
/// datagram (SO_RXQ_OVFL): that would cost a control message each, and tell of the last drops only when more has come.
pub(super) fn drops(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut values = [0_u32; DROPS + 1];
    let mut length = size_of_val(&values) as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as it is borrowed; the kernel writes at most `length` bytes to `values`,
    // and the new length to `length`, which both outlive the call.
    let rc = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if rc == 0 { Ok(values[DROPS]) } else { Err(io::Error::last_os_error()) }
}

/// SO_RCVBUFFORCE: beyond `net.core.rmem_max`, for processes that have CAP_NET_ADMIN.
pub(super) fn force_receive_buffer(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    set_int(socket, libc::SO_RCVBUFFORCE, i32::try_from(bytes).unwrap_or(i32::MAX))
}

fn set_int(socket: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as it is borrowed; the option takes an int, and the pointer and length
    // are those of one that outlives the call.
    let rc = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Wait until one of `sockets` is readable, or `timeout` is over; tells which are. An early return for another reason (a
/// signal) is fine.
pub(super) fn wait_readable<const N: usize>(sockets: [BorrowedFd<'_>; N], timeout: Duration) -> [bool; N] {
    let mut polled = sockets.map(|s| libc::pollfd { fd: s.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_nsec: timeout.subsec_nanos() as libc::c_long,
    };
    // SAFETY: `polled` holds N initialised entries with descriptors that are borrowed for the call; the timeout outlives
    // it and its nanoseconds are below a billion; a null signal mask means the thread's own.
    unsafe {
        libc::ppoll(polled.as_mut_ptr(), N as libc::nfds_t, &raw const timeout, std::ptr::null());
    }
    polled.map(|socket| socket.revents != 0)
}

#[cfg(test)]
mod tests;
