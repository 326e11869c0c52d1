//! `config/sidetone.toml`: every setting with its help and its default, made from the settings' own table.

use toml::Value;

use super::settings::{SECTIONS, SectionDoc, Settings, TABLES};

/// The text of the example file. Settings without a default are commented out.
pub fn example() -> String {
    let defaults = Value::try_from(Settings::default()).unwrap_or(Value::Table(toml::Table::new()));
    let mut text = String::from(
        "# Sidetone's settings, each with its default. Any of them can also be given as an environment variable\n\
         # (SIDETONE__ARI__PASSWORD) or as a flag (--set ari.password=…); flags win over variables, variables over this file.\n",
    );
    for section in SECTIONS {
        text.push('\n');
        for line in section.doc {
            text += &format!("#{line}\n");
        }
        text += &format!("[{}]\n", section.name);
        for field in section.fields {
            let default = defaults.get(section.name).and_then(|s| s.get(field.name));
            // Shown as tables, behind the section.
            if matches!(default, Some(Value::Table(_))) {
                continue;
            }
            for line in field.doc {
                text += &format!("#{line}\n");
            }
            text += &match default {
                Some(value) => format!("{} = {value}\n", field.name),
                None => format!("# {} = \"\"\n", field.name),
            };
        }
        let below = format!("{}.", section.name);
        TABLES
            .iter()
            .filter(|table| table.name.starts_with(&below))
            .for_each(|table| text += &commented(table));
    }
    text
}

fn commented(table: &SectionDoc) -> String {
    let mut text = String::from("\n");
    for line in table.doc {
        text += &format!("#{line}\n");
    }
    text += &format!("# [{}]\n", table.name);
    for field in table.fields {
        for line in field.doc {
            text += &format!("#{line}\n");
        }
        text += &format!("# {} = …\n", field.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_file_is_the_generated_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/sidetone.toml");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(committed, example(), "run `sidetone config example > config/sidetone.toml`");
    }

    #[test]
    fn the_example_is_the_defaults() {
        assert_eq!(toml::from_str::<Settings>(&example()).unwrap(), Settings::default());
    }
}
