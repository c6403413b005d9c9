//! Where a run meets its meter: actors are started under it, calls to the provider pass it.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use actix::dev::AsyncContextParts;
use actix::{Actor, Addr, Context};
use async_trait::async_trait;

use super::World;
use crate::domain::failure::ApiError;
use crate::domain::ids::RemoteName;
use crate::domain::remote::{RemoteBatch, RemoteFile};
use crate::meter::{Meter, Spot, Stage, waiting, watched};
use crate::ports::batch_api::BatchApi;
use crate::ports::file_api::{Collected, FileApi, Listing, Upload};

/// Starts an actor; where there is a meter, all that it does is counted for its stage.
pub fn start<A>(meter: Option<&Arc<Meter>>, stage: Stage, actor: A) -> Addr<A>
where
    A: Actor<Context = Context<A>>,
{
    create(meter, stage, |_context| actor)
}

/// The same for an actor that needs its own address to be made.
pub(super) fn create<A>(
    meter: Option<&Arc<Meter>>,
    stage: Stage,
    make: impl FnOnce(&mut Context<A>) -> A,
) -> Addr<A>
where
    A: Actor<Context = Context<A>>,
{
    let mut context = Context::new();
    let actor = make(&mut context);
    match meter {
        None => context.run(actor),
        Some(meter) => {
            let address = AsyncContextParts::parts(&mut context).address();
            let life = context.into_future(actor);
            // The task ends with its actor.
            drop(actix_rt::spawn(watched(meter, stage, life)));
            address
        }
    }
}

/// The world, with the stays in calls to the provider counted for whoever makes them.
pub(super) fn calls(world: World) -> World {
    World {
        files: Rc::new(Files(world.files)),
        batches: Rc::new(Batches(world.batches)),
        ..world
    }
}

struct Files(Rc<dyn FileApi>);

#[async_trait(?Send)]
impl FileApi for Files {
    async fn upload(&self, upload: &Upload) -> Result<RemoteFile, ApiError> {
        waiting(Spot::UploadCall, self.0.upload(upload)).await
    }

    async fn file(&self, name: &RemoteName) -> Result<RemoteFile, ApiError> {
        self.0.file(name).await
    }

    async fn delete_file(&self, name: &RemoteName) -> Result<(), ApiError> {
        waiting(Spot::DeleteCall, self.0.delete_file(name)).await
    }

    async fn download(
        &self,
        name: &RemoteName,
        destination: PathBuf,
    ) -> Result<Collected, ApiError> {
        waiting(Spot::DownloadCall, self.0.download(name, destination)).await
    }

    async fn list_files(&self, page: Option<&str>) -> Result<Listing<RemoteFile>, ApiError> {
        self.0.list_files(page).await
    }
}

struct Batches(Rc<dyn BatchApi>);

#[async_trait(?Send)]
impl BatchApi for Batches {
    async fn create(
        &self,
        model: &str,
        display_name: &str,
        input: &RemoteName,
    ) -> Result<RemoteBatch, ApiError> {
        waiting(Spot::CreateCall, self.0.create(model, display_name, input)).await
    }

    async fn batch(&self, name: &RemoteName) -> Result<RemoteBatch, ApiError> {
        waiting(Spot::PollCall, self.0.batch(name)).await
    }

    async fn list(&self, page: Option<&str>) -> Result<Listing<RemoteBatch>, ApiError> {
        self.0.list(page).await
    }

    async fn cancel(&self, name: &RemoteName) -> Result<(), ApiError> {
        self.0.cancel(name).await
    }

    async fn delete_batch(&self, name: &RemoteName) -> Result<(), ApiError> {
        waiting(Spot::DeleteCall, self.0.delete_batch(name)).await
    }

    async fn save_inline(
        &self,
        name: &RemoteName,
        destination: PathBuf,
    ) -> Result<Collected, ApiError> {
        waiting(Spot::DownloadCall, self.0.save_inline(name, destination)).await
    }
}
