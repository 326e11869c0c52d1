//! 16-bit linear PCM on the wire. Its byte order is the transport's: big-endian on RTP (RFC 3551, 4.5.11), little-endian on
//! AudioSocket and chan_websocket.

/// The order of a sample's two bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// Network order: RTP.
    #[default]
    Big,
    /// AudioSocket and chan_websocket.
    Little,
}

/// Sample `index` of `payload`. Panics if the payload holds fewer.
#[inline]
pub fn sample(order: ByteOrder, payload: &[u8], index: usize) -> i16 {
    let bytes = [payload[2 * index], payload[2 * index + 1]];
    match order {
        ByteOrder::Big => i16::from_be_bytes(bytes),
        ByteOrder::Little => i16::from_le_bytes(bytes),
    }
}

/// The samples of a big-endian `payload`, four to a 64-bit word, the first in the lowest bits; what fills no word is left out.
pub fn words(payload: &[u8]) -> impl Iterator<Item = u64> {
    const LOW_BYTES: u64 = 0x00ff_00ff_00ff_00ff;
    payload.as_chunks::<8>().0.iter().map(|bytes| {
        let word = u64::from_le_bytes(*bytes);
        (word & LOW_BYTES) << 8 | word >> 8 & LOW_BYTES
    })
}

/// Decode into `out`; returns how many samples it took: what both hold. Half a sample at the end is left.
pub fn decode(order: ByteOrder, payload: &[u8], out: &mut [i16]) -> usize {
    let samples = out.iter_mut().zip(payload.as_chunks::<2>().0);
    let count = samples.len();
    match order {
        ByteOrder::Big => samples.for_each(|(to, bytes)| *to = i16::from_be_bytes(*bytes)),
        ByteOrder::Little => samples.for_each(|(to, bytes)| *to = i16::from_le_bytes(*bytes)),
    }
    count
}

/// Append `pcm` to `payload`.
pub fn encode(order: ByteOrder, pcm: &[i16], payload: &mut Vec<u8>) {
    match order {
        ByteOrder::Big => payload.extend(pcm.iter().flat_map(|sample| sample.to_be_bytes())),
        ByteOrder::Little => payload.extend(pcm.iter().flat_map(|sample| sample.to_le_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_order_is_read_as_it_is_written() {
        for (order, bytes) in
            [(ByteOrder::Big, [0x12, 0x34, 0xff, 0xfe]), (ByteOrder::Little, [0x34, 0x12, 0xfe, 0xff])]
        {
            let mut payload = Vec::new();
            encode(order, &[0x1234, -2], &mut payload);
            assert_eq!(payload, bytes);
            let mut pcm = [0; 2];
            assert_eq!(decode(order, &payload, &mut pcm), 2);
            assert_eq!(pcm, [0x1234, -2]);
            assert_eq!(sample(order, &payload, 1), -2);
        }
    }

    #[test]
    fn what_does_not_fit_is_left() {
        let mut pcm = [7; 2];
        assert_eq!(decode(ByteOrder::Big, &[0, 1, 0], &mut pcm), 1);
        assert_eq!(decode(ByteOrder::Big, &[0, 1, 0, 2, 0, 3], &mut pcm), 2);
        assert_eq!(pcm, [1, 2]);
    }
}
