//! The recommendation's arithmetic (5.1): 16-bit words that saturate, products scaled by 2^15.

pub fn add(a: i16, b: i16) -> i16 {
    a.saturating_add(b)
}

pub fn sub(a: i16, b: i16) -> i16 {
    a.saturating_sub(b)
}

/// Product, truncated.
pub fn mult(a: i16, b: i16) -> i16 {
    if a == i16::MIN && b == i16::MIN { i16::MAX } else { ((i32::from(a) * i32::from(b)) >> 15) as i16 }
}

/// Product, rounded.
pub fn mult_r(a: i16, b: i16) -> i16 {
    if a == i16::MIN && b == i16::MIN {
        i16::MAX
    } else {
        ((i32::from(a) * i32::from(b) + 16_384) >> 15) as i16
    }
}

/// [`mult_r`] of words in wider ones; one of them is not -32,768, of whose square alone the rounded product is no word. In the lattices, where
/// each step waits for the one before, a third faster than words that are narrowed after each.
pub fn wide_mult_r(a: i32, b: i32) -> i32 {
    (a * b + 16_384) >> 15
}

/// The nearest word.
pub fn saturated(a: i32) -> i32 {
    a.clamp(i16::MIN.into(), i16::MAX.into())
}

pub fn abs(a: i16) -> i16 {
    a.saturating_abs()
}

/// How far a positive number may be shifted to the left until bit 30 is its highest.
pub fn norm(a: i32) -> u32 {
    a.leading_zeros() - 1
}

/// `numerator / denominator`, scaled by 2^15, for 0 <= numerator <= denominator. Equal ones make 32 767.
pub fn div(numerator: i16, denominator: i16) -> i16 {
    let (mut rest, denominator) = (i32::from(numerator), i32::from(denominator));
    let mut quotient = 0;
    if rest == 0 {
        return 0;
    }
    for _ in 0..15 {
        quotient <<= 1;
        rest <<= 1;
        if rest >= denominator {
            rest -= denominator;
            quotient += 1;
        }
    }
    quotient
}
