//! Requests to one registry about one repository: its challenges are answered, its redirects followed within the rules, its
//! refusals told apart.
//!
//! Invariant: what it is let in by goes to the registry and its token service, and to nobody that they send to.

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, LOCATION, USER_AGENT, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, StatusCode};
use mentat_manifest::escape_untrusted;
use serde::Deserialize;
use url::{Position, Url};

use crate::challenge::Challenge;
use crate::client::Client;
use crate::connection::{Answer, Content, OnSent, Size};
use crate::error::OciError;
use crate::reference::Reference;
use crate::rules::{self, Elsewhere};

/// Redirects that are followed, one after the other.
const MAX_REDIRECTS: usize = 5;
/// Bytes of a token service's answer at most.
const MAX_TOKEN_BYTES: u64 = 64 << 10;
/// Bytes of a refusal that are read for its words.
const MAX_REFUSAL_BYTES: u64 = 16 << 10;
/// Characters of a registry's words that are passed on.
const MAX_SAID: usize = 200;
const AGENT: &str = concat!("mentat/", env!("CARGO_PKG_VERSION"));

/// What is to be done with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// To read it.
    Pull,
    /// To write it as well.
    Push,
}

/// Requests to one registry about one repository.
pub(crate) struct Session<'a> {
    client: &'a Client,
    reference: &'a Reference,
    scope: Scope,
    base: Url,
    /// What the registry lets in.
    authorization: Option<HeaderValue>,
}

/// A request, without what depends on whom it goes to.
pub(crate) struct Ask {
    method: Method,
    accept: Option<&'static str>,
    content_type: Option<&'static str>,
    content: Bytes,
    on_sent: Option<OnSent>,
}

#[derive(Deserialize)]
struct TokenText {
    token: Option<String>,
    access_token: Option<String>,
}

#[derive(Deserialize)]
struct RefusalText {
    errors: Vec<RefusalEntry>,
}

#[derive(Deserialize)]
struct RefusalEntry {
    code: Option<String>,
    message: Option<String>,
}

impl Ask {
    pub(crate) fn get(accept: Option<&'static str>) -> Self {
        Self { method: Method::GET, accept, content_type: None, content: Bytes::new(), on_sent: None }
    }

    pub(crate) fn head() -> Self {
        Self { method: Method::HEAD, ..Self::get(None) }
    }

    pub(crate) fn post() -> Self {
        Self { method: Method::POST, ..Self::get(None) }
    }

    pub(crate) fn put(content: Bytes, content_type: &'static str) -> Self {
        Self { method: Method::PUT, content_type: Some(content_type), content, ..Self::get(None) }
    }

    /// The same, which tells how much has been sent.
    pub(crate) fn telling(self, on_sent: OnSent) -> Self {
        Self { on_sent: Some(on_sent), ..self }
    }

    fn is_safe(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }
}

impl<'a> Session<'a> {
    /// For a reference that the rules allow.
    ///
    /// # Errors
    /// `Denied`.
    pub(crate) fn new(client: &'a Client, reference: &'a Reference, scope: Scope) -> Result<Self, OciError> {
        client.rules.check(reference)?;
        let base = client.rules.base(&reference.registry)?;
        Ok(Self { client, reference, scope, base, authorization: None })
    }

    /// Where something of the repository is, such as `blobs/sha256:…`.
    pub(crate) fn url(&self, path: &str) -> Result<Url, OciError> {
        let path = format!("v2/{}/{path}", self.reference.repository);
        self.base.join(&path).map_err(|error| OciError::Invalid(format!("`{path}` is no path: {error}")))
    }

    /// Asks, lets itself be challenged once, and follows redirects where that changes nothing.
    ///
    /// # Errors
    /// For what does not answer, and for what must not be followed. Refusals are answers like others.
    pub(crate) async fn ask(&mut self, ask: &Ask, url: Url) -> Result<Answer, OciError> {
        let (mut url, mut elsewhere) = (url, Elsewhere::Same);
        let (mut redirects, mut is_challenged) = (0, false);
        loop {
            let authorization = self.authorization.as_ref().filter(|_| elsewhere == Elsewhere::Same);
            let request = request(ask, &url, authorization)?;
            let answer = self.client.connector.connect(&url, elsewhere).await?.ask(request).await?;
            if answer.status == StatusCode::UNAUTHORIZED && elsewhere == Elsewhere::Same && !is_challenged {
                is_challenged = true;
                self.let_in(&answer).await?;
                continue;
            }
            let location =
                answer.header(LOCATION).filter(|_| answer.status.is_redirection() && ask.is_safe());
            let Some(location) = location else { return Ok(answer) };
            redirects += 1;
            if redirects > MAX_REDIRECTS {
                let message =
                    format!("{} sends on and on, more than {MAX_REDIRECTS} times", rules::name(&self.base));
                return Err(OciError::Untrusted(message));
            }
            let to = self.locate(&url, location)?;
            elsewhere = self.client.rules.redirect(&self.base, &url, &to)?;
            url = to;
        }
    }

    /// Where an upload goes, which the registry says by `Location`: to the registry itself and nowhere else.
    ///
    /// # Errors
    /// For no place, or another host.
    pub(crate) fn upload_url(&self, answer: &Answer, asked: &Url) -> Result<Url, OciError> {
        let registry = rules::name(&self.base);
        let Some(location) = answer.header(LOCATION) else {
            return Err(OciError::Untrusted(format!("{registry} does not say where to upload to")));
        };
        let to = self.locate(asked, location)?;
        match self.client.rules.redirect(&self.base, &self.base, &to)? {
            Elsewhere::Same => Ok(to),
            Elsewhere::Named | Elsewhere::Public => Err(OciError::Untrusted(format!(
                "{registry} wants uploads to go to {}, another host",
                rules::name(&to)
            ))),
        }
    }

