//! Text to nodes.

use anyhow::{Context, bail};

/// Blocks in blocks in blocks: nobody writes more.
const MAX_DEPTH: usize = 32;

/// A piece of a template.
#[derive(Debug, PartialEq)]
pub(super) enum Node {
    Text(String),
    Action(Pipeline),
    Block { kind: Block, pipeline: Pipeline, body: Vec<Self>, otherwise: Vec<Self> },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Block {
    If,
    Range,
    With,
}

/// `$a, $b := command | command`
#[derive(Debug, Default, PartialEq)]
pub(super) struct Pipeline {
    pub(super) variables: Vec<String>,
    pub(super) commands: Vec<Vec<Operand>>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Operand {
    /// `.A.B`; empty for `.`
    Field(Vec<String>),
    /// `$name.A.B`; the name is empty for `$`, the value the template was filled with.
    Variable(String, Vec<String>),
    Text(String),
    Number(i64),
    Boolean(bool),
    Function(String),
    Group(Pipeline),
}

#[derive(Debug)]
enum Piece {
    Text(String),
    Action(String),
}

/// Understands a template.
pub(super) fn parse(text: &str) -> anyhow::Result<Vec<Node>> {
    let mut pieces = split(text)?.into_iter();
    let (nodes, end) = block(&mut pieces, 0)?;
    match end {
        None => Ok(nodes),
        Some(word) => bail!("the template has {{{{{word}}}}} outside of a block"),
    }
}

/// The field each action of a table row starts from: its heading.
pub(super) fn fields(nodes: &[Node]) -> Vec<String> {
    let mut fields = Vec::new();
    for node in nodes {
        if let Node::Action(pipeline) | Node::Block { pipeline, .. } = node {
            let operands = pipeline.commands.iter().flatten();
            let field = operands.into_iter().find_map(|operand| match operand {
                Operand::Field(path) => path.last().cloned(),
                _ => None,
            });
            fields.push(field.unwrap_or_default());
        }
    }
    fields
}

fn split(text: &str) -> anyhow::Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let (mut rest, mut trim_next) = (text, false);
    while let Some((before, after)) = rest.split_once("{{") {
        let (action, after) =
            after.split_once("}}").context("the template has `{{` without `}}`")?;
        let trims_left = action.starts_with("- ");
        let trims_right = action.ends_with(" -");
        let before = if trim_next { before.trim_start() } else { before };
        let before = if trims_left { before.trim_end() } else { before };
        pieces.push(Piece::Text(before.to_owned()));
        let action = action.strip_prefix("- ").unwrap_or(action);
        let action = action.strip_suffix(" -").unwrap_or(action);
        pieces.push(Piece::Action(action.trim().to_owned()));
        (rest, trim_next) = (after, trims_right);
    }
    pieces.push(Piece::Text(if trim_next { rest.trim_start() } else { rest }.to_owned()));
    Ok(pieces)
}

/// Nodes up to the action that ends the block, which is returned too.
fn block(
    pieces: &mut impl Iterator<Item = Piece>,
    depth: usize,
) -> anyhow::Result<(Vec<Node>, Option<String>)> {
    if depth > MAX_DEPTH {
        bail!("the template has too many blocks inside each other");
    }
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let action = match piece {
            Piece::Text(text) if text.is_empty() => continue,
            Piece::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Piece::Action(action) => action,
        };
        let (word, arguments) = action.split_once(' ').unwrap_or((&action, ""));
        match word {
            "end" | "else" => return Ok((nodes, Some(action))),
            "if" => nodes.push(open(Block::If, arguments, pieces, depth)?),
            "range" => nodes.push(open(Block::Range, arguments, pieces, depth)?),
            "with" => nodes.push(open(Block::With, arguments, pieces, depth)?),
            _ if action.starts_with("/*") => {}
            _ => nodes.push(Node::Action(pipeline(&action)?)),
        }
    }
    Ok((nodes, None))
}

