//! How an agent comes in: verified, made ready, stored, in this order.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use mentat_manifest::{Attestation, Manifest, ModuleDigest, RuntimeKind};
use mentat_runtime::error::{Error, ModuleProblemKind};
use mentat_runtime::model::Caller;

use super::{LoadedAgent, Program, Registry};
use crate::signatures::LastStanding;
use crate::store::{OnConflict, StoredAgent, StoredRuntime, Terms};

impl Registry {
    /// Verifies, compiles, checks and stores an agent, and makes it the active version. When this answers, the
    /// agent is durable. A caller that goes away takes the compile with it; what was begun on the disk is finished.
    ///
    /// # Errors
    /// `INVALID_MANIFEST`, `INVALID_MODULE`; `INVALID_REQUEST` for a version that is loaded with other
    /// content, a budget over the operator's ceiling, or a tenant that has its quota; `ATTESTATION_REJECTED`; `OVERLOADED`
    /// when too many compile.
    pub async fn load(
        self: &Arc<Self>,
        caller: &Caller,
        manifest_text: String,
        module_bytes: Bytes,
        beside: Option<Attestation>,
        on_conflict: OnConflict,
    ) -> Result<Arc<LoadedAgent>, Error> {
        let manifest = Manifest::parse(&manifest_text)?;
        let attestation = attestation(&manifest, beside)?;
        if manifest.runtime_kind() == RuntimeKind::Container {
            if !module_bytes.is_empty() {
                let message = format!(
                    "agent `{}` is a container agent, and came with a module; send it without, or write `runtime: wasm`",
                    manifest.id
                );
                return Err(Error::InvalidRequest { message });
            }
            return self.load_image(caller, manifest_text, manifest, attestation, None, on_conflict).await;
        }
        let bytes = module_bytes.clone();
        // A large module takes its time, which is not a request thread's.
        let module = tokio::task::spawn_blocking(move || ModuleDigest::of(&bytes))
            .await
            .map_err(|error| Error::internal("reading the module", error))?;
        let stored = StoredAgent {
            tenant: Arc::clone(&caller.tenant),
            id: manifest.id.clone(),
            version: manifest.version.clone(),
            manifest: manifest_text,
            module,
            attestation,
            runtime: StoredRuntime::Wasm,
            image: None,
            in_place_of: None,
            loaded_at: SystemTime::now(),
            standing: LastStanding::default(),
        };
        // Before the work of compiling, which nobody is to cause whom nobody knows.
        self.signatures.admit(caller, &stored)?;
        let terms = Terms { on_conflict, over_signed: self.signatures.over_signed(&stored.tenant) };
        let known = self.store.get(&stored.tenant, &stored.id, Some(&stored.version))?;
        let may_fall_back = known.as_ref().is_some_and(|known| {
            known.runtime == StoredRuntime::Container
                && known.manifest == stored.manifest
                && known.in_place_of.is_none_or(|known| known == module)
        });
        // Told before the work of compiling; what counts is the same check when it is stored. One whose image was taken in
        // its place is stored by that one's digest.
        if !may_fall_back {
            let told = self.store.check(&stored, module_bytes.len() as u64, terms);
            self.signatures.record_refused(caller, &stored, told)?;
        }
        let how = self.preparation(&manifest)?;
        let loaded = self.runtime.load_for(&caller.tenant, module_bytes.clone(), how).await;
        if let Err(error) = &loaded
            && cannot_run_here(error)
            && self.containers.falls_back_to(&manifest)
        {
            tracing::info!(
                agent_id = %manifest.id, version = %manifest.version, %module, %error, "its image is executed instead"
            );
            let StoredAgent { manifest: text, attestation, .. } = stored;
            return self.load_image(caller, text, manifest, attestation, Some(module), on_conflict).await;
        }
        let known = known.filter(|known| known.is_same(&stored));
        let image = match &loaded {
            Ok(_) => self.image_beside(&stored, &manifest).await.or(known.and_then(|known| known.image)),
            Err(_) => None,
        };
        let stored = StoredAgent { image, ..stored };
        let ready = loaded.and_then(|loaded| self.make_ready(stored, manifest, loaded));
        let this = Arc::clone(self);
        let store = move || {
            let kept = ready.and_then(|agent| this.store_agent(agent, &module_bytes, terms));
            this.forget_unused([module].into_iter());
            kept
        };
        tokio::task::spawn_blocking(store)
            .await
            .map_err(|error| Error::internal("storing the agent", error))?
    }

