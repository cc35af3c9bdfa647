//! One registry: its scheme, its logins, its redirects, its bad moments.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;

pub(crate) use super::backoff::Backoff;
use super::refusal;
use crate::{
    Error, Result,
    auth::{self, Challenge, Memory, State},
    certificates,
    credentials::Login,
    options::Options,
    transport::{
        HeaderMap, HeaderValue, Method, Reach, Request, Response, Transport, Trust, Url, Zone,
        authority, header, is_loopback, same_origin, shown,
    },
};

const MAX_REDIRECTS: usize = 5;
const MAX_TOKEN_ANSWER: u64 = 1 << 20;

/// A registry, `host[:port]`, and what we have learnt about it.
pub(crate) struct Host {
    registry: String,
    insecure: bool,
    /// `https://host` or `http://host`, once it is known.
    base: Mutex<Option<Url>>,
    memory: Memory,
    login: Mutex<Option<Option<Login>>>,
    /// Where the registry was found to be: it may send us to the internet, or to its own surroundings.
    zone: Mutex<Zone>,
    /// The program's `--creds`, when this is the registry it was given for.
    given: Option<Login>,
    transport: Arc<Transport>,
    options: Arc<Options>,
}

/// A request to a registry, relative to its address.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// With the leading slash; may be a whole address that the registry gave us for an upload.
    pub(crate) path: &'a str,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The repository, for choosing a login.
    pub(crate) repository: &'a str,
    /// What we ask for when asked: `repository:library/debian:pull`.
    pub(crate) scope: &'a str,
    /// For messages: completes "cannot …".
    pub(crate) doing: &'a str,
    /// Statuses besides 2xx that are the caller's business.
    pub(crate) expected: &'a [u16],
    /// How long the answer may take, when the usual time is not enough.
    pub(crate) patience: Option<Duration>,
}

impl<'a> Call<'a> {
    /// A request without headers and body.
    pub(crate) fn new(method: Method, path: &'a str, doing: &'a str) -> Self {
        let (headers, body) = (HeaderMap::new(), Bytes::new());
        let (repository, scope, expected, patience) = ("", "", &[][..], None);
        Self { method, path, headers, body, repository, scope, doing, expected, patience }
    }

    /// Adds a header; the values we make are always valid ones.
    pub(crate) fn with(mut self, name: header::HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }
}

impl Host {
    pub(crate) fn new(
        registry: &str,
        insecure: bool,
        given: Option<Login>,
        transport: Arc<Transport>,
        options: Arc<Options>,
    ) -> Self {
        Self {
            registry: registry.to_owned(),
            insecure: insecure || !options.tls_verify,
            base: Mutex::default(),
            memory: Memory::default(),
            login: Mutex::default(),
            zone: Mutex::new(Zone::Public),
            given,
            transport,
            options,
        }
    }

    pub(crate) fn registry(&self) -> &str {
        &self.registry
    }

