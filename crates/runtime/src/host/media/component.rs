//! Media for components: the interface `mentat:agent/media`, by the functions that core modules have.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};

use super::{MAX_READ_BYTES, begin, download, finish, gather, open, read, upload, write};
use crate::host::abi;
use crate::host::api::DECISION_BYTES;
use crate::host::capabilities::CallError;
use crate::host::component::bindings::mentat::agent::{errors, media};
use crate::host::component::{refusal, unsupported};
use crate::host::context::HostContext;
use crate::model::HostCallKind;

/// The interface, in its published version.
const MEDIA: &str = "mentat:agent/media@1.0.0";

type Called<T> = wasmtime::Result<(Result<T, errors::Error>,)>;

/// Puts the functions that wait, and that cost fuel, into the place of those that the bindings have.
pub(crate) fn add_to_linker(linker: &mut Linker<HostContext>) -> wasmtime::Result<()> {
    let mut instance = linker.instance(MEDIA)?;
    instance.func_wrap_async("download", |store, (reference,): (String,)| {
        Box::new(async move {
            let mut call = begin_call(store, DECISION_BYTES)?;
            let limit = call.data().budget.limits().memory_bytes;
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

fn begin_call(
    mut store: StoreContextMut<'_, HostContext>,
    cost: usize,
) -> wasmtime::Result<StoreContextMut<'_, HostContext>> {
    store.data_mut().calls.count(HostCallKind::Media);
    abi::charge(&mut store, cost)?;
    Ok(store)
}

fn end_call<T>(store: &mut StoreContextMut<'_, HostContext>, called: Result<T, CallError>) -> Called<T> {
    store.data().gate.check()?;
    // What is owed for the bytes that were moved.
    abi::charge(store, 0)?;
    Ok((called.map_err(refusal),))
}

/// All that waits, the linker has other functions in the place of.
impl media::Host for HostContext {
    fn download(&mut self, _reference: String) -> Result<Vec<u8>, errors::Error> {
        Err(unsupported(self, HostCallKind::Media))
    }

    fn upload(&mut self, _content: Vec<u8>, _media_type: String) -> Result<String, errors::Error> {
        Err(unsupported(self, HostCallKind::Media))
    }

    fn open(&mut self, _reference: String) -> Result<Resource<media::Object>, errors::Error> {
        Err(unsupported(self, HostCallKind::Media))
    }

    fn begin(&mut self, _media_type: String) -> Result<Resource<media::Writer>, errors::Error> {
        Err(unsupported(self, HostCallKind::Media))
    }
}

impl media::HostObject for HostContext {
    fn size(&mut self, object: Resource<media::Object>) -> u64 {
        self.calls.count(HostCallKind::Media);
        self.media.reading(object.rep()).map_or(0, super::OpenObject::size)
    }

    fn media_type(&mut self, object: Resource<media::Object>) -> String {
        self.calls.count(HostCallKind::Media);
        self.media
            .reading(object.rep())
            .map_or_else(String::new, |found| found.media_type().as_str().to_owned())
    }

    fn read(
        &mut self,
        _object: Resource<media::Object>,
        _offset: u64,
        _length: u32,
    ) -> Result<Vec<u8>, errors::Error> {
        Err(unsupported(self, HostCallKind::Media))
    }

    fn drop(&mut self, object: Resource<media::Object>) -> wasmtime::Result<()> {
        self.calls.count(HostCallKind::Media);
        self.media.close(object.rep());
        Ok(())
    }
}

impl media::HostWriter for HostContext {
    fn write(&mut self, _writer: Resource<media::Writer>, _part: Vec<u8>) -> Result<(), errors::Error> {
        Err(unsupported(self, HostCallKind::Media))
    }

    fn finish(&mut self, _writer: Resource<media::Writer>) -> Result<String, errors::Error> {
        Err(unsupported(self, HostCallKind::Media))
    }

    fn drop(&mut self, writer: Resource<media::Writer>) -> wasmtime::Result<()> {
        self.calls.count(HostCallKind::Media);
        self.media.close(writer.rep());
        Ok(())
    }
}
