//! Telephone numbers as people write them, and as they are dialled.

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use rlibphonenumber::{
    NumberLengthType, PHONE_NUMBER_UTIL, ParseError, PhoneNumberFormat, PhoneNumberType, Region,
    ValidationError,
};
use serde::{Deserialize, Serialize};

use crate::config::tts_calls::{CallRules, Countries, DialPattern};

/// By region, from a table that was made of libphonenumber's.
static EMERGENCY: LazyLock<HashMap<&str, Vec<&str>>> = LazyLock::new(|| {
    let lines = include_str!("emergency.txt").lines().filter(|line| !line.starts_with('#'));
    let entries = lines.filter_map(|line| line.split_once(" = "));
    entries
        .flat_map(|(regions, numbers)| {
            regions.split(' ').map(move |region| (region, numbers.split(' ').collect()))
        })
        .collect()
});
/// Networks all over the world take these for emergencies, whatever the country (3GPP TS 22.101, 10.1.1).
const EMERGENCY_ANYWHERE: [&str; 2] = ["112", "911"];
/// Digits of an extension.
const EXTENSION: std::ops::RangeInclusive<usize> = 2..=8;
/// More than any number has, with all that people put between digits.
const MOST_CHARS: usize = 40;

/// A number that may be called.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Number {
    /// Of the public network.
    Telephone {
        /// `+573005050149`.
        e164: String,
        /// As it is dialled within its country, digits alone: `3005050149`, `030123456`.
        national: String,
        /// Its country (ISO 3166); `001` for numbers that belong to none.
        region: String,
    },
    /// Of the PBX itself.
    Extension {
        /// 2 to 8 of `0-9*#`.
        digits: String,
    },
}

/// Why a number is not called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// Nothing there.
    #[error("there is no number")]
    Empty,
    /// Not how numbers are written.
    #[error(
        "{given:?} is no telephone number: use digits, with + and the country's code if it is international"
    )]
    NotANumber {
        /// As given.
        given: String,
    },
    /// A number without a country, and no country in the settings.
    #[error("{given:?} does not begin with + and the country's code: write it so, or set tts_calls.region")]
    NoRegion {
        /// As given.
        given: String,
    },
    /// There is no such country code.
    #[error("{given:?} begins with + and a country's code that there is not")]
    NoSuchCountry {
        /// As given.
        given: String,
    },
    /// Digits are missing.
    #[error("{given:?} is too short for a number of {place}")]
    TooShort {
        /// As given.
        given: String,
        /// Country.
        place: String,
    },
    /// Digits too many.
    #[error("{given:?} is too long for a number of {place}")]
    TooLong {
        /// As given.
        given: String,
        /// Country.
        place: String,
    },
    /// The right length, and yet nobody has such numbers.
    #[error("{given:?} is no number that there is in {place}: compare its digits, and how many they are")]
    NotAssigned {
        /// As given.
        given: String,
        /// Country.
        place: String,
    },
    /// A country that may not be called.
    #[error("{e164} is a number of {region}, which may not be called: tts_calls.countries says which may")]
    Country {
        /// The number.
        e164: String,
        /// Its country.
        region: String,
    },
    /// Numbers that cost the caller extra.
    #[error("{e164} is a premium-rate number: these are never called")]
    Premium {
        /// The number.
        e164: String,
    },
    /// Police, ambulance, fire brigade.
    #[error("{given} is a number for emergencies: these are never called")]
    Emergency {
        /// As given.
        given: String,
    },
}

