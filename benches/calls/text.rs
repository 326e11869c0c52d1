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
