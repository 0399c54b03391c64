use super::*;
use crate::device::Partition;
use bytes::Bytes;
use std::cell::RefCell;

/// Images in memory that count what they hand out, and can be wrong.
struct Images {
    root: Vec<u8>,
    verity: Vec<u8>,
    asked: RefCell<Vec<(Image, u64)>>,
}

struct Rest(Vec<u8>, usize);

impl Source for Images {
    type Pieces = Rest;

    async fn open(&self, image: Image, from: u64) -> Result<Rest, UpdateError> {
        self.asked.borrow_mut().push((image, from));
        let bytes = match image {
            Image::Root => &self.root,
            Image::Verity => &self.verity,
        };
        Ok(Rest(bytes[usize::try_from(from).unwrap()..].to_vec(), 0))
    }
}

impl crate::source::Pieces for Rest {
    async fn next(&mut self) -> Result<Option<Bytes>, UpdateError> {
        let end = self.0.len().min(self.1 + 40_000);
        let piece = Bytes::copy_from_slice(&self.0[self.1..end]);
        self.1 = end;
        Ok((!piece.is_empty()).then_some(piece))
    }
}

fn image(pattern: &[u8]) -> Vec<u8> {
    pattern.iter().flat_map(|byte| vec![*byte; BLOCK]).collect()
}

struct Bench {
    folder: tempfile::TempDir,
    running: Pair<Partition>,
    other: Pair<Partition>,
}

impl Bench {
    fn new(running: &[u8], other: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str, bytes: Vec<u8>| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            Partition::open(&path, true).unwrap()
        };
        Self {
            running: Pair {
                root: open("running", image(running)),
                verity: open("running.verity", image(b"x")),
            },
            other: Pair {
                root: open("other", image(other)),
                verity: open("other.verity", image(b"y")),
            },
            folder,
        }
    }

    async fn fill(
        &mut self,
        root: Vec<u8>,
        index: &BlockIndex,
    ) -> (Result<Origin, UpdateError>, Vec<(Image, u64)>) {
        let images = Images {
            root,
            verity: image(b"x"),
            asked: RefCell::default(),
        };
        let (running, other) = (&self.running, &mut self.other);
        let filled = fill(index, running, other, &images, &mut Bucket::new(None)).await;
        (filled, images.asked.into_inner())
    }
}

fn index_of(root: &[u8]) -> BlockIndex {
    BlockIndex::build(&mut &root[..], &mut &image(b"x")[..]).unwrap()
}

#[tokio::test]
async fn only_what_is_nowhere_on_the_disk_is_fetched() {
    // b is kept where it is, a comes from the running slot's other end, the tree from the running slot's; N is new.
    let mut bench = Bench::new(b"cda", b"zbzzz");
    let new = image(b"abNN");
    let index = index_of(&new);
    let (filled, asked) = bench.fill(new.clone(), &index).await;
    let block = BLOCK as u64;
    let expected = Origin {
        kept: block,
        copied: 2 * block,
        fetched: 2 * block,
    };
    assert_eq!(filled.unwrap(), expected);
    assert_eq!(asked, [(Image::Root, 2 * block)]);
    let written = std::fs::read(bench.folder.path().join("other")).unwrap();
    assert_eq!(written[..new.len()], new);
    // Once more: everything is there.
    let (filled, asked) = bench.fill(new, &index).await;
    assert_eq!(filled.unwrap().kept, 5 * block);
    assert!(asked.is_empty());
}

#[tokio::test]
async fn a_wrong_block_is_never_written() {
    let mut bench = Bench::new(b"c", b"zzz");
    let new = image(b"NMO");
    let index = index_of(&new);
    let mut wrong = new.clone();
    wrong[BLOCK + 7] ^= 1;
    let (filled, _) = bench.fill(wrong, &index).await;
    assert!(matches!(
        filled,
        Err(UpdateError::Block {
            image: Image::Root,
            number: 1
        })
    ));
    let written = std::fs::read(bench.folder.path().join("other")).unwrap();
    assert_eq!(written, image(b"Nzz"));
    // A transfer that breaks off is found out too, and continued.
    let (filled, _) = bench.fill(new[..2 * BLOCK + 9].to_vec(), &index).await;
    assert!(matches!(filled, Err(UpdateError::Block { number: 2, .. })));
    let (filled, asked) = bench.fill(new, &index).await;
    assert_eq!(filled.unwrap().fetched, BLOCK as u64);
    assert_eq!(asked, [(Image::Root, 2 * BLOCK as u64)]);
}

#[test]
fn small_gaps_are_read_over_and_large_ones_are_not() {
    let missing = [0, 1, 5, 21, 38, 40];
    assert_eq!(runs(&missing), [&[0, 1, 5, 21][..], &[38, 40]]);
}
