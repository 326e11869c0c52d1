use std::os::fd::AsFd;

use super::*;

#[test]
fn control_data_is_read_and_nonsense_is_not() {
    let mut bytes = Vec::new();
    for (kind, data) in [
        (libc::SO_RXQ_OVFL, 3_u32.to_ne_bytes().to_vec()),
        (libc::SCM_TIMESTAMPNS, [7_i64.to_ne_bytes(), 9_i64.to_ne_bytes()].concat()),
    ] {
        bytes.extend((16 + data.len()).to_ne_bytes());
        bytes.extend(libc::SOL_SOCKET.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(&data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    assert_eq!(parse_stamp(&bytes), Some(7_000_000_009));
    for cut in 0..bytes.len() {
        assert_eq!(parse_stamp(&bytes[..cut]), None);
    }
    assert_eq!(parse_stamp(&[0xff; 64]), None);
    assert_eq!(parse_stamp(&[0; 64]), None);
}

#[test]
fn a_wall_clock_that_was_set_does_not_move_arrivals() {
    let clocks = Clocks { monotonic: MediaInstant::from_nanos(50_000_000_000), realtime: 1_000_000_000_000 };
    let age = |ns: u64| clocks.monotonic_of(1_000_000_000_000 - ns);
    assert_eq!(age(3_000_000), MediaInstant::from_nanos(49_997_000_000));
    assert_eq!(age(20_000_000_000), clocks.monotonic);
    assert_eq!(clocks.monotonic_of(1_000_000_000_001), clocks.monotonic);
}

#[test]
fn arrivals_are_the_kernels_and_in_order() {
    let receiver = crate::net::socket::bind("127.0.0.1:0".parse().unwrap(), 1 << 20).unwrap();
    let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut batch = Batch::new();
    // The kernel begins to stamp a moment after the first socket has asked for it; until then it stamps what is read.
    for _ in 0..1_000 {
        sender.send_to(&[0], receiver.address).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        let read = clock::now();
        batch.receive(receiver.socket.as_fd()).unwrap();
        if batch.datagrams().all(|probe| probe.arrival + Duration::from_millis(3) < read) {
            break;
        }
    }
    let mut windows = Vec::new();
    for i in 0..40_u8 {
        let before = clock::now();
        sender.send_to(&[i], receiver.address).unwrap();
        windows.push((before, clock::now()));
        std::thread::sleep(Duration::from_millis(2));
    }
    // Read long after: the stamps must tell when they came, not when they were read.
    let read = clock::now();
    assert_eq!(batch.receive(receiver.socket.as_fd()).unwrap(), 40);
    let mut latest = MediaInstant::default();
    for (datagram, (before, after)) in batch.datagrams().zip(windows) {
        assert_eq!(datagram.source, sender.local_addr().unwrap());
        assert!(datagram.arrival >= latest);
        latest = datagram.arrival;
        // A busy kernel delivers a little after `send_to` has returned, but not half of the time until they are read.
        let early = Duration::from_millis(1);
        let late = read.saturating_since(after) / 2 + early;
        let window = (before, after + late);
        assert!(
            datagram.arrival + early >= before && datagram.arrival <= window.1,
            "{datagram:?} {window:?}"
        );
    }
    assert_eq!(batch.receive(receiver.socket.as_fd()).unwrap(), 0);
}

#[test]
fn long_datagrams_are_cut_and_drops_are_counted() {
    let receiver = crate::net::socket::bind("127.0.0.1:0".parse().unwrap(), 4096).unwrap();
    let small = socket2::SockRef::from(&receiver.socket);
    small.set_recv_buffer_size(4096).unwrap();
    let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut batch = Batch::new();
    sender.send_to(&[1; 6000], receiver.address).unwrap();
    batch.receive(receiver.socket.as_fd()).unwrap();
    let long: Vec<_> = batch.datagrams().map(|d| (d.payload.len(), d.truncated)).collect();
    assert_eq!(long, [(SLOT, true)]);
    for _ in 0..500 {
        sender.send_to(&[2; 1000], receiver.address).unwrap();
    }
    let mut read = 0;
    while let n @ 1.. = batch.receive(receiver.socket.as_fd()).unwrap() {
        read += n;
    }
    assert!(read < 500);
    assert_eq!(read as u32 + drops(receiver.socket.as_fd()).unwrap(), 500);
}

#[test]
fn mapped_ipv4_senders_are_ipv4() {
    let mut name = [0; 128];
    name[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
    name[2..4].copy_from_slice(&4000_u16.to_be_bytes());
    name[8..24].copy_from_slice(&Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets());
    assert_eq!(parse_name(&name), Some("127.0.0.1:4000".parse().unwrap()));
    assert_eq!(parse_name(&[0; 128]), None);
}

#[test]
fn one_socket_sends_from_as_many_addresses_as_wanted() {
    let receiver = crate::net::socket::bind("127.0.0.1:0".parse().unwrap(), 1 << 20).unwrap();
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let SocketAddr::V4(to) = receiver.address else { panic!("{}", receiver.address) };
    let mut sending = SendBatch::new();
    let mut batch = Batch::new();
    for round in 0..3_u8 {
        for n in 0..BATCH as u8 {
            sending.push(Ipv4Addr::new(127, 9, round, n), to, |bytes| {
                bytes[..2].copy_from_slice(&[round, n]);
                2
            });
        }
        assert!(sending.is_full());
        sending.send(socket.as_fd()).unwrap();
        assert_eq!(batch.receive(receiver.socket.as_fd()).unwrap(), BATCH);
        for (n, datagram) in batch.datagrams().enumerate() {
            assert_eq!(datagram.payload, [round, n as u8]);
            assert_eq!(datagram.source, SocketAddr::from(([127, 9, round, n as u8], port)));
        }
    }
}