    /// The image of an agent whose module runs here, where the rollout may have it executed. That it is not there keeps
    /// nobody from the module. Of a signed agent it is none: what was signed is the module.
    async fn image_beside(&self, stored: &StoredAgent, manifest: &Manifest) -> Option<ModuleDigest> {
        let StoredAgent { id, version, .. } = stored;
        if manifest.image.is_none() || !self.containers.are_there() || !self.rollout.may_take_image(id) {
            return None;
        }
        if stored.attestation.is_some() {
            tracing::info!(agent_id = %id, %version, "its module is signed, so that its image is left aside by `rollout`");
            return None;
        }
        match self.containers.image(manifest).await {
            Ok(image) => Some(image.id),
            Err(error) => {
                tracing::warn!(agent_id = %id, %version, %error, "its image cannot be executed by `rollout`, its module is");
                None
            }
        }
    }

    /// Finds the image of an agent, and stores the agent with the image's id, and with the module in whose place it is.
    async fn load_image(
        self: &Arc<Self>,
        caller: &Caller,
        manifest_text: String,
        manifest: Manifest,
        attestation: Option<Arc<Attestation>>,
        in_place_of: Option<ModuleDigest>,
        on_conflict: OnConflict,
    ) -> Result<Arc<LoadedAgent>, Error> {
        self.rules.budget(Some(&manifest))?;
        let image = self.containers.image(&manifest).await?;
        let stored = StoredAgent {
            tenant: Arc::clone(&caller.tenant),
            id: manifest.id.clone(),
            version: manifest.version.clone(),
            manifest: manifest_text,
            module: image.id,
            attestation,
            runtime: StoredRuntime::Container,
            image: None,
            in_place_of,
            loaded_at: SystemTime::now(),
            standing: LastStanding::default(),
        };
        // Over the image's id; a signature over a module says nothing of the image in its place.
        self.signatures.admit(caller, &stored)?;
        let terms = Terms { on_conflict, over_signed: self.signatures.over_signed(&stored.tenant) };
        let (this, agent) = (Arc::clone(self), LoadedAgent::new(stored, manifest, Program::Image(image)));
        tokio::task::spawn_blocking(move || this.store_agent(agent, &[], terms))
            .await
            .map_err(|error| Error::internal("storing the agent", error))?
    }

    /// Stores an agent, and has it in memory. Code that only the agent in its place had is forgotten.
    fn store_agent(
        &self,
        agent: LoadedAgent,
        module: &[u8],
        terms: Terms,
    ) -> Result<Arc<LoadedAgent>, Error> {
        let (stored, agent) = (agent.stored.clone(), Arc::new(agent));
        let replaced = self.store.get(&stored.tenant, &stored.id, Some(&stored.version))?;
        let put = self.store.put(&stored, module, terms);
        self.recent.forget();
        put?;
        self.keep(&agent)?;
        self.forget_unused(replaced.iter().filter_map(StoredAgent::stored_module));
        Ok(agent)
    }
}

/// Whether a module is one that another host could execute. One that is no module, or machine code, is nobody's.
fn cannot_run_here(error: &Error) -> bool {
    let Error::InvalidModule { problems } = error else { return false };
    problems.iter().all(|problem| match problem.kind {
        ModuleProblemKind::UnsupportedImport
        | ModuleProblemKind::MissingExport
        | ModuleProblemKind::MemoryFault
        | ModuleProblemKind::CompileLimit
        | ModuleProblemKind::Initialization => true,
        ModuleProblemKind::Malformed | ModuleProblemKind::Precompiled => false,
    })
}

/// The one attestation that an agent has, in its manifest or beside it.
fn attestation(manifest: &Manifest, beside: Option<Attestation>) -> Result<Option<Arc<Attestation>>, Error> {
    match (&manifest.attestation, beside) {
        (Some(own), Some(other)) if *own != other => Err(Error::InvalidRequest {
            message: format!(
                "the attestation beside the manifest of `{}` is another than the one in it; give one of them",
                manifest.id
            ),
        }),
        (own, beside) => Ok(own.clone().or(beside).map(Arc::new)),
    }
}