impl Number {
    /// Read what somebody wrote, by a tenant's rules.
    ///
    /// # Errors
    /// [`NumberError`].
    pub fn parse(given: &str, rules: &CallRules) -> Result<Self, NumberError> {
        let text = given.trim();
        let given = || text.chars().take(MOST_CHARS).collect::<String>();
        if text.is_empty() {
            return Err(NumberError::Empty);
        }
        if is_emergency(text, rules.region) {
            return Err(NumberError::Emergency { given: given() });
        }
        if rules.allow_extensions && is_extension(text) {
            return Ok(Self::Extension { digits: text.to_owned() });
        }
        // libphonenumber also reads letters, as those on the keys, extensions behind numbers, and numbers in the midst of a text.
        let is_written = |c: char| c.is_ascii_digit() || "+-.()/ \u{a0}".contains(c);
        if text.chars().count() > MOST_CHARS || !text.chars().all(is_written) {
            return Err(NumberError::NotANumber { given: given() });
        }
        if rules.region.is_none() && !text.starts_with('+') {
            return Err(NumberError::NoRegion { given: given() });
        }
        let place = |region: Option<Region>| match region.or(rules.region) {
            Some(region) => region.to_string(),
            None => "that country".into(),
        };
        let number = PHONE_NUMBER_UTIL.parse(text, rules.region).map_err(|error| match error {
            ParseError::InvalidCountryCode => NumberError::NoSuchCountry { given: given() },
            ParseError::NotANumber(_) => NumberError::NotANumber { given: given() },
            ParseError::TooShortAfterIdd | ParseError::TooShortNsn => {
                NumberError::TooShort { given: given(), place: place(None) }
            }
            ParseError::TooLongNsn => NumberError::TooLong { given: given(), place: place(None) },
        })?;
        let region = PHONE_NUMBER_UTIL.get_region_for_number(&number);
        let of_code = PHONE_NUMBER_UTIL.get_region_for_country_code(number.country_code);
        match PHONE_NUMBER_UTIL.is_possible_number_with_reason(&number) {
            Ok(NumberLengthType::IsPossible) => {}
            // A local number: without its area's code it is dialled from nowhere else.
            Ok(NumberLengthType::IsPossibleLocalOnly) | Err(ValidationError::TooShort) => {
                return Err(NumberError::TooShort { given: given(), place: place(of_code) });
            }
            Err(ValidationError::TooLong) => {
                return Err(NumberError::TooLong { given: given(), place: place(of_code) });
            }
            Err(ValidationError::InvalidCountryCode) => {
                return Err(NumberError::NoSuchCountry { given: given() });
            }
            Err(_) => return Err(NumberError::NotAssigned { given: given(), place: place(of_code) }),
        }
        let Some(region) = region.filter(|_| PHONE_NUMBER_UTIL.is_valid_number(&number)) else {
            return Err(NumberError::NotAssigned { given: given(), place: place(of_code) });
        };
        let e164 = PHONE_NUMBER_UTIL.format(&number, PhoneNumberFormat::E164).into_owned();
        if PHONE_NUMBER_UTIL.get_number_type(&number) == PhoneNumberType::PremiumRate {
            return Err(NumberError::Premium { e164 });
        }
        if let Countries::These(regions) = &rules.countries
            && !regions.contains(&region)
        {
            return Err(NumberError::Country { e164, region: region.to_string() });
        }
        let national = PHONE_NUMBER_UTIL.format(&number, PhoneNumberFormat::National);
        let national = national.chars().filter(char::is_ascii_digit).collect();
        Ok(Self::Telephone { e164, national, region: region.to_string() })
    }

    /// The channel that a pattern makes of it. An extension is dialled as it is, whatever the pattern asks for.
    pub fn channel(&self, pattern: &DialPattern) -> String {
        match self {
            Self::Telephone { e164, national, .. } => {
                pattern.fill(e164, national, e164.trim_start_matches('+'))
            }
            Self::Extension { digits } => pattern.fill(digits, digits, digits),
        }
    }
}

/// As lists of numbers have it: E.164, or an extension as it is.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Telephone { e164, .. } => f.write_str(e164),
            Self::Extension { digits } => f.write_str(digits),
        }
    }
}

fn is_extension(text: &str) -> bool {
    EXTENSION.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit() || b"*#".contains(&byte))
}