    /// Tells a refusal: what was asked for and what the registry said.
    pub(crate) async fn refusal(&self, answer: Answer, what: &str) -> OciError {
        let (registry, status) = (&self.reference.registry, answer.status);
        let said = match answer.read("the refusal", Size::AtMost(MAX_REFUSAL_BYTES), |_| ()).await {
            Ok((bytes, _)) => said(&bytes),
            Err(_) => String::new(),
        };
        let told = format!("`{registry}` answers {}{said}", status.as_u16());
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let advice = self.client.credentials.advice(self.reference);
                OciError::Unauthorized(format!("{what}: {told}; {advice}"))
            }
            StatusCode::NOT_FOUND => OciError::NotFound(format!("{what}: {told}; there is no such thing")),
            StatusCode::TOO_MANY_REQUESTS => {
                OciError::Unavailable(format!("{what}: {told}; try again later"))
            }
            status if status.is_server_error() => OciError::Unavailable(format!("{what}: {told}")),
            _ => OciError::Untrusted(format!("{what}: {told}")),
        }
    }

    /// Gets what the registry wants to be shown.
    async fn let_in(&mut self, answer: &Answer) -> Result<(), OciError> {
        let registry = &self.reference.registry;
        let mut why = "it does not say what it wants".to_owned();
        let challenges =
            answer.headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        for challenge in challenges {
            match Challenge::read(challenge) {
                Ok(Challenge::Basic) => {
                    let login = self.client.credentials.login(self.reference);
                    let Some(authorization) = login.and_then(super::credentials::Login::basic) else {
                        let advice = self.client.credentials.advice(self.reference);
                        return Err(OciError::Unauthorized(format!(
                            "`{registry}` wants a name and a password; {advice}"
                        )));
                    };
                    self.authorization = Some(authorization);
                    return Ok(());
                }
                Ok(Challenge::Bearer { realm, service }) => {
                    self.authorization = Some(self.token(realm, service.as_deref()).await?);
                    return Ok(());
                }
                Err(problem) => why = problem,
            }
        }
        Err(OciError::Unauthorized(format!("`{registry}` does not let anybody in: {why}")))
    }

    async fn token(&self, mut service_url: Url, service: Option<&str>) -> Result<HeaderValue, OciError> {
        self.client.rules.token_service(&self.base, &service_url)?;
        let Reference { repository, .. } = self.reference;
        let actions = match self.scope {
            Scope::Pull => "pull",
            Scope::Push => "pull,push",
        };
        service_url
            .query_pairs_mut()
            .extend_pairs(service.map(|service| ("service", service)))
            .append_pair("scope", &format!("repository:{repository}:{actions}"));
        let basic = self.client.credentials.login(self.reference).and_then(super::credentials::Login::basic);
        let request = request(&Ask::get(None), &service_url, basic.as_ref())?;
        // It was checked by its name just now.
        let connection = self.client.connector.connect(&service_url, Elsewhere::Named).await?;
        let answer = connection.ask(request).await?;
        let host = rules::name(&service_url);
        if answer.status != StatusCode::OK {
            return Err(self.refusal(answer, &format!("asking {host} for a token")).await);
        }
        let (bytes, _) = answer.read("a token", Size::AtMost(MAX_TOKEN_BYTES), |_| ()).await?;
        // Nothing of it is told: it may hold a token.
        let no_token = || OciError::Untrusted(format!("{host} answers with no token"));
        let text: TokenText = serde_json::from_slice(&bytes).map_err(|_| no_token())?;
        let token =
            text.token.or(text.access_token).filter(|token| !token.is_empty()).ok_or_else(no_token)?;
        let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| no_token())?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn locate(&self, from: &Url, location: &str) -> Result<Url, OciError> {
        let mut to = from.join(location).map_err(|_| {
            let said = escape_untrusted(location, MAX_SAID);
            OciError::Untrusted(format!("{} sends on to `{said}`, which is no URL", rules::name(&self.base)))
        })?;
        to.set_fragment(None);
        Ok(to)
    }
}

fn request(ask: &Ask, url: &Url, authorization: Option<&HeaderValue>) -> Result<Request<Content>, OciError> {
    let host = &url[Position::BeforeHost..Position::AfterPort];
    let mut request = Request::builder()
        .method(ask.method.clone())
        .uri(&url[Position::BeforePath..Position::AfterQuery])
        .header(HOST, host)
        .header(USER_AGENT, AGENT);
    for (name, value) in [(ACCEPT, ask.accept), (CONTENT_TYPE, ask.content_type)] {
        if let Some(value) = value {
            request = request.header(name, value);
        }
    }
    if let Some(value) = authorization {
        request = request.header(AUTHORIZATION, value);
    }
    let request = request.body(Content::new(ask.content.clone(), ask.on_sent.clone()));
    request.map_err(|error| {
        OciError::Untrusted(format!("nothing can be asked at {}: {error}", rules::name(url)))
    })
}

/// The words of a refusal, in the form of the distribution specification.
fn said(bytes: &[u8]) -> String {
    let Ok(RefusalText { errors }) = serde_json::from_slice(bytes) else { return String::new() };
    let Some(RefusalEntry { code, message }) = errors.into_iter().next() else { return String::new() };
    let words: Vec<String> = [code, message].into_iter().flatten().collect();
    if words.is_empty() {
        String::new()
    } else {
        format!(" ({})", escape_untrusted(&words.join(": "), MAX_SAID))
    }
}
