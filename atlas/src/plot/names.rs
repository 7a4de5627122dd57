//! Shortens names so that they can still be told apart.

use std::collections::BTreeMap;

use super::draw::{TextStyle, fit, width};
use super::font::is_without_width;

/// Shortest prefix that is worth cutting, in characters.
const PREFIX_MIN: usize = 4;
/// Share of a name's room for what it has in common with others.
const COMMON_SHARE: f32 = 0.4;
/// In less room, what names have in common is not shown.
const COMMON_ROOM_MIN: f32 = 90.0;

/// Replaces names of which nothing would be seen by their characters' numbers.
pub(crate) fn visible(names: &[String]) -> Vec<String> {
    let is_seen = |name: &String| name.chars().any(|c| !c.is_whitespace() && !is_without_width(c));
    let spelled = |name: &String| name.chars().map(|c| format!("U+{:04X}", u32::from(c))).collect::<Vec<_>>().join(" ");
    names.iter().map(|name| if is_seen(name) { name.clone() } else { spelled(name) }).collect()
}

/// Replaces what all names begin with by an ellipsis, if there are at least three.
pub(crate) fn without_common_prefix(names: &[String]) -> Vec<String> {
    let end = common_prefix(names.iter().map(String::as_str)).map_or(0, |prefix| whole_words(&prefix));
    let is_worth_it = names.len() > 2 && names[0][..end].chars().count() >= PREFIX_MIN;
    if !is_worth_it || names.iter().any(|name| name.len() == end) {
        return names.to_vec();
    }
    names.iter().map(|name| format!("…{}", &name[end..])).collect()
}

/// Truncates names to a width. Names that would then read the same are cut in what they have in common instead.
pub(crate) fn fit_all(names: &[String], style: TextStyle<'_>, most: f32) -> Vec<String> {
    fit_parts(names, style, most, false)
}

/// As [`fit_all`], for names or for what is left of them after an ellipsis.
fn fit_parts(names: &[String], style: TextStyle<'_>, most: f32, are_cut: bool) -> Vec<String> {
    let mut fitted: Vec<String> = names.iter().map(|name| fit(name, style, most)).collect();
    let mut alike: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, name) in fitted.iter().enumerate() {
        alike.entry(name.clone()).or_default().push(index);
    }
    for group in alike.into_values().filter(|group| group.len() > 1) {
        let plain: Vec<String> =
            group.iter().map(|index| names[*index].split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let Some(prefix) = common_prefix(plain.iter().map(String::as_str)) else { continue };
        let end = if whole_words(&prefix) > 0 { whole_words(&prefix) } else { prefix.len() };
        if end == 0 || plain.iter().all(|name| name.len() == end) {
            continue;
        }
        let head = match most < COMMON_ROOM_MIN {
            _ if are_cut => String::new(),
            true => "…".to_owned(),
            false => fit(&prefix[..end], style, most * COMMON_SHARE),
        };
        let rests: Vec<String> = plain.iter().map(|name| name[end..].to_owned()).collect();
        let is_whole = !head.is_empty() && !head.ends_with('…');
        let space = if is_whole && prefix[..end].ends_with(' ') { " " } else { "" };
        let rests = fit_parts(&rests, style, most - width(&format!("{head}{space}"), style), !is_whole);
        for (index, rest) in group.into_iter().zip(rests) {
            fitted[index] = format!("{head}{space}{rest}");
        }
    }
    fitted
}

/// Returns what all texts begin with; `None` without texts.
fn common_prefix<'t>(mut texts: impl Iterator<Item = &'t str>) -> Option<String> {
    let mut prefix = texts.next()?;
    for text in texts {
        let same = prefix.chars().zip(text.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
        prefix = &prefix[..same];
    }
    Some(prefix.to_owned())
}

/// Returns the length of a prefix up to its last word that is surely whole.
fn whole_words(prefix: &str) -> usize {
    prefix.rfind(|c: char| !c.is_alphanumeric()).map_or(0, |at| {
        let last = prefix[at..].chars().next().map_or(0, char::len_utf8);
        at + last
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn what_all_names_begin_with_is_cut() {
        let names = named(&["Categoría número 1", "Categoría número 12", "Categoría número 3"]);
        assert_eq!(without_common_prefix(&names), ["…1", "…12", "…3"]);
        for kept in [named(&["axum", "axum_core", "axum_extra"]), named(&["a b", "a c", "a d"]), named(&["one two"])] {
            assert_eq!(without_common_prefix(&kept), kept);
        }
        assert!(without_common_prefix(&[]).is_empty());
    }

    #[test]
    fn long_names_with_a_common_beginning_stay_distinct() {
        let style = TextStyle::plain(13.0);
        let mut names: Vec<String> = (0..9).map(|at| format!("Categoría número {at} de las más largas")).collect();
        names.push("otra".into());
        names.push("Categoría número".repeat(300));
        for most in [60.0, 120.0, 250.0] {
            let fitted = fit_all(&names, style, most);
            let distinct: std::collections::BTreeSet<&String> = fitted.iter().collect();
            assert_eq!(distinct.len(), names.len(), "{fitted:?}");
            assert!(fitted.iter().all(|name| width(name, style) <= most + 20.0), "{fitted:?}");
        }
    }

    #[test]
    fn names_that_cannot_be_seen_are_spelled() {
        assert_eq!(visible(&named(&["a b", "  ", "\u{200B}"])), ["a b", "U+0020 U+0020", "U+200B"]);
    }

    #[test]
    fn equal_names_stay_equal() {
        let names = vec!["the same name, much too long for its room".to_owned(); 3];
        assert_eq!(fit_all(&names, TextStyle::plain(13.0), 60.0)[0], fit_all(&names, TextStyle::plain(13.0), 60.0)[2]);
    }
}
