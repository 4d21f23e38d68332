//! Media for components: the interface `mentat:agent/media`, by the functions that core modules have.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType};

use super::{MAX_READ_BYTES, OpenObject, begin, download, finish, gather, open, read, upload, write};
use crate::host::abi;
use crate::host::api::DECISION_BYTES;
use crate::host::capabilities::CallError;
use crate::host::component::bindings::mentat::agent::media;
use crate::host::component::{Answer, refusal};
use crate::host::context::HostContext;
use crate::model::HostCallKind;

/// The interface, in its published version.
const MEDIA: &str = "mentat:agent/media@1.0.0";

pub(crate) fn add_to_linker(linker: &mut Linker<HostContext>) -> wasmtime::Result<()> {
    let mut instance = linker.instance(MEDIA)?;
    instance.resource("object", ResourceType::host::<media::Object>(), close)?;
    instance.resource("writer", ResourceType::host::<media::Writer>(), close)?;
    instance.func_wrap_async("download", |store, (reference,): (String,)| {
        Box::new(async move {
            let mut call = begin_call(store, DECISION_BYTES)?;
            let limit = call.data().gate.budget().limits().memory_bytes;
            let got = match download(call.data_mut(), None, reference.as_bytes()).await {
                Ok(object) => gather(call.data_mut(), object, limit).await,
                Err(error) => Err(error),
            };
            end_call(&mut call, got)
        })
    })?;
    instance.func_wrap_async("upload", |store, (content, media_type): (Vec<u8>, String)| {
        Box::new(async move {
            let mut call = begin_call(store, DECISION_BYTES)?;
            let stored = upload(call.data_mut(), &content, media_type.as_bytes()).await;
            end_call(&mut call, stored)
        })
    })?;
    instance.func_wrap_async("open", |store, (reference,): (String,)| {
        Box::new(async move {
            let mut call = begin_call(store, DECISION_BYTES)?;
            let opened = open(call.data_mut(), None, reference.as_bytes()).await;
            end_call(&mut call, opened.map(Resource::<media::Object>::new_own))
        })
    })?;
    instance.func_wrap(
        "[method]object.size",
        |store: StoreContextMut<'_, HostContext>, (object,): (Resource<media::Object>,)| {
            let call = begin_call(store, 0)?;
            Ok((call.data().media.reading(object.rep()).map_or(0, OpenObject::size),))
        },
    )?;
    instance.func_wrap(
        "[method]object.media-type",
        |store: StoreContextMut<'_, HostContext>, (object,): (Resource<media::Object>,)| {
            let call = begin_call(store, 0)?;
            let opened = call.data().media.reading(object.rep());
            Ok((opened.map_or_else(String::new, |found| found.media_type().as_str().to_owned()),))
        },
    )?;
    instance.func_wrap_async(
        "[method]object.read",
        |store, (object, offset, length): (Resource<media::Object>, u64, u32)| {
            Box::new(async move {
                let length = u64::from(length).min(MAX_READ_BYTES);
                let mut call = begin_call(store, 0)?;
                let got = read(call.data_mut(), None, object.rep(), offset, length).await;
                end_call(&mut call, got.map(|piece| piece.to_vec()))
            })
        },
    )?;
    instance.func_wrap_async("begin", |store, (media_type,): (String,)| {
        Box::new(async move {
            let mut call = begin_call(store, DECISION_BYTES)?;
            let begun = begin(call.data_mut(), None, media_type.as_bytes()).await;
            end_call(&mut call, begun.map(Resource::<media::Writer>::new_own))
        })
    })?;
    instance.func_wrap_async(
        "[method]writer.write",
        |store, (writer, part): (Resource<media::Writer>, Vec<u8>)| {
            Box::new(async move {
                let mut call = begin_call(store, 0)?;
                let written = write(call.data_mut(), None, writer.rep(), &part).await;
                end_call(&mut call, written)
            })
        },
    )?;
    instance.func_wrap_async("[static]writer.finish", |store, (writer,): (Resource<media::Writer>,)| {
        Box::new(async move {
            let mut call = begin_call(store, DECISION_BYTES)?;
            let finished = finish(call.data_mut(), None, writer.rep()).await;
            end_call(&mut call, finished.map(|(reference, _)| reference))
        })
    })
}

/// What the guest dropped.
fn close(mut store: StoreContextMut<'_, HostContext>, handle: u32) -> wasmtime::Result<()> {
    store.data_mut().calls.count(HostCallKind::Media);
    store.data_mut().media.close(handle);
    Ok(())
}

fn begin_call(
    mut store: StoreContextMut<'_, HostContext>,
    cost: usize,
) -> wasmtime::Result<StoreContextMut<'_, HostContext>> {
    store.data_mut().calls.count(HostCallKind::Media);
    abi::charge(&mut store, cost)?;
    Ok(store)
}

fn end_call<T>(store: &mut StoreContextMut<'_, HostContext>, called: Result<T, CallError>) -> Answer<T> {
    store.data().gate.check()?;
    // What is owed for the bytes that were moved.
    abi::charge(store, 0)?;
    Ok((called.map_err(refusal),))
}
