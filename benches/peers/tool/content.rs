//! What the streams say: quiet noise with a click every half second. The noise differs from packet to packet and from stream
//! to stream, so that any 8 samples from a packet's beginning tell which packet it was, wherever a recorder put it.

use sidetone::media::codec::g711::{ULAW, to_ulaw};

/// Samples of a packet: 20 ms at 8 kHz.
pub const SAMPLES: usize = 160;
pub const PACKETS_A_SECOND: u32 = 50;
/// Packets from click to click.
const CLICK_EVERY: u32 = 25;
/// µ-law for +15,996, half of full scale.
const CLICK: u8 = 0x90;
/// Samples that identify a packet: 5 bits each.
pub const KEY_SAMPLES: usize = 8;

/// A good mix of the bits of `x` (SplitMix64's finalizer).
pub fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Packet `packet` of stream `stream`, µ-law.
pub fn payload(stream: usize, packet: u32) -> [u8; SAMPLES] {
    let mut codes = [0; SAMPLES];
    let seed = mix(((stream as u64) << 32) | u64::from(packet));
    for (n, eight) in codes.chunks_exact_mut(8).enumerate() {
        for (code, noise) in eight.iter_mut().zip(mix(seed ^ n as u64).to_le_bytes()) {
            // Magnitudes 8 to 120. 0x7f is a second code for zero, which no decoded sample leads back to; 0xff goes with it.
            *code = (0x70 | (noise & 0x8f)).min(0xfe) - u8::from(noise & 0x8f == 0x0f);
        }
    }
    if packet.is_multiple_of(CLICK_EVERY) {
        codes[0] = CLICK;
    }
    codes
}

/// The same, decoded.
pub fn samples(stream: usize, packet: u32) -> [i16; SAMPLES] {
    payload(stream, packet).map(|code| ULAW[usize::from(code)])
}

/// Names the packet that begins with `samples`.
pub fn key(samples: &[i16]) -> u64 {
    samples[..KEY_SAMPLES].iter().fold(0, |key, &sample| next_key(key, sample))
}

/// The key one sample further on.
pub fn next_key(key: u64, sample: i16) -> u64 {
    (key << 8) | u64::from(to_ulaw(sample))
}
