//! Nodes and a value to text.

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::parse::{Block, Node, Operand, Pipeline};

/// Fills a template.
pub(super) fn fill(nodes: &[Node], value: &Value) -> anyhow::Result<String> {
    let mut scope = Scope { variables: vec![(String::new(), value.clone())], text: String::new() };
    scope.nodes(nodes, value)?;
    Ok(scope.text)
}

struct Scope {
    /// Innermost last; the first, without a name, is `$`.
    variables: Vec<(String, Value)>,
    text: String,
}

impl Scope {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> anyhow::Result<()> {
        for node in nodes {
            match node {
                Node::Text(text) => self.text.push_str(text),
                Node::Action(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    match pipeline.variables.first() {
                        Some(name) => self.variables.push((name.clone(), value)),
                        None => self.text.push_str(&show(&value)),
                    }
                }
                Node::Block { kind, pipeline, body, otherwise } => {
                    let outer = self.variables.len();
                    self.block(*kind, pipeline, body, otherwise, dot)?;
                    self.variables.truncate(outer);
                }
            }
        }
        Ok(())
    }

    fn block(
        &mut self,
        kind: Block,
        pipeline: &Pipeline,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> anyhow::Result<()> {
        let value = self.pipeline(pipeline, dot)?;
        if !is_true(&value) {
            return self.nodes(otherwise, dot);
        }
        match kind {
            Block::If => self.nodes(body, dot),
            Block::With => {
                self.variables
                    .extend(pipeline.variables.first().map(|n| (n.clone(), value.clone())));
                self.nodes(body, &value)
            }
            Block::Range => {
                let items: Vec<(Value, Value)> = match value {
                    Value::Array(items) => (0..).map(|at: u64| json!(at)).zip(items).collect(),
                    Value::Object(map) => map.into_iter().map(|(k, v)| (json!(k), v)).collect(),
                    _ => bail!("the template ranges over something that is no list"),
                };
                let outer = self.variables.len();
                for (key, item) in items {
                    match &pipeline.variables[..] {
                        [] => {}
                        [one] => self.variables.push((one.clone(), item.clone())),
                        [first, second, ..] => self
                            .variables
                            .extend([(first.clone(), key), (second.clone(), item.clone())]),
                    }
                    self.nodes(body, &item)?;
                    self.variables.truncate(outer);
                }
                Ok(())
            }
        }
    }

    fn pipeline(&self, pipeline: &Pipeline, dot: &Value) -> anyhow::Result<Value> {
        let mut piped = None;
        for command in &pipeline.commands {
            let Some((first, rest)) = command.split_first() else {
                bail!("the template has an empty command");
            };
            let mut arguments = Vec::with_capacity(rest.len() + 1);
            for operand in rest {
                arguments.push(self.operand(operand, dot)?);
            }
            arguments.extend(piped.take());
            piped = Some(match first {
                Operand::Function(name) => call(name, &arguments)?,
                _ if arguments.is_empty() => self.operand(first, dot)?,
                _ => bail!("the template gives arguments to something that is no function"),
            });
        }
        piped.context("the template has an empty command")
    }

    fn operand(&self, operand: &Operand, dot: &Value) -> anyhow::Result<Value> {
        match operand {
            Operand::Field(path) => field(dot, path),
            Operand::Variable(name, path) => {
                let variable = self.variables.iter().rev().find(|(known, _)| known == name);
                let (_, value) =
                    variable.with_context(|| format!("the template has no variable `${name}`"))?;
                field(value, path)
            }
            Operand::Text(text) => Ok(json!(text)),
            Operand::Number(number) => Ok(json!(number)),
            Operand::Boolean(boolean) => Ok(json!(boolean)),
            Operand::Function(name) => call(name, &[]),
            Operand::Group(pipeline) => self.pipeline(pipeline, dot),
        }
    }
}

fn field(value: &Value, path: &[String]) -> anyhow::Result<Value> {
    let mut value = value;
    for name in path {
        value = match value {
            Value::Object(map) => map.get(name).with_context(|| {
                let names: Vec<&str> = map.keys().map(String::as_str).collect();
                let names = names.join(", ");
                format!("the template names a field `{name}` that is not there: there are {names}")
            })?,
            Value::Null => return Ok(Value::Null),
            _ => bail!("the template asks for a field `{name}` of something that has none"),
        };
    }
    Ok(value.clone())
}

fn call(name: &str, arguments: &[Value]) -> anyhow::Result<Value> {
    let text = |at: usize| arguments.get(at).map(show).unwrap_or_default();
    Ok(match (name, arguments) {
        ("json", [value]) => json!(value.to_string()),
        ("upper", [_]) => json!(text(0).to_uppercase()),
        ("lower", [_]) => json!(text(0).to_lowercase()),
        ("title", [_]) => {
            let text = text(0);
            let mut letters = text.chars();
            let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
            json!(first + letters.as_str())
        }
        ("len", [value]) => match value {
            Value::Array(items) => json!(items.len()),
            Value::Object(map) => json!(map.len()),
            _ => json!(text(0).len()),
        },
        ("join", [Value::Array(items), separator]) => {
            json!(items.iter().map(show).collect::<Vec<_>>().join(&show(separator)))
        }
        ("join", [Value::Null, _]) => json!(""),
        ("split", [_, _]) => json!(text(0).split(text(1).as_str()).collect::<Vec<_>>()),
        ("truncate", [_, Value::Number(length)]) => {
            let length = length.as_u64().and_then(|length| usize::try_from(length).ok());
            json!(text(0).chars().take(length.unwrap_or(usize::MAX)).collect::<String>())
        }
        ("index", [value, keys @ ..]) => index(value, keys)?,
        ("println", _) => json!(arguments.iter().map(show).collect::<Vec<_>>().join(" ") + "\n"),
        ("print", _) => json!(arguments.iter().map(show).collect::<String>()),
        ("printf", [format, values @ ..]) => json!(printf(&show(format), values)),
        ("not", [value]) => json!(!is_true(value)),
        ("eq", [first, others @ ..]) if !others.is_empty() => json!(others.contains(first)),
        ("ne", [first, second]) => json!(first != second),
        ("and", [.., last]) => {
            arguments.iter().find(|value| !is_true(value)).unwrap_or(last).clone()
        }
        ("or", [.., last]) => arguments.iter().find(|value| is_true(value)).unwrap_or(last).clone(),
        (
            "json" | "upper" | "lower" | "title" | "len" | "join" | "split" | "truncate" | "index"
            | "printf" | "not" | "eq" | "ne" | "and" | "or",
            _,
        ) => bail!("the template gives `{name}` arguments it cannot take"),
        _ => bail!("the template uses a function `{name}` that does not exist"),
    })
}

fn index(value: &Value, keys: &[Value]) -> anyhow::Result<Value> {
    let mut value = value;
    for key in keys {
        let found = match (value, key) {
            (Value::Array(items), Value::Number(at)) => {
                at.as_u64().and_then(|at| items.get(usize::try_from(at).ok()?))
            }
            // A missing key of a map is Go's zero value, not an error.
            (Value::Object(map), Value::String(key)) => Some(map.get(key).unwrap_or(&Value::Null)),
            _ => None,
        };
        value = found.with_context(|| format!("the template has no index {key} there"))?;
    }
    Ok(value.clone())
}

fn printf(format: &str, values: &[Value]) -> String {
    let (mut text, mut values) = (String::new(), values.iter());
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        match letters.next() {
            Some('%') => text.push('%'),
            Some('q') => {
                text.push_str(&format!("{:?}", values.next().map(show).unwrap_or_default()));
            }
            _ => text.push_str(&values.next().map(show).unwrap_or_default()),
        }
    }
    text
}

/// As Go's `%v` writes it.
fn show(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" "))
        }
        Value::Object(map) => {
            let entries = map.iter().map(|(key, value)| format!("{key}:{}", show(value)));
            format!("map[{}]", entries.collect::<Vec<_>>().join(" "))
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// As Go decides: the zero value of anything is false.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(boolean) => *boolean,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}
