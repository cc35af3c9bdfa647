//! An object of a document, read field by field: keys in any case as Go's decoder took them, a problem
//! with its place for a wrong type, and a warning for every key nobody asked for.

use super::json::Json;
use crate::problems::Findings;

/// What is left of an object, and what was asked for.
pub(super) struct Fields {
    /// Where the object is, such as `cgroups` or `mounts[2]`; empty at the top.
    place: String,
    left: Vec<(String, Json)>,
    asked: Vec<&'static str>,
}

impl Fields {
    /// The fields of a value, which must be an object.
    pub(super) fn of(value: Json, place: &str, findings: &mut Findings) -> Self {
        let left = match value {
            Json::Object(entries) => entries,
            Json::Null => Vec::new(),
            other => {
                findings.problem(place, format_args!("must be an object, not {}", other.kind()));
                Vec::new()
            }
        };
        Self { place: place.to_owned(), left, asked: Vec::new() }
    }

    /// Where a field of this object is.
    pub(super) fn place(&self, name: &str) -> String {
        if self.place.is_empty() { name.to_owned() } else { format!("{}.{name}", self.place) }
    }

    /// A field's value; Go's last one wins when a key is repeated in another case. `null` is absent.
    pub(super) fn value(&mut self, name: &'static str) -> Option<Json> {
        self.asked.push(name);
        let mut found = None;
        self.left.retain_mut(|(key, value)| {
            let is_it = key.eq_ignore_ascii_case(name);
            if is_it {
                found = Some(std::mem::replace(value, Json::Null));
            }
            !is_it
        });
        found.filter(|value| *value != Json::Null)
    }

    /// Whether a field is this string; it stays to be read.
    pub(super) fn is(&self, name: &str, text: &str) -> bool {
        let same = |(key, value): &(String, Json)| {
            key.eq_ignore_ascii_case(name) && matches!(value, Json::Text(it) if it == text)
        };
        self.left.iter().any(same)
    }

    pub(super) fn text(&mut self, name: &'static str, findings: &mut Findings) -> String {
        match self.value(name) {
            None => String::new(),
            Some(Json::Text(text)) => text,
            Some(other) => self.wrong(name, "a string", &other, findings),
        }
    }

    /// A string that says something.
    pub(super) fn filled(&mut self, name: &'static str, findings: &mut Findings) -> Option<String> {
        Some(self.text(name, findings)).filter(|text| !text.is_empty())
    }

    pub(super) fn flag(&mut self, name: &'static str, findings: &mut Findings) -> bool {
        match self.value(name) {
            None => false,
            Some(Json::Bool(flag)) => flag,
            Some(other) => self.wrong(name, "a boolean", &other, findings),
        }
    }

    /// A number, `None` when absent.
    pub(super) fn number(&mut self, name: &'static str, findings: &mut Findings) -> Option<i64> {
        match self.value(name)? {
            Json::Number(number) => match number.as_i64() {
                Some(number) => Some(number),
                None => {
                    findings.problem(self.place(name), format_args!("{number} is no whole number"));
                    None
                }
            },
            other => self.wrong(name, "a number", &other, findings),
        }
    }

    /// A number that says something: the old programs took zero for "not set".
    pub(super) fn set(&mut self, name: &'static str, findings: &mut Findings) -> Option<i64> {
        self.number(name, findings).filter(|number| *number != 0)
    }

    /// A number of a narrower type; absent is its zero.
    pub(super) fn narrow<T: TryFrom<i64> + Default>(
        &mut self,
        name: &'static str,
        findings: &mut Findings,
    ) -> T {
        let number = self.number(name, findings).unwrap_or_default();
        T::try_from(number).unwrap_or_else(|_| {
            findings.problem(self.place(name), format_args!("{number} is out of range"));
            T::default()
        })
    }

    /// A list's items, `None` when absent.
    pub(super) fn items(
        &mut self,
        name: &'static str,
        findings: &mut Findings,
    ) -> Option<Vec<Json>> {
        match self.value(name)? {
            Json::List(items) => Some(items),
            other => self.wrong(name, "a list", &other, findings),
        }
    }

