use super::*;

fn numbers(text: &str) -> Vec<i32> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.flat_map(str::split_whitespace).map(|word| word.parse().unwrap()).collect()
}

fn check_decode(table: &[i16; 256], text: &str) {
    let expected = numbers(text);
    assert_eq!(expected.len(), 256);
    for (code, (&ours, theirs)) in table.iter().zip(expected).enumerate() {
        assert_eq!(i32::from(ours), theirs, "code {code}");
    }
}

fn check_encode(encode: fn(i16) -> u8, text: &str) {
    let runs = numbers(text);
    let starts: Vec<_> = runs.chunks(2).collect();
    for (n, run) in starts.iter().enumerate() {
        let end = starts.get(n + 1).map_or(32_768, |next| next[0]);
        for sample in run[0]..end {
            assert_eq!(i32::from(encode(sample as i16)), run[1], "sample {sample}");
        }
    }
    assert_eq!(starts[0][0], -32_768);
}

#[test]
fn every_ulaw_code_decodes_as_in_audioop() {
    check_decode(&ULAW, include_str!("testdata/ulaw-decode.txt"));
}

#[test]
fn every_alaw_code_decodes_as_in_audioop() {
    check_decode(&ALAW, include_str!("testdata/alaw-decode.txt"));
}

#[test]
fn every_sample_encodes_to_ulaw_as_in_asterisk() {
    check_encode(to_ulaw, include_str!("testdata/ulaw-encode.txt"));
}

#[test]
fn every_sample_encodes_to_alaw_as_in_audioop() {
    check_encode(to_alaw, include_str!("testdata/alaw-encode.txt"));
}

#[test]
fn decoded_codes_encode_to_themselves() {
    for code in 0..=255 {
        assert_eq!(to_alaw(ALAW[usize::from(code)]), code);
        // µ-law has two zeros; 0x7f, the negative one, decodes to the same sample as 0xff.
        let expected = if code == 0x7f { 0xff } else { code };
        assert_eq!(to_ulaw(ULAW[usize::from(code)]), expected);
    }
}
