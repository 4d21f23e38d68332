//! Media for core modules: `download_media` and `upload_media`, and the `result_read` of modules whose result can be an
//! object, by the functions that components have.

use wasmtime::{Caller, Linker};

use super::{download, fill, upload};
use crate::host::abi::{self, AbiError};
use crate::host::api::{DECISION_BYTES, MENTAT, result_read};
use crate::host::context::{GuestResult, HostContext};
use crate::model::HostCallKind;

/// Offers the functions of that name.
pub(crate) fn add_to_core_linker(linker: &mut Linker<HostContext>) -> wasmtime::Result<()> {
    linker.func_wrap_async(MENTAT, "download_media", |caller, (pointer, length)| {
        Box::new(download_media(caller, pointer, length))
    })?;
    linker.func_wrap_async(
        MENTAT,
        "upload_media",
        |caller, (content, length, media_type, type_length)| {
            Box::new(upload_media(caller, (content, length), (media_type, type_length)))
        },
    )?;
    Ok(())
}

/// Puts the `result_read` that waits into the place of the one that does not.
pub(crate) fn let_results_wait(linker: &mut Linker<HostContext>) -> wasmtime::Result<()> {
    linker.func_wrap_async(MENTAT, "result_read", |caller, (offset, pointer, capacity)| {
        Box::new(result_read_waiting(caller, offset, pointer, capacity))
    })?;
    Ok(())
}

/// Fetches an object; answers its length, and leaves it to be read.
async fn download_media(
    mut caller: Caller<'_, HostContext>,
    pointer: i32,
    length: i32,
) -> wasmtime::Result<i32> {
    caller.data_mut().calls.count(HostCallKind::Media);
    let memory = abi::memory(&mut caller)?;
    let source = abi::range(&caller, memory, "download_media", pointer, length)?;
    abi::charge(&mut caller, DECISION_BYTES)?;
    let (bytes, context) = memory.data_and_store_mut(&mut caller);
    let opened = download(context, None, bytes.get(source).unwrap_or_default()).await;
    context.gate.check()?;
    match opened {
        Ok(object) => match i32::try_from(object.size()) {
            Ok(length) => {
                context.result = Some(GuestResult::Object(Box::new(object)));
                Ok(length)
            }
            Err(_) => Ok(context.fail(AbiError::TooLarge)),
        },
        Err(error) => Ok(context.refuse(error)),
    }
}

/// Stores bytes of a media type; answers the length of the reference, which is the result.
async fn upload_media(
    mut caller: Caller<'_, HostContext>,
    content: (i32, i32),
    media_type: (i32, i32),
) -> wasmtime::Result<i32> {
    caller.data_mut().calls.count(HostCallKind::Media);
    let memory = abi::memory(&mut caller)?;
    let content = abi::range(&caller, memory, "upload_media", content.0, content.1)?;
    let media_type = abi::range(&caller, memory, "upload_media", media_type.0, media_type.1)?;
    abi::charge(&mut caller, DECISION_BYTES)?;
    let (bytes, context) = memory.data_and_store_mut(&mut caller);
    let bytes_in = |range| bytes.get(range).unwrap_or_default();
    let stored = upload(context, bytes_in(content), bytes_in(media_type)).await;
    context.gate.check()?;
    let answer = match stored {
        Ok(reference) => {
            let length = i32::try_from(reference.len())?;
            context.result = Some(GuestResult::Whole(reference.into()));
            length
        }
        Err(error) => context.refuse(error),
    };
    // What is owed for the bytes that were moved.
    abi::charge(&mut caller, 0)?;
    Ok(answer)
}

/// `result_read` for modules whose result can be an object: waits for what comes of it.
async fn result_read_waiting(
    mut caller: Caller<'_, HostContext>,
    offset: i32,
    pointer: i32,
    capacity: i32,
) -> wasmtime::Result<i32> {
    let mut object = match caller.data_mut().result.take() {
        Some(GuestResult::Object(object)) => object,
        other => {
            caller.data_mut().result = other;
            return result_read(caller, offset, pointer, capacity);
        }
    };
    caller.data_mut().calls.count(HostCallKind::Result);
    let memory = abi::memory(&mut caller)?;
    let target = abi::range(&caller, memory, "result_read", pointer, capacity)?;
    let begin = u64::from(offset.cast_unsigned());
    let (bytes, context) = memory.data_and_store_mut(&mut caller);
    let read = if begin <= object.size() {
        let target = bytes.get_mut(target).unwrap_or_default();
        Some(fill(context, &mut object, begin, target).await)
    } else {
        None
    };
    context.result = Some(GuestResult::Object(object));
    let (answer, copied) = match read {
        Some(Ok(copied)) => (i32::try_from(copied)?, copied),
        Some(Err(error)) => (context.refuse(error), 0),
        None => (context.fail(AbiError::NoResult), 0),
    };
    abi::charge(&mut caller, copied)?;
    Ok(answer)
}