fn open(
    kind: Block,
    condition: &str,
    pieces: &mut impl Iterator<Item = Piece>,
    depth: usize,
) -> anyhow::Result<Node> {
    const UNENDED: &str = "the template has a block without {{end}}";
    let pipeline = pipeline(condition)?;
    // Boxed: the recursion through `block` would make this an iterator of ever deeper type.
    let pieces: &mut dyn Iterator<Item = Piece> = pieces;
    let mut pieces = pieces;
    let (body, end) = block(&mut pieces, depth + 1)?;
    let end = end.context(UNENDED)?;
    let otherwise = match end.strip_prefix("else").map(str::trim) {
        None => Vec::new(),
        Some("") => {
            let (otherwise, end) = block(&mut pieces, depth + 1)?;
            if end.context(UNENDED)? != "end" {
                bail!("the template has two {{{{else}}}} in one block");
            }
            otherwise
        }
        Some(chained) => match chained.split_once(' ') {
            // Its {{end}} ends the outer block too.
            Some(("if", condition)) => vec![open(Block::If, condition, &mut pieces, depth + 1)?],
            _ => bail!("the template has {{{{else {chained}}}}}, which is no else if"),
        },
    };
    Ok(Node::Block { kind, pipeline, body, otherwise })
}

fn pipeline(text: &str) -> anyhow::Result<Pipeline> {
    let mut tokens = tokens(text)?;
    tokens.reverse();
    let pipeline = commands(&mut tokens, 0)?;
    if !tokens.is_empty() {
        bail!("the template has `)` without `(` in `{text}`");
    }
    if pipeline.commands.iter().any(Vec::is_empty) {
        bail!("the template has an empty command in `{text}`");
    }
    Ok(pipeline)
}

/// Consumes tokens, last first, up to a closing parenthesis.
fn commands(tokens: &mut Vec<String>, depth: usize) -> anyhow::Result<Pipeline> {
    if depth > MAX_DEPTH {
        bail!("the template has too many parentheses inside each other");
    }
    let mut pipeline = Pipeline { variables: Vec::new(), commands: vec![Vec::new()] };
    while let Some(token) = tokens.pop() {
        let operand = match token.as_str() {
            ")" if depth > 0 => return Ok(pipeline),
            ")" => {
                tokens.push(token);
                return Ok(pipeline);
            }
            "|" => {
                pipeline.commands.push(Vec::new());
                continue;
            }
            ":=" => {
                let names = pipeline.commands.drain(..).flatten();
                pipeline.variables = names
                    .map(|name| match name {
                        Operand::Variable(name, _) => Ok(name),
                        _ => bail!("the template assigns to something that is no variable"),
                    })
                    .collect::<anyhow::Result<_>>()?;
                pipeline.commands.push(Vec::new());
                continue;
            }
            "(" => Operand::Group(commands(tokens, depth + 1)?),
            _ => operand(&token)?,
        };
        if let Some(command) = pipeline.commands.last_mut() {
            command.push(operand);
        }
    }
    if depth > 0 {
        bail!("the template has `(` without `)`");
    }
    Ok(pipeline)
}

fn operand(token: &str) -> anyhow::Result<Operand> {
    let path = |text: &str| {
        text.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    Ok(match token.chars().next() {
        Some('.') => Operand::Field(path(token)),
        Some('$') => {
            let (name, fields) = token.split_once('.').unwrap_or((token, ""));
            Operand::Variable(name.trim_start_matches('$').to_owned(), path(fields))
        }
        Some('"') => Operand::Text(
            serde_json::from_str(token).with_context(|| format!("{token} is no template text"))?,
        ),
        Some('`') => Operand::Text(token.trim_matches('`').to_owned()),
        Some('-' | '0'..='9') => {
            Operand::Number(token.parse().with_context(|| format!("{token} is no number"))?)
        }
        _ if token == "true" => Operand::Boolean(true),
        _ if token == "false" => Operand::Boolean(false),
        _ => Operand::Function(token.to_owned()),
    })
}

fn tokens(text: &str) -> anyhow::Result<Vec<String>> {
    let mut tokens = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\t' | '\n' | ',' => {}
            '(' | ')' | '|' => tokens.push(letter.to_string()),
            ':' if letters.next_if_eq(&'=').is_some() => tokens.push(":=".to_owned()),
            '"' | '`' => {
                let mut token = String::from(letter);
                loop {
                    let next = letters.next().context("the template has a text without its end")?;
                    token.push(next);
                    if next == '\\' && letter == '"' {
                        token.extend(letters.next());
                    } else if next == letter {
                        break;
                    }
                }
                tokens.push(token);
            }
            _ => {
                let mut token = String::from(letter);
                while let Some(next) = letters.next_if(|next| !" \t\n,()|:".contains(*next)) {
                    token.push(next);
                }
                tokens.push(token);
            }
        }
    }
    Ok(tokens)
}
