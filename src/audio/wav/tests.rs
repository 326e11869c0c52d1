use std::io::{Cursor, Seek, SeekFrom, Write};

use proptest::prelude::*;

use super::*;

/// A WAV file with the given `fmt ` body, claiming `claimed` bytes of data and holding `data`.
fn file(fmt: &[u8], claimed: u32, data: &[u8]) -> Vec<u8> {
    let mut out = b"RIFF\0\0\0\0WAVELIST\x03\0\0\0abc\0fmt ".to_vec();
    out.extend((fmt.len() as u32).to_le_bytes());
    out.extend(fmt);
    out.extend(b"data");
    out.extend(claimed.to_le_bytes());
    out.extend(data);
    out
}

fn fmt(tag: u16, channels: u16, bits: u16) -> Vec<u8> {
    let block = channels * bits / 8;
    let mut out = Vec::new();
    out.extend(tag.to_le_bytes());
    out.extend(channels.to_le_bytes());
    out.extend(8_000u32.to_le_bytes());
    out.extend((8_000 * u32::from(block)).to_le_bytes());
    out.extend(block.to_le_bytes());
    out.extend(bits.to_le_bytes());
    out
}

fn read(bytes: Vec<u8>) -> Result<(WavFormat, Vec<i16>), WavError> {
    let mut reader = WavReader::new(Cursor::new(bytes))?;
    let samples = reader.read_all()?;
    Ok((reader.format(), samples))
}

#[test]
fn every_encoding_decodes() {
    let cases: &[(u16, u16, &[u8], &[i16])] = &[
        (1, 8, &[0, 128, 255], &[-32_768, 0, 127 << 8]),
        (1, 16, &[0x34, 0x12, 0xff, 0xff], &[0x1234, -1]),
        (1, 24, &[9, 0x34, 0x12, 0, 0, 0x80], &[0x1234, -32_768]),
        (1, 32, &[9, 9, 0x34, 0x12], &[0x1234]),
        (6, 8, &[0xd5, 0x55, 0xaa, 0x2a], &[8, -8, 32_256, -32_256]),
        (7, 8, &[0xff, 0x7f, 0x80, 0x00], &[0, 0, 32_124, -32_124]),
    ];
    for (tag, bits, data, expected) in cases {
        let (_, samples) = read(file(&fmt(*tag, 1, *bits), data.len() as u32, data)).unwrap();
        assert_eq!(samples, *expected, "tag {tag}, {bits} bits");
    }
    let floats: Vec<u8> = [0.5f32, -2.0, f32::NAN].iter().flat_map(|f| f.to_le_bytes()).collect();
    assert_eq!(read(file(&fmt(3, 1, 32), 12, &floats)).unwrap().1, [16_384, -32_768, 0]);
    let doubles: Vec<u8> = [-0.25f64, 1.0].iter().flat_map(|f| f.to_le_bytes()).collect();
    assert_eq!(read(file(&fmt(3, 1, 64), 16, &doubles)).unwrap().1, [-8_192, 32_767]);
}

#[test]
fn an_extensible_header_is_read_by_its_sub_format() {
    let mut body = fmt(0xfffe, 2, 16);
    body.extend([22, 0, 16, 0, 3, 0, 0, 0, 1, 0]);
    body.extend([0; 14]);
    let (format, samples) = read(file(&body, 4, &[1, 0, 2, 0])).unwrap();
    assert_eq!((format.channels, samples), (2, vec![1, 2]));
}

#[test]
fn a_false_length_is_clamped_to_what_is_there() {
    for claimed in [0x7fff_f000, u32::MAX, 5] {
        let (format, samples) = read(file(&fmt(1, 2, 16), claimed, &[1, 0, 2, 0, 3])).unwrap();
        assert_eq!((format.frames, samples), (1, vec![1, 2]));
        assert_eq!(format.clamped, claimed > 5);
    }
}

#[test]
fn length_zero_means_unknown_unless_a_chunk_follows() {
    assert_eq!(read(file(&fmt(1, 1, 16), 0, &[1, 0, 2, 0])).unwrap().1, [1, 2]);
    assert!(read(file(&fmt(1, 1, 16), 0, b"LIST\x02\0\0\0ab")).unwrap().1.is_empty());
}

#[test]
fn errors_name_the_place_and_the_remedy() {
    let adpcm = read(file(&fmt(0x11, 1, 4), 4, &[0; 4])).unwrap_err().to_string();
    assert!(adpcm.contains("0x0011") && adpcm.contains("byte 32") && adpcm.contains("sox"), "{adpcm}");
    let cut = read(file(&fmt(1, 1, 16), 4, &[])[..20].to_vec()).unwrap_err().to_string();
    assert!(cut.contains("`data`"), "{cut}");
    assert!(matches!(read(b"OggS".to_vec()), Err(WavError::NotWav { offset: 0, .. })));
}

#[test]
fn a_header_past_4_gib_is_rf64_and_reads_back() {
    let mut file = tempfile::tempfile().unwrap();
    let data_bytes = (5u64 << 30) + 4;
    file.write_all(&header(8_000, 2, data_bytes)).unwrap();
    file.set_len(HEADER_LEN as u64 + data_bytes).unwrap();
    file.seek(SeekFrom::End(-4)).unwrap();
    file.write_all(&[7, 0, 9, 0]).unwrap();
    let mut reader = WavReader::new(file).unwrap();
    assert_eq!(reader.format().frames, data_bytes / 4);
    assert!(!reader.format().clamped);
    reader.seek_frame(data_bytes / 4 - 1).unwrap();
    assert_eq!(reader.read_all().unwrap(), [7, 9]);
    assert_eq!(&header(8_000, 2, data_bytes)[..4], b"RF64");
    assert_eq!(&header(8_000, 2, u64::from(u32::MAX) - 72)[..4], b"RIFF");
    assert_eq!(&header(8_000, 2, u64::from(u32::MAX) - 71)[..4], b"RF64");
}

#[test]
fn own_headers_are_recognised_whatever_their_lengths() {
    for bytes in [0, 4_000, 6 << 30] {
        let own = OwnHeader { rate_hz: 16_000, channels: 2 };
        assert_eq!(parse_own(&header(16_000, 2, bytes)), Some(own));
    }
    assert_eq!(parse_own(&[0; HEADER_LEN]), None);
    assert_eq!(parse_own(&header(8_000, 2, 0)[..79]), None);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(bytes);
    }

    #[test]
    fn a_damaged_file_never_yields_more_than_it_holds(
        at in 0usize..64, byte in any::<u8>(), cut in 0usize..128, data in proptest::collection::vec(any::<u8>(), 0..64)
    ) {
        let mut bytes = file(&fmt(1, 2, 16), data.len() as u32, &data);
        let len = bytes.len();
        bytes[at % len] = byte;
        bytes.truncate(len.saturating_sub(cut));
        let real = bytes.len();
        if let Ok((format, samples)) = read(bytes) {
            prop_assert!(samples.len() <= real);
            prop_assert_eq!(samples.len() as u64, format.frames * u64::from(format.channels));
        }
    }

    #[test]
    fn what_is_written_reads_back(samples in proptest::collection::vec(any::<i16>(), 0..200)) {
        let whole = &samples[..samples.len() / 2 * 2];
        let mut bytes = header(16_000, 2, whole.len() as u64 * 2).to_vec();
        bytes.extend(whole.iter().flat_map(|s| s.to_le_bytes()));
        let (format, back) = read(bytes).unwrap();
        prop_assert_eq!(format.rate_hz, 16_000);
        prop_assert_eq!(&back[..], whole);
    }
}
