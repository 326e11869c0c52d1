//! Text as it is compared: lower case, no punctuation, numbers in words.

const ONES: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 10] =
    ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];

/// `That's caller 23!` → `that's caller twenty three`.
pub fn normalised(text: &str) -> String {
    let kept = |c: char| if c.is_alphanumeric() || c == '\'' { c } else { ' ' };
    let lower: String = text.to_lowercase().replace('’', "'").chars().map(kept).collect();
    lower.split_whitespace().map(in_words).collect::<Vec<_>>().join(" ")
}

/// Numbers below a hundred as they are said, longer ones digit by digit.
fn in_words(word: &str) -> String {
    match word.parse::<usize>() {
        Ok(n) if word.len() <= 2 && n < 20 => ONES[n].to_owned(),
        Ok(n) if word.len() <= 2 && n % 10 == 0 => TENS[n / 10].to_owned(),
        Ok(n) if word.len() <= 2 => format!("{} {}", TENS[n / 10], ONES[n % 10]),
        Ok(_) => {
            let digits = word.bytes().filter(u8::is_ascii_digit);
            digits.map(|d| ONES[usize::from(d - b'0')]).collect::<Vec<_>>().join(" ")
        }
        Err(_) => word.to_owned(),
    }
}

/// The most pairs of places in `said` and `heard` that `same` holds for, in order in both (longest common subsequence).
pub fn aligned<A, B>(said: &[A], heard: &[B], same: impl Fn(usize, usize) -> bool) -> Vec<(usize, usize)> {
    let mut most = vec![vec![0_usize; heard.len() + 1]; said.len() + 1];
    for at in (0..said.len()).rev() {
        for of in (0..heard.len()).rev() {
            let skipped = most[at + 1][of].max(most[at][of + 1]);
            most[at][of] = if same(at, of) { skipped.max(1 + most[at + 1][of + 1]) } else { skipped };
        }
    }
    let (mut pairs, mut at, mut of) = (Vec::new(), 0, 0);
    while at < said.len() && of < heard.len() {
        if same(at, of) && most[at][of] == 1 + most[at + 1][of + 1] {
            pairs.push((at, of));
            (at, of) = (at + 1, of + 1);
        } else if most[at][of] == most[at][of + 1] {
            of += 1;
        } else {
            at += 1;
        }
    }
    pairs
}
