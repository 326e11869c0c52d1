//! What is dialled: a channel of Asterisk's with the number in it.

use std::fmt;
use std::str::FromStr;

/// What a pattern may hold.
const PLACES: [&str; 3] = ["{e164}", "{national}", "{digits}"];

/// A channel with a place for the number, such as `PJSIP/{e164}@trunk`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialPattern(String);

impl DialPattern {
    /// The channel that is dialled. `e164` with its `+`, `national` as it is dialled within its country, `digits` as `e164`
    /// without the `+`.
    pub fn fill(&self, e164: &str, national: &str, digits: &str) -> String {
        let [for_e164, for_national, for_digits] = PLACES;
        self.0.replace(for_e164, e164).replace(for_national, national).replace(for_digits, digits)
    }
}

impl fmt::Display for DialPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DialPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = PLACES.iter().fold(text.to_owned(), |text, place| text.replace(place, ""));
        if bare.len() == text.len() {
            return Err(format!(
                "`{text}` has no place for the number: use {{e164}}, {{national}} or {{digits}}, as in PJSIP/{{e164}}@trunk"
            ));
        }
        if bare.contains(['{', '}']) {
            return Err(format!(
                "`{text}` has a place that there is not: use {{e164}}, {{national}} and {{digits}}"
            ));
        }
        // `&` would call several at once, `,` and `|` end a value in the dialplan, quotes and line ends in AMI and call files.
        if let Some(bad) = text.chars().find(|&c| !c.is_ascii_graphic() || "&,|;\"'$\\`<>".contains(c)) {
            return Err(format!("`{text}` has a {bad:?} in it, which no channel has"));
        }
        let technology = text.split('/').next().unwrap_or_default();
        if technology.len() == text.len()
            || technology.is_empty()
            || !technology.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        {
            return Err(format!("`{text}` does not begin with a technology: write it as PJSIP/… or Local/…"));
        }
        if text.len() > 200 {
            return Err("use at most 200 characters".into());
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_takes_its_place() {
        let fill = |pattern: &str| {
            pattern.parse::<DialPattern>().unwrap().fill("+573005050149", "3005050149", "573005050149")
        };
        assert_eq!(fill("PJSIP/{e164}@trunk"), "PJSIP/+573005050149@trunk");
        assert_eq!(fill("Local/{national}@from-internal/n"), "Local/3005050149@from-internal/n");
        assert_eq!(fill("SIP/trunk/00{digits}"), "SIP/trunk/00573005050149");
        assert_eq!(
            fill("PJSIP/trunk/sip:{e164}@10.0.0.1:5060"),
            "PJSIP/trunk/sip:+573005050149@10.0.0.1:5060"
        );
    }

    #[test]
    fn what_is_no_channel_is_refused_with_the_reason() {
        for (pattern, reason) in [
            ("PJSIP/trunk", "no place for the number"),
            ("PJSIP/{number}@trunk", "no place for the number"),
            ("PJSIP/{e164}@{trunk}", "a place that there is not"),
            ("{e164}@trunk", "technology"),
            ("PJSIP/{e164}@a&PJSIP/1@b", "'&'"),
            ("PJSIP/{e164}@trunk\nAction: x", "'\\n'"),
            ("PJSIP/{e164},30", "','"),
        ] {
            let error = pattern.parse::<DialPattern>().unwrap_err();
            assert!(error.contains(reason), "{pattern}: {error}");
        }
    }
}
