//! What can be done with a grant of `media`: an object is opened and read in parts, or stored in parts. The arguments are
//! JSON; what comes back is JSON, and bytes as they are where an object is read.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::{By, MAX_READ_BYTES, begin, finish, open, read, write};
use crate::host::capabilities::{CallError, arguments};
use crate::host::context::HostContext;
use crate::host::files::content;
use crate::security::policy::Permission;

/// Bytes that are read where the guest does not say how many.
const READ_BYTES: u64 = 64 << 10;

/// What is to be done. Flat, so that no key is kept before it is known to be one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    op: Op,
    reference: Option<String>,
    object: Option<u32>,
    offset: Option<u64>,
    length: Option<u64>,
    #[serde(rename = "type")]
    media_type: Option<String>,
    upload: Option<u32>,
    data: Option<String>,
    data_base64: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Op {
    Open,
    Read,
    Begin,
    Write,
    Finish,
    Close,
}

/// Does one operation.
pub(crate) async fn invoke(
    context: &mut HostContext,
    handle: i32,
    permission: &Permission,
    bytes: &[u8],
) -> Result<Bytes, CallError> {
    let by = Some(By { handle, permission });
    let asked: Arguments = arguments(bytes)?;
    asked.check_keys()?;
    let missing = |key: &str| CallError::malformed(format!("`{key}` is missing"));
    match asked.op {
        Op::Open => {
            let reference = asked.reference.ok_or_else(|| missing("reference"))?;
            let number = open(context, by, reference.as_bytes()).await?;
            let object = context.media.reading(number).ok_or_else(|| missing("object"))?;
            let told = json!({
                "object": number,
                "reference": object.reference(),
                "size": object.size(),
                "type": object.media_type().as_str(),
                "modified_ms": object.modified_ms(),
            });
            Ok(told.to_string().into())
        }
        Op::Read => {
            let number = asked.object.ok_or_else(|| missing("object"))?;
            let length = asked.length.unwrap_or(READ_BYTES).min(MAX_READ_BYTES);
            read(context, by, number, asked.offset.unwrap_or(0), length).await
        }
        Op::Begin => {
            let media_type = asked.media_type.ok_or_else(|| missing("type"))?;
            let number = begin(context, by, media_type.as_bytes()).await?;
            Ok(json!({ "upload": number }).to_string().into())
        }
        Op::Write => {
            let number = asked.upload.ok_or_else(|| missing("upload"))?;
            let part = content(asked.data.as_deref(), asked.data_base64.as_deref())?;
            write(context, by, number, &part).await?;
            Ok(json!({ "written": part.len() }).to_string().into())
        }
        Op::Finish => {
            let number = asked.upload.ok_or_else(|| missing("upload"))?;
            let (reference, size) = finish(context, by, number).await?;
            Ok(json!({ "reference": reference, "size": size }).to_string().into())
        }
        Op::Close => {
            let number = asked.object.or(asked.upload).ok_or_else(|| missing("object"))?;
            // Only to see that it is this grant's.
            context.media.take(by, number)?;
            Ok("{}".into())
        }
    }
}

impl Arguments {
    /// A key that the operation does not have is a mistake of the guest's.
    fn check_keys(&self) -> Result<(), CallError> {
        let is = |ops: &[Op]| ops.contains(&self.op);
        for (key, given, taken) in [
            ("reference", self.reference.is_some(), is(&[Op::Open])),
            ("object", self.object.is_some(), is(&[Op::Read, Op::Close])),
            ("offset", self.offset.is_some(), is(&[Op::Read])),
            ("length", self.length.is_some(), is(&[Op::Read])),
            ("type", self.media_type.is_some(), is(&[Op::Begin])),
            ("upload", self.upload.is_some(), is(&[Op::Write, Op::Finish, Op::Close])),
            ("data", self.data.is_some(), is(&[Op::Write])),
            ("data_base64", self.data_base64.is_some(), is(&[Op::Write])),
        ] {
            if given && !taken {
                return Err(CallError::malformed(format!("the arguments: the operation has no `{key}`")));
            }
        }
        Ok(())
    }
}