fn is_emergency(text: &str, region: Option<Region>) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let of_region = region.map(|region| region.to_string());
    let of_region = of_region.and_then(|region| EMERGENCY.get(region.as_str()));
    EMERGENCY_ANYWHERE.contains(&digits.as_str())
        || of_region.is_some_and(|numbers| numbers.contains(&digits.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn rules(region: &str, change: fn(&mut crate::config::settings::TtsCalls)) -> CallRules {
        let mut settings = Settings::default();
        settings.tts_calls.region = region.into();
        change(&mut settings.tts_calls);
        settings.call_rules("default").unwrap()
    }

    fn telephone(given: &str, rules: &CallRules) -> (String, String, String) {
        match Number::parse(given, rules).unwrap_or_else(|error| panic!("{given}: {error}")) {
            Number::Telephone { e164, national, region } => (e164, national, region),
            Number::Extension { .. } => panic!("{given} is no extension"),
        }
    }

    #[test]
    fn however_a_number_is_written_it_is_one_number() {
        let rules = rules("CO", |_| {});
        let wanted = ("+573005050149".to_owned(), "3005050149".to_owned(), "CO".to_owned());
        for given in ["3005050149", " 300 505 0149 ", "+57 300 505 01 49", "(300) 505-0149", "300.505.0149"] {
            assert_eq!(telephone(given, &rules), wanted, "{given}");
        }
        assert_eq!(telephone("+576012345678", &rules).0, "+576012345678");
    }

    #[test]
    fn numbers_are_dialled_within_their_country_as_it_is_done_there() {
        let all = |region: &str| rules(region, |tts| tts.countries = vec!["*".into()]);
        for (region, given, e164, national) in [
            ("DE", "030 1234567", "+49301234567", "0301234567"),
            ("GB", "07400 123456", "+447400123456", "07400123456"),
            ("US", "(201) 555-0123", "+12015550123", "2015550123"),
            ("IT", "02 1234 5678", "+390212345678", "0212345678"),
            ("MX", "55 1234 5678", "+525512345678", "5512345678"),
            ("BR", "(11) 96123-4567", "+5511961234567", "11961234567"),
            ("FR", "+573005050149", "+573005050149", "3005050149"),
        ] {
            let (is_e164, is_national, _) = telephone(given, &all(region));
            assert_eq!((is_e164.as_str(), is_national.as_str()), (e164, national), "{given} from {region}");
        }
        let pattern = "PJSIP/{e164}@a".parse().unwrap();
        let number = Number::parse("030 1234567", &all("DE")).unwrap();
        assert_eq!(number.channel(&pattern), "PJSIP/+49301234567@a");
        assert_eq!(number.channel(&"Local/{national}@a".parse().unwrap()), "Local/0301234567@a");
        assert_eq!(number.channel(&"SIP/a/00{digits}".parse().unwrap()), "SIP/a/0049301234567");
    }

    #[test]
    fn what_is_no_number_of_the_country_is_refused_with_the_reason() {
        let rules = rules("CO", |_| {});
        let refused = |given: &str| Number::parse(given, &rules).unwrap_err();
        assert_eq!(refused("  "), NumberError::Empty);
        for letters in
            ["call-me", "300505O149", "3005050149 ext 5", "tel:+573005050149", "300;DROP", "3005050149\n1"]
        {
            assert!(matches!(refused(letters), NumberError::NotANumber { .. }), "{letters}");
        }
        for short in ["300505", "123456", "+57300"] {
            assert!(matches!(refused(short), NumberError::TooShort { .. }), "{short}: {}", refused(short));
        }
        for long in ["30050501490000", "+57300505014900"] {
            assert!(matches!(refused(long), NumberError::TooLong { .. }), "{long}: {}", refused(long));
        }
        assert!(
            matches!(refused("9995050149"), NumberError::NotAssigned { .. }),
            "{}",
            refused("9995050149")
        );
        assert!(matches!(refused("+999123456789"), NumberError::NoSuchCountry { .. }));
        assert!(refused("+999123456789").to_string().contains("country"));
    }

    #[test]
    fn only_countries_that_may_be_called_are() {
        let (own, more) =
            (rules("CO", |_| {}), rules("CO", |tts| tts.countries = vec!["CO".into(), "US".into()]));
        let error = Number::parse("+1 201 555 0123", &own).unwrap_err();
        assert!(matches!(&error, NumberError::Country { region, .. } if region == "US"), "{error}");
        assert_eq!(telephone("+1 201 555 0123", &more).2, "US");
        let anywhere = rules("", |_| {});
        assert!(matches!(Number::parse("3005050149", &anywhere), Err(NumberError::NoRegion { .. })));
        assert_eq!(telephone("+573005050149", &anywhere).2, "CO");
        let premium = Number::parse("09001 123456", &rules("DE", |_| {}));
        assert!(premium.is_err(), "{premium:?}");
        let premium = Number::parse("+1 900 234 5678", &more).unwrap_err();
        assert!(matches!(premium, NumberError::Premium { .. }), "{premium}");
    }

    #[test]
    fn extensions_are_called_where_that_is_allowed_and_emergencies_nowhere() {
        let (closed, open) = (rules("CO", |_| {}), rules("CO", |tts| tts.allow_extensions = true));
        assert!(matches!(Number::parse("100", &closed), Err(NumberError::TooShort { .. })));
        for digits in ["100", "22", "*97", "8500#", "12345678"] {
            let extension = Number::parse(digits, &open).unwrap();
            assert_eq!(extension, Number::Extension { digits: digits.into() });
            assert_eq!(extension.channel(&"Local/{e164}@x".parse().unwrap()), format!("Local/{digits}@x"));
        }
        assert_eq!(telephone("3005050149", &open).2, "CO");
        assert!(Number::parse("1", &open).is_err());
        for (region, number) in
            [("CO", "123"), ("CO", "112"), ("CO", "911"), ("GB", "999"), ("DE", "110"), ("", "911")]
        {
            let rules = CallRules { allow_extensions: true, ..rules(region, |_| {}) };
            let error = Number::parse(number, &rules).unwrap_err();
            assert!(matches!(error, NumberError::Emergency { .. }), "{region} {number}: {error}");
        }
        let spaced = Number::parse("1-1-2", &open);
        assert!(matches!(spaced, Err(NumberError::Emergency { .. })), "{spaced:?}");
        assert!(EMERGENCY.len() > 200 && EMERGENCY["US"].contains(&"911"));
    }
}
