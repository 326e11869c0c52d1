//! G.711, both laws (ITU-T G.711), bit for bit as in ITU-T G.191's reference and in Asterisk. Sun's `g711.c`, which CPython's `audioop`
//! carries, does the same but for negative samples to µ-law: it rounds them away from zero, so that -1 becomes -8.

/// µ-law code to 16-bit PCM.
pub static ULAW: [i16; 256] = tables(false);
/// A-law code to 16-bit PCM.
pub static ALAW: [i16; 256] = tables(true);

/// Added to the magnitude before µ-law finds its segment, in 14-bit units.
const ULAW_BIAS: i32 = 0x21;
/// Largest magnitude that fits the last segment once the bias is added.
const ULAW_CLIP: i32 = 0x1fff - ULAW_BIAS;

/// 16-bit PCM to µ-law.
pub const fn to_ulaw(sample: i16) -> u8 {
    let pcm = sample as i32;
    let (magnitude, mask) = if pcm < 0 { (!pcm >> 2, 0x7f) } else { (pcm >> 2, 0xff) };
    let clipped = if magnitude > ULAW_CLIP { ULAW_CLIP } else { magnitude };
    let biased = (clipped + ULAW_BIAS) as u32;
    // The segment is the place of the highest bit, counted from bit 5, where the bias puts the lowest.
    let segment = 31 - biased.leading_zeros() - 5;
    (((segment << 4) | ((biased >> (segment + 1)) & 0x0f)) as u8) ^ mask
}

/// 16-bit PCM to A-law.
pub const fn to_alaw(sample: i16) -> u8 {
    let pcm = sample as i32 >> 3;
    let (magnitude, mask) = if pcm < 0 { (-pcm - 1, 0x55) } else { (pcm, 0xd5) };
    let magnitude = magnitude as u32;
    let segment = if magnitude < 0x20 { 0 } else { 31 - magnitude.leading_zeros() - 4 };
    let shift = if segment < 2 { 1 } else { segment };
    (((segment << 4) | ((magnitude >> shift) & 0x0f)) as u8) ^ mask
}

/// The samples of `payload` by `table`, four to a 64-bit word, the first in the lowest bits; what fills no word is left out.
pub fn words(table: &[i16; 256], payload: &[u8]) -> impl Iterator<Item = u64> {
    payload.as_chunks::<4>().0.iter().map(|codes| {
        let lane = |k: usize| u64::from(table[usize::from(codes[k])] as u16) << (16 * k);
        lane(0) | lane(1) | lane(2) | lane(3)
    })
}

const fn ulaw_to_pcm(code: u8) -> i16 {
    let bits = !code;
    let magnitude = (((bits as i32 & 0x0f) << 3) + 0x84) << ((bits >> 4) & 7);
    (if bits & 0x80 != 0 { 0x84 - magnitude } else { magnitude - 0x84 }) as i16
}

const fn alaw_to_pcm(code: u8) -> i16 {
    let bits = code ^ 0x55;
    let mantissa = (bits as i32 & 0x0f) << 4;
    let magnitude = match (bits >> 4) & 7 {
        0 => mantissa + 8,
        segment => (mantissa + 0x108) << (segment - 1),
    };
    (if bits & 0x80 != 0 { magnitude } else { -magnitude }) as i16
}

const fn tables(alaw: bool) -> [i16; 256] {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = if alaw { alaw_to_pcm(code as u8) } else { ulaw_to_pcm(code as u8) };
        code += 1;
    }
    table
}

#[cfg(test)]
mod tests;
