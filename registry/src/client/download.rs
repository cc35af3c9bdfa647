//! A plain download from an address that the user typed.

use std::io::{self, Read};

use bytes::{Buf, Bytes};

use super::Client;
use crate::{
    Error, Result,
    transport::{
        BodyReader, HeaderMap, Method, Reach, Request, Trust, Url, Zone, authority, header, shown,
    },
};

const MAX_REDIRECTS: usize = 5;

impl Client {
    /// Opens what is at an `http://` or `https://` address. Redirects are followed as a registry's are:
    /// never from https to http, nor into a more private network (D-41).
    pub fn download(&self, address: &str) -> Result<Box<dyn Read + Send>> {
        let refused = |to: &str, problem| Error::Elsewhere {
            from: address.to_owned(),
            to: to.to_owned(),
            problem,
        };
        let mut url = Url::parse(address).map_err(|_| refused(address, "it is no address"))?;
        let mut reach = Reach::Anywhere;
        for _ in 0..=MAX_REDIRECTS {
            let doing = format!("download {}", shown(&url));
            let trust = Trust { verify: self.shared.options.tls_verify, certificates: None, reach };
            let request = Request {
                method: Method::GET,
                url: url.clone(),
                headers: HeaderMap::new(),
                body: Bytes::new(),
                trust,
                patience: None,
                doing: doing.clone(),
            };
            let answer = self.shared.transport.send(&request)?;
            if reach == Reach::Anywhere {
                reach = Reach::From(answer.remote.map_or(Zone::Public, Zone::of));
            }
            match answer.status() {
                200 => {
                    let block = Bytes::new();
                    return Ok(Box::new(Download { body: answer.into_reader(), block }));
                }
                301 | 302 | 303 | 307 | 308 => {
                    let location = answer.header(header::LOCATION).unwrap_or_default();
                    let next =
                        url.join(location).map_err(|_| refused(location, "it is no address"))?;
                    let is_weaker = url.scheme() == "https" && next.scheme() != "https";
                    if is_weaker || !matches!(next.scheme(), "http" | "https") {
                        return Err(refused(&shown(&next), "it leads away from https"));
                    }
                    if !reach.allows_url(&next) {
                        return Err(refused(&shown(&next), "its address is private"));
                    }
                    url = next;
                }
                status => {
                    let registry = authority(&url);
                    return Err(Error::Status {
                        doing,
                        registry,
                        status,
                        message: None,
                        retry_after: None,
                    });
                }
            }
        }
        Err(refused(&shown(&url), "too many redirects"))
    }
}

struct Download {
    body: BodyReader,
    block: Bytes,
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.block.is_empty() {
            match self.body.next_block()? {
                Some(block) => self.block = block,
                None => return Ok(0),
            }
        }
        let count = self.block.len().min(buffer.len());
        self.block.copy_to_slice(buffer.get_mut(..count).unwrap_or_default());
        Ok(count)
    }
}