    /// Sends, and sends again while that may help.
    pub(crate) fn send(&self, call: &Call<'_>) -> Result<Response> {
        let mut backoff = self.backoff();
        loop {
            match self.send_once(call) {
                Err(error) if backoff.wait_after(&error) => {}
                other => return other,
            }
        }
    }

    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.options.retries, self.options.timeouts.retry_after)
    }

    /// Sends a call with whatever login the registry asks for, follows redirects, and turns refusals into
    /// errors. A refused token is replaced once.
    pub(crate) fn send_once(&self, call: &Call<'_>) -> Result<Response> {
        let authorization = self.authorization(call)?;
        let answer = self.follow(call, authorization.clone())?;
        let with_authorization = authorization.is_some();
        if answer.status() != 401 {
            return refusal::check(answer, self, call, with_authorization);
        }
        match self.meet(call, answer, authorization.as_ref())? {
            Met::Answer(authorization) => {
                let answer = self.follow(call, Some(authorization))?;
                refusal::check(answer, self, call, true)
            }
            Met::Refused(answer) => refusal::check(answer, self, call, with_authorization),
        }
    }

    /// Sends a call whose body is produced on the way. It cannot be repeated here: `None` says that the token
    /// was refused and has been renewed, so the caller may start the same body again.
    pub(crate) fn upload_once(
        &self,
        call: &Call<'_>,
        length: u64,
        produce: &mut dyn FnMut() -> Result<Option<Bytes>>,
    ) -> Result<Option<Response>> {
        let base = self.base(call)?;
        let url = base.join(call.path).map_err(|_| self.bad_address(call.path))?;
        let authorization = self.authorization(call)?;
        let request = self.request(call, url, &base, Reach::Anywhere, authorization.as_ref());
        let answer = self.transport.upload(&request, length, produce)?;
        let answer = match answer.status() {
            401 => match self.meet(call, answer, authorization.as_ref())? {
                Met::Answer(_) => return Ok(None),
                Met::Refused(answer) => answer,
            },
            301 | 302 | 307 | 308 => return Ok(Some(answer)),
            _ => answer,
        };
        refusal::check(answer, self, call, authorization.is_some()).map(Some)
    }

    /// The address that an answer names, if we are willing to go there.
    pub(crate) fn location(&self, answer: &Response) -> Result<Url> {
        self.next_hop(answer, Reach::From(zone_of(answer)))
    }

    pub(crate) fn was_challenged(&self) -> bool {
        self.memory.lock().challenge.is_some()
    }

    /// Whether it gives tokens by challenge, which only today's registries do.
    pub(crate) fn gives_tokens(&self) -> bool {
        matches!(self.memory.lock().challenge, Some(Challenge::Bearer { .. }))
    }

    pub(crate) fn has_login(&self, repository: &str) -> bool {
        matches!(self.login(repository), Ok(Some(_)))
    }

    fn unauthorized(&self, call: &Call<'_>, with_credentials: bool) -> Error {
        let (registry, what) = (self.registry.clone(), format!("to {}", call.doing));
        Error::Unauthorized { registry, what, with_credentials }
    }

    fn bad_address(&self, address: &str) -> Error {
        let problem = "that is no address";
        Error::Elsewhere { from: self.registry.clone(), to: address.to_owned(), problem }
    }

    /// Follows redirects by hand: each hop is checked, and logins stay at the origin they belong to.
    fn follow(&self, call: &Call<'_>, authorization: Option<HeaderValue>) -> Result<Response> {
        let base = self.base(call)?;
        let mut url = base.join(call.path).map_err(|_| self.bad_address(call.path))?;
        let mut reach = Reach::Anywhere;
        for _ in 0..=MAX_REDIRECTS {
            let request = self.request(call, url, &base, reach, authorization.as_ref());
            let answer = self.transport.send(&request)?;
            if reach == Reach::Anywhere {
                let zone = zone_of(&answer);
                *self.zone.lock().unwrap_or_else(PoisonError::into_inner) = zone;
                reach = Reach::From(zone);
            }
            if !matches!(answer.status(), 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            url = self.next_hop(&answer, reach)?;
            log::debug!("redirected to {}", shown(&url));
        }
        let problem = "too many redirects";
        Err(Error::Elsewhere { from: self.registry.clone(), to: call.path.to_owned(), problem })
    }

    fn request(
        &self,
        call: &Call<'_>,
        url: Url,
        base: &Url,
        reach: Reach,
        authorization: Option<&HeaderValue>,
    ) -> Request {
        let mut headers = call.headers.clone();
        let is_own = same_origin(&url, base);
        if !is_own {
            headers.remove(header::AUTHORIZATION);
            headers.remove(header::COOKIE);
        } else if let Some(authorization) = authorization {
            headers.entry(header::AUTHORIZATION).or_insert_with(|| authorization.clone());
        }
        // An address for an upload may be elsewhere from the start.
        let zone = *self.zone.lock().unwrap_or_else(PoisonError::into_inner);
        let reach = if is_own || reach != Reach::Anywhere { reach } else { Reach::From(zone) };
        Request {
            method: call.method.clone(),
            trust: self.trust(&url, reach),
            url,
            headers,
            body: call.body.clone(),
            patience: call.patience,
            doing: call.doing.to_owned(),
        }
    }

    fn next_hop(&self, answer: &Response, reach: Reach) -> Result<Url> {
        let here = answer.url();
        let location = answer.header(header::LOCATION).unwrap_or_default();
        let next = here.join(location).map_err(|_| self.bad_address(location))?;
        self.permitted(here, next, reach)
    }

    /// Whether a registry may send us from `here` to `next` (D-41).
    pub(crate) fn permitted(&self, here: &Url, next: Url, reach: Reach) -> Result<Url> {
        match (here.scheme(), next.scheme()) {
            ("https", "https") | ("http", "http" | "https") => {}
            ("https", "http") => return self.elsewhere(&next, "it leads from https to http"),
            _ => return self.elsewhere(&next, "it is neither http nor https"),
        }
        if !reach.allows_url(&next) {
            return self.elsewhere(&next, "its address is private");
        }
        Ok(next)
    }

    fn elsewhere<T>(&self, to: &Url, problem: &'static str) -> Result<T> {
        Err(Error::Elsewhere { from: self.registry.clone(), to: shown(to), problem })
    }

    fn trust(&self, url: &Url, reach: Reach) -> Trust {
        let authority = authority(url);
        let is_own = authority == self.network_name() || authority == self.registry;
        Trust {
            verify: self.options.tls_verify && !(is_own && self.insecure),
            certificates: certificates::directory(&self.options.certificates, &authority),
            // What the user named may be anywhere, also after a redirect back to it.
            reach: if is_own { Reach::Anywhere } else { reach },
        }
    }

    /// Where Docker Hub really is.
    fn network_name(&self) -> &str {
        match self.registry.as_str() {
            "docker.io" => "registry-1.docker.io",
            other => other,
        }
    }

    /// Finds out once whether this registry speaks HTTPS. Plain HTTP is considered only on loopback and where
    /// the user allowed it; there is no falling back from HTTPS elsewhere.
    fn base(&self, call: &Call<'_>) -> Result<Url> {
        let mut known = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(base) = &*known {
            return Ok(base.clone());
        }
        let name = self.network_name();
        let url = |scheme: &str| {
            Url::parse(&format!("{scheme}://{name}/")).map_err(|_| self.bad_address(name))
        };
        let base = if is_loopback(name) {
            // A TLS server shows itself by not speaking HTTP, which costs less than the other way round.
            match self.probe(url("http")?, call) {
                Ok(true) => url("http")?,
                Ok(false) | Err(Error::Transfer { .. }) => url("https")?,
                Err(error) => return Err(error),
            }
        } else if self.insecure {
            match self.probe(url("https")?, call) {
                Ok(_) => url("https")?,
                Err(Error::Transfer { .. } | Error::PlainHttp { .. } | Error::Connect { .. }) => {
                    url("http")?
                }
                Err(error) => return Err(error),
            }
        } else {
            url("https")?
        };
        *known = Some(base.clone());
        Ok(base)
    }

    /// Asks for `/v2/` without any login. `false`: the answer is Go's to HTTP on a TLS port.
    fn probe(&self, base: Url, call: &Call<'_>) -> Result<bool> {
        let url = base.join("/v2/").map_err(|_| self.bad_address(base.as_str()))?;
        let answer = self.transport.send(&Request {
            method: Method::GET,
            trust: self.trust(&url, Reach::Anywhere),
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            patience: None,
            doing: call.doing.to_owned(),
        })?;
        if answer.status() != 400 {
            return Ok(true);
        }
        let text = answer.read_all(64 << 10).unwrap_or_default();
        Ok(!String::from_utf8_lossy(&text).contains("HTTPS server"))
    }

    fn login(&self, repository: &str) -> Result<Option<Login>> {
        let mut known = self.login.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(login) = &*known {
            return Ok(login.clone());
        }
        let found = match &self.given {
            Some(given) => Some(given.clone()),
            None => self.options.credentials.find(&self.registry, repository)?,
        };
        *known = Some(found.clone());
        Ok(found)
    }

    /// The header to send before being asked: what the last challenge of this registry taught us.
    fn authorization(&self, call: &Call<'_>) -> Result<Option<HeaderValue>> {
        let mut state = self.memory.lock();
        match state.challenge.clone() {
            None => Ok(None),
            Some(Challenge::Basic) => {
                Ok(self.login(call.repository)?.as_ref().and_then(auth::basic))
            }
            Some(challenge @ Challenge::Bearer { .. }) => {
                if let Some(token) = state.token(call.scope) {
                    return Ok(auth::bearer(token));
                }
                let url = self.base(call)?;
                let token =
                    self.fetch_token(&mut state, call, &challenge, Reach::Anywhere, &url)?;
                Ok(auth::bearer(&token))
            }
        }
    }

    /// Answers the challenge of a 401, if we have anything to answer with.
    fn meet(
        &self,
        call: &Call<'_>,
        answer: Response,
        refused: Option<&HeaderValue>,
    ) -> Result<Met> {
        let Some(challenge) = auth::challenge(answer.headers()) else {
            return Ok(Met::Refused(answer));
        };
        let (reach, url) = (Reach::From(zone_of(&answer)), answer.url().clone());
        let mut state = self.memory.lock();
        state.challenge = Some(challenge.clone());
        let authorization = match &challenge {
            Challenge::Basic if refused.is_some() => return Err(self.unauthorized(call, true)),
            Challenge::Basic => self.login(call.repository)?.as_ref().and_then(auth::basic),
            Challenge::Bearer { .. } => {
                state.forget(call.scope, refused);
                // Another thread may have met the same challenge while we waited for the lock.
                let known = state.token(call.scope).cloned();
                let token = match known {
                    Some(token) => token,
                    None => self.fetch_token(&mut state, call, &challenge, reach, &url)?,
                };
                auth::bearer(&token)
            }
        };
        authorization.map(Met::Answer).ok_or_else(|| self.unauthorized(call, false))
    }

    fn fetch_token(
        &self,
        state: &mut State,
        call: &Call<'_>,
        challenge: &Challenge,
        reach: Reach,
        registry_url: &Url,
    ) -> Result<crate::Secret> {
        let Challenge::Bearer { realm, service, scope } = challenge else {
            return Err(self.unauthorized(call, false));
        };
        let realm = Url::parse(realm).map_err(|_| self.bad_address(realm))?;
        let realm = self.permitted(registry_url, realm, reach)?;
        let is_secret = realm.scheme() == "https" || is_loopback(&authority(&realm));
        if !is_secret && realm.host() != registry_url.host() && self.options.tls_verify {
            return self.elsewhere(&realm, "a password would travel in the clear");
        }
        let login = self.login(call.repository)?;
        let scopes = wanted_scopes(call.scope, scope.as_deref());
        let doing = format!("get a token to {}", call.doing);
        let request = TokenRequest { realm, service: service.as_deref(), scopes, doing };
        let with_credentials = login.is_some();
        let mut backoff = self.backoff();
        let answer = loop {
            let sent =
                self.transport.send(&request.build(login.as_ref(), |url| self.trust(url, reach)));
            match sent.and_then(|answer| refusal::check_token(answer, self, call, with_credentials))
            {
                Err(error) if backoff.wait_after(&error) => {}
                other => break other?,
            }
        };
        state.remember(call.scope, &answer.read_all(MAX_TOKEN_ANSWER)?)
    }
}

