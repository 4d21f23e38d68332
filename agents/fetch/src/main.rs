//! Fetches what lies at a URL: its input is the URL, its output what came. A token in the environment goes along; where
//! the operator has sealed it, the agent sends a placeholder and never learns the token.

use std::error::Error;
use std::io::{self, Read, Write};

use wstd::http::{Body, Client, Request};

/// The variable of the token.
const TOKEN: &str = "FETCH_TOKEN";

#[wstd::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut input = String::new();
    io::stdin().read_to_string(&mut input)?;
    let url = input.trim();
    if url.is_empty() {
        return Err("the input is empty; give a URL".into());
    }
    let mut request = Request::get(url);
    if let Ok(token) = std::env::var(TOKEN) {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let response = Client::new().send(request.body(Body::empty())?).await?;
    let status = response.status();
    let mut body = response.into_body();
    io::stdout().write_all(body.contents().await?)?;
    if status.is_success() { Ok(()) } else { Err(format!("the host answered {status}").into()) }
}
