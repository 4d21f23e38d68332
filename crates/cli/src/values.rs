//! Values on the command line: mounts, variables, inputs, agents with versions. Pure: text in, value or
//! a sentence that says what was wrong out; whether a path exists is asked elsewhere.

use std::path::PathBuf;

use mentat_manifest::{AgentId, AgentVersion, Capability, FileAccess, MediaAccess};
use mentat_runtime::security::offers::{Extension, Mount};

/// Where an agent's input comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// The text on the command line.
    Text(String),
    /// A file's content.
    File(PathBuf),
    /// Everything on stdin.
    Stdin,
}

/// An agent, or one version of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AgentReference {
    /// Which agent.
    pub(crate) id: AgentId,
    /// Which version; the active one, or all, where none is named.
    pub(crate) version: Option<AgentVersion>,
}

impl std::fmt::Display for AgentReference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.version {
            Some(version) => write!(formatter, "{}@{version}", self.id),
            None => write!(formatter, "{}", self.id),
        }
    }
}

/// `TEXT`, `@FILE`, `-`, and `@@…` for a text that begins with `@`.
pub(crate) fn parse_input(text: &str) -> Result<Input, String> {
    if text == "-" {
        return Ok(Input::Stdin);
    }
    match text.strip_prefix('@') {
        None => Ok(Input::Text(text.to_owned())),
        Some("") => Err("`@` must be followed by a file's name; `@@` is a text that begins with `@`".into()),
        Some(rest) if rest.starts_with('@') => Ok(Input::Text(rest.to_owned())),
        Some(file) => Ok(Input::File(file.into())),
    }
}

/// A directory of media, and what may be done with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MediaDirectory {
    pub(crate) directory: PathBuf,
    pub(crate) access: FileAccess,
}

impl MediaDirectory {
    /// What is given by it.
    pub(crate) fn allowed(&self) -> impl Iterator<Item = Capability> {
        let access = self.access;
        let ways = [(MediaAccess::Read, FileAccess::Read), (MediaAccess::Write, FileAccess::Write)];
        let allowed = ways.into_iter().filter(move |(_, needed)| access.covers(*needed));
        allowed.map(|(access, _)| Capability::Media { access, prefix: String::new() })
    }
}

/// `DIR[:ro|wo|rw]`
pub(crate) fn parse_media(text: &str) -> Result<MediaDirectory, String> {
    let (directory, access) = split_access(text);
    if directory.is_empty() {
        return Err("the directory is missing".into());
    }
    Ok(MediaDirectory { directory: directory.into(), access })
}

/// What stands before the access at the end, and the access: to look, where none is said.
fn split_access(text: &str) -> (&str, FileAccess) {
    match text.rsplit_once(':') {
        Some((rest, "ro")) => (rest, FileAccess::Read),
        Some((rest, "wo")) => (rest, FileAccess::Write),
        Some((rest, "rw")) => (rest, FileAccess::ReadWrite),
        _ => (text, FileAccess::Read),
    }
}

/// `HOST:GUEST[:ro|wo|rw]`, read from the right, so that HOST may contain colons.
pub(crate) fn parse_mount(text: &str) -> Result<Mount, String> {
    let (rest, access) = split_access(text);
    let Some((host, guest)) = rest.rsplit_once(':') else {
        return Err("write HOST:GUEST, such as `./pages:/pages`, and `:rw` after it to allow changes".into());
    };
    if host.is_empty() {
        return Err("the host's directory before the first `:` is missing".into());
    }
    if !guest.starts_with('/') {
        return Err(format!(
            "the guest's path `{guest}` is not absolute; write it as `/{guest}`, or, if it is meant as the \
             access, as `ro`, `wo` or `rw`"
        ));
    }
    Mount::new(host, guest, access).map_err(|error| error.to_string())
}

/// A capability that is left, or `none`.
pub(crate) fn parse_left(text: &str) -> Result<Option<Capability>, String> {
    match text {
        "none" => Ok(None),
        text => text.parse().map(Some).map_err(|error: mentat_manifest::CapabilityError| error.to_string()),
    }
}

/// `NAME=VALUE`.
pub(crate) fn parse_env(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("", _)) => Err("the name before `=` is missing".into()),
        Some((name, value)) if !text.contains('\0') => Ok((name.to_owned(), value.to_owned())),
        Some(_) => Err("neither name nor value may contain a NUL character".into()),
        None => Err(format!("`{text}` has no `=`; write NAME=VALUE")),
    }
}

