//! Section `tts_calls`, and what is different for a tenant, as values that work.

mod hours;
mod pattern;
mod retry;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use rlibphonenumber::{PHONE_NUMBER_UTIL, Region};

use super::settings::{Settings, TenantTtsCalls, TtsCalls};

pub use hours::{Days, Hours, Span};
pub use pattern::DialPattern;
pub use retry::{RETRIED, RetryPlan};

/// Longest that a phone may ring, seconds: no network lets it ring for longer.
const MOST_RINGING: u64 = 300;
/// Longest that a call may last after it is answered, seconds.
const MOST_TALKING: u64 = 3_600;

/// How calls are placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlacedBy {
    /// AMI Originate.
    Ami,
    /// ARI, `POST /channels`.
    Ari,
    /// A call file in Asterisk's spool.
    File,
}

/// What is done with an answering machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amd {
    /// Nobody looks for one.
    Off,
    /// The call ends.
    HangUp,
    /// The text is spoken once it is silent.
    Speak,
}

impl Amd {
    /// Its name in the settings and in the dialplan.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::HangUp => "hang_up",
            Self::Speak => "speak",
        }
    }
}

/// Which countries may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Countries {
    /// All.
    Any,
    /// These.
    These(Vec<Region>),
}

/// How a tenant's calls are placed, whom they may reach, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct CallRules {
    /// How they are placed.
    pub by: PlacedBy,
    /// What is dialled.
    pub channel: DialPattern,
    /// The dialplan's context that speaks.
    pub context: String,
    /// `"name" <number>`; empty for none.
    pub caller_id: String,
    /// Region of numbers that are not international.
    pub region: Option<Region>,
    /// Countries that may be called.
    pub countries: Countries,
    /// Whether extensions may be called.
    pub allow_extensions: bool,
    /// Longest ringing.
    pub ring: Duration,
    /// Longest time after the answer.
    pub longest: Duration,
    /// Answering machines.
    pub amd: Amd,
    /// Further attempts.
    pub retry: RetryPlan,
    /// When.
    pub hours: Hours,
    /// Calls at a time.
    pub at_once: usize,
    /// Calls a second; 0: as many as come.
    pub per_second: f64,
    /// File of numbers that must not be called.
    pub do_not_call: Option<PathBuf>,
}

impl Settings {
    /// What `tts_calls` and the tenant's own table in it say.
    ///
    /// # Errors
    /// One line a complaint, as of [`super::validate`]: settings that were loaded have none.
    pub fn call_rules(&self, tenant: &str) -> Result<CallRules, Vec<String>> {
        let own = self.tts_calls.tenants.get(tenant);
        rules(&self.tts_calls, own.map(|own| (tenant, own)))
    }

    /// Where audio is put for Asterisk: `tts_calls.audio_folder`, or else `tts-calls` in `node.data`.
    pub fn call_audio_folder(&self) -> PathBuf {
        self.tts_calls.audio_folder.clone().unwrap_or_else(|| self.node.data.join("tts-calls"))
    }
}

