//! Values of options: the names that can be typed, and what they are read as.

use std::time::Duration;

use clap::ValueEnum;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use coordinator::access::Role;
use dataset::{Keep, Quote, encoding_name};
use engine::DeviceSpec;
use proto::job::MaxRejects;

/// What `auto` means for pooling.
pub(crate) const OWN_POOLING: &str = "What the model's own configuration says, or `cls` where it says nothing";

/// A value, or `auto`: what suits the model or the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Auto<T>(pub(crate) Option<T>);

/// Reads `auto` or the name of a value. `meaning` says in the help what `auto` is.
pub(crate) fn auto_or<T: ValueEnum + Send + Sync + 'static>(
    meaning: &'static str,
) -> impl TypedValueParser<Value = Auto<T>> {
    let named = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    let names = std::iter::once(PossibleValue::new("auto").help(meaning)).chain(named);
    PossibleValuesParser::new(names).map(|name| Auto(T::from_str(&name, false).ok()))
}

/// Reads `all`, `none` or column names separated by commas.
pub(crate) fn parse_keep(text: &str) -> Result<Keep, String> {
    match text {
        "all" => Ok(Keep::All),
        "none" => Ok(Keep::None),
        names => {
            let names: Vec<String> = names.split(',').map(|name| name.trim().to_owned()).collect();
            if names.iter().any(String::is_empty) {
                return Err("expected `all`, `none`, or column names separated by commas".to_owned());
            }
            Ok(Keep::Columns(names))
        }
    }
}

/// Reads one ASCII character that can separate fields.
pub(crate) fn parse_delimiter(text: &str) -> Result<char, String> {
    match text {
        "tab" | "\\t" => Ok('\t'),
        text => {
            character(text).ok_or_else(|| format!("expected one ASCII character such as `;`, or `tab`, found `{text}`"))
        }
    }
}

/// Reads `none` or one ASCII character.
pub(crate) fn parse_quote(text: &str) -> Result<Quote, String> {
    if text == "none" {
        return Ok(Quote::None);
    }
    let quote = character(text).map(Quote::Char);
    quote.ok_or_else(|| format!("expected `none` or one ASCII character such as `'`, found `{text}`"))
}

fn character(text: &str) -> Option<char> {
    let mut characters = text.chars();
    let character = characters.next().filter(|character| character.is_ascii() && !"\r\n".contains(*character))?;
    characters.next().is_none().then_some(character)
}

/// Reads the name of a character encoding, and returns the one that the WHATWG standard gives it.
pub(crate) fn parse_encoding(text: &str) -> Result<String, String> {
    let name = encoding_name(text).map(str::to_owned);
    name.ok_or_else(|| {
        format!("expected a label of the WHATWG encoding standard such as `windows-1252` or `utf-16le`, found `{text}`")
    })
}

/// Reads a count or a percentage.
pub(crate) fn parse_max_rejects(text: &str) -> Result<MaxRejects, String> {
    let expected = || format!("expected a count such as `100` or a share such as `1%`, found `{text}`");
    match text.strip_suffix('%') {
        Some(share) => match share.trim().parse::<f64>() {
            Ok(share) if (0.0..=100.0).contains(&share) => Ok(MaxRejects::Percent(share)),
            Ok(_) | Err(_) => Err(expected()),
        },
        None => text.parse().map(MaxRejects::Rows).map_err(|_| expected()),
    }
}

/// Devices as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DeviceArg {
    /// The machine's GPUs, else its CPU.
    Auto,
    /// Every GPU.
    AllGpus,
    /// These.
    These(Vec<DeviceSpec>),
}

/// Reads `auto`, `cpu`, `cuda:all`, or GPUs such as `cuda:0,1`.
pub(crate) fn parse_device(text: &str) -> Result<DeviceArg, String> {
    if text == "auto" {
        return Ok(DeviceArg::Auto);
    }
    if text == "cuda:all" {
        return Ok(DeviceArg::AllGpus);
    }
    let Some(ordinals) = text.strip_prefix("cuda:") else {
        return text.parse().map(|device| DeviceArg::These(vec![device])).map_err(|_| expected_device(text));
    };
    let devices = ordinals.split(',').map(|ordinal| ordinal.trim().parse().map(DeviceSpec::Cuda));
    devices.collect::<Result<_, _>>().map(DeviceArg::These).map_err(|_| expected_device(text))
}

fn expected_device(text: &str) -> String {
    format!("expected `auto`, `cpu`, `cuda`, `cuda:0,1` or `cuda:all`, found `{text}`")
}

/// Reads what a token is for.
pub(crate) fn parse_role(text: &str) -> Result<Role, String> {
    text.parse()
}

/// Reads a duration such as `500ms`, `30s`, `15m` or `2h`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("expected a duration such as `500ms`, `30s`, `15m` or `2h`, found `{text}`");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(expected)?;
    let number: u64 = text[..digits].parse().map_err(|_| expected())?;
    let unit_ms: u64 = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(expected()),
    };
    match number.checked_mul(unit_ms) {
        Some(ms) if ms > 0 => Ok(Duration::from_millis(ms)),
        Some(_) | None => Err(expected()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_are_a_count_or_a_share() {
        assert_eq!(parse_max_rejects("7"), Ok(MaxRejects::Rows(7)));
        assert_eq!(parse_max_rejects("0.5%"), Ok(MaxRejects::Percent(0.5)));
        for wrong in ["", "-1", "101%", "many", "%"] {
            assert!(parse_max_rejects(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("15m"), Ok(Duration::from_secs(900)));
        for wrong in ["", "5", "s", "0s", "5d", "-1s", "99999999999999999999s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn devices_are_one_of_a_kind_or_several_gpus() {
        assert_eq!(parse_device("auto"), Ok(DeviceArg::Auto));
        assert_eq!(parse_device("cuda:all"), Ok(DeviceArg::AllGpus));
        assert_eq!(parse_device("cpu"), Ok(DeviceArg::These(vec![DeviceSpec::Cpu])));
        assert_eq!(parse_device("cuda:0,2"), Ok(DeviceArg::These(vec![DeviceSpec::Cuda(0), DeviceSpec::Cuda(2)])));
        assert!(parse_device("cuda:x").is_err() && parse_device("tpu").is_err());
    }

    #[test]
    fn kept_columns_are_names_in_order() {
        assert_eq!(parse_keep("all"), Ok(Keep::All));
        assert_eq!(parse_keep("none"), Ok(Keep::None));
        assert_eq!(parse_keep("b, a"), Ok(Keep::Columns(vec!["b".to_owned(), "a".to_owned()])));
        assert!(parse_keep("a,,b").is_err());
    }
}