/// What became of a challenge.
enum Met {
    Answer(HeaderValue),
    /// There was none: the answer stands.
    Refused(Response),
}

fn zone_of(answer: &Response) -> Zone {
    answer.remote.map_or(Zone::Public, Zone::of)
}

/// Our scope, and the registry's own if that is another.
fn wanted_scopes(ours: &str, theirs: Option<&str>) -> Vec<String> {
    let mut scopes: Vec<String> = ours.split(' ').map(str::to_owned).collect();
    scopes.extend(theirs.into_iter().flat_map(|text| text.split(' ')).map(str::to_owned));
    scopes.retain(|scope| !scope.is_empty());
    scopes.sort();
    scopes.dedup();
    scopes
}

struct TokenRequest<'a> {
    realm: Url,
    service: Option<&'a str>,
    scopes: Vec<String>,
    doing: String,
}

impl TokenRequest<'_> {
    fn build(&self, login: Option<&Login>, trust: impl Fn(&Url) -> Trust) -> Request {
        let mut headers = HeaderMap::new();
        let mut url = self.realm.clone();
        let mut body = Bytes::new();
        let mut method = Method::GET;
        if let Some(Login::IdentityToken(token)) = login {
            method = Method::POST;
            let form = "application/x-www-form-urlencoded";
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(form));
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token");
            form.append_pair("client_id", "crun-cargo");
            form.append_pair("refresh_token", token.expose());
            form.append_pair("scope", &self.scopes.join(" "));
            form.append_pair("service", self.service.unwrap_or_default());
            body = form.finish().into();
        } else {
            let mut query = url.query_pairs_mut();
            if let Some(service) = self.service {
                query.append_pair("service", service);
            }
            for scope in &self.scopes {
                query.append_pair("scope", scope);
            }
            if let Some(Login::Password { user, .. }) = login {
                query.append_pair("account", user);
            }
        }
        if let Some(basic) = login.and_then(auth::basic) {
            headers.insert(header::AUTHORIZATION, basic);
        }
        let (trust, doing) = (trust(&url), self.doing.clone());
        Request { method, trust, url, headers, body, patience: None, doing }
    }
}