fn rules(all: &TtsCalls, own: Option<(&str, &TenantTtsCalls)>) -> Result<CallRules, Vec<String>> {
    let mut wrong = Vec::new();
    // The value in force, and the name of the setting that it is from.
    macro_rules! of {
        ($field:ident) => {
            match own {
                Some((tenant, TenantTtsCalls { $field: Some(value), .. })) => {
                    (value, format!(concat!("tts_calls.tenants.{}.", stringify!($field)), tenant))
                }
                _ => (&all.$field, concat!("tts_calls.", stringify!($field)).to_owned()),
            }
        };
    }
    let by = {
        let (value, key) = of!(by);
        let by = match value.as_str() {
            "ari" => PlacedBy::Ari,
            "file" => PlacedBy::File,
            _ => PlacedBy::Ami,
        };
        check(
            &mut wrong,
            ["ami", "ari", "file"].contains(&value.as_str()),
            format!("{key} is `{value}`: use ami, ari or file"),
        );
        by
    };
    let (amd, key) = of!(amd);
    check(
        &mut wrong,
        [Amd::Off, Amd::HangUp, Amd::Speak].map(Amd::name).contains(&amd.as_str()),
        format!("{key} is `{amd}`: use off, hang_up or speak"),
    );
    let amd = match amd.as_str() {
        "hang_up" => Amd::HangUp,
        "speak" => Amd::Speak,
        _ => Amd::Off,
    };
    let (context, key) = of!(context);
    check(
        &mut wrong,
        !context.is_empty() && context.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)),
        format!("{key} is `{context}`: name a context of the dialplan, in letters, digits, `-`, `_` and `.`"),
    );
    let (caller_id, key) = of!(caller_id);
    check(
        &mut wrong,
        caller_id.len() <= 80 && !caller_id.contains(|c: char| c.is_control()),
        format!("{key}: write it as \"name\" <number>, at most 80 characters on one line"),
    );
    let (ring_seconds, key) = of!(ring_seconds);
    check(
        &mut wrong,
        (1..=MOST_RINGING).contains(ring_seconds),
        format!("{key} is {ring_seconds}: use 1 to {MOST_RINGING}"),
    );
    let (longest_seconds, key) = of!(longest_seconds);
    check(
        &mut wrong,
        (5..=MOST_TALKING).contains(longest_seconds),
        format!("{key} is {longest_seconds}: use 5 to {MOST_TALKING}"),
    );
    let (at_once, key) = of!(at_once);
    check(&mut wrong, (1..=10_000).contains(at_once), format!("{key} is {at_once}: use 1 to 10000"));
    let (per_second, key) = of!(per_second);
    check(
        &mut wrong,
        *per_second == 0.0 || (0.001..=1_000.0).contains(per_second),
        format!("{key} is {per_second}: use 0.001 to 1000, or 0 for no limit"),
    );
    let (region_text, key) = of!(region);
    let region = match region_text.as_str() {
        "" => None,
        code => keep(&mut wrong, supported(code).map_err(|reason| format!("{key}: {reason}"))),
    };
    let (countries, key) = of!(countries);
    let countries = if countries.is_empty() {
        region.map_or(Countries::Any, |own| Countries::These(vec![own]))
    } else if countries.iter().any(|code| code == "*") {
        Countries::Any
    } else {
        let all = countries.iter().map(|code| supported(code)).collect::<Result<_, _>>();
        keep(&mut wrong, all.map_err(|reason| format!("{key}: {reason}")))
            .map_or(Countries::Any, Countries::These)
    };
    let (channel, key) = of!(channel);
    let channel = parsed::<DialPattern>(&mut wrong, channel, &key);
    let (retry, key) = of!(retry);
    let retry = keep(&mut wrong, RetryPlan::parse(retry).map_err(|error| format!("{key}: {error}")));
    let (hours, hours_key) = of!(hours);
    let (days, days_key) = of!(days);
    let (zone, zone_key) = of!(time_zone);
    let spans = keep(&mut wrong, hours::spans(hours).map_err(|error| format!("{hours_key}: {error}")));
    let days = parsed::<Days>(&mut wrong, days, &days_key);
    let zone = keep(
        &mut wrong,
        jiff::tz::TimeZone::get(zone).map_err(|_| {
            format!("{zone_key} is `{zone}`: name a time zone such as America/Bogota, Europe/Berlin or UTC")
        }),
    );
    let (Some(channel), Some(retry), Some(spans), Some(days), Some(zone), true) =
        (channel, retry, spans, days, zone, wrong.is_empty())
    else {
        return Err(wrong);
    };
    let do_not_call = own.and_then(|(_, own)| own.do_not_call.clone()).or_else(|| all.do_not_call.clone());
    Ok(CallRules {
        by,
        channel,
        context: context.clone(),
        caller_id: caller_id.clone(),
        region,
        countries,
        allow_extensions: *of!(allow_extensions).0,
        ring: Duration::from_secs(*ring_seconds),
        longest: Duration::from_secs(*longest_seconds),
        amd,
        retry,
        hours: Hours { spans, days, zone },
        at_once: *at_once,
        per_second: *per_second,
        do_not_call,
    })
}

