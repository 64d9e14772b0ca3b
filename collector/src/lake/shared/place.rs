//! Where a shared lake is, and what is put there and got from there.

use std::{
    fs::File,
    io,
    path::{Path as FilePath, PathBuf},
    sync::Arc,
};

use object_store::{
    ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, aws::AmazonS3Builder,
    local::LocalFileSystem, path::Path, prefix::PrefixStore,
};
use prost::bytes::Bytes;
use tokio_stream::StreamExt as _;

use crate::lake::make_folder;

/// Why the place of a lake cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It is said in a way that is not known.
    #[error("{0:?} is no place for a lake; such as s3://BUCKET/PREFIX or file:///srv/lake")]
    Url(String),
    /// It cannot be used.
    #[error(
        "the lake at {url}: {cause}; see that the place exists, and that credentials (AWS_ACCESS_KEY_ID, …) may read and write it"
    )]
    Store {
        /// Where it is.
        url: String,
        /// What is wrong.
        cause: object_store::Error,
    },
    /// The directory cannot be made or synced.
    #[error("the lake at {url}: {cause}; see that the directory may be written and the disk has room")]
    Directory {
        /// Where it is.
        url: String,
        /// What the system said.
        cause: io::Error,
    },
    /// What is there is not what a collector wrote.
    #[error(
        "the lake at {url}: {name} cannot be read: {cause}; nothing is added to the lake or read from it until it is as it was: put it back from a copy or an older version of the object"
    )]
    Damaged {
        /// Where the lake is.
        url: String,
        /// The object.
        name: String,
        /// What is wrong with it.
        cause: String,
    },
    /// Something cannot be worked out.
    #[error("the lake at {url}: {cause}")]
    Work {
        /// Where the lake is.
        url: String,
        /// What is wrong.
        cause: String,
    },
}

/// An object store and where in it the lake is.
#[derive(Clone, Debug)]
pub struct Place {
    url: String,
    store: Arc<dyn ObjectStore>,
    /// Where it is a directory: what is put there is synced, which the crate does not do.
    directory: Option<PathBuf>,
}

impl Place {
    /// The place that a URL names.
    ///
    /// # Errors
    /// If it is none, or cannot be used.
    pub fn at(url: &str) -> Result<Self, PlaceError> {
        let failed = |cause| PlaceError::Store {
            url: url.to_owned(),
            cause,
        };
        if let Some(path) = url.strip_prefix("file://") {
            let directory = PathBuf::from(path);
            if !directory.is_absolute() {
                return Err(PlaceError::Url(url.to_owned()));
            }
            make_folder(&directory).map_err(|cause| PlaceError::Directory {
                url: url.to_owned(),
                cause,
            })?;
            let store = LocalFileSystem::new_with_prefix(&directory).map_err(failed)?;
            return Ok(Self {
                url: url.to_owned(),
                store: Arc::new(store),
                directory: Some(directory),
            });
        }
        let Some(place) = url.strip_prefix("s3://") else {
            return Err(PlaceError::Url(url.to_owned()));
        };
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let bucket = AmazonS3Builder::from_env().with_bucket_name(bucket);
        let store = bucket.build().map_err(failed)?;
        Ok(Self {
            url: url.to_owned(),
            store: Arc::new(PrefixStore::new(store, prefix)),
            directory: None,
        })
    }

    /// A store that is there already.
    #[must_use]
    pub fn of(url: &str, store: Arc<dyn ObjectStore>) -> Self {
        Self {
            url: url.to_owned(),
            store,
            directory: None,
        }
    }

    /// Its name, for people.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The store, in which names of the lake are paths.
    #[must_use]
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    pub(super) fn failed(&self, cause: object_store::Error) -> PlaceError {
        PlaceError::Store {
            url: self.url.clone(),
            cause,
        }
    }

    pub(super) fn damaged(&self, name: &str, cause: impl std::fmt::Display) -> PlaceError {
        PlaceError::Damaged {
            url: self.url.clone(),
            name: name.to_owned(),
            cause: cause.to_string(),
        }
    }

    /// Something that went wrong on the way to it.
    pub(crate) fn work(&self, cause: impl std::fmt::Display) -> PlaceError {
        PlaceError::Work {
            url: self.url.clone(),
            cause: cause.to_string(),
        }
    }

    /// Puts an object, durably.
    ///
    /// # Errors
    /// If that does not work.
    pub async fn put(&self, name: &str, body: impl Into<Bytes>) -> Result<(), PlaceError> {
        self.put_as(name, body.into(), PutMode::Overwrite)
            .await
            .map(|_| ())
    }

    /// Makes an object, durably; false if there is one of this name.
    ///
    /// # Errors
    /// If nobody knows whether it was made.
    pub async fn create(&self, name: &str, body: impl Into<Bytes>) -> Result<bool, PlaceError> {
        self.put_as(name, body.into(), PutMode::Create).await
    }

    async fn put_as(&self, name: &str, body: Bytes, mode: PutMode) -> Result<bool, PlaceError> {
        let options = PutOptions::from(mode);
        match self
            .store
            .put_opts(&Path::from(name), PutPayload::from(body), options)
            .await
        {
            Ok(_) => {}
            Err(object_store::Error::AlreadyExists { .. }) => return Ok(false),
            Err(cause) => return Err(self.failed(cause)),
        }
        let Some(directory) = self.directory.clone() else {
            return Ok(true);
        };
        let path = directory.join(name);
        let synced = tokio::task::spawn_blocking(move || sync(&directory, &path)).await;
        match synced.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(()) => Ok(true),
            Err(cause) => Err(PlaceError::Directory {
                url: self.url.clone(),
                cause,
            }),
        }
    }

    /// An object; none if there is none of this name.
    ///
    /// # Errors
    /// If it cannot be got.
    pub async fn get(&self, name: &str) -> Result<Option<Bytes>, PlaceError> {
        let got = async { self.store.get(&Path::from(name)).await?.bytes().await };
        match got.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(cause) => Err(self.failed(cause)),
        }
    }

    /// Names of objects in a folder, with what is known of them.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub async fn list(&self, folder: Option<&str>) -> Result<Vec<ObjectMeta>, PlaceError> {
        let folder = folder.map(Path::from);
        let list = self.store.list(folder.as_ref());
        let found: Result<Vec<_>, _> = list.collect().await;
        found.map_err(|cause| self.failed(cause))
    }

    /// Removes an object, if it is there.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub async fn remove(&self, name: &str) -> Result<(), PlaceError> {
        match self.store.delete(&Path::from(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(cause) => Err(self.failed(cause)),
        }
    }
}

/// Makes a file and the way to it outlast a power cut.
fn sync(directory: &FilePath, path: &FilePath) -> io::Result<()> {
    let folders = path
        .ancestors()
        .take_while(|folder| folder.starts_with(directory));
    folders.into_iter().try_for_each(|it| File::open(it)?.sync_all())
}
