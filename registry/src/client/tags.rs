//! The tags of a repository, and which of them somebody may have meant.

use bytes::Bytes;
use serde::Deserialize;

use super::host::{Call, Host};
use crate::{
    Error, Result, json,
    reference::is_tag,
    transport::{HeaderMap, Method, Response, header},
};

const MAX_PAGE: u64 = 16 << 20;
const MAX_PAGES: usize = 1_000;
const SUGGESTIONS: usize = 3;

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    tags: Vec<String>,
}

pub(super) fn list(host: &Host, repository: &str) -> Result<Vec<String>> {
    let mut tags = Vec::new();
    let mut path = format!("/v2/{repository}/tags/list?n=1000");
    for _ in 0..MAX_PAGES {
        let answer = host.send(&Call {
            method: Method::GET,
            path: &path,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            repository,
            scope: &format!("repository:{repository}:pull"),
            doing: &format!("list the tags of {repository}"),
            expected: &[404],
            patience: None,
        })?;
        if answer.status() == 404 {
            return Err(Error::UnknownName { name: format!("{}/{repository}", host.registry()) });
        }
        let next = next_page(&answer);
        let page: Page = json::parse(&answer.read_all(MAX_PAGE)?, "the list of tags")?;
        let is_last = page.tags.is_empty();
        // What is no tag cannot be asked for, and might be meant for the terminal.
        tags.extend(page.tags.into_iter().filter(|tag| is_tag(tag)));
        match next {
            // Some registries send a link to an empty page, or to the same one again.
            Some(next) if !is_last && next != path => path = next,
            _ => break,
        }
    }
    Ok(tags)
}

/// `Link: </v2/…?last=x&n=1000>; rel="next"`. Only the path counts: pages do not wander to other hosts.
pub(super) fn next_page(answer: &Response) -> Option<String> {
    let link = answer.header(header::LINK)?;
    let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
    if !parameters.contains("next") {
        return None;
    }
    let url = answer.url().join(target).ok()?;
    Some(url.query().map_or(url.path().to_owned(), |query| format!("{}?{query}", url.path())))
}

/// The tags that look most like the one that does not exist.
pub(crate) fn nearest(wanted: &str, tags: &[String]) -> Vec<String> {
    let mut ranked: Vec<(usize, &String)> = tags
        .iter()
        .take(10_000)
        .map(|tag| (distance(wanted, tag), tag))
        .filter(|(distance, tag)| *distance <= wanted.len().max(tag.len()) / 2 + 1)
        .collect();
    ranked.sort();
    let mut names: Vec<String> =
        ranked.into_iter().take(SUGGESTIONS).map(|(_, tag)| tag.clone()).collect();
    let latest = "latest".to_owned();
    if names.is_empty() && tags.contains(&latest) {
        names.push(latest);
    }
    names
}

/// Levenshtein's distance: how many letters must change.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(128).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().take(128).enumerate() {
        let mut left_above = index;
        let mut left = index + 1;
        for (cell, theirs) in row.iter_mut().skip(1).zip(&other) {
            let above = *cell;
            let changed = left_above + usize::from(letter != *theirs);
            left = changed.min(above + 1).min(left + 1);
            left_above = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = index + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_levenshteins() {
        for (one, other, expected) in
            [("", "", 0), ("kitten", "sitting", 3), ("abc", "abc", 0), ("", "ab", 2), ("ab", "", 2)]
        {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
    }

    #[test]
    fn likely_tags_are_suggested() {
        let tags = ["jessie", "wheezy", "latest", "jessie-slim"].map(str::to_owned);
        assert_eq!(nearest("jesie", &tags)[0], "jessie");
        assert_eq!(nearest("zzzzzzzzzzzzzzzzz", &tags), ["latest"]);
    }
}