/// Every complaint about the section and its tables.
pub(super) fn complaints(settings: &TtsCalls) -> Vec<String> {
    let mut wrong = rules(settings, None).err().unwrap_or_default();
    for (tenant, own) in &settings.tenants {
        if !super::is_tenant(tenant) {
            wrong.push(format!(
                "tts_calls.tenants.{tenant}: a tenant's name is letters, digits, `-` and `_`, at most 64"
            ));
        }
        wrong.extend(rules(settings, Some((tenant, own))).err().unwrap_or_default());
    }
    // A fault of the section shows in every tenant that does not say otherwise.
    let mut told = std::collections::BTreeSet::new();
    wrong.retain(|complaint| told.insert(complaint.clone()));
    wrong
}

fn check(wrong: &mut Vec<String>, good: bool, complaint: String) {
    if !good {
        wrong.push(complaint);
    }
}

fn keep<T>(wrong: &mut Vec<String>, value: Result<T, String>) -> Option<T> {
    value.map_err(|complaint| wrong.push(complaint)).ok()
}

fn parsed<T: FromStr<Err = String>>(wrong: &mut Vec<String>, value: &str, key: &str) -> Option<T> {
    keep(wrong, value.parse().map_err(|reason| format!("{key}: {reason}")))
}

/// A region that has telephone numbers.
fn supported(code: &str) -> Result<Region, String> {
    Region::from_code(code)
        .ok()
        .filter(|region| code.len() == 2 && PHONE_NUMBER_UTIL.get_country_code_for_region(*region).is_some())
        .ok_or_else(|| format!("`{code}` is no country: use two letters (ISO 3166), such as CO, US or DE"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_work_and_a_tenants_table_wins_in_what_it_says() {
        let mut settings = Settings::default();
        assert_eq!(complaints(&settings.tts_calls), Vec::<String>::new());
        settings.tts_calls.region = "CO".into();
        let acme = settings.tts_calls.tenants.entry("acme".into()).or_default();
        (acme.region, acme.at_once) = (Some("US".into()), Some(3));
        acme.countries = Some(vec!["US".into(), "MX".into()]);
        let acme = settings.call_rules("acme").unwrap();
        assert_eq!((acme.region, acme.at_once, acme.by), (Some(Region::US), 3, PlacedBy::Ami));
        assert_eq!(acme.countries, Countries::These(vec![Region::US, Region::MX]));
        let other = settings.call_rules("other").unwrap();
        assert_eq!(
            other.countries,
            Countries::These(vec![Region::CO]),
            "only the own country unless others are named"
        );
        settings.tts_calls.countries = vec!["*".into()];
        assert_eq!(settings.call_rules("other").unwrap().countries, Countries::Any);
    }

    #[test]
    fn what_cannot_work_is_named_with_its_key_once() {
        let mut tts = TtsCalls { by: "smoke".into(), region: "XX".into(), ..TtsCalls::default() };
        tts.hours = "9-17".into();
        tts.tenants.entry("acme".into()).or_default().time_zone = Some("Bogota".into());
        tts.tenants.entry("acme".into()).or_default().countries = Some(vec!["Colombia".into()]);
        let wrong = complaints(&tts);
        let about = |key: &str| wrong.iter().filter(|complaint| complaint.starts_with(key)).count();
        for key in [
            "tts_calls.by",
            "tts_calls.region",
            "tts_calls.hours",
            "tts_calls.tenants.acme.time_zone",
            "tts_calls.tenants.acme.countries",
        ] {
            assert_eq!(about(key), 1, "{key}: {wrong:?}");
        }
        assert_eq!(wrong.len(), 5, "{wrong:?}");
    }
}