/// `NAME=URL`.
pub(crate) fn parse_extension(text: &str) -> Result<(String, Extension), String> {
    let (name, url) = parse_env(text)?;
    let wrong = |error: mentat_manifest::CapabilityError| error.to_string();
    format!("extension:{name}").parse::<Capability>().map_err(wrong)?;
    Ok((name, Extension::new(&url).map_err(wrong)?))
}

/// `ID` or `ID@VERSION`.
pub(crate) fn parse_agent_reference(text: &str) -> Result<AgentReference, String> {
    let (id, version) = match text.split_once('@') {
        Some((id, version)) => (id, Some(version)),
        None => (text, None),
    };
    let id = id.parse::<AgentId>().map_err(|error| error.to_string())?;
    let version = version.map(str::parse::<AgentVersion>).transpose().map_err(|error| error.to_string())?;
    Ok(AgentReference { id, version })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(host: &str, guest: &str, access: FileAccess) -> Mount {
        Mount::new(host, guest, access).unwrap()
    }

    #[test]
    fn a_mount_is_read_only_unless_it_says_otherwise() {
        assert_eq!(parse_mount("./a:/b").unwrap(), mount("./a", "/b", FileAccess::Read));
        assert_eq!(parse_mount("./a:/b:ro").unwrap(), mount("./a", "/b", FileAccess::Read));
        assert_eq!(parse_mount("./a:/b:rw").unwrap(), mount("./a", "/b", FileAccess::ReadWrite));
    }

    #[test]
    fn a_media_directory_allows_what_its_access_says() {
        let allowed = |text: &str| -> Vec<String> {
            parse_media(text).unwrap().allowed().map(|capability| capability.to_string()).collect()
        };
        assert_eq!(allowed("./pictures"), ["media:read:"]);
        assert_eq!(allowed("./a:b:wo"), ["media:write:"]);
        assert_eq!(allowed("/a:rw"), ["media:read:", "media:write:"]);
        assert_eq!(parse_media("./a:b:wo").unwrap().directory, PathBuf::from("./a:b"));
        assert!(parse_media(":rw").unwrap_err().contains("missing"));
    }

    #[test]
    fn a_mount_is_read_from_the_right() {
        assert_eq!(parse_mount("a:b:c:/d:rw").unwrap(), mount("a:b:c", "/d", FileAccess::ReadWrite));
        assert_eq!(parse_mount("/x:ro:/d").unwrap(), mount("/x:ro", "/d", FileAccess::Read));
        assert_eq!(parse_mount("a:/d/").unwrap(), mount("a", "/d", FileAccess::Read));
        assert_eq!(parse_mount("a:/").unwrap(), mount("a", "/", FileAccess::Read));
    }

    #[test]
    fn a_mount_that_makes_no_sense_says_why() {
        for (text, says) in [
            ("/data", "HOST:GUEST"),
            ("/data:rw", "HOST:GUEST"),
            (":/data", "missing"),
            ("a:data", "not absolute"),
            ("a:/data:xo", "`ro`, `wo` or `rw`"),
            ("a:/data/../etc", "must not hold `..`"),
        ] {
            let error = parse_mount(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_variable_keeps_everything_after_its_first_equals_sign() {
        assert_eq!(parse_env("A=b=c").unwrap(), ("A".into(), "b=c".into()));
        assert_eq!(parse_env("A=").unwrap(), ("A".into(), String::new()));
        assert!(parse_env("A").is_err());
        assert!(parse_env("=b").is_err());
    }

    #[test]
    fn an_input_is_text_a_file_or_stdin() {
        assert_eq!(parse_input("hi").unwrap(), Input::Text("hi".into()));
        assert_eq!(parse_input("").unwrap(), Input::Text(String::new()));
        assert_eq!(parse_input("-").unwrap(), Input::Stdin);
        assert_eq!(parse_input("@a.json").unwrap(), Input::File("a.json".into()));
        assert_eq!(parse_input("@@me").unwrap(), Input::Text("@me".into()));
        assert!(parse_input("@").is_err());
    }

    #[test]
    fn an_agent_may_be_named_with_its_version() {
        let bare = parse_agent_reference("a.b").unwrap();
        assert_eq!((bare.to_string().as_str(), bare.version), ("a.b", None));
        let versioned = parse_agent_reference("a.b@1.2.3-rc.1").unwrap();
        assert_eq!(versioned.to_string(), "a.b@1.2.3-rc.1");
        for text in ["", "@1.0.0", "a b", "a@", "a@1", "a@1.0.0@2.0.0"] {
            assert!(parse_agent_reference(text).is_err(), "{text}");
        }
    }
}