    /// A list of objects, each lowered with its own place.
    pub(super) fn objects<T>(
        &mut self,
        name: &'static str,
        findings: &mut Findings,
        mut lower: impl FnMut(&mut Fields, &mut Findings) -> Option<T>,
    ) -> Option<Vec<T>> {
        let items = self.items(name, findings)?;
        let mut lowered = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let place = format!("{}[{index}]", self.place(name));
            let mut fields = Fields::of(item, &place, findings);
            lowered.extend(lower(&mut fields, findings));
            fields.finish(findings);
        }
        Some(lowered)
    }

    /// A list of strings.
    pub(super) fn texts(
        &mut self,
        name: &'static str,
        findings: &mut Findings,
    ) -> Option<Vec<String>> {
        let items = self.items(name, findings)?;
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            match item {
                Json::Text(text) => texts.push(text),
                Json::Number(number) => texts.push(number.to_string()),
                other => {
                    let place = format!("{}[{index}]", self.place(name));
                    findings.problem(place, format_args!("must be a string, not {}", other.kind()));
                }
            }
        }
        Some(texts)
    }

    /// An object's fields; absent is empty.
    pub(super) fn object(&mut self, name: &'static str, findings: &mut Findings) -> Option<Self> {
        let value = self.value(name)?;
        let place = self.place(name);
        Some(Self::of(value, &place, findings))
    }

    /// The entries of an object whose keys are data.
    pub(super) fn entries(
        &mut self,
        name: &'static str,
        findings: &mut Findings,
    ) -> Vec<(String, Json)> {
        self.object(name, findings).map(|fields| fields.left).unwrap_or_default()
    }

    /// A warning for every key nobody asked for, with the one that may have been meant.
    pub(super) fn finish(self, findings: &mut Findings) {
        for (key, _) in &self.left {
            let nearest = self
                .asked
                .iter()
                .map(|known| (distance(&key.to_ascii_lowercase(), known), known))
                .min()
                .filter(|(distance, known)| *distance <= 1 + known.len() / 4);
            let place = self.place(key);
            match nearest {
                Some((_, known)) => {
                    findings.warn(place, format_args!("unknown key, did you mean {known:?}?"));
                }
                None => findings.warn(place, "unknown key"),
            }
        }
    }

    fn wrong<T: Default>(
        &self,
        name: &str,
        wanted: &str,
        found: &Json,
        findings: &mut Findings,
    ) -> T {
        let what = format_args!("must be {wanted}, not {}", found.kind());
        findings.problem(self.place(name), what);
        T::default()
    }
}

/// How many letters must be added, removed or replaced to make one word of the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (above, letter) in one.chars().enumerate() {
        let mut diagonal = above;
        let mut left = above + 1;
        let mut next = vec![left];
        for (index, candidate) in other.iter().enumerate() {
            let up = row.get(index + 1).copied().unwrap_or(usize::MAX);
            let replaced = diagonal + usize::from(letter != *candidate);
            left = replaced.min(up.saturating_add(1)).min(left + 1);
            diagonal = up;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]
    use super::*;

    fn fields(text: &str) -> Fields {
        Fields::of(serde_json::from_str(text).unwrap(), "", &mut Findings::default())
    }

    #[test]
    fn keys_are_found_in_any_case_and_the_last_wins() {
        let mut findings = Findings::default();
        let mut fields = fields(r#"{"HostName": "a", "hostname": "b", "tty": null}"#);
        assert_eq!(fields.text("hostname", &mut findings), "b");
        assert!(!fields.flag("tty", &mut findings));
        fields.finish(&mut findings);
        assert_eq!(findings.finish(()).unwrap().warnings, []);
    }

    #[test]
    fn an_unknown_key_is_a_warning_with_a_suggestion() {
        let mut findings = Findings::default();
        let mut fields = fields(r#"{"hostnme": "a", "colour": 1}"#);
        fields.text("hostname", &mut findings);
        fields.finish(&mut findings);
        let warnings = findings.finish(()).unwrap().warnings;
        let texts: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [r#"hostnme: unknown key, did you mean "hostname"?"#, "colour: unknown key"]
        );
    }

    #[test]
    fn letters_are_counted() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
