//! What differs between two readings of the settings.

use toml::Value;

use super::settings::{SECTIONS, Settings};

/// Names (`section.key`) of the settings that differ, in the order of the example file.
pub fn changed(before: &Settings, after: &Settings) -> Vec<String> {
    let [before, after] = [before, after].map(|s| Value::try_from(s).ok());
    let mut names = Vec::new();
    for section in SECTIONS {
        for field in section.fields {
            let [old, new] = [&before, &after].map(|all| all.as_ref()?.get(section.name)?.get(field.name));
            if old != new {
                names.push(format!("{}.{}", section.name, field.name));
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_differ_are_named_also_those_without_a_default() {
        let before = Settings::default();
        assert!(changed(&before, &before).is_empty());
        let mut after = before.clone();
        after.rtp.advertise = Some([192, 0, 2, 7].into());
        after.log.level = "debug".into();
        assert_eq!(changed(&before, &after), ["rtp.advertise", "log.level"]);
    }
}
