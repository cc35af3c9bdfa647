//! Looking for images by words.

use serde::Deserialize;

use super::{Client, host::Call};
use crate::{
    Error, Reference, Result,
    error::printable,
    json,
    transport::{Method, header},
};

const MAX_ANSWER: u64 = 16 << 20;
const PAGE: usize = 100;

/// An image that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// As it can be pulled, without the registry.
    pub name: String,
    /// What its owner says about it.
    pub description: String,
    /// How many people like it.
    pub stars: u64,
    /// Whether Docker curates it.
    pub is_official: bool,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    results: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    star_count: u64,
    #[serde(default)]
    is_official: bool,
}

#[derive(Deserialize)]
struct Catalog {
    #[serde(default)]
    repositories: Vec<String>,
}

impl Client {
    /// Looks for images in a registry, `docker.io` or another `host[:port]`. A registry without a search
    /// is asked for all its names instead.
    pub fn search(&self, registry: &str, words: &str, limit: usize) -> Result<Vec<Found>> {
        // Hub's images are at registry-1.docker.io, its search is not.
        let name: Reference = format!("{registry}/x").parse()?;
        let mut endpoint = self
            .endpoints(&name)?
            .pop()
            .ok_or_else(|| Error::UnknownName { name: registry.to_owned() })?;
        if endpoint.registry == "docker.io" {
            endpoint.registry = "index.docker.io".to_owned();
        }
        let host = self.host(&endpoint);
        let doing = format!("search {registry}");
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let count = limit.clamp(1, PAGE).to_string();
        query.append_pair("q", words).append_pair("n", &count);
        let path = format!("/v1/search?{}", query.finish());
        let mut call = Call::new(Method::GET, &path, &doing);
        call.expected = &[400, 404, 405];
        let answer = host.send(&call)?;
        let is_json = answer.header(header::CONTENT_TYPE).is_some_and(|it| it.contains("json"));
        if answer.status() != 200 || !is_json {
            return self.search_catalog(&host, words, limit, &doing);
        }
        let answer: Answer = json::parse(&answer.read_all(MAX_ANSWER)?, "the search's answer")?;
        Ok(answer.results.into_iter().take(limit).map(Found::from).collect())
    }

    fn search_catalog(
        &self,
        host: &super::host::Host,
        words: &str,
        limit: usize,
        doing: &str,
    ) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        let mut path = "/v2/_catalog?n=1000".to_owned();
        for _ in 0..1000 {
            let mut call = Call::new(Method::GET, &path, doing);
            call.scope = "registry:catalog:*";
            let answer = host.send(&call)?;
            let next = super::tags::next_page(&answer);
            let page: Catalog = json::parse(&answer.read_all(MAX_ANSWER)?, "the catalog")?;
            let is_last = page.repositories.is_empty();
            let matching = page.repositories.into_iter().filter(|name| name.contains(words));
            found.extend(matching.map(|name| Found {
                name,
                description: String::new(),
                stars: 0,
                is_official: false,
            }));
            match next {
                Some(next) if !is_last && next != path && found.len() < limit => path = next,
                _ => break,
            }
        }
        found.truncate(limit);
        Ok(found)
    }
}

impl From<Entry> for Found {
    fn from(entry: Entry) -> Self {
        let Entry { name, description, star_count: stars, is_official } = entry;
        let (name, description) = (printable(&name), printable(&description));
        Self { name, description, stars, is_official }
    }
}
