//! `--format`: `json`, `table …`, or the part of Go's template language people use with docker.
//!
//! Fields and nested fields (`{{.State.Pid}}`), `range`, `if`, `with`, variables, pipelines, and
//! docker's functions (`json`, `join`, `upper`, `println`, `index` …).

mod evaluate;
mod parse;

use serde_json::Value;

use crate::{output, table::Table};

/// A template that was understood.
#[derive(Debug)]
pub(crate) struct Template(Vec<parse::Node>);

impl Template {
    /// Understands a template, or says where it stops making sense.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        parse::parse(text).map(Self)
    }

    /// Fills it with a value's fields.
    pub(crate) fn fill(&self, value: &Value) -> anyhow::Result<String> {
        evaluate::fill(&self.0, value)
    }
}

/// Prints one value with `--format`, and a newline.
pub(crate) fn print_one(value: &Value, format: &str) -> anyhow::Result<()> {
    if format == "json" {
        output::line(value)?;
    } else {
        output::line(Template::parse(&unescape(format))?.fill(value)?)?;
    }
    Ok(())
}

/// How a listing command shows its rows.
pub(crate) struct Listing<'a> {
    /// The table when no format is given, as a template without the word `table`.
    pub(crate) default: &'a str,
    /// Headings that are not the field's name in capitals.
    pub(crate) headings: &'a [(&'a str, &'a str)],
    /// `-q`: this field only, no table.
    pub(crate) quiet: Option<&'a str>,
    /// `--format`
    pub(crate) format: Option<&'a str>,
}

impl Listing<'_> {
    /// Prints the rows.
    pub(crate) fn print(&self, rows: &[Value]) -> anyhow::Result<()> {
        if let (Some(field), None) = (self.quiet, self.format) {
            return each(rows, &Template::parse(&format!("{{{{.{field}}}}}"))?);
        }
        match self.format {
            None | Some("table") => self.table(rows, self.default),
            Some("json") => {
                for row in rows {
                    output::line(row)?;
                }
                Ok(())
            }
            Some(format) => match format.strip_prefix("table ") {
                Some(columns) => self.table(rows, columns),
                None => each(rows, &Template::parse(&unescape(format))?),
            },
        }
    }

    fn table(&self, rows: &[Value], columns: &str) -> anyhow::Result<()> {
        let template = Template::parse(&unescape(columns))?;
        let mut table = Table::default();
        let headings = parse::fields(&template.0).into_iter().map(|field| self.heading(&field));
        table.row(headings.collect::<Vec<_>>());
        for row in rows {
            table.row(template.fill(row)?.split('\t'));
        }
        output::text(table)?;
        Ok(())
    }

    fn heading(&self, field: &str) -> String {
        let known = self.headings.iter().find(|(name, _)| *name == field);
        known.map_or_else(|| field.to_uppercase(), |(_, heading)| (*heading).to_owned())
    }
}

fn each(rows: &[Value], template: &Template) -> anyhow::Result<()> {
    for row in rows {
        output::line(template.fill(row)?)?;
    }
    Ok(())
}

/// `\t` and `\n` as typed in a shell's single quotes.
fn unescape(format: &str) -> String {
    format.replace("\\t", "\t").replace("\\n", "\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;

    #[track_caller]
    fn check(template: &str, expected: &str) {
        let value = serde_json::json!({
            "ID": "abc", "Size": 3, "On": true, "Names": ["a", "b"],
            "State": { "Pid": 7 }, "Labels": { "k": "v" }, "Nothing": null,
        });
        let result = Template::parse(template).and_then(|template| template.fill(&value));
        match result {
            Ok(text) => assert_eq!(text, expected, "{template}"),
            Err(error) => assert_eq!(format!("error: {error}"), expected, "{template}"),
        }
    }

    #[test]
    fn fields_are_filled_in() {
        check("{{.ID}}", "abc");
        check("{{ .ID }}:{{.Size}} {{.On}}", "abc:3 true");
        check("{{.State.Pid}}", "7");
        check("plain", "plain");
        check("{{.Names}} {{.Labels}} {{.Nothing}}", "[a b] map[k:v] <no value>");
    }

    #[test]
    fn functions_and_pipelines_work() {
        check("{{json .Names}}", r#"["a","b"]"#);
        check("{{.Names | json}}", r#"["a","b"]"#);
        check("{{join .Names \", \"}}", "a, b");
        check("{{upper .ID}}{{lower \"X\"}}", "ABCx");
        check("{{len .Names}}", "2");
        check("{{index .Labels \"k\"}}{{index .Names 1}}", "vb");
        check("{{println .ID}}", "abc\n");
        check("{{printf \"%s-%d\" .ID .Size}}", "abc-3");
        check("{{truncate .ID 2}}", "ab");
        check("{{if eq .ID \"abc\"}}yes{{end}}", "yes");
    }

    #[test]
    fn blocks_work() {
        check("{{range .Names}}<{{.}}>{{end}}", "<a><b>");
        check("{{range $i, $n := .Names}}{{$i}}={{$n}};{{end}}", "0=a;1=b;");
        check("{{range $k, $v := .Labels}}{{$k}}={{$v}}{{end}}", "k=v");
        check("{{if .On}}on{{else}}off{{end}}", "on");
        check("{{if .Nothing}}x{{else if .On}}y{{else}}z{{end}}", "y");
        check("{{with .State}}{{.Pid}}{{end}}", "7");
        check("a {{- .ID -}} b", "aabcb");
        check("{{/* nothing */}}x", "x");
    }

    #[test]
    fn mistakes_are_explained() {
        check(
            "{{.Id}}",
            "error: the template names a field `Id` that is not there: there are ID, Labels, Names, Nothing, On, Size, State",
        );
        check("{{.ID", "error: the template has `{{` without `}}`");
        check("{{range .Names}}", "error: the template has a block without {{end}}");
        check("{{nope .ID}}", "error: the template uses a function `nope` that does not exist");
    }
}
