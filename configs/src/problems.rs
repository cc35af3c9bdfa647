//! What is wrong with a document, all of it at once, each with its place.

use std::fmt;

/// One thing that is wrong, or worth a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where in the document or command line: `process.capabilities.bounding[3]`, `--memory`.
    pub place: String,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.is_empty() {
            return formatter.write_str(&self.what);
        }
        write!(formatter, "{}: {}", self.place, self.what)
    }
}

/// Every problem of a document: a reader fixes a file once, not once per run. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// A single problem.
    pub fn one(place: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self(vec![Problem { place: place.to_string(), what: what.to_string() }])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(formatter, "{separator}{problem}")?;
        }
        Ok(())
    }
}

/// A lowered document, and what its author should know although it is no reason to refuse.
#[derive(Clone, Debug, PartialEq)]
pub struct Lowered<T> {
    /// The result.
    pub value: T,
    /// Such as an unknown capability, or a key nobody has heard of.
    pub warnings: Vec<Problem>,
}

/// Collects problems and warnings while a document is lowered.
///
/// Places are `fmt::Arguments`, so that they cost nothing until there is something to say.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Findings {
    pub(crate) fn problem(&mut self, place: impl fmt::Display, what: impl fmt::Display) {
        self.problems.push(Problem { place: place.to_string(), what: what.to_string() });
    }

    pub(crate) fn warn(&mut self, place: impl fmt::Display, what: impl fmt::Display) {
        self.warnings.push(Problem { place: place.to_string(), what: what.to_string() });
    }

    /// Keeps the value, or notes why there is none.
    pub(crate) fn take<T, E: fmt::Display>(
        &mut self,
        place: impl fmt::Display,
        result: Result<T, E>,
    ) -> Option<T> {
        result.map_err(|what| self.problem(place, what)).ok()
    }

    pub(crate) fn finish<T>(self, value: T) -> Result<Lowered<T>, Problems> {
        if self.problems.is_empty() {
            Ok(Lowered { value, warnings: self.warnings })
        } else {
            Err(Problems(self.problems))
        }
    }
}
