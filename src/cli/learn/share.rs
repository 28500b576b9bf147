//! Files of lines, shared out among threads.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::{Mutex, MutexGuard};
use std::thread;

/// So much is handed out at once, bytes.
const BLOCK: usize = 2 << 20;
/// A longer line is none of ours, and is passed over.
const LONGEST: usize = 1 << 20;

/// Opens a file, and says whether it is unpacked while it is read.
pub type Open = Box<dyn FnOnce() -> io::Result<(Box<dyn Read + Send>, bool)> + Send>;

/// What is still to be read.
struct Queue {
    files: VecDeque<Open>,
    /// The one whose blocks are handed out.
    open: Option<Blocks>,
    errors: Vec<io::Error>,
}

/// A file as blocks of whole lines.
struct Blocks {
    reader: Box<dyn Read + Send>,
    /// The beginning of a line whose end was not read yet.
    rest: Vec<u8>,
    /// Why it can't be read on.
    error: Option<io::Error>,
}

/// Has workers, one for each processor, read all lines of `files`: each in blocks that depend on the file alone. Plain
/// files are shared out block by block; a packed one is unpacked by whoever reads it.
///
/// Gives the workers and the errors; a file that can't be read on ends there.
pub fn read_all<W: Send>(
    files: Vec<Open>,
    new: impl Fn() -> W + Sync,
    read: impl Fn(&mut W, &[u8]) + Sync,
) -> (Vec<W>, Vec<io::Error>) {
    let queue = Mutex::new(Queue { files: files.into(), open: None, errors: Vec::new() });
    let work = || {
        let mut worker = new();
        let mut block = Vec::new();
        while let Some(share) = next(&queue, &mut block) {
            let Share::File(mut packed) = share else {
                read(&mut worker, &block);
                continue;
            };
            loop {
                match packed.fill(&mut block) {
                    Ok(true) => read(&mut worker, &block),
                    Ok(false) => break,
                    Err(error) => {
                        locked(&queue).errors.push(error);
                        break;
                    }
                }
            }
        }
        worker
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let workers = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let first = work();
        // One that panicked has said so; with panic = "abort" there is none.
        std::iter::once(first).chain(others.into_iter().filter_map(|thread| thread.join().ok())).collect()
    });
    let queue = queue.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    (workers, queue.errors)
}

fn locked(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What one worker is to read.
enum Share {
    /// The block that was put where it wanted it.
    Block,
    /// A packed file, to its end.
    File(Blocks),
}

/// The next share; none if all is read, or being read.
fn next(queue: &Mutex<Queue>, block: &mut Vec<u8>) -> Option<Share> {
    loop {
        let mut queue = locked(queue);
        let Some(blocks) = &mut queue.open else {
            let open = queue.files.pop_front()?;
            // Opened under the lock: few bytes are read for that, and files stay in order.
            match open() {
                Ok((reader, true)) => return Some(Share::File(Blocks::new(reader))),
                Ok((reader, false)) => queue.open = Some(Blocks::new(reader)),
                Err(error) => queue.errors.push(error),
            }
            continue;
        };
        match blocks.fill(block) {
            Ok(true) => return Some(Share::Block),
            Ok(false) => queue.open = None,
            Err(error) => {
                queue.open = None;
                queue.errors.push(error);
            }
        }
    }
}

impl Blocks {
    fn new(reader: Box<dyn Read + Send>) -> Blocks {
        Blocks { reader, rest: Vec::new(), error: None }
    }

    /// Puts the next whole lines into `block`; behind the last one that is whole, what is left. False: nothing is. An
    /// error comes when all that was read before it is handed out.
    fn fill(&mut self, block: &mut Vec<u8>) -> io::Result<bool> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        std::mem::swap(block, &mut self.rest);
        self.rest.clear();
        loop {
            let room = BLOCK.saturating_sub(block.len()) as u64;
            let is_end = match self.reader.by_ref().take(room).read_to_end(block) {
                Ok(count) => (count as u64) < room,
                Err(error) if block.is_empty() => return Err(error),
                Err(error) => {
                    self.error = Some(error);
                    true
                }
            };
            if is_end {
                return Ok(!block.is_empty());
            }
            if let Some(end) = block.iter().rposition(|byte| *byte == b'\n') {
                self.rest.extend_from_slice(block.get(end + 1..).unwrap_or_default());
                block.truncate(end + 1);
                return Ok(true);
            }
            // Cut, it is still no record, and is counted once for all that is passed over.
            block.truncate(LONGEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opens(texts: &[(&[u8], bool)]) -> Vec<Open> {
        let open = |(text, is_packed): &(&[u8], bool)| {
            let (text, is_packed) = (text.to_vec(), *is_packed);
            Box::new(move || Ok((Box::new(io::Cursor::new(text)) as Box<dyn Read + Send>, is_packed))) as Open
        };
        texts.iter().map(open).collect()
    }

    /// Every line that was read, sorted.
    fn read(files: Vec<Open>) -> (Vec<Vec<u8>>, usize) {
        let (workers, errors) = read_all(files, Vec::new, |lines: &mut Vec<Vec<u8>>, block| {
            lines.extend(block.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec));
        });
        let mut lines: Vec<_> = workers.into_iter().flatten().collect();
        lines.sort();
        (lines, errors.len())
    }

    #[test]
    fn every_line_is_read_once() {
        let mut lines: Vec<Vec<u8>> =
            (0..60_000).map(|line: u32| format!("{line:08}{}", "x".repeat(line as usize % 150)).into_bytes()).collect();
        let text = lines.join(&b'\n');
        lines.push(b"last, without an end".to_vec());
        let last = lines.last().unwrap().clone();
        let files = opens(&[(&text, false), (b"", false), (b"\n\n", true), (&last, false)]);
        lines.sort();
        assert!(text.len() > 2 * BLOCK);
        assert_eq!(read(files), (lines.clone(), 0));
        assert_eq!(read(opens(&[(&text, true), (&last, true)])), (lines, 0));
    }

    #[test]
    fn a_line_without_an_end_takes_no_memory_without_an_end() {
        let text = [&b"one\n"[..], &b"y".repeat(5 * BLOCK), b"\ntwo\n"].concat();
        let (lines, errors) = read(opens(&[(&text, false)]));
        assert_eq!(errors, 0);
        assert!(lines.contains(&b"one".to_vec()) && lines.contains(&b"two".to_vec()));
        assert!(lines.iter().all(|line| line.len() <= BLOCK), "{:?}", lines.iter().map(Vec::len).collect::<Vec<_>>());
    }

    #[test]
    fn what_was_read_before_an_error_is_handed_out() {
        struct Breaks;
        impl Read for Breaks {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("cut off"))
            }
        }
        for (text, is_packed) in [("one\ntw", false), ("one\ntw", true), ("", true)] {
            let open = move || Ok((Box::new(text.as_bytes().chain(Breaks)) as Box<dyn Read + Send>, is_packed));
            let mut files = opens(&[(b"three\n", false)]);
            files.insert(0, Box::new(open));
            let expected = text.lines().chain(["three"]).map(|line| line.as_bytes().to_vec());
            let mut expected: Vec<Vec<u8>> = expected.collect();
            expected.sort();
            assert_eq!(read(files), (expected, 1), "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_ends_only_its_file() {
        let mut files = opens(&[(b"one\n", false), (b"two\n", true)]);
        files.insert(1, Box::new(|| Err(io::Error::other("gone"))));
        assert_eq!(read(files), (vec![b"one".to_vec(), b"two".to_vec()], 1));
    }
}
