//! Loaders that are cut off at every point, with a bus in memory.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use object_store::{ObjectStore, memory::InMemory};
use prost::Message as _;
use sensor_proto::{
    Compressor,
    v1::{Entry, Event},
};

use super::*;
use crate::{
    bus::{BusError, Last, Mark},
    lake::shared::{Place, merging::Merging},
};

/// A bus that gives out everything until it is settled, whoever else has it.
#[derive(Debug, Default)]
struct Shelf(Arc<Mutex<VecDeque<(u64, Parcel)>>>);

impl Shelf {
    fn of(parcels: impl Iterator<Item = Parcel>) -> Arc<Self> {
        let numbered = (1..).zip(parcels);
        Arc::new(Self(Arc::new(Mutex::new(numbered.collect()))))
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[derive(Debug)]
struct Slip(Arc<Mutex<VecDeque<(u64, Parcel)>>>, u64);

#[async_trait]
impl Receipt for Slip {
    async fn done(&self) -> Result<(), BusError> {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.retain(|(number, _)| *number != self.1);
        Ok(())
    }

    async fn hold(&self) -> Result<(), BusError> {
        Ok(())
    }

    async fn give_back(&self) -> Result<(), BusError> {
        Ok(())
    }
}

#[async_trait]
impl Bus for Shelf {
    async fn last(&self, _stream: &StreamId) -> Result<Option<Last>, BusError> {
        Ok(None)
    }

    async fn publish(&self, _parcel: &Parcel, _after: Mark) -> Result<Mark, BusError> {
        Err(BusError::Refused("it is for reading".to_owned()))
    }

    async fn pull(&self, most: usize, _within: Duration) -> Result<Vec<Pulled>, BusError> {
        sleep(Duration::from_millis(1)).await;
        let shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pulled = shelf.iter().take(most).map(|(number, parcel)| Pulled {
            parcel: Ok(parcel.clone()),
            arrived_ns: 0,
            again: false,
            receipt: Box::new(Slip(Arc::clone(&self.0), *number)),
        });
        Ok(pulled.collect())
    }

    async fn waiting(&self) -> Result<u64, BusError> {
        Ok(self.len() as u64)
    }
}

const EACH: u64 = 3;

fn parcel(host: &str, sequence: u64) -> Parcel {
    let entry = Entry {
        host: String::new(),
        body: Some(sensor_proto::v1::entry::Body::Event(Event::default())),
    };
    let batch = Batch {
        sequence,
        entries: vec![entry; EACH as usize],
        processes: Vec::new(),
    };
    let mut compressor = Compressor::new().expect("has memory");
    Parcel {
        stream: StreamId {
            host: host.to_owned(),
            epoch: 1,
        },
        sequence,
        body: compressor.compress(&batch.encode_to_vec()).expect("compresses"),
    }
}

fn place() -> Place {
    Place::of("memory", Arc::new(InMemory::new()) as Arc<dyn ObjectStore>)
}

async fn loader(bus: &Arc<Shelf>, place: &Place) -> Loader {
    let catalogue = Catalogue::open(place.clone()).await.expect("opens");
    let gathering = Gathering {
        entries: 1,
        ..Gathering::default()
    };
    Loader::new(Arc::clone(bus) as Arc<dyn Bus>, Arc::new(catalogue), gathering)
}

async fn gathered(loader: &Loader) -> Gathered {
    let (_stop, mut stopping) = watch::channel(false);
    loader.gather(&mut stopping).await
}

/// Rows that the lake has, by its list and by its files.
async fn rows(place: &Place) -> u64 {
    let catalogue = Catalogue::open(place.clone()).await.expect("opens");
    let mut rows = 0;
    for file in catalogue.files().await.expect("can be read") {
        let body = place
            .get(&file.name)
            .await
            .expect("can be got")
            .expect("is there");
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(body);
        let reader = reader.expect("is Parquet").build().expect("can be read");
        let found: usize = reader.map(|batch| batch.expect("can be read").num_rows()).sum();
        assert_eq!(found as u64, file.rows);
        rows += file.rows;
    }
    rows
}

#[tokio::test]
async fn a_crash_before_the_commit_leaves_files_that_nobody_reads() {
    let (bus, place) = (
        Shelf::of((1..=4).map(|sequence| parcel("web1", sequence))),
        place(),
    );
    let mut first = loader(&bus, &place).await;
    let batches = gathered(&first).await.batches;
    let missing = vec![true; batches.len()];
    first.make(&batches, &missing).await.expect("makes files");
    drop(first);
    assert_eq!((rows(&place).await, bus.len()), (0, 4));
    let mut second = loader(&bus, &place).await;
    let batches = gathered(&second).await.batches;
    second.store(batches).await.expect("stores");
    assert_eq!(rows(&place).await, 4 * EACH);
}

#[tokio::test]
async fn a_crash_after_the_commit_stores_nothing_twice() {
    let (bus, place) = (
        Shelf::of((1..=4).map(|sequence| parcel("web1", sequence))),
        place(),
    );
    let mut first = loader(&bus, &place).await;
    let batches = gathered(&first).await.batches;
    first.store(batches).await.expect("stores");
    drop(first);
    assert_eq!(bus.len(), 4, "it did not come to settle them");
    let second = loader(&bus, &place).await;
    let tally = second.tally();
    let (stop, stopping) = watch::channel(false);
    let running = tokio::spawn(second.run(stopping));
    while bus.len() > 0 {
        sleep(Duration::from_millis(5)).await;
    }
    stop.send_replace(true);
    running.await.expect("ends");
    assert_eq!(rows(&place).await, 4 * EACH);
    assert_eq!(tally.duplicates.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn who_commits_second_leaves_out_what_is_there() {
    let both = [parcel("web1", 1), parcel("web1", 2), parcel("web1", 2)];
    let (bus, place) = (Shelf::of(both.into_iter()), place());
    let (mut one, mut other) = (loader(&bus, &place).await, loader(&bus, &place).await);
    let (of_one, of_other) = (gathered(&one).await.batches, gathered(&other).await.batches);
    // The first commits when the second has made its files and looked at the list.
    let made = other
        .make(&of_other, &[true, true, false])
        .await
        .expect("makes files");
    one.store(of_one).await.expect("stores");
    assert_eq!(
        other.catalogue.commit(&made).await.expect("is told"),
        Outcome::Late
    );
    other.store(of_other).await.expect("stores");
    assert_eq!(rows(&place).await, 2 * EACH);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn loaders_that_all_get_the_same_store_it_once() {
    let parcels = (0..60).map(|number| parcel(&format!("host{}", number % 3), number / 3 + 1));
    let (bus, place) = (Shelf::of(parcels), place());
    let (stop, stopping) = watch::channel(false);
    let mut running = Vec::new();
    for _ in 0..4 {
        running.push(tokio::spawn(loader(&bus, &place).await.run(stopping.clone())));
    }
    while bus.len() > 0 {
        sleep(Duration::from_millis(5)).await;
    }
    stop.send_replace(true);
    for loader in running {
        loader.await.expect("ends");
    }
    assert_eq!(rows(&place).await, 60 * EACH);
}

/// So many batches, each in a commit and a file of its own.
async fn store_one_by_one(place: &Place, host: &str, count: u64) {
    for sequence in 1..=count {
        let bus = Shelf::of(std::iter::once(parcel(host, sequence)));
        let mut loader = loader(&bus, place).await;
        let batches = gathered(&loader).await.batches;
        loader.store(batches).await.expect("stores");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn small_files_are_put_together_once_and_nothing_is_lost() {
    const PARCELS: u64 = 100;
    let place = place();
    store_one_by_one(&place, "web1", PARCELS).await;
    let listed = |place: Place| async move {
        let catalogue = Catalogue::open(place).await.expect("opens");
        catalogue.files().await.expect("can be read").len()
    };
    assert_eq!(listed(place.clone()).await as u64, PARCELS);
    // Three collectors at once, which all see the same.
    let merging: Vec<_> = (0..3)
        .map(|_| {
            let place = place.clone();
            tokio::spawn(async move {
                let catalogue = Arc::new(Catalogue::open(place).await.expect("opens"));
                let mut merging = Merging::new(catalogue).expect("knows the place");
                // Late is nothing too.
                for _ in 0..20 {
                    merging.turn().await.expect("puts together");
                }
            })
        })
        .collect();
    for merging in merging {
        merging.await.expect("ends");
    }
    let left = listed(place.clone()).await;
    assert!(left < 16, "{left} files");
    assert_eq!(rows(&place).await, PARCELS * EACH);
    // What was stored is known to be, as before.
    let catalogue = Catalogue::open(place).await.expect("opens");
    let stream = parcel("web1", 1).stream;
    assert_eq!(catalogue.standing(&stream).await.expect("is told"), PARCELS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_put_together_is_left_alone_and_the_rest_is_not() {
    let place = place();
    for host in ["web1", "web2"] {
        store_one_by_one(&place, host, 16).await;
    }
    let catalogue = Arc::new(Catalogue::open(place.clone()).await.expect("opens"));
    let mut files = catalogue.files().await.expect("can be read");
    files.sort_by(|one, other| one.name.cmp(&other.name));
    place.put(&files[3].name, "rubbish").await.expect("is put");
    let mut merging = Merging::new(Arc::clone(&catalogue)).expect("knows the place");
    let refused = merging.turn().await.expect_err("one of them is damaged");
    assert!(refused.to_string().contains(&files[0].name), "{refused}");
    assert_eq!(merging.turn().await.expect("puts the others together"), 16);
    assert_eq!(merging.turn().await.expect("has nothing more to do"), 0);
    assert_eq!(catalogue.files().await.expect("can be read").len(), 17);
}
